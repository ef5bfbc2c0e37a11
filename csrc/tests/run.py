"""
Build and run the tests of the core: `python csrc/tests/run.py [plain|asan|tsan]`.

One executable from csrc/*.cpp and csrc/tests/*.cpp, compiled in parallel, the plain one with warnings as errors, and again only where
something changed. asan includes UBSan.
`--only part` runs the tests whose names contain part. One test needs the headers of hnswlib 0.8.0: those of assorthead==0.2.2, or where
$VECDB_HNSWLIB_INCLUDE or --hnswlib says.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
CORE = HERE.parent
SANITIZERS = {
    "plain": [],
    "asan": ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"],
    "tsan": ["-fsanitize=thread"],
}
WARNINGS = ["-Wall", "-Wextra", "-Werror"]


def hnswlib_include() -> str:
    """
    Return the directory that holds hnswlib/.
    """
    given = os.environ.get("VECDB_HNSWLIB_INCLUDE")
    if given is not None:
        return given
    import assorthead

    return str(assorthead.includes())


def is_current(product: Path) -> bool:
    """
    Return whether an object file is newer than everything it was made from.
    """
    listing = product.with_suffix(".d")
    if not product.exists() or not listing.exists():
        return False
    made = product.stat().st_mtime
    sources = [Path(word) for word in listing.read_text(encoding="utf-8").replace("\\\n", " ").split()[1:]]
    return all(source.exists() and source.stat().st_mtime < made for source in sources)


def build(compiler: str, kind: str, include: str, directory: Path) -> Path:
    """
    Compile and link, and return the executable.
    """
    # What a sanitizer adds takes long to optimise, and finds as much after less of it; warnings are for the plain build to give.
    kind_of_build = ["-O2", *WARNINGS] if kind == "plain" else ["-O1", *SANITIZERS[kind]]
    flags = ["-std=c++17", "-g1", "-ffp-contract=off", "-pthread", *kind_of_build]
    headers = ["-I", str(CORE), "-I", str(HERE), "-isystem", include]
    directory.mkdir(parents=True, exist_ok=True)
    sources = [path for path in sorted(CORE.glob("*.cpp")) if path.name != "_core.cpp"] + sorted(HERE.glob("*.cpp"))

    def compile_one(source: Path) -> Path:
        product = directory / f"{source.parent.name}-{source.stem}.o"
        if not is_current(product):
            subprocess.run([compiler, *flags, *headers, "-MMD", "-c", str(source), "-o", str(product)], check=True)
        return product

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = list(pool.map(compile_one, sources))
    executable = directory / "tests"
    subprocess.run([compiler, *flags, *map(str, objects), "-o", str(executable)], check=True)
    return executable


def run_all(executable: Path) -> int:
    """
    Run all tests, a share in a process for each CPU, and return the highest exit status.
    """
    shares = os.cpu_count() or 1

    def run_share(share: int) -> int:
        command = [str(executable), "--share", str(share), str(shares)]
        done = subprocess.run(command, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        print(done.stdout, end="", flush=True)
        # A signal's number is negative, and no success either.
        return abs(done.returncode)

    with ThreadPoolExecutor(shares) as pool:
        return max(pool.map(run_share, range(shares)))


def main() -> int:
    """
    Build and run; return the exit status of the tests.
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1] if __doc__ else None)
    parser.add_argument("kind", nargs="?", choices=list(SANITIZERS), default="plain")
    parser.add_argument("--compiler", default=os.environ.get("CXX", "g++"))
    parser.add_argument("--only", help="part of the names of the tests to run")
    parser.add_argument("--hnswlib", help="the directory that holds hnswlib/")
    parser.add_argument("--build", type=Path, default=Path(tempfile.gettempdir()) / "vecdb-core-tests")
    options = parser.parse_args()
    directory = options.build / f"{Path(options.compiler).name}-{options.kind}"
    try:
        executable = build(options.compiler, options.kind, options.hnswlib or hnswlib_include(), directory)
    except subprocess.CalledProcessError as error:
        return int(error.returncode)
    if options.only:
        return subprocess.run([str(executable), options.only], check=False).returncode
    return run_all(executable)


if __name__ == "__main__":
    sys.exit(main())
