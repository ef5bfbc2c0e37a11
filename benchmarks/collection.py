"""
What a collection costs around the core: a search with payloads, a query of a batch, filters, and `upload` with workers.

    python benchmarks/collection.py [--parts calls,filters,upload] [--points 200000] [--filter-points 1000000] [--uploaded 200000]
        [--data DIRECTORY] [--record]

Time outside the core is the time of a call without that of the core's search inside it; the files are in the page cache. `calls` asks for
real word vectors with --data (glove100.f16.npy there; its last rows are the queries), else for those of the engine's generator: among
vectors without any structure a walk is so long that the rest of a call begins with empty caches. `filters` are those of users, through
`Collection.count`; benchmarks/filter_sets.py measures the core's sets alone.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from engine import report
from engine.data import Dataset, Synthetic, load, synthetic
from engine.report import Table
from numpy.typing import NDArray

import vecdb
import vecdb.index
from vecdb import F

PARTS = ("calls", "filters", "upload")
_DIM = 100
_CITIES = 50
_ROUNDS_OF_WORK = 600


class _Timed:
    """
    The core's functions as plain attributes, with the time spent in one of them added up.
    """

    def __init__(self, lib: Any, name: str) -> None:
        self.nanoseconds = 0
        vars(self).update({each: getattr(lib, each) for each in dir(lib)})
        inner, clock = getattr(lib, name), time.perf_counter_ns

        def timed(*arguments: Any) -> Any:
            start = clock()
            status = inner(*arguments)
            self.nanoseconds += clock() - start
            return status

        vars(self)[name] = timed


def outside_us(call: Callable[[int], object], count: int) -> tuple[float, float]:
    """
    Return the medians of (whole call, part outside the core's search) in microseconds.
    """
    lib = vecdb.index.lib
    timed = _Timed(lib, "vecdb_index_search")
    vecdb.index.lib = timed
    whole, outside = [], []
    try:
        for number in range(count):
            timed.nanoseconds = 0
            start = time.perf_counter_ns()
            call(number)
            taken = time.perf_counter_ns() - start
            whole.append(taken)
            outside.append(taken - timed.nanoseconds)
    finally:
        vecdb.index.lib = lib
    return float(np.median(whole)) / 1000, float(np.median(outside)) / 1000


def payload_of(number: int) -> dict[str, Any]:
    """
    Return a payload as applications have them.
    """
    return {"title": f"article {number}", "city": f"city {number % _CITIES}", "price": number % 997 / 4, "year": 1950 + number % 75}


def vectors(data: Path | None, points: int) -> Dataset:
    """
    Return points of 100 dimensions and 1,000 queries, none of them a point.
    """
    if data is not None:
        return load("glove", data, points=points, queries=1000)
    return synthetic("synthetic-100", Synthetic(points, _DIM), queries=1000)


def calls(directory: Path, points: int, data: Path | None) -> Table:
    """
    Measure a search with payloads, which come from the file, and a query of a batch.
    """
    given = vectors(data, points)
    points, queries = len(given.rows), given.queries
    table = Table(f"calls over {points:,} points of {_DIM} dimensions ({given.name}), k = 10, us", ["call", "whole", "outside the core"])
    with vecdb.open(directory / "calls") as database:
        collection = database.create_collection("points", dim=_DIM)
        for first in range(0, points, 1000):
            ids = list(range(first, min(first + 1000, points)))
            collection.upsert(ids, given.rows[first : first + len(ids)], [payload_of(one) for one in ids])
        collection.wait_indexed()
        collection.checkpoint()
        chosen = F("city") == "city 7"
        collection.search(queries[0], filter=chosen)
        for name, call in {
            "search, payloads": lambda number: collection.search(queries[number], k=10),
            "search, no payloads": lambda number: collection.search(queries[number], k=10, with_payload=False),
            "search, payloads, filter": lambda number: collection.search(queries[number], k=10, filter=chosen),
            "knn, one query": lambda number: collection.knn(queries[number : number + 1], k=10),
        }.items():
            outside_us(call, 100)
            table.add(name, *outside_us(call, len(queries)))
        for size in (100, 1000):
            whole, outside = outside_us(lambda number, size=size: collection.knn(queries[:size], k=10), 7)  # type: ignore[misc]
            table.add(f"knn, a query of {size:,}", whole / size, outside / size)
    return table


def median_us(call: Callable[[], object], before: Callable[[], object] = lambda: None, *, times: int = 31) -> float:
    """
    Return the median duration of a call; before is not timed.
    """
    taken = []
    for _ in range(times):
        before()
        start = time.perf_counter_ns()
        call()
        taken.append(time.perf_counter_ns() - start)
    return float(np.median(taken)) / 1000


def filters(directory: Path, points: int) -> Table:
    """
    Measure filters through `count`: the first on a key without an index, evaluated right after a write, and again.
    """
    table = Table(f"count(filter) over {points:,} points", ["filter", "points", "first, s", "after a write, us", "again, us"])
    random = np.random.default_rng(2)
    with vecdb.open(directory / "filters") as database:
        collection = database.create_collection("points", dim=2)
        spots = random.uniform((-90, -180), (90, 180), (points, 2))
        for first in range(0, points, 10_000):
            ids = list(range(first, min(first + 10_000, points)))
            payloads = [{**payload_of(one), "spot": {"lat": spots[one][0], "lon": spots[one][1]}} for one in ids]
            collection.upsert(ids, None, payloads)
        collection.checkpoint()
        chosen = {
            "keyword of 2 %": F("city") == "city 7",
            "keyword and keyword and integer": (F("city") == "city 7") & (F("title") == "article 57") & (F("year") == 1957),
            "range of 1 %": F("price") < 2.4,
            "range of 1 % and keyword": (F("price") < 2.4) & (F("city") == "city 7"),
            "radius of 500 km": F("spot").geo_radius(48.0, 2.0, 500_000),
        }
        for name, condition in chosen.items():
            node = vecdb.filters.parse(condition)
            start = time.perf_counter()
            found = collection.count(node)
            first = time.perf_counter() - start
            core, program = collection._state.core, collection._queries.program(node).words
            plan = partial(core.plan, 10, program=program)
            after = median_us(plan, before=lambda: collection.set_payload({"n": 1}, ids=0))
            table.add(name, found, first, after, median_us(plan, times=1001))
    table.notes.append("after a write: the set is made anew, by explaining a search; first: the indexes of keys that had none are built")
    return table


def transform(one: int) -> tuple[int, NDArray[np.float32], dict[str, Any]]:
    """
    Make a point of a number: pure Python, as a tokenizer or a parser is, some 0.4 ms.
    """
    text = " ".join(f"word{one * step % 1009}" for step in range(1, _ROUNDS_OF_WORK))
    vector = np.zeros(_DIM, dtype=np.float32)
    for word in text.split():
        vector[sum(map(ord, word)) % _DIM] += 1.0
    return one, vector, {"text": text[:40]}


def upload(directory: Path, points: int) -> Table:
    """
    Upload from a generator through a transform in one process and in two.
    """
    table = Table(
        f"upload of {points:,} points from a generator, CPU-bound transform", ["workers", "points/s", "against one", "memory grown, MiB"]
    )
    one = 0.0
    for workers in (1, 2):
        with vecdb.open(directory / f"upload-{workers}") as database:
            collection = database.create_collection("points", dim=_DIM, m=8, ef_construction=40)
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            start = time.perf_counter()
            collection.upload(numbers(points), transform=transform, workers=workers, progress=False)
            rate = points / (time.perf_counter() - start)
            one = one or rate
            table.add(workers, rate, rate / one, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
            assert len(collection) == points
    return table


def numbers(count: int) -> Iterator[int]:
    """
    Yield what the transform makes points of.
    """
    yield from range(count)


def main() -> int:
    """
    Measure the parts and record them.
    """
    parser = argparse.ArgumentParser(description="What a collection costs around the core.")
    parser.add_argument("--parts", default=",".join(PARTS), help=f"some of {','.join(PARTS)}")
    parser.add_argument("--points", type=int, default=200_000, help="of calls")
    parser.add_argument("--filter-points", type=int, default=1_000_000)
    parser.add_argument("--uploaded", type=int, default=200_000)
    parser.add_argument("--directory", type=Path, help="where the files go; default: the directory for temporary files")
    parser.add_argument("--data", type=Path, help="the directory of the real vectors, for calls")
    parser.add_argument("--record", action="store_true", help="append to benchmarks/RESULTS.md")
    options = parser.parse_args()
    about = report.heading()
    print("\n".join(about), flush=True)
    measured: dict[str, Callable[[Path], Table]] = {
        "calls": lambda directory: calls(directory, options.points, options.data),
        "filters": lambda directory: filters(directory, options.filter_points),
        "upload": lambda directory: upload(directory, options.uploaded),
    }
    tables = []
    for part in options.parts.split(","):
        if part not in measured:
            parser.error(f"unknown: {part}, expected some of {','.join(PARTS)}")
        with tempfile.TemporaryDirectory(prefix="vecdb-collection-", dir=options.directory) as directory:
            tables.append(measured[part](Path(directory)))
        print(report.text(tables[-1]), flush=True)
    if options.record:
        report.record(f"collection, {options.parts}", about, tables)
    return 0


if __name__ == "__main__":
    sys.exit(main())
