"""
vecdb as a user has it: `Collection.knn` with a filter in the grammar, one query a call.
"""

from __future__ import annotations

import importlib
import itertools
import threading
import time
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .data import Dataset
from .filters import Cell
from .stock import SEED, Options
from .truth import NO_HIT

# Longer lists of ids than anyone would write into a filter are left out.
MOST_IDS = 20_000
_AT_ONCE = 10_000
_TINY = 64
_WRITTEN_AT_ONCE = 100


class Timed(NamedTuple):
    """
    Hits of the first queries, queries per second, and how many filters were tried before.
    """

    found: NDArray[np.uint32]
    qps: float


def timed(search: Any, queries: int, k: int, *, budget: float, passes: int) -> Timed:
    """
    Call search(i) -> ids for queries in turn: each once to warm up, then passes for the clock, all within about `budget` seconds.

    Fewer queries are used where the budget does not allow for all of them; the speed is that of the median pass.
    """
    found: list[NDArray[np.integer]] = []
    start = time.perf_counter()
    while len(found) < queries and (not found or time.perf_counter() - start < budget):
        found.append(search(len(found)))
    rows = np.full((len(found), k), NO_HIT, dtype=np.uint32)
    for row, ids in zip(rows, found, strict=True):
        row[: len(ids)] = ids
    seconds: list[float] = []
    while len(seconds) < passes and (not seconds or time.perf_counter() - start < 4 * budget):
        begin = time.perf_counter()
        for query in range(len(found)):
            search(query)
        seconds.append(time.perf_counter() - begin)
    return Timed(rows, len(found) / float(np.median(seconds)))


def missing() -> str | None:
    """
    Return why vecdb cannot be imported, or None.
    """
    try:
        importlib.import_module("vecdb")
    except ImportError as error:
        return str(error)
    return None


class CollectionEngine:
    """
    A collection in memory with the points of one set.
    """

    def __init__(self, data: Dataset, options: Options) -> None:
        import vecdb

        self._data = data
        shape: dict[str, Any] = {"m": options.m, "ef_construction": options.ef_construction, "seed": SEED, "threads": 1}
        shape["quantization"] = options.quantization
        self._points = vecdb.Collection(dim=data.dim, **shape)
        for start in range(0, len(data.rows), _AT_ONCE):
            stop = min(start + _AT_ONCE, len(data.rows))
            self._points.upsert(range(start, stop), data.rows[start:stop])
        self._points.wait_indexed()
        tiny = vecdb.Collection(dim=data.dim, **shape)
        tiny.upsert(range(_TINY), data.rows[:_TINY], [{"tags": ["t1"]}] * _TINY)
        self._tiny = tiny

    def attach(self, cell: Cell) -> str | None:
        """
        Write the payloads of a cell; return why the cell is left out, or None.
        """
        if cell.spec.kind == "bitmap" and int(cell.cardinalities().max()) > MOST_IDS:
            return f"a list of more than {MOST_IDS:,} ids is not a filter that anyone writes"
        if cell.has_attributes:
            payloads = cell.payloads()
            for start in range(0, len(payloads), _AT_ONCE):
                stop = min(start + _AT_ONCE, len(payloads))
                self._points.update(range(start, stop), payloads=[{"tags": [], **payload} for payload in payloads[start:stop]])
        return None

    def run(self, cell: Cell, k: int, *, budget: float, passes: int) -> Timed:
        """
        Search one query a call.
        """

        def search(query: int) -> NDArray[np.integer]:
            filter = cell.filters[int(cell.filter_of_query[query])] if cell.is_filtered else None
            ids = self._points.knn(self._data.queries[query : query + 1], k, filter=filter)[0][0]
            return np.asarray(ids[ids >= 0])

        return timed(search, len(self._data.queries), k, budget=budget, passes=passes)

    def plan(self, cell: Cell, k: int) -> str:
        """
        Return what explain() says of the cell's first filter.
        """
        plan = self._points.explain(cell.filters[0] if cell.is_filtered else None, k=k)
        return f"{plan.strategy} ef={plan.ef}" if plan.ef else plan.strategy

    def overhead(self, k: int, *, calls: int = 2000) -> dict[str, float]:
        """
        Return microseconds a query that are not search: one by one and in a batch, on a collection of 64 points, the filter cached.
        """
        queries = np.resize(self._data.queries, (calls, self._data.dim))
        filter = {"must": [{"key": "tags", "match": {"value": "t1"}}]}
        self._tiny.knn(queries[:1], k, filter=filter)
        start = time.perf_counter()
        for query in queries:
            self._tiny.knn(query[None], k, filter=filter)
        single = time.perf_counter() - start
        start = time.perf_counter()
        self._tiny.knn(queries, k, filter=filter)
        return {"one by one, us": single / calls * 1e6, "in a batch, us": (time.perf_counter() - start) / calls * 1e6}

    def bytes(self) -> dict[str, int]:
        """
        Return what info() says about memory.
        """
        return dict(self._points.info().bytes)

    def close(self) -> None:
        """
        Release the memory.
        """
        self._points.close()
        self._tiny.close()


def python_latencies(data: Dataset, options: Options, *, k: int, seconds: float) -> tuple[list[float], list[float], float]:
    """
    Return p50, p99 and maximum in us of single knn calls, idle and beside a thread that upserts at full speed, and upserts per second.
    """
    import vecdb

    half = len(data.rows) // 2
    points = vecdb.Collection(
        dim=data.dim, m=options.m, ef_construction=options.ef_construction, seed=SEED, quantization=options.quantization
    )
    points.upsert(range(half), data.rows[:half])
    points.wait_indexed()
    stop = threading.Event()
    written = 0
    failures: list[Exception] = []

    def write() -> None:
        nonlocal written
        try:
            for start in itertools.cycle(range(half, len(data.rows) - _WRITTEN_AT_ONCE, _WRITTEN_AT_ONCE)):
                if stop.is_set():
                    return
                points.upsert(range(start, start + _WRITTEN_AT_ONCE), data.rows[start : start + _WRITTEN_AT_ONCE])
                written += _WRITTEN_AT_ONCE
        except Exception as error:  # noqa: BLE001 - raised again below, in the thread that waits
            failures.append(error)

    idle = _percentiles(points, data, k, seconds)
    writer = threading.Thread(target=write)
    writer.start()
    start = time.perf_counter()
    busy = _percentiles(points, data, k, seconds)
    speed = written / (time.perf_counter() - start)
    stop.set()
    writer.join()
    points.close()
    if failures:
        raise failures[0]
    return idle, busy, speed


def _percentiles(points: Any, data: Dataset, k: int, seconds: float) -> list[float]:
    micros = []
    begin = time.perf_counter()
    for query in itertools.cycle(data.queries):
        start = time.perf_counter()
        if start - begin > seconds:
            break
        points.knn(query[None], k)
        micros.append((time.perf_counter() - start) * 1e6)
    return [float(value) for value in np.quantile(micros, [0.5, 0.99, 1.0])]
