"""
MemoryStore: the protocol `store.Store` without files, for `:memory:`; the rows are in the core.

Invariant: payloads stay encoded bytes, so that no caller shares an object with the store; calls are applied in the
order of their LSNs. Thread rule: as in store.py.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from threading import Lock

from vecdb.errors import InternalError, ReadOnly, StorageError
from vecdb.storage.effects import Effects
from vecdb.storage.findings import Findings
from vecdb.storage.framing import IndexSpec
from vecdb.storage.generation_reads import StoreReads
from vecdb.storage.memory_generation import MemoryCompaction, MemoryGeneration
from vecdb.storage.store import Advance, Apply, DerivedSource, Loader, Predecessor, StoreInfo
from vecdb.storage.wal import Ticket


class MemoryStore(StoreReads):
    """
    The store of a collection in memory.
    """

    def __init__(self) -> None:
        self._generation = MemoryGeneration()
        self._declared: Mapping[str, IndexSpec] = {}
        self._last_lsn = 0
        self._queue: deque[Ticket] = deque()
        self._apply: Apply | None = None
        self._failure: StorageError | None = None
        self._state_lock = Lock()
        self._commit_lock = Lock()

    @property
    def generation(self) -> MemoryGeneration:
        """
        The present generation.
        """
        return self._generation

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
        self._generation.apply(lsn, effects)

    def compact(self, load: Loader, graphs: DerivedSource, old: Predecessor, advance: Advance) -> MemoryCompaction:
        """
        Make the next generation; see `store.Store`. The caller sees to it that there is one compaction at a time.
        """

        def install(generation: MemoryGeneration) -> None:
            self._generation = generation

        return MemoryCompaction(self._generation, install, load, old, advance)

    def verify(self, findings: Findings, advance: Advance) -> None:
        """
        Do nothing: there are no files.
        """
        advance(self.live_count)

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
        Return the declared payload indexes by key.
        """
        return self._declared

    def write_indexes(self, declared: Mapping[str, IndexSpec]) -> None:
        """
        Replace the declared payload indexes; they live as long as the collection does.
        """
        self._declared = dict(declared)

    def info(self) -> StoreInfo:
        """
        Return the store's figures; all sizes of files are 0.
        """
        return StoreInfo(
            points=self.live_count,
            offsets=self.next_offset,
            applied_lsn=self._generation.applied_lsn,
            checkpoint_lsn=self._generation.applied_lsn,
            last_lsn=self._last_lsn,
            durable_lsn=self._generation.applied_lsn,
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
            self._queue.clear()
        self._generation.forget()

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
