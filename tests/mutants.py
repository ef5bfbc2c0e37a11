"""
Mutants of the storage layer: each lacks one sync, one rename, one test of a checksum, the rule for the end of a log or its rewriting, and
is run against the tests until one fails.

By hand: `python tests/mutants.py` runs all, `--list` names them, `--only PART` runs those whose names contain PART; `--table` writes
Markdown. Exit status 1 when a mutant survives. Each is a copy of the package and the tests in a directory of
its own; the checkout is not touched.
"""

from __future__ import annotations

import argparse
import ast
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "vecdb"
CALLS = ("sync_data", "sync_directory", "rename")
# A comparison with one of these tests a checksum.
SUMS = ("crc32c", "count_sealed", "_sum", "_segment_checksum", "_encode_header", "noted.encode", "prev_dcrc")
# What is no call and no comparison: (file, text, what stands in its place, what that leaves out)
RULES = (
    ("storage/wal.py", "if self._syncs or batch[-1][1].kind == Kind.CLOSE:", "if False:", "calls are applied without a sync"),
    ("storage/log_writer.py", "self.sync()\n            self._enter(", "self._enter(", "a segment begins before the one before is synced"),
    ("storage/wal.py", "if state.doubtful:", "if False:", "the doubtful end of the log is not written again"),
    ("storage/log_reader.py", "self._check_end(fd, path, position, salt)", "pass", "whatever is not valid ends the log"),
    ("storage/log_reader.py", "if find_header(chunk, salt, lsn=self._expected):", "if False:", "no later record is looked for"),
    ("storage/log_reader.py", "if self._known_lsn > state.last_lsn:", "if False:", "a log may end before what was confirmed"),
    ("storage/log_reader.py", "if any(data[header.length :]):", "if False:", "padding may hold anything"),
)


@dataclass(frozen=True)
class Mutant:
    """
    One change of one file: the text between two places is replaced.
    """

    file: str
    line: int
    what: str
    start: int
    end: int
    instead: str

    @property
    def name(self) -> str:
        return f"{self.file}:{self.line}: {self.what}"


def is_sum_test(node: ast.AST, source: str) -> bool:
    """
    Return whether a node is true or false by whether a checksum is right.
    """
    if isinstance(node, ast.Compare) and len(node.ops) == 1 and isinstance(node.ops[0], (ast.Eq, ast.NotEq)):
        return any(re.search(rf"\b{name}\b(\(|$)", ast.get_source_segment(source, side) or "") for side in _sides(node) for name in SUMS)
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "matches"


def _sides(node: ast.Compare) -> list[ast.expr]:
    return [node.left, *node.comparators]


def mutants_of(file: Path) -> Iterator[Mutant]:
    """
    Yield the mutants that a file's text gives.
    """
    source = file.read_text(encoding="utf-8")
    name = file.relative_to(PACKAGE).as_posix()
    lines = [0]
    for line in source.encode().splitlines(keepends=True):
        lines.append(lines[-1] + len(line))

    def mutant(node: ast.expr | ast.stmt, what: str, instead: str) -> Mutant:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        start, end = lines[node.lineno - 1] + node.col_offset, lines[node.end_lineno - 1] + node.end_col_offset
        return Mutant(name, node.lineno, what, start, end, instead)

    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            called = node.value.func.attr if isinstance(node.value.func, ast.Attribute) else getattr(node.value.func, "id", "")
            if called in CALLS:
                yield mutant(node, f"no {called}", "pass")
        elif isinstance(node, ast.expr) and is_sum_test(node, source):
            right = "False" if isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.NotEq) else "True"
            yield mutant(node, f"no test of `{' '.join((ast.get_source_segment(source, node) or '').split())}`", right)
    for where, text, instead, what in RULES:
        if where == name:
            assert source.count(text) == 1, f"{text!r} stands {source.count(text)} times in {where}: bring RULES up to date"
            start = len(source[: source.index(text)].encode())
            yield Mutant(name, source[: source.index(text)].count("\n") + 1, what, start, start + len(text.encode()), instead)


def all_mutants() -> list[Mutant]:
    """
    Return all, by file and line; the seam and what stands behind it are left alone: they are what the tests replace.
    """
    files = [path for path in sorted(PACKAGE.rglob("*.py")) if path.name not in ("files.py", "system.py")]
    found = [one for path in files for one in mutants_of(path)]
    found += [one for one in mutants_of(PACKAGE / "storage" / "files.py") if "system." not in _text(one) and one.line > 250]
    return sorted(found, key=lambda one: (one.file, one.line, one.start))


def _text(mutant: Mutant) -> str:
    return (PACKAGE / mutant.file).read_bytes()[mutant.start : mutant.end].decode()


def killer_of(mutant: Mutant, tests: list[str]) -> str | None:
    """
    Return the first test that fails with a mutant, or None when all pass.
    """
    with tempfile.TemporaryDirectory() as home:
        for name in ("vecdb", "tests", "benchmarks"):
            shutil.copytree(ROOT / name, Path(home) / name, ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("conftest.py", "pyproject.toml"):
            shutil.copy(ROOT / name, home)
        target = Path(home) / "vecdb" / mutant.file
        data = target.read_bytes()
        target.write_bytes(data[: mutant.start] + mutant.instead.encode() + data[mutant.end :])
        environment = {**os.environ, "PYTHONPATH": home, "PYTHONDONTWRITEBYTECODE": "1"}
        options = ["-x", "-n", "0", "-p", "no:cacheprovider", "--no-header", "--tb=no", "-rfE"]
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *options, *tests], cwd=home, env=environment, capture_output=True, text=True, check=False
        )
    if done.returncode == 0:
        return None
    failed = re.search(r"^(?:FAILED|ERROR) (\S+(?:\[.*?\])?)", done.stdout, re.MULTILINE)
    if failed is None and done.returncode < 0:
        return f"a process that signal {-done.returncode} ended"
    if failed is None:
        raise RuntimeError(f"{mutant.name}: pytest ended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return failed.group(1)


def main() -> int:
    """
    Run the mutants asked for; return 1 when one survives.
    """
    parser = argparse.ArgumentParser(description="Run mutants of the storage layer against its tests.")
    parser.add_argument("--list", action="store_true", help="name the mutants, and run none")
    parser.add_argument("--only", default="", help="part of the names of the mutants to run")
    parser.add_argument("--table", action="store_true", help="write the outcome as Markdown")
    parser.add_argument("tests", nargs="*", help="the tests to run, in this order")
    options = parser.parse_args()
    tests = options.tests or ["tests/storage", *sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("tests/test_crash*.py"))]
    tests += (
        [] if options.tests else ["tests/test_salvage.py", "tests/test_backup.py", "tests/test_database.py", "tests/test_compaction.py"]
    )
    chosen = [one for one in all_mutants() if options.only in one.name]
    survived = 0
    for one in chosen:
        if options.list:
            print(one.name)
            continue
        killer = killer_of(one, tests)
        survived += killer is None
        outcome = f"`{killer}`" if killer else "**survives**"
        print(f"| `{one.file}:{one.line}` | {one.what} | {outcome} |" if options.table else f"{one.name}: {outcome}", flush=True)
    if not options.list:
        print(f"{len(chosen)} mutants, {survived} survive", file=sys.stderr)
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main())
