"""
The storage's benchmark: what an acknowledged write costs beside SQLite and LMDB, and how long opening takes.

    python benchmarks/storage.py [--parts writes,bytes,checkpoints,searches,opening] [--dim 128] [--points 1000000] [--seconds 1]
        [--rounds 3] [--directory DIRECTORY] [--record]

Plain Python with vecdb. SQLite (WAL, synchronous=FULL) is Python's own, LMDB the library that vecdb uses; all three store id, vector and
payload, each write on the medium when it returns, and take turns within one run. The directory must be on the disk that is to be measured.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from engine import report
from engine.report import Table
from stores import beside, opening, writes
from stores.work import Work

PARTS = ("writes", "bytes", "checkpoints", "searches", "opening")


def arguments() -> argparse.Namespace:
    """
    Return the options of the command line.
    """
    parser = argparse.ArgumentParser(description="What a durable write costs beside SQLite and LMDB, and how long opening takes.")
    parser.add_argument("--parts", default=",".join(PARTS), help=f"some of {','.join(PARTS)}")
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--seconds", type=float, default=1.0, help="of a store's turn")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each store in each cell")
    parser.add_argument("--points", type=int, default=1_000_000, help="points that are opened; the other parts use at most 100,000 of them")
    parser.add_argument("--repeats", type=int, default=3, help="openings of each kind")
    parser.add_argument("--m", type=int, default=16, help="of the graph that is opened")
    parser.add_argument("--ef-construction", type=int, default=200, help="of the graph that is opened")
    parser.add_argument("--directory", type=Path, help="where the files go; default: the directory for temporary files")
    parser.add_argument("--record", action="store_true", help="append to benchmarks/RESULTS.md")
    options = parser.parse_args()
    unknown = [part for part in options.parts.split(",") if part not in PARTS]
    if unknown:
        parser.error(f"unknown: {', '.join(unknown)}")
    return options


def measure(part: str, directory: Path, work: Work, options: argparse.Namespace) -> Table:
    """
    Measure one part.
    """
    few = min(options.points, 100_000)
    if part == "writes":
        return writes.throughput(directory, work, rounds=options.rounds, seconds=options.seconds)
    if part == "bytes":
        return writes.amplification(directory, work, points=few)
    if part == "checkpoints":
        return beside.checkpoints(directory, work, points=few, seconds=5 * options.seconds)
    if part == "searches":
        return beside.searches(directory, work, points=few, count=2000)
    return opening.opening(
        directory, work, points=options.points, repeats=options.repeats, m=options.m, ef_construction=options.ef_construction
    )


def main() -> int:
    """
    Measure the parts, each in an empty directory, and record them.
    """
    options = arguments()
    about = report.heading()
    print("\n".join(about), flush=True)
    work = Work(options.dim)
    tables = []
    for part in options.parts.split(","):
        with tempfile.TemporaryDirectory(prefix="vecdb-storage-", dir=options.directory) as directory:
            tables.append(measure(part, Path(directory), work, options))
        print(report.text(tables[-1]), flush=True)
    if options.record:
        report.record(f"storage, {options.parts}", about, tables)
    return 0


if __name__ == "__main__":
    sys.exit(main())
