"""
MemoryStore: the protocol `store.Store` without files, for `:memory:`; the rows are in the core.

Invariant: payloads stay encoded bytes, so that no caller shares an object with the store; calls are applied in the
order of their LSNs. Thread rule: as in store.py; one lock guards the dicts.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from threading import Lock

from vecdb.errors import InternalError, ReadOnly, StorageError
from vecdb.storage.blocks import id_key
from vecdb.storage.effects import Effects, PointId
from vecdb.storage.framing import IndexSpec
from vecdb.storage.store import Apply, StoreInfo
from vecdb.storage.view import MemoryView, View
from vecdb.storage.wal import Ticket


class MemoryStore:
    """
    The store of a collection in memory.
    """

    def __init__(self) -> None:
        self._ids: dict[PointId, int] = {}
        self._payloads: dict[int, bytes] = {}
        self._sorted_ids: list[tuple[bytes, PointId]] | None = None
        self._next_offset = 0
        self._last_lsn = 0
        self._applied_lsn = 0
        self._queue: deque[Ticket] = deque()
        self._apply: Apply | None = None
        self._failure: StorageError | None = None
        self._state_lock = Lock()
        self._commit_lock = Lock()

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
        return len(self._ids)

    @property
    def read_only_reason(self) -> str | None:
        """
        Why writes are refused, or None.
        """
        return None if self._failure is None else str(self._failure)

    def start(self, apply: Apply) -> None:
        """
        Remember how calls are applied.
        """
        self._apply = apply

    def offsets_of(self, ids: Sequence[PointId]) -> list[int | None]:
        """
        Return each id's offset in the applied state; None where there is no such point.
        """
        with self._state_lock:
            return [self._ids.get(point_id) for point_id in ids]

    def payloads_of(self, offsets: Sequence[int]) -> list[bytes | None]:
        """
        Return each offset's encoded payload; None where the offset is a tombstone by now.
        """
        with self._state_lock:
            return [self._payloads.get(offset) for offset in offsets]

    def iterate_ids(self, *, after: PointId | None = None) -> Iterator[PointId]:
        """
        Iterate over the ids beyond `after`, ascending, as of this call.
        """
        with self._state_lock:
            if self._sorted_ids is None:
                self._sorted_ids = sorted((id_key(point_id), point_id) for point_id in self._ids)
            ordered = self._sorted_ids
        first = 0 if after is None else bisect_left(ordered, id_key(after) + b"\0", key=lambda entry: entry[0])
        return (ordered[i][1] for i in range(first, len(ordered)))

    def iterate_payloads(self, first: int, last: int) -> Iterator[tuple[int, bytes]]:
        """
        Iterate over (offset, encoded payload) of the live offsets in [first, last), ascending, as of this call.
        """
        with self._state_lock:
            found = [(offset, self._payloads[offset]) for offset in range(first, min(last, self._next_offset)) if offset in self._payloads]
        return iter(found)

    def view(self) -> View:
        """
        Return the applied state of now, which stays readable.
        """
        with self._state_lock:
            return MemoryView(self._ids, self._payloads)

    def row_file(self, field: int) -> tuple[int, int]:
        """
        Return (-1, 0): the rows are in the core.
        """
        return -1, 0

    def reserve(self, effects: Effects) -> None:
        """
        Do nothing: the core makes room in memory.
        """

    def enqueue(self, effects: Effects) -> Ticket:
        """
        Give the call its place in the order of writes.
        """
        with self._state_lock:
            if self._failure is not None:
                raise ReadOnly(str(self._failure))
            self._last_lsn += 1
            ticket = Ticket(self._last_lsn, effects)
            self._queue.append(ticket)
        return ticket

    def commit(self, ticket: Ticket) -> None:
        """
        Return when the call, and every one before it, is applied.
        """
        with self._commit_lock:
            self._apply_through(ticket.lsn)
        if ticket.error is not None:
            raise StorageError(str(ticket.error)) from ticket.error

    def drain(self) -> None:
        """
        Wait until every queued call is applied; raises when one failed. REQUIRES: the write lock, so that none is
        added.
        """
        with self._commit_lock:
            self._apply_through(self._last_lsn)
        if self._failure is not None:
            raise StorageError(str(self._failure)) from self._failure

    def apply(self, lsn: int, effects: Effects) -> None:
        """
        Take the call into the store's state.
        """
        first, count = effects.first_offset, len(effects.put_ids)
        if first != self._next_offset:
            raise InternalError(f"the call at LSN {lsn} begins at offset {first}, expected {self._next_offset}; please report this")
        with self._state_lock:
            for point_id in effects.deleted_ids:
                self._ids.pop(point_id, None)
            self._ids.update(zip(effects.put_ids, range(first, first + count), strict=True))
            self._payloads.update(zip(range(first, first + count), effects.put_payloads, strict=True))
            self._payloads.update(zip(effects.patch_offsets.tolist(), effects.patch_payloads, strict=True))
            for offset in effects.tombstones.tolist():
                self._payloads.pop(offset, None)
            if effects.put_ids or effects.deleted_ids:
                self._sorted_ids = None
            self._next_offset = first + count
            self._applied_lsn = lsn

    def checkpoint(self) -> None:
        """
        Do nothing: there is no log.
        """

    def maybe_checkpoint(self) -> bool:
        """
        Do nothing and return False: there is no log.
        """
        return False

    def note_idle(self) -> None:
        """
        Do nothing: there is no log.
        """

    def read_indexes(self) -> Mapping[str, IndexSpec]:
        """
        Return nothing: a new collection has no declared indexes.
        """
        return {}

    def write_indexes(self, declared: Mapping[str, IndexSpec]) -> None:
        """
        Do nothing: the declarations live as long as the collection does.
        """

    def info(self) -> StoreInfo:
        """
        Return the store's figures; all sizes of files are 0.
        """
        return StoreInfo(
            points=self.live_count,
            offsets=self._next_offset,
            applied_lsn=self._applied_lsn,
            checkpoint_lsn=self._applied_lsn,
            last_lsn=self._last_lsn,
            durable_lsn=self._applied_lsn,
            log_bytes=0,
            payload_bytes=0,
            vector_bytes=0,
            derived_bytes=0,
            generation=0,
            checkpoint_error=None,
        )

    def close(self) -> None:
        """
        Forget everything; idempotent.
        """
        with self._state_lock:
            self._ids.clear()
            self._payloads.clear()
            self._queue.clear()
            self._sorted_ids = None

    def _apply_through(self, lsn: int) -> None:
        """
        Apply queued calls up to lsn. After a failure nothing more is applied, and every queued call fails. REQUIRES:
        `_commit_lock`.
        """
        if self._apply is None:
            raise InternalError("the store was not started; please report this")
        while self._queue and self._queue[0].lsn <= lsn:
            ticket = self._queue.popleft()
            effects = ticket.payload
            assert isinstance(effects, Effects)
            if self._failure is None:
                try:
                    self._apply(ticket.lsn, effects)
                except BaseException as error:
                    self._failure = StorageError(f"a write could not be applied ({error!r}); the collection is read-only from now on")
                    self._failure.__cause__ = error
                    if not isinstance(error, Exception):
                        raise
            ticket.error = self._failure
            ticket.done = True
