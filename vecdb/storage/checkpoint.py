"""
The checkpoint: what makes the applied state the durable base, so that the log before it can go; docs/file_format.md
gives the order and the cases.

Invariant: rows are synced before points.lmdb commits, points.lmdb before a segment goes; the commit is the only
switch. A failed commit leaves the frozen state in memory, and the next attempt begins with it. A failed sync of rows
ends checkpoints for good. Thread rule: any thread, one at a time; the write lock is held for draining the queue,
switching to a segment that was made before, and freezing.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from vecdb.errors import StorageError, VecdbError
from vecdb.storage.derived import DerivedFiles
from vecdb.storage.overlay import Overlay
from vecdb.storage.points import PointsFile
from vecdb.storage.points_write import Frozen, write_checkpoint
from vecdb.storage.recovery import graph_name
from vecdb.storage.saved_indexes import SavedIndexes
from vecdb.storage.store import DerivedSource, WriteLock
from vecdb.storage.vectors import RowFile
from vecdb.storage.wal import Log

logger = logging.getLogger("vecdb.storage")

LOG_BYTES = 16 << 20
AGE_SECONDS = 30.0
RETRY_SECONDS = 10.0
# A graph is saved again when it covers a quarter more rows than its file: growing to n rows then writes five times
# the final file in all.
GRAPH_GROWTH = 1.25
GRAPH_LEAST_ROWS = 1024


class Occasion(Enum):
    """
    Why a checkpoint is made; at close, graphs are saved for less.
    """

    RUNNING = 1
    CLOSING = 2


@dataclass(frozen=True, slots=True)
class _Graph:
    """
    A graph that is exact for `lsn`, and the rows it covers.
    """

    field: int
    rows: int
    lsn: int
    body: memoryview


@dataclass(frozen=True, slots=True)
class Parts:
    """
    What a checkpoint works on; `drain` returns when every queued call is applied, and is called with the write lock
    held.
    """

    points: PointsFile
    overlay: Overlay
    rows: list[RowFile]
    derived: DerivedFiles
    indexes: SavedIndexes
    log: Log
    source: DerivedSource
    write_lock: WriteLock
    drain: Callable[[], None]


class _Committed:
    """
    The points as of the last checkpoint, see `saved_indexes.Then`: points.lmdb has them, and the memtable what has changed since.
    """

    def __init__(self, points: PointsFile, overlay: Overlay) -> None:
        self.lsn = overlay.base.applied_lsn
        self.offsets = overlay.base.next_offset
        self._points = points
        self._overlay = overlay

    def changed(self) -> NDArray[np.uint32]:
        """
        Return the offsets that calls have changed since.
        """
        return self._overlay.changed_since_base()

    def payloads_of(self, offsets: Sequence[int]) -> Mapping[int, bytes]:
        """
        Return the payloads of those that lived.
        """
        with self._points.snapshot() as snapshot:
            found = zip(offsets, snapshot.payloads_of(offsets), strict=True)
            return {offset: payload for offset, payload in found if payload is not None}


class Checkpointer:
    """
    Makes checkpoints; `error` says why the last attempt failed, `blocked` why there can be no more in this process.
    """

    def __init__(self, parts: Parts, *, saved_rows: dict[int, int]) -> None:
        self.error: str | None = None
        self.blocked: str | None = None
        self._parts = parts
        self._saved_rows = saved_rows
        self._busy = Lock()
        self._still = False
        self._pending: Frozen | None = None
        self._waiting_since: float | None = None
        self._retry_at = 0.0

    def due(self) -> bool:
        """
        Return whether the log's size or the age of its first call asks for a checkpoint; called regularly, since the
        age counts from when this first sees one.
        """
        now = time.monotonic()
        if self._parts.overlay.applied_lsn <= self._parts.overlay.base.applied_lsn:
            self._waiting_since = None
            return False
        if self._waiting_since is None:
            self._waiting_since = now
        if self.blocked is not None or self._still or now < self._retry_at:
            return False
        return self._parts.log.bytes_since_checkpoint >= LOG_BYTES or now - self._waiting_since >= AGE_SECONDS

    def run(self, occasion: Occasion) -> None:
        """
        Make a checkpoint; raises when it fails, with nothing lost.
        """
        with self._busy:
            if self.blocked is not None:
                raise StorageError(self.blocked)
            try:
                if self._pending is not None:
                    self._commit(self._pending)
                self._freeze_and_commit(occasion)
            except VecdbError as error:
                self.error = str(error)
                self._retry_at = time.monotonic() + RETRY_SECONDS
                raise
            self.error = None
            self._waiting_since = None

    def commit(self) -> None:
        """
        Make a checkpoint without graphs. REQUIRES: `standing_still`, and the write lock.
        """
        parts = self._parts
        parts.drain()
        if parts.overlay.applied_lsn > parts.overlay.base.applied_lsn:
            self._commit(self._freeze(parts.log.switch_segment()))

    @contextmanager
    def standing_still(self) -> Iterator[None]:
        """
        Keep checkpoints from being made for the time of a with block; what an earlier one has left is committed first.
        """
        with self.resting():
            if self.blocked is not None:
                raise StorageError(self.blocked)
            if self._pending is not None:
                self._commit(self._pending)
            self._parts.log.spares.make_for_switch()
            yield

    @contextmanager
    def resting(self) -> Iterator[None]:
        """
        Keep checkpoints from being made, and points.lmdb as it is, for the time of a with block.
        """
        with self._busy:
            self._still = True
            try:
                yield
            finally:
                self._still = False

    def move_to(self, parts: Parts, *, saved_rows: dict[int, int]) -> None:
        """
        Work on the files of another generation from now on. REQUIRES: `standing_still`, and the write lock.
        """
        self._parts = parts
        self._saved_rows = saved_rows
        self.error = None
        self._waiting_since = None

    def _freeze_and_commit(self, occasion: Occasion) -> None:
        parts = self._parts
        if parts.overlay.applied_lsn > parts.overlay.base.applied_lsn:
            parts.log.spares.make_for_switch()
        graphs = self._copy_graphs(parts.overlay.applied_lsn, occasion)
        with parts.write_lock:
            parts.drain()
            if parts.overlay.applied_lsn > parts.overlay.base.applied_lsn:
                self._freeze(parts.log.switch_segment())
        if self._pending is not None:
            self._commit(self._pending)
        for graph in graphs:
            self._save_graph(graph)
        then = _Committed(parts.points, parts.overlay)
        lsn = then.lsn
        for name in parts.indexes.due(parts.source, lsn=lsn, closing=occasion is Occasion.CLOSING):
            parts.indexes.save(parts.source, name, then, lsn=lsn)
        parts.indexes.remove_others(parts.source)

    def _freeze(self, lsn: int) -> Frozen:
        """
        Put what was applied aside, to be committed. REQUIRES: the write lock, everything applied.
        """
        parts = self._parts
        frozen = self._pending = parts.overlay.freeze(lsn, tuple(rows.freeze() for rows in parts.rows))
        parts.indexes.note(len(frozen.memtable.payloads))
        return frozen

    def _commit(self, frozen: Frozen) -> None:
        parts = self._parts
        for rows in parts.rows:
            try:
                rows.sync()
            except StorageError as error:
                self.blocked = (
                    f"{rows.path} could not be synced ({error}), so no further checkpoint is made and nothing more is "
                    "written; every confirmed write is in the log: "
                    "close the database and open it again"
                )
                raise StorageError(self.blocked) from error
        base = write_checkpoint(parts.points, frozen, oldest_derived=parts.indexes.oldest())
        parts.overlay.committed(base)
        self._pending = None
        parts.log.drop_through(frozen.lsn)

    def _copy_graphs(self, lsn: int, occasion: Occasion) -> list[_Graph]:
        """
        Take the bytes of the graphs that have grown enough. Before the applied state is frozen, so that they cover no
        row beyond the checkpoint; writes go on meanwhile.
        """
        parts = self._parts
        graphs = []
        for field in range(len(parts.rows)):
            rows = parts.source.indexed_rows(field)
            saved = self._saved_rows.get(field, 0)
            least = saved * GRAPH_GROWTH if occasion is Occasion.RUNNING else saved * 1.01
            if rows < GRAPH_LEAST_ROWS or rows <= saved or rows < least:
                continue
            body = parts.source.save_graph(field, parts.derived.uuid, parts.derived.generation, lsn)
            if body is not None:
                graphs.append(_Graph(field, rows, lsn, body))
        return graphs

    def _save_graph(self, graph: _Graph) -> None:
        """
        Write a derived file. A failure costs only time at the next opening, so the checkpoint stands; the older file,
        if any, stays.
        """
        try:
            self._parts.derived.save(graph_name(graph.field), lsn=graph.lsn, body=graph.body)
        except StorageError as error:
            logger.warning("the graph of field %d is not saved, so it will be built again from the last saved one: %s", graph.field, error)
            return
        self._saved_rows[graph.field] = graph.rows
