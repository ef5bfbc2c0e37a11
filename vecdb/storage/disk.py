"""
DiskStore: a collection's points, payloads and rows in files, behind the protocol `store.Store`.

Invariant: what `commit` has returned for survives process kill and, with durability "fsync", power loss;
docs/file_format.md says why. Thread rule: as in store.py. The parts: `overlay` (reads and the applied state),
`vectors` (rows), `wal` (the log), `checkpoint`, `recovery`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from vecdb.errors import InternalError, ReadOnly, StorageError, VecdbError
from vecdb.storage import files
from vecdb.storage.checkpoint import LOG_BYTES, Checkpointer, Occasion, Parts
from vecdb.storage.clean_close import forget_clean_close, write_clean_close
from vecdb.storage.compaction import DiskCompaction, Present
from vecdb.storage.effects import Effects
from vecdb.storage.findings import Findings
from vecdb.storage.framing import Declared, IndexSpec, Manifest, read_catalog, write_declared
from vecdb.storage.generation import Generation
from vecdb.storage.generation_lock import remove_older_generations, remove_other_generations
from vecdb.storage.generation_reads import StoreReads
from vecdb.storage.joining import joined
from vecdb.storage.recovery import INDEXES_NAME, Base, create_collection, log_directory, open_base, read_indexes, settle_current
from vecdb.storage.store import Advance, Apply, DerivedSource, Loader, Predecessor, StoreInfo, WriteLock
from vecdb.storage.verify import FileVerification
from vecdb.storage.wal import Log, Ticket

logger = logging.getLogger("vecdb.storage")

# A writer that finds the log this far beyond its checkpoint makes one itself: writes cannot outrun checkpoints for
# ever.
_HELP_BYTES = 4 * LOG_BYTES
# While checkpoints fail, writes go on up to this much log.
_LOG_LIMIT_BYTES = 1 << 30


class DiskStore(StoreReads):
    """
    The store of a collection on disk.

    Use: `DiskStore.open(...)` feeds the core with the last checkpoint, `start(apply)` replays the log and makes the
    store ready.
    """

    def __init__(self, directory: Path, base: Base, *, durability: str, graphs: DerivedSource, write_lock: WriteLock) -> None:
        self.manifest = base.manifest
        self._directory = directory
        self._generation = Generation(base)
        self._durability = durability
        self._graphs = graphs
        self._write_lock = write_lock
        self._log: Log | None = None
        self._checkpointer: Checkpointer | None = None
        self._has_leftovers = False
        self._closed = False

    @staticmethod
    def create(directory: Path, manifest: Manifest) -> None:
        """
        Make the files of an empty collection; the directory appears complete or not at all.
        """
        create_collection(directory, manifest)

    @classmethod
    def open(
        cls, directory: Path, *, durability: str, write_lock: WriteLock, load: Loader, graphs: DerivedSource, verify: bool = False
    ) -> DiskStore:
        """
        Open the files, give the state of the last checkpoint to `load`; `start` must follow. REQUIRES: the writer's lock of the database.

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
            self._generation.base.close()
            raise

    def _start(self, apply: Apply) -> None:
        base = self._generation.base
        settle_current(self._directory, base)
        dims = {spec.number: spec.dim for spec in self.manifest.fields}

        def replay(lsn: int, body: memoryview) -> None:
            effects = Effects.decode(body, dims)
            self.reserve(effects)
            self._generation.count_reserved(effects)
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

        def prepare(tickets: Sequence[Ticket]) -> Callable[[], None]:
            calls = joined(list(map(_call_of, tickets)))
            self._generation.write_ahead([effects for _, effects in calls])

            def apply_all() -> None:
                for lsn, effects in calls:
                    apply(lsn, effects)

            return apply_all

        self._log.prepare = prepare
        self._log.spares.wanted = self._log.spares.make_in_background
        forget_clean_close(base.points.path)
        self._checkpointer = Checkpointer(self._parts(self._log), saved_rows=base.saved_rows)
        self._remove_leftovers(remove_other_generations)

    def _remove_leftovers(self, remove: Callable[[Path, int], bool]) -> None:
        """
        Remove the generations that a compaction has left: because it was cut, or because a reader had them.
        """
        try:
            self._has_leftovers = not remove(self._directory, self._generation.base.generation)
        except StorageError as error:
            logger.warning("%s: what a compaction left stays until the next opening: %s", self._directory, error)

    def _parts(self, log: Log) -> Parts:
        base, overlay = self._generation.base, self._generation.overlay
        return Parts(base.points, overlay, base.rows, base.derived, base.indexes, log, self._graphs, self._write_lock, self.drain)

    @property
    def generation(self) -> Generation:
        """
        The present generation.
        """
        return self._generation

    @property
    def read_only_reason(self) -> str | None:
        """
        Why writes are refused, or None.
        """
        if self._generation.failure is not None:
            return self._generation.failure
        if self._log is not None and self._log.failed is not None:
            return str(self._log.failed)
        return None if self._checkpointer is None else self._checkpointer.blocked

    def reserve(self, effects: Effects) -> None:
        """
        Make room in the rows' files for a call, behind those of all queued calls; raises StorageError with nothing
        changed.
        """
        self._generation.reserve(effects)

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
        self._generation.count_reserved(effects)
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
        self._generation.apply(lsn, effects)

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
        if self._has_leftovers:
            self._remove_leftovers(remove_older_generations)
        try:
            checkpointer.run(Occasion.RUNNING)
        except VecdbError as error:
            logger.warning("%s: a checkpoint failed, the log keeps every confirmed write: %s", self._directory, error)
            return False
        return True

    def compact(self, load: Loader, graphs: DerivedSource, old: Predecessor, advance: Advance) -> DiskCompaction:
        """
        Make the next generation of the files; see `store.Store`. The caller sees to it that there is one compaction at a time.
        """
        log, checkpointer = self._started()
        if (reason := self.read_only_reason) is not None:
            raise ReadOnly(reason)

        def install(generation: Generation) -> None:
            self._generation, self._graphs = generation, graphs
            self._has_leftovers = True
            checkpointer.move_to(self._parts(log), saved_rows=generation.base.saved_rows)

        present = Present(self._directory, self.manifest, self._generation, log, checkpointer, install)
        return DiskCompaction(present, load, old, advance)

    @property
    def directory(self) -> Path:
        """
        Where the files are.
        """
        return self._directory

    def standing_still(self) -> AbstractContextManager[None]:
        """
        Keep checkpoints from being made for the time of a with block. REQUIRES: the write lock is not held.
        """
        return self._started()[1].standing_still()

    def commit_all(self) -> None:
        """
        Make everything that is queued or applied part of the base. REQUIRES: `standing_still`, and the write lock.
        """
        self._started()[1].commit()

    def verify(self, findings: Findings, advance: Advance) -> None:
        """
        Check every byte of the files against checksums and against each other; checkpoints wait meanwhile, writes only
        while the log is read.
        """
        log, checkpointer = self._started()
        with findings.collecting():
            catalog = self._directory.parent / "CATALOG"
            if files.exists(catalog):
                read_catalog(catalog)
        with checkpointer.resting():
            points = self._generation.base.points
            verification = FileVerification(self._directory, findings, points=points, advance=advance)
            verification.run()
            with self._write_lock, log.paused():
                verification.log(None if log.failed is not None else log.end_lsn)

    def drain(self) -> None:
        """
        Wait until every queued call is applied; raises when one failed. REQUIRES: the write lock, so that none is added.
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
        return read_indexes(self._directory, consequence="are lost, declare them again with create_index")

    def write_indexes(self, declared: Mapping[str, IndexSpec]) -> None:
        """
        Replace the declared payload indexes as one step; durable on return. REQUIRES: one caller at a time.
        """
        write_declared(self._directory / INDEXES_NAME, Declared(dict(declared)))

    def info(self) -> StoreInfo:
        """
        Return the store's figures.
        """
        log, checkpointer = self._started()
        readers, behind = self._generation.base.points.readers()
        return StoreInfo(
            points=self.live_count,
            offsets=self.next_offset,
            applied_lsn=self._generation.overlay.applied_lsn,
            checkpoint_lsn=self._generation.overlay.base.applied_lsn,
            last_lsn=log.last_lsn,
            durable_lsn=log.durable_lsn,
            log_bytes=log.bytes_since_checkpoint,
            payload_bytes=self._generation.base.points.size(),
            vector_bytes=sum(rows.size for rows in self._generation.base.rows),
            derived_bytes=self._generation.base.derived.size(),
            derived_dropped=tuple(self._generation.base.derived.dropped),
            generation=self._generation.base.generation,
            checkpoint_error=checkpointer.error,
            readers=readers,
            readers_behind=behind,
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
            self._generation.base.close()
        if clean:
            write_clean_close(self._generation.base.points.path, close_lsn=close_lsn)

    def _checkpoint_at_close(self, checkpointer: Checkpointer) -> bool:
        if self.read_only_reason is not None:
            return False
        try:
            checkpointer.run(Occasion.CLOSING)
        except VecdbError as error:
            logger.warning("%s: the checkpoint at close failed, the next opening replays the log: %s", self._directory, error)
            return False
        return True

    def _started(self) -> tuple[Log, Checkpointer]:
        if self._log is None or self._checkpointer is None:
            raise InternalError("the store was not started; please report this")
        return self._log, self._checkpointer


def _call_of(ticket: Ticket) -> tuple[int, Effects]:
    assert isinstance(ticket.payload, Effects)
    return ticket.lsn, ticket.payload
