"""
DiskStore: a collection's points, payloads and rows in files, behind the protocol `store.Store`.

Invariant: what `commit` has returned for survives process kill and, with durability "fsync", power loss;
docs/file_format.md says why. Thread rule: as in store.py. The parts: `overlay` (reads and the applied state),
`vectors` (rows), `wal` (the log), `checkpoint`, `recovery`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from vecdb.errors import Corruption, InternalError, ReadOnly, StorageError, VecdbError
from vecdb.storage import files
from vecdb.storage.checkpoint import LOG_BYTES, Checkpointer, Occasion, Parts
from vecdb.storage.clean_close import forget_clean_close, write_clean_close
from vecdb.storage.effects import Effects, PointId
from vecdb.storage.framing import Declared, IndexSpec, Manifest, read_declared, write_declared
from vecdb.storage.overlay import Overlay
from vecdb.storage.recovery import Base, create_collection, log_directory, open_base
from vecdb.storage.store import Apply, GraphSource, Loader, StoreInfo, WriteLock
from vecdb.storage.view import View
from vecdb.storage.wal import Log, Ticket

logger = logging.getLogger("vecdb.storage")

# A writer that finds the log this far beyond its checkpoint makes one itself: writes cannot outrun checkpoints for
# ever.
_HELP_BYTES = 4 * LOG_BYTES
# While checkpoints fail, writes go on up to this much log.
_LOG_LIMIT_BYTES = 1 << 30
_INDEXES_NAME = "INDEXES"


class DiskStore:
    """
    The store of a collection on disk.

    Use: `DiskStore.open(...)` feeds the core with the last checkpoint, `start(apply)` replays the log and makes the
    store ready.
    """

    def __init__(self, directory: Path, base: Base, *, durability: str, graphs: GraphSource, write_lock: WriteLock) -> None:
        self.manifest = base.manifest
        self._directory = directory
        self._base = base
        self._durability = durability
        self._graphs = graphs
        self._write_lock = write_lock
        self._overlay = Overlay(base.points, base.state)
        self._reserved = [rows.rows for rows in base.rows]
        self._log: Log | None = None
        self._checkpointer: Checkpointer | None = None
        self._apply_failure: str | None = None
        self._closed = False

    @staticmethod
    def create(directory: Path, manifest: Manifest) -> None:
        """
        Make the files of an empty collection; the directory appears complete or not at all.
        """
        create_collection(directory, manifest)

    @classmethod
    def open(
        cls, directory: Path, *, durability: str, write_lock: WriteLock, load: Loader, graphs: GraphSource, verify: bool = False
    ) -> DiskStore:
        """
        Open the files, give the state of the last checkpoint to `load`; `start` must follow. REQUIRES: the writer's
        lock of the database.

        `durability` is "fsync" or "os". Raises Corruption, StorageError. With `verify`, every value of points.lmdb is
        checked first.
        """
        base = open_base(directory, load=load, verify=verify)
        return cls(directory, base, durability=durability, graphs=graphs, write_lock=write_lock)

    def start(self, apply: Apply) -> None:
        """
        Replay the log beyond the checkpoint through `apply`; live writes go through it from now on.
        """
        try:
            self._start(apply)
        except BaseException:
            self._closed = True
            self._base.close()
            raise

    def _start(self, apply: Apply) -> None:
        base = self._base
        dims = {spec.number: spec.dim for spec in self.manifest.fields}

        def replay(lsn: int, body: memoryview) -> None:
            effects = Effects.decode(body, dims)
            self.reserve(effects)
            self._count_reserved(effects)
            apply(lsn, effects)

        self._log = Log.open(
            log_directory(self._directory),
            uuid=self.manifest.uuid,
            generation=base.generation,
            applied_lsn=base.state.applied_lsn,
            clean_lsn=base.close_lsn,
            replay=replay,
            durability=self._durability,
            writable=True,
        )

        def apply_ticket(ticket: Ticket) -> None:
            assert isinstance(ticket.payload, Effects)
            apply(ticket.lsn, ticket.payload)

        self._log.apply = apply_ticket
        forget_clean_close(base.points.path)
        parts = Parts(base.points, self._overlay, base.rows, base.derived, self._log, self._graphs, self._write_lock, self.drain)
        self._checkpointer = Checkpointer(parts, saved_rows=base.saved_rows)

    @property
    def next_offset(self) -> int:
        """
        The first offset that no applied write has used.
        """
        return self._overlay.next_offset

    @property
    def live_count(self) -> int:
        """
        The number of points.
        """
        return self._overlay.live

    @property
    def read_only_reason(self) -> str | None:
        """
        Why writes are refused, or None.
        """
        if self._apply_failure is not None:
            return self._apply_failure
        if self._log is not None and self._log.failed is not None:
            return str(self._log.failed)
        return None if self._checkpointer is None else self._checkpointer.blocked

    def offsets_of(self, ids: Sequence[PointId]) -> list[int | None]:
        """
        Return each id's offset in the applied state; None where there is no such point.
        """
        return self._overlay.offsets_of(ids)

    def payloads_of(self, offsets: Sequence[int]) -> list[bytes | None]:
        """
        Return each offset's encoded payload; None where the offset is a tombstone by now.
        """
        return self._overlay.payloads_of(offsets)

    def iterate_ids(self, *, after: PointId | None = None) -> Iterator[PointId]:
        """
        Iterate over the ids beyond `after`, ascending, as of this call.
        """
        return self._overlay.iterate_ids(after)

    def iterate_payloads(self, first: int, last: int) -> Iterator[tuple[int, bytes]]:
        """
        Iterate over (offset, encoded payload) of the live offsets in [first, last), ascending, as of this call.
        """
        return self._overlay.iterate_payloads(first, last)

    def view(self) -> View:
        """
        Return the applied state of now, which stays readable.
        """
        return self._overlay.view()

    def row_file(self, field: int) -> tuple[int, int]:
        """
        Return the descriptor of the field's rows and how many rows are written.
        """
        rows = self._base.rows[field]
        return rows.fd, rows.rows

    def reserve(self, effects: Effects) -> None:
        """
        Make room in the rows' files for a call, behind those of all queued calls; raises StorageError with nothing
        changed.
        """
        for field, vectors in effects.put_vectors.items():
            self._base.rows[field].reserve(self._reserved[field] + len(vectors.rows))

    def enqueue(self, effects: Effects) -> Ticket:
        """
        Put a call into the log's queue; raises with nothing changed. REQUIRES: `reserve` before it, under the same
        holding of the write lock.
        """
        log, checkpointer = self._started()
        if (reason := self.read_only_reason) is not None:
            raise ReadOnly(reason)
        if checkpointer.error is not None and log.bytes_since_checkpoint >= _LOG_LIMIT_BYTES:
            raise StorageError(
                f"{self._directory} takes no more writes: its log has reached {_LOG_LIMIT_BYTES >> 20} MiB because "
                f"checkpoints fail: {checkpointer.error}"
            )
        ticket = log.enqueue(effects.encode(), payload=effects)
        self._count_reserved(effects)
        return ticket

    def commit(self, ticket: Ticket) -> None:
        """
        Return when the call is durable and applied. May make a checkpoint when writes outrun them.
        """
        log, checkpointer = self._started()
        log.wait(ticket)
        if log.bytes_since_checkpoint >= _HELP_BYTES and checkpointer.due():
            self.maybe_checkpoint()

    def apply(self, lsn: int, effects: Effects) -> None:
        """
        Write the rows and take the call into the applied state. A failure leaves the store read-only: opening it
        again replays the call.
        """
        try:
            self._overlay.expect(lsn, effects)
            for field, vectors in effects.put_vectors.items():
                self._base.rows[field].append(vectors.rows)
            self._overlay.apply(lsn, effects)
        except BaseException as error:
            self._apply_failure = (
                f"the write at LSN {lsn} is in the log but could not be applied ({error}); close the database and open it again"
            )
            raise

    def checkpoint(self) -> None:
        """
        Make the applied state the durable base; raises when that fails, with nothing lost.
        """
        _, checkpointer = self._started()
        if (reason := self.read_only_reason) is not None:
            raise ReadOnly(reason)
        checkpointer.run(Occasion.RUNNING)

    def maybe_checkpoint(self) -> bool:
        """
        Checkpoint when the log's size or age asks for it; a failure is logged and kept in `info()`. True when one was
        made.
        """
        _, checkpointer = self._started()
        if self.read_only_reason is not None or not checkpointer.due():
            return False
        try:
            checkpointer.run(Occasion.RUNNING)
        except VecdbError as error:
            logger.warning("%s: a checkpoint failed, the log keeps every confirmed write: %s", self._directory, error)
            return False
        return True

    def drain(self) -> None:
        """
        Wait until every queued call is applied; raises when one failed. REQUIRES: the write lock, so that none is
        added.
        """
        log, _ = self._started()
        log.drain()
        if log.failed is not None:
            raise StorageError(str(log.failed)) from log.failed

    def note_idle(self) -> None:
        """
        Let the log confirm its last record when it is a second old.
        """
        log, _ = self._started()
        if self.read_only_reason is None:
            log.note_idle()

    def read_indexes(self) -> Mapping[str, IndexSpec]:
        """
        Return the declared payload indexes by key; none, with a logged warning, when the file cannot be read: no answer
        depends on it.
        """
        path = self._directory / _INDEXES_NAME
        try:
            return read_declared(path).indexes if files.exists(path) else {}
        except (Corruption, StorageError) as error:
            logger.warning("%s: the declared payload indexes are lost, declare them again with create_index: %s", path, error)
            return {}

    def write_indexes(self, declared: Mapping[str, IndexSpec]) -> None:
        """
        Replace the declared payload indexes as one step; durable on return. REQUIRES: one caller at a time.
        """
        write_declared(self._directory / _INDEXES_NAME, Declared(dict(declared)))

    def info(self) -> StoreInfo:
        """
        Return the store's figures.
        """
        log, checkpointer = self._started()
        return StoreInfo(
            points=self.live_count,
            offsets=self.next_offset,
            applied_lsn=self._overlay.applied_lsn,
            checkpoint_lsn=self._overlay.base.applied_lsn,
            last_lsn=log.last_lsn,
            durable_lsn=log.durable_lsn,
            log_bytes=log.bytes_since_checkpoint,
            payload_bytes=self._base.points.size(),
            vector_bytes=sum(rows.size for rows in self._base.rows),
            derived_bytes=self._base.derived.size(),
            generation=self._base.generation,
            checkpoint_error=checkpointer.error,
        )

    def close(self) -> None:
        """
        Checkpoint, confirm the log's end, release every file; idempotent. What a failing checkpoint could not move
        stays in the log and is replayed by the next opening.
        """
        if self._closed:
            return
        self._closed = True
        clean = False
        try:
            if self._log is not None and self._checkpointer is not None:
                clean = self._checkpoint_at_close(self._checkpointer)
                close_lsn = self._log.close(clean=clean)
        finally:
            self._base.close()
        if clean:
            write_clean_close(self._base.points.path, close_lsn=close_lsn)

    def _checkpoint_at_close(self, checkpointer: Checkpointer) -> bool:
        if self.read_only_reason is not None:
            return False
        try:
            checkpointer.run(Occasion.CLOSING)
        except VecdbError as error:
            logger.warning("%s: the checkpoint at close failed, the next opening replays the log: %s", self._directory, error)
            return False
        return True

    def _count_reserved(self, effects: Effects) -> None:
        for field, vectors in effects.put_vectors.items():
            self._reserved[field] += len(vectors.rows)

    def _started(self) -> tuple[Log, Checkpointer]:
        if self._log is None or self._checkpointer is None:
            raise InternalError("the store was not started; please report this")
        return self._log, self._checkpointer
