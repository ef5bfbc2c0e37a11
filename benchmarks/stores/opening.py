"""
How long it takes from `vecdb.open` to the answer of the first search, each time in a process of its own, the files in the page cache.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

from engine.build import ROOT
from engine.report import Table

import vecdb

from .work import Work

_IN_LOG = 20_000  # points that are written before the kill

_OPEN = """
import os, sys, time
import numpy as np
import vecdb
query = np.random.default_rng(3).standard_normal(int(sys.argv[2])).astype(np.float32)
start = time.perf_counter()
database = vecdb.open(sys.argv[1])
points = database["points"]
opened = time.perf_counter() - start
hits = points.search(query, k=10)
first = time.perf_counter() - start
again = time.perf_counter()
points.search(query, k=10)
again = time.perf_counter() - again
assert len(hits) == 10
print(len(points), points.info().tail, opened, first, again)
sys.stdout.flush()
os._exit(0)
"""


_WRITE = """
import os, signal, sys
import vecdb
from stores.work import Work
path, dim, first, count = sys.argv[1], *map(int, sys.argv[2:])
work = Work(dim)
points = vecdb.open(path)["points"]
for start in range(first, first + count, 1000):
    batch = work.batch(start, 1000)
    points.upsert(batch.ids, batch.vectors, batch.payloads)
os.kill(os.getpid(), signal.SIGKILL)
"""


def _run(program: str, *arguments: object, may_be_killed: bool = False) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'benchmarks'}"},
        stdout=subprocess.PIPE,
        text=True,
        check=not may_be_killed,
    )
    return done.stdout


def _opened(path: Path, dim: int) -> tuple[int, int, float, float, float]:
    os.sync()  # else the copy is written back while it is opened
    for file in path.rglob("*"):
        if file.is_file():
            file.read_bytes()
    points, tail, *times = _run(_OPEN, path, dim).split()
    opened, first, again = map(float, times)
    return int(points), int(tail), opened, first, again


def opening(directory: Path, work: Work, *, points: int, repeats: int, m: int, ef_construction: int) -> Table:
    """
    Measure a clean copy, one without derived files, and both after a kill with some log to replay.
    """
    table = Table(
        f"opening {points:,} points of {work.dim} dimensions, page cache warm, s",
        ["files", "opened", "first search answered", "a search after that", "points", "not in the graph"],
    )
    original = directory / "original"
    with vecdb.open(original) as database:
        collection = database.create_collection("points", dim=work.dim, m=m, ef_construction=ef_construction)
        for first in range(0, points, 1000):
            batch = work.batch(first, 1000)
            collection.upsert(batch.ids, batch.vectors, batch.payloads)
        collection.wait_indexed()
    for killed in (False, True):
        for intact in (True, False):
            name = ("derived files intact" if intact else "derived files gone") + (", killed, log to replay" if killed else "")
            found = []
            for repeat in range(repeats):
                copy = directory / f"copy-{killed}-{intact}-{repeat}"
                shutil.copytree(original, copy)
                if killed:
                    _run(_WRITE, copy, work.dim, points, _IN_LOG, may_be_killed=True)
                if not intact:
                    for derived in copy.glob("c-*/gen-*/derived"):
                        shutil.rmtree(derived)
                        derived.mkdir(0o700)
                found.append(_opened(copy, work.dim))
                shutil.rmtree(copy)
            table.add(name, *(statistics.median(one[place] for one in found) for place in (2, 3, 4)), *found[-1][:2])
    table.notes.append(f"medians of {repeats} processes; graph with m={m}, ef_construction={ef_construction}; importing vecdb not counted")
    return table
