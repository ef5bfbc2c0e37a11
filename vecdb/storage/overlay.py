"""
The applied state of a collection on disk: an active memtable over a frozen one over points.lmdb.

Invariant: one reading sees one state. Whatever is in the memtables is looked up, and the LMDB transaction begun,
under one lock; freezing takes that lock too, so a transaction that begins under it holds at most what the captured
memtables overrule. Thread rule: any thread reads; `apply` by one thread at a time in LSN order; `freeze` and
`committed` by the checkpoint.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from vecdb.errors import Corruption
from vecdb.storage.base_state import BaseState
from vecdb.storage.blocks import IDS_PER_BLOCK, id_key
from vecdb.storage.effects import Effects, PointId
from vecdb.storage.memtable import DEAD, Memtable
from vecdb.storage.points_read import Snapshot
from vecdb.storage.points_write import Frozen, RowsFrozen
from vecdb.storage.view import DiskView, from_key, overruled

_Entry = tuple[bytes, PointId, int]
_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


class Snapshots(Protocol):
    """
    A points.lmdb: as of now, or as of one moment.
    """

    @property
    def path(self) -> Path:
        """
        Where the file is.
        """

    def snapshot(self) -> Snapshot:
        """
        Return a state of the file, to be closed.
        """


class Overlay:
    """
    Reads and changes of what is applied; `base` is the state of points.lmdb as of the last checkpoint.
    """

    def __init__(self, points: Snapshots, base: BaseState) -> None:
        self.base = base
        self.applied_lsn = base.applied_lsn
        self.live = base.live
        self._points = points
        self._lock = Lock()
        self._active = Memtable(base.next_offset, fields=len(base.rows))
        self._frozen: Memtable | None = None
        # Ints beyond it are in no base that is read from now on: of an id that counts up, points.lmdb need not be asked. None: not known.
        self._last_int: int | None = None

    @property
    def next_offset(self) -> int:
        """
        The first offset that no applied call has used.
        """
        return self._active.next_offset

    def expect(self, lsn: int, effects: Effects) -> None:
        """
        Raise Corruption when a call does not continue the state.
        """
        if effects.first_offset != self.next_offset or lsn <= self.applied_lsn:
            raise Corruption(
                f"{self._points.path}: the call at LSN {lsn} begins at offset {effects.first_offset}, but the state at "
                f"LSN {self.applied_lsn} ends at {self.next_offset}: "
                "the log and the points do not belong together; restore a backup of the database"
            )

    def apply(self, lsn: int, effects: Effects) -> None:
        """
        Take a call's effects. REQUIRES: they passed `expect`.
        """
        with self._lock:
            self._active.apply(effects)
            self.live += len(effects.put_ids) - len(effects.tombstones)
            self.applied_lsn = lsn

    def freeze(self, lsn: int, rows: tuple[RowsFrozen, ...]) -> Frozen:
        """
        Put the active memtable aside for the checkpoint at lsn. REQUIRES: the one before is committed, and no call is
        being applied.
        """
        with self._lock:
            assert self._frozen is None
            self._frozen = self._active
            self._active = Memtable(self._frozen.next_offset, fields=len(rows))
            return Frozen(lsn, self._frozen, self.live, rows)

    def committed(self, base: BaseState) -> None:
        """
        Forget the frozen memtable: points.lmdb holds it.
        """
        with self._lock:
            self._frozen = None
            self.base = base
            self._last_int = None

    def changed_since_base(self) -> NDArray[np.uint32]:
        """
        Return the offsets in `base` whose payload or liveness applied calls have changed since, ascending. REQUIRES: nothing is frozen.
        """
        with self._lock:
            assert self._frozen is None
            changed = self._active.changed()
        return changed[: np.searchsorted(changed, self._active.first_offset)]

    def offsets_of(self, ids: Sequence[PointId]) -> list[int | None]:
        """
        Return each id's offset; None where there is no such point.
        """
        found: dict[PointId, int] = {}
        with self._lock:
            missing = _looked_up(ids, [table.ids for table in self._tables()], found)
            base, last = self.base, self._last_int
            if last is not None:
                missing = [point_id for point_id in missing if isinstance(point_id, str) or point_id <= last]
            snapshot = self._points.snapshot() if missing else None
        if snapshot is not None:
            with snapshot:
                found.update(snapshot.offsets_of(missing))
                last = snapshot.last_int_id() if last is None else last
            with self._lock:
                if self.base is base:
                    self._last_int = last
        return [None if (offset := found.get(point_id, DEAD)) == DEAD else offset for point_id in ids]

    def payloads_of(self, offsets: Sequence[int]) -> list[bytes | None]:
        """
        Return each offset's payload; None where the offset is a tombstone.
        """
        missing = offsets
        found: dict[int, bytes | None] = {}
        with self._lock:
            upper = self._active.payloads or self._frozen is not None
            if upper:
                missing = _looked_up(offsets, [table.payloads for table in self._tables()], found)
            snapshot = self._points.snapshot() if missing else None
        if snapshot is None:
            return list(map(found.get, offsets))
        try:
            below = snapshot.payloads_of(missing)
        finally:
            snapshot.close()
        if not upper:
            return below
        found.update(zip(missing, below, strict=True))
        return list(map(found.get, offsets))

    def iterate_ids(self, after: PointId | None) -> Iterator[PointId]:
        """
        Iterate over the ids of now beyond `after`, ascending.
        """
        start = b"\0" if after is None else id_key(after) + b"\0"
        with self._lock:
            upper = [table.sorted_ids() for table in self._tables()]
            snapshot = self._points.snapshot()
        return _ids(snapshot, upper, start)

    def iterate_payloads(self, first: int, last: int) -> Iterator[tuple[int, bytes]]:
        """
        Iterate over the offsets and payloads of the live points of now in [first, last), ascending.
        """
        with self._lock:
            last = min(last, self.next_offset)
            upper: dict[int, bytes | None] = {}
            for table in reversed(self._tables()):
                upper.update(table.payloads_between(first, last))
            snapshot = self._points.snapshot()
        return _payloads(snapshot, upper, first, last)

    def view(self) -> DiskView:
        """
        Return the state of now, which stays readable.
        """
        with self._lock:
            tables = [(table.ids.copy(), table.payloads.copy()) for table in reversed(self._tables())]
            snapshot = self._points.snapshot()
        return DiskView(snapshot, tables)

    def _tables(self) -> list[Memtable]:
        return [self._active] if self._frozen is None else [self._active, self._frozen]


def _looked_up(keys: Sequence[_Key], tables: Sequence[Mapping[_Key, _Value]], found: dict[_Key, _Value]) -> list[_Key]:
    """
    Enter what the first of the tables that knows a key has for it, and return the keys that none knows.
    """
    missing: list[_Key] = []
    for key in keys:
        for table in tables:
            if key in table:
                found[key] = table[key]
                break
        else:
            missing.append(key)
    return missing


def _ids(snapshot: Snapshot, upper: list[list[_Entry]], start: bytes) -> Iterator[PointId]:
    with snapshot:
        entries = snapshot.ids_from(start)
        for table in reversed(upper):
            if rest := from_key(table, start):
                entries = overruled(entries, rest)
        for _, point_id, offset in entries:
            if offset != DEAD:
                yield point_id


def _payloads(snapshot: Snapshot, upper: dict[int, bytes | None], first: int, last: int) -> Iterator[tuple[int, bytes]]:
    with snapshot:
        changed = sorted(upper)
        for low in range(first, last, IDS_PER_BLOCK):
            high = min(low + IDS_PER_BLOCK, last)
            found: dict[int, bytes | None] = dict(snapshot.payloads_between(low, high))
            touched = changed[bisect_left(changed, low) : bisect_left(changed, high)]
            found.update((offset, upper[offset]) for offset in touched)
            for offset in sorted(found) if touched else found:
                payload = found[offset]
                if payload is not None:
                    yield offset, payload
