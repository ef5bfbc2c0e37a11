"""
Acknowledged points per second, and bytes written for each byte that was acknowledged.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from engine.report import Table

from vecdb.storage import files
from vecdb.storage.system import Buffer, System

from .peers import STORES, Store, Vecdb
from .work import Work

BATCHES = (1, 100, 1000)
THREADS = (1, 8)
_IDS_A_THREAD = 1 << 32


def write_for(store: Store, work: Work, *, batch: int, threads: int, seconds: float, first_id: int) -> tuple[int, float]:
    """
    Write from some threads for some time; return (acknowledged points, seconds until the last of them was).
    """
    done = [0] * threads
    end = time.perf_counter() + seconds

    def run(number: int) -> None:
        write = store.writer()
        next_id = number * _IDS_A_THREAD + first_id
        while time.perf_counter() < end:
            write(work.batch(next_id, batch))
            next_id += batch
            done[number] += batch

    runners = [threading.Thread(target=run, args=(number,)) for number in range(threads)]
    start = time.perf_counter()
    for runner in runners:
        runner.start()
    for runner in runners:
        runner.join()
    return sum(done), time.perf_counter() - start


def throughput(directory: Path, work: Work, *, rounds: int, seconds: float) -> Table:
    """
    Let the stores take turns, cell by cell; vecdb's indexing runs while it writes and is waited for, apart, before the next one's turn.
    """
    names = [kind.name for kind in STORES]
    table = Table(
        f"acknowledged points/s, {work.dim} dimensions, {work.bytes_a_point:.0f} bytes a point",
        ["threads", "points a call", *names, "vecdb / SQLite", "vecdb: drained in s", "points"],
    )
    for threads in THREADS:
        for batch in BATCHES:
            place = directory / f"{threads}-{batch}"
            place.mkdir()
            stores: list[Store] = [kind(place, work) for kind in STORES]
            points, taken, drained = Counter[str](), Counter[str](), 0.0
            for turn in range(rounds):
                for store in stores[turn % 3 :] + stores[: turn % 3]:
                    count, elapsed = write_for(store, work, batch=batch, threads=threads, seconds=seconds, first_id=turn << 26)
                    points[store.name] += count
                    taken[store.name] += elapsed
                    drained += store.settle()
            for store in stores:
                store.close()
            shutil.rmtree(place)
            rates = [points[name] / taken[name] for name in names]
            table.add(threads, batch, *rates, rates[0] / rates[1], drained, points[Vecdb.name])
    table.notes.append(f"{rounds} turns of {seconds:g} s for each store and cell; payloads are encoded within the timing")
    return table


class _Counting(System):
    """
    Counts the bytes written, by what they belong to.
    """

    def __init__(self) -> None:
        self.written = Counter[str]()

    def pwritev(self, fd: int, buffers: Sequence[Buffer], offset: int) -> int:
        written = super().pwritev(fd, buffers, offset)
        path = files.path_of(fd)
        kind = "other" if path is None else {"wal": "log", "vectors": "rows", "derived": "derived"}.get(path.parent.name, "other")
        self.written[kind] += written
        return written


def _process_bytes() -> int:
    """
    Return the bytes that this process has given to write calls.

    Its `write_bytes` counts a whole folio, up to megabytes, for each byte that makes one dirty; only the blocks that changed are written.
    """
    fields = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(fields["wchar"])


def amplification(directory: Path, work: Work, *, points: int) -> Table:
    """
    Write the same points into each store, close it, and count.
    """
    table = Table(
        f"bytes written for each byte acknowledged, {points:,} new points, closed at the end",
        ["store", "points a call", "all", "log", "rows", "LMDB", "derived", "bytes a point on disk"],
    )
    for batch in BATCHES[1:]:
        for kind in STORES:
            place = directory / f"bytes-{kind.name}-{batch}"
            place.mkdir()
            before, system = _process_bytes(), files.system
            counting = _Counting()
            files.system = counting
            try:
                store: Store = kind(place, work)
                write = store.writer()
                for first in range(0, points, batch):
                    write(work.batch(first, batch))
                store.settle()
                store.close()
            finally:
                files.system = system
            after = _process_bytes()
            acknowledged = points * work.bytes_a_point
            shares = [counting.written[part] / acknowledged for part in ("log", "rows", "derived")]
            total = (after - before) / acknowledged
            lmdb_share = total - sum(counting.written.values()) / acknowledged
            parts = [*shares[:2], lmdb_share, shares[2]] if kind is Vecdb else [None] * 4
            size = sum(path.stat().st_blocks * 512 for path in place.rglob("*") if path.is_file())
            table.add(kind.name, batch, total, *parts, size / points)
            shutil.rmtree(place)
    table.notes.append(
        "log and rows count the zeros by which their files get their room; LMDB is what the write calls of vecdb's own files leave"
    )
    return table
