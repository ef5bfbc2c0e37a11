"""
A block of writes: what one thread writes between the beginning and the end of `batch()`, made into one call.

Each write is resolved when it is made, against the state overlaid with the block's writes before it, so that its errors and its result
come at once; when another call got between, all of them are resolved again at the end, under the write lock. Nothing refers to offsets
before that. Threads: a block belongs to one thread.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vecdb._resolve import Known, ReadRows, Resolved, no_effects
from vecdb.errors import InvalidArgument
from vecdb.storage.effects import MAX_CALL_BYTES, Effects, FieldRows
from vecdb.types import PointId

Resolve = Callable[[Known, int], Resolved]

_ID_BYTES = 9  # a kind and a number, or a length


@dataclass(slots=True)
class _Entry:
    """
    What the block makes of one point: `put` is its place among the block's puts (None: the point stays where it is), and a payload of
    None means that the point is gone.
    """

    put: int | None
    payload: bytes | None


class Pending:
    """
    A state overlaid with writes that are not part of it yet.
    """

    def __init__(self, base: Known) -> None:
        self.base = base
        self._entries: dict[PointId, _Entry] = {}
        self._puts = 0
        self._rows: dict[int, list[tuple[NDArray[np.int64], NDArray[np.float32]]]] = {}
        self._bytes = 0

    def offsets_of(self, ids: Sequence[PointId]) -> list[int | None]:
        """
        Return for each id a number that is not None where there is such a point now.
        """
        known = [self._entries.get(one) for one in ids]
        rest = iter(self.base.offsets_of([one for one, entry in zip(ids, known, strict=True) if entry is None]))
        return [next(rest) if entry is None else None if entry.payload is None else 0 for entry in known]

    def payloads_of(self, ids: Sequence[PointId], offsets: Sequence[int]) -> list[bytes]:
        """
        Return the payloads of points that exist, at what `offsets_of` gave.
        """
        known = [self._entries.get(one) for one in ids]
        below = [row for row, entry in enumerate(known) if entry is None]
        rest = iter(self.base.payloads_of([ids[row] for row in below], [offsets[row] for row in below]))
        return [next(rest) if entry is None else entry.payload or b"" for entry in known]

    def existing(self, ids: Sequence[PointId]) -> list[PointId]:
        """
        Return those of the ids that exist now.
        """
        return [one for one, offset in zip(ids, self.offsets_of(ids), strict=True) if offset is not None]

    def rows_of(
        self, ids: Sequence[PointId], offsets: Sequence[int], field: int, read: ReadRows
    ) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """
        Return the vectors of points as they are now.
        """
        known = [self._entries.get(one) for one in ids]
        # A point whose payload alone was written here is where it was before.
        patched = [one for one, entry in zip(ids, known, strict=True) if entry is not None and entry.put is None]
        before = iter(self.base.offsets_of(patched))
        below = [next(before) if entry is not None and entry.put is None else offset for entry, offset in zip(known, offsets, strict=True)]
        stored = [place for place, entry in enumerate(known) if entry is None or entry.put is None]
        rows, present = self.base.rows_of([ids[place] for place in stored], [below[place] or 0 for place in stored], field, read)
        all_rows = np.zeros((len(ids), rows.shape[1]), dtype=np.float32)
        has_one = np.zeros(len(ids), dtype=np.uint8)
        all_rows[stored], has_one[stored] = rows, present
        wanted = {entry.put: place for place, entry in enumerate(known) if entry is not None and entry.put is not None}
        for puts, given in self._rows.get(field, ()):
            for position in np.flatnonzero(np.isin(puts, list(wanted))).tolist():
                place = wanted[int(puts[position])]
                all_rows[place], has_one[place] = given[position], 1
        return all_rows, has_one

    def take(self, resolved: Resolved) -> None:
        """
        Add a write that was resolved against this; raises InvalidArgument, with nothing added, when the block gets too large.
        """
        effects = resolved.effects
        self._bytes = checked_size(effects, self._bytes)
        for one in effects.deleted_ids:
            self._entries[one] = _Entry(None, None)
        for position, (one, payload) in enumerate(zip(effects.put_ids, effects.put_payloads, strict=True)):
            self._entries[one] = _Entry(self._puts + position, payload)
        for one, payload in zip(resolved.patch_ids, effects.patch_payloads, strict=True):
            before = self._entries.get(one)
            self._entries[one] = _Entry(None if before is None else before.put, payload)
        for field, given in effects.put_vectors.items():
            positions = np.arange(len(given.rows)) if given.positions is None else given.positions.astype(np.int64)
            self._rows.setdefault(field, []).append((positions + self._puts, given.rows))
        self._puts += len(effects.put_ids)

    def resolved(self, next_offset: int) -> Resolved:
        """
        Return all that was taken as one call, which gets its offsets now.
        """
        effects = no_effects(next_offset)
        puts = sorted((entry.put, one) for one, entry in self._entries.items() if entry.put is not None and entry.payload is not None)
        effects.put_ids = [one for _, one in puts]
        effects.put_payloads = [self._entries[one].payload or b"" for one in effects.put_ids]
        place = np.full(self._puts, -1, dtype=np.int64)
        place[[put for put, _ in puts]] = np.arange(len(puts))
        for field, parts in self._rows.items():
            effects.put_vectors[field] = _kept_rows(parts, place, len(puts))
        gone = [one for one, entry in self._entries.items() if entry.payload is None]
        patched = [one for one, entry in self._entries.items() if entry.put is None and entry.payload is not None]
        before = self.base.offsets_of([*effects.put_ids, *gone])
        effects.tombstones = np.asarray(sorted(offset for offset in before if offset is not None), dtype=np.uint32)
        effects.deleted_ids = [one for one, offset in zip(gone, before[len(puts) :], strict=True) if offset is not None]
        stays = self.base.offsets_of(patched)
        ascending = sorted((offset, one) for one, offset in zip(patched, stays, strict=True) if offset is not None)
        effects.patch_offsets = np.asarray([offset for offset, _ in ascending], dtype=np.uint32)
        effects.patch_payloads = [self._entries[one].payload or b"" for _, one in ascending]
        return Resolved(effects, [one for _, one in ascending])


class Block:
    """
    The writes of one `batch()`, in order.
    """

    def __init__(self, base: Known, version: int) -> None:
        self._version = version
        self._pending = Pending(base)
        self._writes: list[Resolve] = []

    def write(self, base: Known, resolve: Resolve) -> Resolved:
        """
        Add a write. The caller holds the write lock; `resolve` may be called again at the end, and what it refers to must not change.
        """
        self._pending.base = base
        resolved = resolve(self._pending, 0)
        self._pending.take(resolved)
        self._writes.append(resolve)
        return resolved

    def resolve(self, base: Known, version: int, next_offset: int) -> Resolved:
        """
        Return the block as one call on the state of this version. The caller holds the write lock.
        """
        self._pending.base = base
        if version != self._version:
            self._pending = Pending(base)
            for resolve in self._writes:
                self._pending.take(resolve(self._pending, 0))
        return self._pending.resolved(next_offset)


class Blocks(threading.local):
    """
    The block that each thread is in, if any.
    """

    open: Block | None = None

    @contextmanager
    def collect(self, block: Block, end: Callable[[Block], None]) -> Iterator[None]:
        """
        Have this thread be in a block for the time of a with block, which calls `end` unless it raises.
        """
        if self.open is not None:
            raise InvalidArgument("this thread is in a batch() of the collection already: its writes are one record, use one block")
        self.open = block
        try:
            yield
        finally:
            self.open = None
        end(block)


def _kept_rows(parts: Sequence[tuple[NDArray[np.int64], NDArray[np.float32]]], place: NDArray[np.int64], count: int) -> FieldRows:
    places = np.concatenate([place[puts] for puts, _ in parts])
    rows = np.concatenate([rows[place[puts] >= 0] for puts, rows in parts])
    places = places[places >= 0]
    return FieldRows(None if len(places) == count else places.astype(np.uint32), rows)


def checked_size(effects: Effects, before: int = 0) -> int:
    """
    Return about how many bytes a call has, with those before it in its block; raises InvalidArgument when they are too many for one.
    """
    size = before + sum(map(len, effects.put_payloads)) + sum(map(len, effects.patch_payloads))
    for given in effects.put_vectors.values():
        size += given.rows.nbytes
    for ids in (effects.put_ids, effects.deleted_ids):
        size += _ID_BYTES * len(ids) + sum([len(one) for one in ids if isinstance(one, str)])
    size += _ID_BYTES * len(effects.patch_offsets)
    if size > MAX_CALL_BYTES:
        raise InvalidArgument(
            f"the points of a call or a batch() have {size:,} bytes, at most {MAX_CALL_BYTES:,} are written as one: use several, or upload"
        )
    return size
