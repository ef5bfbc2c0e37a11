"""
A generation of a collection in memory, and its compaction: the same steps as on disk, without files; the rows are in the core.

Invariant: payloads stay encoded bytes, so that no caller shares an object with the store; a generation that was replaced stays as it was.
Thread rule: any thread reads; `apply` by one thread at a time; one compaction at a time.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from threading import Lock
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vecdb.errors import InternalError
from vecdb.storage.blocks import IDS_PER_BLOCK, id_block, id_key
from vecdb.storage.effects import Effects, PointId
from vecdb.storage.renumbering import Renumbering
from vecdb.storage.store import Advance, Apply, Loader, Predecessor
from vecdb.storage.view import MemoryView

# Graphs name the collection they belong to; one in memory has no other use for it.
_UUID = bytes(16)


class MemoryGeneration:
    """
    The points of one generation.
    """

    def __init__(self) -> None:
        self.applied_lsn = 0
        self.recorder: Callable[[int, Effects], None] | None = None
        """
        Gets each call that was applied, while the next generation is in the making.
        """
        self.ids: dict[PointId, int] = {}
        self.payloads: dict[int, bytes] = {}
        self.saved_indexes = None
        """
        There are no files.
        """
        self._sorted_ids: list[tuple[bytes, PointId]] | None = None
        self._next_offset = 0
        self._lock = Lock()

    @property
    def next_offset(self) -> int:
        """
        The first offset that no applied write has used.
        """
        return self._next_offset

    @property
    def live_count(self) -> int:
        """
        The number of points.
        """
        return len(self.ids)

    def offsets_of(self, ids: Sequence[PointId]) -> list[int | None]:
        """
        Return each id's offset in the applied state; None where there is no such point.
        """
        with self._lock:
            return [self.ids.get(point_id) for point_id in ids]

    def payloads_of(self, offsets: Sequence[int]) -> list[bytes | None]:
        """
        Return each offset's encoded payload; None where the offset is a tombstone by now.
        """
        with self._lock:
            return [self.payloads.get(offset) for offset in offsets]

    def iterate_ids(self, *, after: PointId | None = None) -> Iterator[PointId]:
        """
        Iterate over the ids beyond `after`, ascending, as of this call.
        """
        with self._lock:
            if self._sorted_ids is None:
                self._sorted_ids = sorted((id_key(point_id), point_id) for point_id in self.ids)
            ordered = self._sorted_ids
        first = 0 if after is None else bisect_left(ordered, id_key(after) + b"\0", key=lambda entry: entry[0])
        return (ordered[i][1] for i in range(first, len(ordered)))

    def iterate_payloads(self, first: int, last: int) -> Iterator[tuple[int, bytes]]:
        """
        Iterate over (offset, encoded payload) of the live offsets in [first, last), ascending, as of this call.
        """
        with self._lock:
            found = [(offset, self.payloads[offset]) for offset in range(first, min(last, self._next_offset)) if offset in self.payloads]
        return iter(found)

    def view(self) -> MemoryView:
        """
        Return the applied state of now, which stays readable.
        """
        with self._lock:
            return MemoryView(self.ids, self.payloads)

    def row_file(self, field: int) -> tuple[int, int]:
        """
        Return (-1, 0): the rows are in the core.
        """
        return -1, 0

    def apply(self, lsn: int, effects: Effects) -> None:
        """
        Take the call into the state.
        """
        first, count = effects.first_offset, len(effects.put_ids)
        if first != self._next_offset:
            raise InternalError(f"the call at LSN {lsn} begins at offset {first}, expected {self._next_offset}; please report this")
        with self._lock:
            for point_id in effects.deleted_ids:
                self.ids.pop(point_id, None)
            self.ids.update(zip(effects.put_ids, range(first, first + count), strict=True))
            self.payloads.update(zip(range(first, first + count), effects.put_payloads, strict=True))
            self.payloads.update(zip(effects.patch_offsets.tolist(), effects.patch_payloads, strict=True))
            for offset in effects.tombstones.tolist():
                self.payloads.pop(offset, None)
            if effects.put_ids or effects.deleted_ids:
                self._sorted_ids = None
            self._next_offset = first + count
            self.applied_lsn = lsn
            if self.recorder is not None:
                self.recorder(lsn, effects.with_own_rows())

    def begin_next(self, recorder: Callable[[int, Effects], None] | None) -> tuple[MemoryGeneration, NDArray[np.bool_]]:
        """
        Return a copy of this state without tombstones, and which offsets live; `recorder`, if any, gets every call applied after it.
        """
        with self._lock:
            following = MemoryGeneration()
            live = np.zeros(self._next_offset, bool)
            live[list(self.payloads)] = True
            ranks = np.cumsum(live, dtype=np.int64) - 1
            following.ids = {point_id: int(ranks[offset]) for point_id, offset in self.ids.items()}
            following.payloads = {int(ranks[offset]): payload for offset, payload in self.payloads.items()}
            following._next_offset = len(self.ids)
            following.applied_lsn = self.applied_lsn
            self.recorder = self.recorder if recorder is None else recorder
        return following, live

    def forget(self) -> None:
        """
        Let go of everything.
        """
        with self._lock:
            self.ids.clear()
            self.payloads.clear()
            self._sorted_ids = None


class MemoryCompaction:
    """
    One compaction; see `store.Compaction`.
    """

    def __init__(
        self, present: MemoryGeneration, install: Callable[[MemoryGeneration], None], load: Loader, old: Predecessor, advance: Advance
    ) -> None:
        self._present = present
        self._install = install
        self._waiting: deque[tuple[int, Effects]] = deque()
        try:
            with old.still():
                self.points, live = present.begin_next(lambda lsn, effects: self._waiting.append((lsn, effects)))
            self._renumbering = Renumbering(live)
            self._load(live, load, old, advance)
        except BaseException:
            present.recorder = None
            raise

    def _load(self, live: NDArray[np.bool_], load: Loader, old: Predecessor, advance: Advance) -> None:
        """
        Give rows, ids and graphs of what lives to the next core.
        """
        ids: list[PointId] = [0] * self.points.next_offset
        for point_id, offset in self.points.ids.items():
            ids[offset] = point_id
        kept: list[list[NDArray[np.bool_]]] = [[] for _ in range(load.fields)]
        done = 0
        for first in range(0, len(live), IDS_PER_BLOCK):
            alive = live[first : first + IDS_PER_BLOCK]
            count = int(np.count_nonzero(alive))
            present = np.zeros((load.fields, count), np.uint8)
            for field in range(load.fields):
                rows, has = old.get_rows(field, np.arange(first, first + len(alive), dtype=np.uint32))
                kept[field].append(alive[has != 0])
                present[field] = has[alive]
                load.append_rows(field, np.ascontiguousarray(rows[alive & (has != 0)]))
            if count:
                load.load_block(id_block(done, ids[done : done + count]), present, np.empty(0, np.uint32))
            done += count
            advance(count)
        for field, parts in enumerate(kept):
            rows_kept = np.concatenate(parts) if parts else np.empty(0, bool)
            with old.still():
                graph = old.save_kept_graph(field, _UUID, 0, 0, rows_kept)
            if graph is not None:
                load.load_graph(field, _UUID, 0, graph)

    def follow(self, apply: Apply) -> int:
        """
        Give what was applied meanwhile to `apply`, translated.
        """
        done = 0
        while self._waiting:
            lsn, effects = self._waiting.popleft()
            apply(lsn, self._renumbering.translate(effects))
            done += 1
        return done

    def standing_still(self) -> AbstractContextManager[Any]:
        """
        Do nothing: there are no checkpoints.
        """
        return nullcontext()

    def commit(self) -> None:
        """
        Do nothing: nothing is durable.
        """

    def install(self) -> None:
        """
        Have the store use the next generation.
        """
        self._install(self.points)

    def __enter__(self) -> MemoryCompaction:
        """
        Return itself.
        """
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """
        Record no more.
        """
        self._present.recorder = None
