"""
One state of a store, kept readable while writes go on: ids with their offsets, and payloads.

Invariant: a view shows the state it was made of, whatever is applied meanwhile; only sorting is left for later, so that making one holds
up no write for long. Thread rule: one thread at a time; it must be closed, or collected.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

from vecdb.storage.blocks import id_key
from vecdb.storage.effects import PointId
from vecdb.storage.memtable import DEAD
from vecdb.storage.points_read import Snapshot

_Entry = tuple[bytes, PointId, int]
FIRST_KEY = b"\0"


class View(Protocol):
    """
    A state of a store.
    """

    def points(self) -> Iterator[tuple[PointId, int]]:
        """
        Iterate over (id, offset), ascending by id.
        """

    def payloads_of(self, offsets: Sequence[int]) -> list[bytes]:
        """
        Return the encoded payloads of live offsets.
        """

    def close(self) -> None:
        """
        Let the state go; idempotent.
        """


class MemoryView:
    """
    A copy of the dicts of a store in memory.
    """

    def __init__(self, ids: Mapping[PointId, int], payloads: Mapping[int, bytes]) -> None:
        self._ids = dict(ids)
        self._payloads = dict(payloads)

    def points(self) -> Iterator[tuple[PointId, int]]:
        """
        Iterate over (id, offset), ascending by id.
        """
        for point_id in sorted(self._ids, key=id_key):
            yield point_id, self._ids[point_id]

    def payloads_of(self, offsets: Sequence[int]) -> list[bytes]:
        """
        Return the encoded payloads of live offsets.
        """
        return [self._payloads[offset] for offset in offsets]

    def close(self) -> None:
        """
        Let the copies go.
        """
        self._ids, self._payloads = {}, {}


class DiskView:
    """
    A transaction over points.lmdb, overruled by copies of the memtables above it, the lowest first.
    """

    def __init__(self, snapshot: Snapshot, tables: Sequence[tuple[Mapping[PointId, int], Mapping[int, bytes | None]]]) -> None:
        self._snapshot = snapshot
        self._ids: dict[PointId, int] = {}
        self._payloads: dict[int, bytes | None] = {}
        for ids, payloads in tables:
            self._ids.update(ids)
            self._payloads.update(payloads)

    def points(self) -> Iterator[tuple[PointId, int]]:
        """
        Iterate over (id, offset), ascending by id.
        """
        upper = sorted((id_key(point_id), point_id, offset) for point_id, offset in self._ids.items())
        for _, point_id, offset in overruled(self._snapshot.ids_from(FIRST_KEY), upper):
            if offset != DEAD:
                yield point_id, offset

    def payloads_of(self, offsets: Sequence[int]) -> list[bytes]:
        """
        Return the encoded payloads of live offsets.
        """
        missing = [offset for offset in offsets if offset not in self._payloads]
        found = zip(missing, self._snapshot.payloads_of(missing), strict=True)
        below = {offset: payload for offset, payload in found if payload is not None}
        return [below[offset] if (payload := self._payloads.get(offset)) is None else payload for offset in offsets]

    def close(self) -> None:
        """
        End the transaction.
        """
        self._snapshot.close()


def from_key(entries: Sequence[_Entry], start: bytes) -> Sequence[_Entry]:
    """
    Return the ascending entries whose key is not below start.
    """
    return entries[bisect_left(entries, start, key=lambda entry: entry[0]) :]


def overruled(lower: Iterator[_Entry], upper: Sequence[_Entry]) -> Iterator[_Entry]:
    """
    Merge two ascending sequences; where both have a key, upper's entry stands.
    """
    waiting = next(lower, None)
    for entry in upper:
        while waiting is not None and waiting[0] < entry[0]:
            yield waiting
            waiting = next(lower, None)
        if waiting is not None and waiting[0] == entry[0]:
            waiting = next(lower, None)
        yield entry
    if waiting is not None:
        yield waiting
        yield from lower
