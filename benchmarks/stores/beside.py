"""
Writes beside checkpoints, and searches beside writes, from threads of one process at Python's default switch interval.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from engine.report import Table
from numpy.typing import NDArray

from .peers import Vecdb
from .work import Work

_BATCH = 100


def _milliseconds(seconds: list[float] | NDArray[np.float64]) -> tuple[float, float, float]:
    taken = np.asarray(seconds) * 1000
    return float(np.percentile(taken, 50)), float(np.percentile(taken, 99)), float(taken.max())


def checkpoints(directory: Path, work: Work, *, points: int, seconds: float) -> Table:
    """
    Time writes of one thread while another makes one checkpoint after the other, and while it makes none.
    """
    table = Table(
        f"a write of {_BATCH} points among {points:,}, ms", ["checkpoints", "writes", "p50", "p99", "longest", "checkpoints made"]
    )
    store = Vecdb(directory, work)
    write = store.writer()
    for first in range(0, points, 1000):
        write(work.batch(first, 1000))
    store.settle()
    next_id = points
    for busy in (False, True):
        store.collection.checkpoint()
        stop = threading.Event()
        made = 0

        def make(stop: threading.Event = stop) -> None:
            nonlocal made
            while not stop.is_set():
                store.collection.checkpoint()
                made += 1

        maker = threading.Thread(target=make)
        if busy:
            maker.start()
        taken = []
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            start = time.perf_counter()
            write(work.batch(next_id, _BATCH))
            taken.append(time.perf_counter() - start)
            next_id += _BATCH
        stop.set()
        if busy:
            maker.join()
        table.add("one after the other" if busy else "none", len(taken), *_milliseconds(taken), made)
    store.close()
    return table


def searches(directory: Path, work: Work, *, points: int, count: int) -> Table:
    """
    Time single searches with payloads while nothing is written, and while a thread upserts at full speed.
    """
    table = Table(f"search(k=10) with payloads over {points:,} points, ms", ["beside", "p50", "p99", "longest", "points/s written"])
    store = Vecdb(directory, work)
    write = store.writer()
    for first in range(0, points, 1000):
        write(work.batch(first, 1000))
    store.settle()
    queries = np.random.default_rng(5).standard_normal((count, work.dim)).astype(np.float32)

    def timed(search: Callable[[NDArray[np.float32]], object]) -> list[float]:
        taken = []
        for query in queries:
            start = time.perf_counter()
            search(query)
            taken.append(time.perf_counter() - start)
        return taken

    def search(query: NDArray[np.float32]) -> object:
        return store.collection.search(query, k=10)

    timed(search)
    table.add("nothing", *_milliseconds(timed(search)), None)
    for batch, what in ((1, "upserts one by one"), (_BATCH, f"upserts of {_BATCH}"), (1000, "upserts of 1,000")):
        stop = threading.Event()
        written = 0

        def upsert(batch: int = batch, stop: threading.Event = stop) -> None:
            nonlocal written
            while not stop.is_set():
                write(work.batch((points + written) % (points * 2), batch))
                written += batch

        writer = threading.Thread(target=upsert)
        start = time.perf_counter()
        writer.start()
        taken = timed(search)
        elapsed = time.perf_counter() - start
        stop.set()
        writer.join()
        table.add(what, *_milliseconds(taken), written / elapsed)
        store.settle()
    store.close()
    return table
