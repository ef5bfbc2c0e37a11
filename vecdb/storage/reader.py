"""
ReaderStore: a collection on disk for a process that only reads, beside one that writes; behind the protocol `store.Store`.

Invariant: no file is written, and no lock is taken that keeps the writer from anything but the removal of a generation that is being read.
The state is that of opening or of the last `refresh`: every call that was acknowledged before, whole, and possibly some that were written
and not acknowledged yet. Thread rule: any thread reads; `start`, `refresh`, `reopen` and `install` by one at a time.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NoReturn

from vecdb.errors import ReadOnly
from vecdb.storage import files
from vecdb.storage.effects import Effects
from vecdb.storage.findings import Findings
from vecdb.storage.framing import IndexSpec, Manifest, read_catalog
from vecdb.storage.generation_reads import StoreReads
from vecdb.storage.reader_generation import ReaderGeneration, ShowRows, open_reading
from vecdb.storage.recovery import read_indexes
from vecdb.storage.store import Advance, Apply, DerivedSource, Loader, Predecessor, StoreInfo
from vecdb.storage.verify import FileVerification
from vecdb.storage.wal import Ticket

logger = logging.getLogger("vecdb.storage")


class ReaderStore(StoreReads):
    """
    The store of a collection that another process may write.

    Use: `ReaderStore.open(...)` feeds the core with the newest checkpoint, `start(apply)` follows the log.
    """

    def __init__(
        self, directory: Path, manifest: Manifest, generation: ReaderGeneration, load: Loader, exclude_writers: Callable[[], None]
    ) -> None:
        self.directory = directory
        self.manifest = manifest
        self._generation = generation
        self._load: Loader | None = load
        self._exclude_writers = exclude_writers
        self._closed = False

    @classmethod
    def open(cls, directory: Path, manifest: Manifest, *, load: Loader, exclude_writers: Callable[[], None]) -> ReaderStore:
        """
        Open the files and give the state of the newest checkpoint to `load`; see `open_reading`.
        """
        generation = open_reading(directory, manifest, None, load=load, exclude_writers=exclude_writers)
        return cls(directory, manifest, generation, load, exclude_writers)

    def start(self, apply: Apply) -> None:
        """
        Follow the log to its end through `apply`.
        """
        load, self._load = self._load, None
        assert load is not None
        try:
            self._generation.start(apply, load)
        except BaseException:
            self.close()
            raise

    # ---- moving on ----

    def refresh(self, apply: Apply, show: ShowRows) -> bool:
        """
        Follow the log through `apply`, and go over to the newest checkpoint; return whether there was a call. Raises Moved where only
        `reopen` leads on.
        """
        found = self._generation.follow(apply)
        self._generation.move_base(show)
        return found

    def reopen(self, load: Loader) -> ReaderGeneration:
        """
        Return the newest state anew, its base given to the core; its `start` must follow, then `install`, else `discard`.
        """
        return open_reading(self.directory, self.manifest, self._generation.files, load=load, exclude_writers=self._exclude_writers)

    def install(self, generation: ReaderGeneration) -> None:
        """
        Read another state from now on. The old one is to be let go.
        """
        self._generation = generation

    def let_go(self, old: ReaderGeneration) -> None:
        """
        Release what keeps the writer from removing the files of a state; who reads it still has them open.
        """
        old.close()
        if old.files is not self._generation.files:
            old.files.lock.release()

    def discard(self, generation: ReaderGeneration) -> None:
        """
        Let go of a state that was not installed.
        """
        generation.close()
        if generation.files is not self._generation.files:
            generation.files.close()

    # ---- what there is ----

    @property
    def generation(self) -> ReaderGeneration:
        """
        The present generation.
        """
        return self._generation

    @property
    def read_only_reason(self) -> str | None:
        """
        Return None: that it is a reader is known.
        """
        return None

    def read_indexes(self) -> Mapping[str, IndexSpec]:
        """
        Return the declared payload indexes by key; none, with a logged warning, when the file cannot be read: no answer depends on it.
        """
        return read_indexes(self.directory, consequence="cannot be read")

    def info(self) -> StoreInfo:
        """
        Return the store's figures.
        """
        generation = self._generation
        state = generation.overlay.base
        return StoreInfo(
            points=self.live_count,
            offsets=self.next_offset,
            applied_lsn=generation.overlay.applied_lsn,
            checkpoint_lsn=state.applied_lsn,
            last_lsn=generation.last_lsn,
            durable_lsn=generation.durable_lsn,
            log_bytes=0,
            payload_bytes=generation.files.points.size(),
            vector_bytes=sum(4 * spec.dim * rows.rows for spec, rows in zip(self.manifest.fields, state.rows, strict=True)),
            derived_bytes=0,
            generation=generation.files.number,
            checkpoint_error=None,
        )

    def verify(self, findings: Findings, advance: Advance) -> None:
        """
        Check what the state's base is made of; the pages of points.lmdb and the log are the writer's to check, who writes them meanwhile.
        """
        with findings.collecting():
            catalog = self.directory.parent / "CATALOG"
            if files.exists(catalog):
                read_catalog(catalog)
        generation = self._generation
        FileVerification(self.directory, findings, advance=advance).pinned(generation.files.number, generation.snapshot())

    def close(self) -> None:
        """
        Release every file; idempotent.
        """
        if not self._closed:
            self._closed = True
            self._generation.close()
            self._generation.files.close()

    # ---- what a reader does not do ----

    def checkpoint(self) -> None:
        """
        Do nothing: the log is the writer's.
        """

    def maybe_checkpoint(self) -> bool:
        """
        Do nothing and return False.
        """
        return False

    def note_idle(self) -> None:
        """
        Do nothing.
        """

    def drain(self) -> None:
        """
        Do nothing: nothing is queued.
        """

    def reserve(self, effects: Effects) -> None:
        """
        Refuse.
        """
        self._refuse()

    def enqueue(self, effects: Effects) -> Ticket:
        """
        Refuse.
        """
        self._refuse()

    def commit(self, ticket: Ticket) -> None:
        """
        Refuse.
        """
        self._refuse()

    def compact(self, load: Loader, graphs: DerivedSource, old: Predecessor, advance: Advance) -> NoReturn:
        """
        Refuse.
        """
        self._refuse()

    def write_indexes(self, declared: Mapping[str, IndexSpec]) -> None:
        """
        Refuse.
        """
        self._refuse()

    def apply(self, lsn: int, effects: Effects) -> None:
        """
        Take a call of the log into the state.
        """
        self._generation.apply(lsn, effects)

    def _refuse(self) -> NoReturn:
        raise ReadOnly(f"{self.directory} was opened with mode='r': open the database with mode='a' to write")
