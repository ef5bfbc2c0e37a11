"""
What was written since the last checkpoint: ids, payloads, new offsets, tombstones, in memory.

Invariant: for every id and offset it knows, it overrules what lies below (a frozen memtable, then points.lmdb). A
DEAD id or a None payload says that the point is gone. It holds no lock: the store applies and looks up under its own,
and a frozen memtable never changes again.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from vecdb.storage.blocks import id_key
from vecdb.storage.effects import Effects, PointId

DEAD = -1


class Memtable:
    """
    The effects of the calls applied since `first_offset` was the next offset.
    """

    __slots__ = ("_patched", "_sorted_ids", "_tombstones", "first_offset", "ids", "new_ids", "payloads", "present")

    def __init__(self, first_offset: int, *, fields: int) -> None:
        self.first_offset = first_offset
        self.ids: dict[PointId, int] = {}
        self.payloads: dict[int, bytes | None] = {}
        self.new_ids: list[PointId] = []
        self.present: list[list[NDArray[np.uint32] | range]] = [[] for _ in range(fields)]
        self._tombstones: list[NDArray[np.uint32]] = []
        self._patched: list[NDArray[np.uint32]] = []
        self._sorted_ids: list[tuple[bytes, PointId, int]] | None = None

    @property
    def next_offset(self) -> int:
        """
        The first offset after those of the puts.
        """
        return self.first_offset + len(self.new_ids)

    def __bool__(self) -> bool:
        """
        Return whether anything was applied.
        """
        return bool(self.ids or self.payloads)

    def apply(self, effects: Effects) -> None:
        """
        Take a call's effects. REQUIRES: its first offset is `next_offset`.
        """
        first, count = effects.first_offset, len(effects.put_ids)
        puts = range(first, first + count)
        if effects.deleted_ids or count:
            self._sorted_ids = None
        if effects.deleted_ids:
            self.ids.update(dict.fromkeys(effects.deleted_ids, DEAD))
        self.ids.update(zip(effects.put_ids, puts, strict=True))
        self.payloads.update(zip(puts, effects.put_payloads, strict=True))
        if effects.patch_payloads:
            self.payloads.update(zip(effects.patch_offsets.tolist(), effects.patch_payloads, strict=True))
        if len(effects.tombstones):
            self.payloads.update(dict.fromkeys(effects.tombstones.tolist()))
        self.new_ids.extend(effects.put_ids)
        for field, vectors in effects.put_vectors.items():
            present = self.present[field]
            if vectors.positions is not None:
                present.append(vectors.positions + np.uint32(first))
            elif present and isinstance(before := present[-1], range) and before.stop == first:
                present[-1] = range(before.start, puts.stop)
            else:
                present.append(puts)
        # Copies: the arrays of a replayed call refer to all of its bytes.
        if len(effects.tombstones):
            self._tombstones.append(effects.tombstones.copy())
        if len(effects.patch_offsets):
            self._patched.append(effects.patch_offsets.copy())

    def tombstones(self) -> NDArray[np.uint32]:
        """
        Return the offsets that died, ascending.
        """
        return _sorted(self._tombstones)

    def changed(self) -> NDArray[np.uint32]:
        """
        Return the offsets whose payload or liveness changed after they were written, ascending.
        """
        return _sorted(self._tombstones + self._patched)

    def present_offsets(self, field: int) -> NDArray[np.uint32]:
        """
        Return the new offsets that have a vector in the field, ascending.
        """
        return _sorted(
            [np.arange(part.start, part.stop, dtype=np.uint32) if isinstance(part, range) else part for part in self.present[field]]
        )

    def sorted_ids(self) -> list[tuple[bytes, PointId, int]]:
        """
        Return (key, id, offset or DEAD), in the order of ids; not to be changed.
        """
        if self._sorted_ids is None:
            self._sorted_ids = sorted((id_key(point_id), point_id, offset) for point_id, offset in self.ids.items())
        return self._sorted_ids

    def payloads_between(self, first: int, last: int) -> dict[int, bytes | None]:
        """
        Return the payloads of the offsets in [first, last); cheap where the range is short or the memtable small.
        """
        if last - first < len(self.payloads):
            offsets: Iterable[int] = range(first, last)
            return {offset: self.payloads[offset] for offset in offsets if offset in self.payloads}
        return {offset: payload for offset, payload in self.payloads.items() if first <= offset < last}


def _sorted(parts: list[NDArray[np.uint32]]) -> NDArray[np.uint32]:
    return np.unique(np.concatenate(parts)) if parts else np.empty(0, np.uint32)
