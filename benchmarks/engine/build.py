"""
Compiles the two drivers: stock hnswlib with -march=native, vecdb's core without it, as it is shipped.

Objects are kept in the work directory by a digest of compiler, flags and everything they include, so that a second run compiles nothing.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
CSRC = ROOT / "csrc"
COMMON = ("-std=c++17", "-O3", "-DNDEBUG", "-pthread")


def hnswlib_include() -> str:
    """
    Return the directory that holds hnswlib/ of version 0.8.0: $VECDB_HNSWLIB_INCLUDE, or assorthead's.
    """
    given = os.environ.get("VECDB_HNSWLIB_INCLUDE")
    if given is not None:
        return given
    import assorthead

    return str(assorthead.includes())


def core_digest() -> str:
    """
    Return a digest of the core's sources: what a saved graph of the core depends on.
    """
    digest = hashlib.sha256()
    for path in sorted([*CSRC.glob("*.hpp"), *CSRC.glob("*.cpp"), CSRC / "vecdb.h"]):
        if path.name != "_core.cpp":
            digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def stock(work: Path) -> Path:
    """
    Return the driver of stock hnswlib, compiled for this very machine.
    """
    flags = [*COMMON, "-march=native", "-isystem", hnswlib_include()]
    return _link(work / "build", "stock", [HERE / "stock_hnswlib.cpp"], flags)


def core(work: Path) -> Path:
    """
    Return the driver of vecdb's core, compiled as the extension is.
    """
    flags = [*COMMON, "-fvisibility=hidden", "-I", str(CSRC)]
    sources = [path for path in sorted(CSRC.glob("*.cpp")) if path.name != "_core.cpp"]
    return _link(work / "build", "core", [HERE / "core_driver.cpp", *sources], flags)


def _link(directory: Path, name: str, sources: list[Path], flags: list[str]) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    compiler = os.environ.get("CXX", "g++")

    def compiled(source: Path) -> Path:
        command = [compiler, *flags, "-I", str(HERE)]
        # What the preprocessor makes of it is all that the object depends on.
        text = _run([*command, "-E", str(source)])
        product = directory / f"{source.stem}-{hashlib.sha256(text + ' '.join(command).encode()).hexdigest()[:24]}.o"
        if not product.exists():
            unfinished = product.with_suffix(f".{os.getpid()}")
            _run([*command, "-c", str(source), "-o", str(unfinished)])
            unfinished.replace(product)
        return product

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = list(pool.map(compiled, sources))
    executable = directory / f"{name}-{hashlib.sha256(' '.join(map(str, objects)).encode()).hexdigest()[:24]}"
    if not executable.exists():
        _run([compiler, *flags, *map(str, objects), "-o", str(executable)])
    return executable


def _run(command: list[str]) -> bytes:
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr.decode(errors='replace')}")
    return done.stdout
