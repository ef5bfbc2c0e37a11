"""
Build and run the tests of the core: `python csrc/tests/run.py [plain|asan|tsan|warnings]`.

One executable from csrc/*.cpp and csrc/tests/*.cpp, compiled in parallel, the plain one with warnings as errors, and again only where
something changed. asan includes UBSan; tsan runs the tests that start threads, as it has nothing to say of others; warnings compiles
nothing, and only looks at what a second compiler warns of.
`--only part` runs the tests whose names contain part. One test needs the headers of hnswlib 0.8.0: those of assorthead==0.2.2, or where
$VECDB_HNSWLIB_INCLUDE or --hnswlib says.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
CORE = HERE.parent
WARNINGS = ["-Wall", "-Wextra", "-Werror"]
# What a sanitizer adds takes long to optimise, and finds as much after less of it; warnings are for the plain build to give.
KINDS = {
    "plain": ["-O2", *WARNINGS, "-DVECDB_COUNT_THREADS"],
    "asan": ["-O1", "-DVECDB_SANITIZED", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"],
    "tsan": ["-O1", "-DVECDB_SANITIZED", "-fsanitize=thread"],
    "warnings": ["-fsyntax-only", *WARNINGS],
}
ENDED = "FAILED: the process ended\n"
OFTEN = 5  # so many files have to include a standard header to have it precompiled


def hnswlib_include() -> str:
    """
    Return the directory that holds hnswlib/.
    """
    given = os.environ.get("VECDB_HNSWLIB_INCLUDE")
    if given is not None:
        return given
    import assorthead

    return str(assorthead.includes())


def sources() -> list[Path]:
    """
    Return all that is compiled, the largest first: none of them is left over for one CPU at the end.
    """
    found = [path for path in CORE.glob("*.cpp") if path.name != "_core.cpp"] + list(HERE.glob("*.cpp"))
    return sorted(found, key=lambda path: path.stat().st_size, reverse=True)


def is_current(product: Path) -> bool:
    """
    Return whether an object file is newer than everything it was made from.
    """
    listing = product.with_suffix(".d")
    if not product.exists() or not listing.exists():
        return False
    made = product.stat().st_mtime
    files = [Path(word) for word in listing.read_text(encoding="utf-8").replace("\\\n", " ").split()[1:]]
    return all(file.exists() and file.stat().st_mtime < made for file in files)


def precompiled(compiler: list[str], directory: Path) -> Path:
    """
    Precompile the standard headers that many files include, and return the header that stands for them; reading them took half the time.
    """
    files = [*sources(), *CORE.glob("*.hpp"), *HERE.glob("*.hpp")]
    named = Counter(name for file in files for name in re.findall(r"#include <(\w+)>", file.read_text(encoding="utf-8")))
    text = "".join(f"#include <{name}>\n" for name, count in sorted(named.items()) if count >= OFTEN)
    header = directory / "standard.hpp"
    product = directory / "standard.hpp.gch"
    if not product.exists() or header.read_text(encoding="utf-8") != text:
        header.write_text(text, encoding="utf-8")
        subprocess.run([*compiler, "-x", "c++-header", str(header), "-o", str(product)], check=True)
    return header


def build(compiler: str, kind: str, include: str, directory: Path) -> Path:
    """
    Compile and link, and return the executable.
    """
    command = [compiler, "-std=c++17", "-g1", "-ffp-contract=off", "-pthread", *KINDS[kind]]
    headers = ["-I", str(CORE), "-I", str(HERE), "-isystem", include]
    directory.mkdir(parents=True, exist_ok=True)
    # What is only looked at is read as it stands, so that a header that was forgotten is missed.
    before = [] if kind == "warnings" else ["-include", str(precompiled(command, directory))]

    def compile_one(source: Path) -> Path:
        product = directory / f"{source.parent.name}-{source.stem}.o"
        if kind == "warnings":
            subprocess.run([*command, *headers, str(source)], check=True)
        elif not is_current(product):
            subprocess.run([*command, *before, *headers, "-MMD", "-c", str(source), "-o", str(product)], check=True)
        return product

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = list(pool.map(compile_one, sources()))
    executable = directory / "tests"
    if kind != "warnings":
        subprocess.run([*command, *map(str, objects), "-ldl", "-o", str(executable)], check=True)
    return executable


def run_share(executable: Path, names: Iterator[str]) -> list[str]:
    """
    Run tests in one process, each as soon as the one before is done, until there are no more; return those that failed.

    A test that ends the process has failed, and another process goes on.
    """
    failed: list[str] = []
    for first in names:
        name: str | None = first
        command = [str(executable), "--asked"]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, bufsize=1
        ) as child:
            while name is not None:
                lines = ask(child, name)
                print("".join(lines), end="", flush=True)
                if not lines[-1].startswith("ok"):
                    failed.append(name)
                if lines[-1] == ENDED:
                    break
                name = next(names, None)
            rest, _ = child.communicate()
        if child.returncode != 0 and not failed:
            failed.append(f"(at the end of a process, with status {child.returncode})")
        print(rest, end="", flush=True)
    return failed


def ask(child: subprocess.Popen[str], name: str) -> list[str]:
    """
    Have a process run a test and return what it prints, the outcome in the last line: ENDED where it ended before.
    """
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write(name + "\n")
    lines = []
    for line in child.stdout:
        lines.append(line)
        if line.startswith(("ok    ", "FAILED")) and line.split()[-1] == name:
            return lines
    return [*lines, ENDED]


def run_all(executable: Path, kind: str, part: str) -> int:
    """
    Run the tests whose names contain part, in a process for each CPU, and return 0 where all passed.
    """
    listed = subprocess.run([str(executable), "--list"], check=True, capture_output=True, text=True).stdout
    tests = [line.split() for line in listed.splitlines()]
    names = [name for threads, name in tests if part in name and (kind != "tsan" or threads == "threads")]
    shares = min(os.cpu_count() or 1, len(names))
    left = iter(names)  # of a list: one thread after the other takes the next
    with ThreadPoolExecutor(max(shares, 1)) as pool:
        failed = [name for some in pool.map(lambda _: run_share(executable, left), range(shares)) for name in some]
    print(f"{kind}: {len(names)} of {len(tests)} tests run, {len(failed)} failed" + "".join(f"\n  {name}" for name in failed))
    return 0 if names and not failed else 1


def main() -> int:
    """
    Build and run; return 0 where all tests passed.
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1] if __doc__ else None)
    parser.add_argument("kind", nargs="?", choices=list(KINDS), default="plain")
    parser.add_argument("--compiler", default=os.environ.get("CXX", "g++"))
    parser.add_argument("--only", default="", help="part of the names of the tests to run")
    parser.add_argument("--hnswlib", help="the directory that holds hnswlib/")
    parser.add_argument("--build", type=Path, default=Path(tempfile.gettempdir()) / "vecdb-core-tests")
    options = parser.parse_args()
    directory = options.build / f"{Path(options.compiler).name}-{options.kind}"
    try:
        executable = build(options.compiler, options.kind, options.hnswlib or hnswlib_include(), directory)
    except subprocess.CalledProcessError as error:
        return int(error.returncode)
    return 0 if options.kind == "warnings" else run_all(executable, options.kind, options.only)


if __name__ == "__main__":
    sys.exit(main())
