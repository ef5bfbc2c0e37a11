"""
One generation of a collection's files as a reader beside a writer has it: the base of a checkpoint, pinned, and the calls of the log since.

Invariant: no file is written. The rows of the pinned transaction are mapped, those of calls behind it are in the core's memory, and nothing
of a row that the writer may still write is looked at. Which state is shown changes by `follow` alone, a whole call at a time; `move_base`
changes what it is made of. Thread rule: any thread reads; the rest by one thread at a time.
"""

from __future__ import annotations

import mmap
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import gcd
from pathlib import Path

import numpy as np

from vecdb.errors import Corruption, StorageError
from vecdb.storage import files
from vecdb.storage.base_state import BaseState, RowState
from vecdb.storage.clean_close import check_beside_writer
from vecdb.storage.derived import DerivedFiles
from vecdb.storage.effects import Effects
from vecdb.storage.framing import FieldSpec, Manifest, read_current
from vecdb.storage.generation_lock import share_generation
from vecdb.storage.generation_reads import OverlayReads
from vecdb.storage.lock import SharedLock
from vecdb.storage.log_follower import LogFollower, LogGap, Moved, check_reaches
from vecdb.storage.overlay import Overlay
from vecdb.storage.pinned import PinnedPoints
from vecdb.storage.points import FILE_NAME, PointsFile
from vecdb.storage.points_read import Snapshot
from vecdb.storage.recovery import check_state, generation_directory, graph_name, load_points, log_directory, rows_path
from vecdb.storage.store import Apply, Loader
from vecdb.storage.vectors import check_end, rows_per_block

ShowRows = Callable[[int, int, int], None]

_ATTEMPTS = 50
_PAUSE_SECONDS = 0.01


class ReadDerivedFiles(DerivedFiles):
    """
    The derived files of a generation, for a reader: one that does not verify is left to the writer.
    """

    def discard(self, name: str, *, reason: str) -> None:
        """
        Do without the file of this name.
        """
        self.dropped.append(f"{name}: {reason}")
        self.forget(name)

    def forget(self, name: str) -> None:
        """
        Do without the file of this name, and leave it.
        """
        self._sizes.pop(name, None)


@dataclass(frozen=True, slots=True)
class GenerationFiles:
    """
    The open files of a generation, shared by all states of it that a reader shows one after the other; `close_lsn` is the LSN of a clean
    close before it was opened, or 0.
    """

    number: int
    root: Path
    points: PointsFile
    lock: SharedLock
    close_lsn: int

    @classmethod
    def open(cls, directory: Path, number: int, *, exclude_writers: Callable[[], None]) -> GenerationFiles:
        """
        Open the files of the generation that CURRENT names; raises Moved when it names another by now.
        """
        root = generation_directory(directory, number)
        lock = share_generation(root)
        try:
            if _current(directory) != number:
                raise Moved(f"{root} was replaced by a compaction")
            if lock is None:
                if not files.exists(rows_path(root, 0)):
                    raise Corruption(f"{rows_path(root, 0)} is missing; restore a backup of the database")
                raise Moved(f"{root} is locked")
            path = root / FILE_NAME
            close_lsn = check_beside_writer(path)
            table = path.with_name(path.name + "-lock")
            beside_writer = files.may_write(table if files.exists(table) else root)
            if not beside_writer:
                exclude_writers()
            points = PointsFile.open_reading(path, beside_writer=beside_writer)
            points.doubted = True  # what a writer puts into it has no checksum as a whole
            return cls(number, root, points, lock, close_lsn)
        except BaseException:
            if lock is not None:
                lock.release()
            raise

    def close(self) -> None:
        """
        Release them; idempotent.
        """
        self.points.close()
        self.lock.release()


class ReaderGeneration(OverlayReads):
    """
    A state of a collection, made by `open_reading`; `start` must follow.
    """

    def __init__(self, directory: Path, manifest: Manifest, opened: GenerationFiles) -> None:
        self.files = opened
        self._directory = directory
        self._manifest = manifest
        self._dims = {spec.number: spec.dim for spec in manifest.fields}
        self._pin, state = self._newest()
        self.overlay = Overlay(self._pin, state)
        self._follower = self._log_behind(state)

    @property
    def last_lsn(self) -> int:
        """
        The last LSN that was read from the log.
        """
        return max(self._follower.last_lsn, self.overlay.base.applied_lsn)

    @property
    def durable_lsn(self) -> int:
        """
        The highest LSN that is known to be on the medium.
        """
        return max(self._follower.durable_lsn, self.overlay.base.applied_lsn)

    @property
    def saved_indexes(self) -> None:
        """
        None: payload indexes are built from payloads, those that are saved are the writer's.
        """
        return None

    def snapshot(self) -> Snapshot:
        """
        Return the base.
        """
        return self._pin.snapshot()

    def row_file(self, field: int) -> tuple[int, int]:
        """
        Return (-1, 0): the rows of calls are kept in memory.
        """
        return -1, 0

    def apply(self, lsn: int, effects: Effects) -> None:
        """
        Take a call of the log into the state.
        """
        self.overlay.expect(lsn, effects)
        self.overlay.apply(lsn, effects)

    def load(self, load: Loader) -> None:
        """
        Give the base to the core.
        """
        snapshot, state = self.snapshot(), self.overlay.base
        for spec, rows in zip(self._manifest.fields, state.rows, strict=True):
            _load_rows(rows_path(self.files.root, spec.number), spec, rows, load)
            load.expect_checksums(spec.number, snapshot.row_sums(spec.number, rows.rows // rows_per_block(spec.dim)))
        load_points(snapshot, state, load)

    def start(self, apply: Apply, load: Loader) -> None:
        """
        Follow the log to where it ended when it was opened, then give the core what graphs there are.
        """
        try:
            self._follower.read(self._taking(apply))
        except Moved as error:
            # What was opened together follows one another, unless it is damaged.
            raise Corruption(f"{error}; restore a backup of the database") from error
        self._follower.check_end()
        check_reaches(self._follower, log_directory(self._directory), max(self.overlay.base.applied_lsn, self.files.close_lsn))
        derived = ReadDerivedFiles(self.files.root / "derived", uuid=self._manifest.uuid, generation=self.files.number)
        for spec in self._manifest.fields:
            graph = derived.open(graph_name(spec.number))
            if graph is not None and graph.lsn <= self.last_lsn:
                try:
                    load.load_graph(spec.number, derived.uuid, derived.generation, graph.body)
                except Corruption as error:
                    derived.discard(graph_name(spec.number), reason=str(error))

    def follow(self, apply: Apply) -> bool:
        """
        Give each call that was written since to `apply`; return whether there was one. Raises Moved.
        """
        self._follower.hold()
        return self._follower.read(self._taking(apply))

    def move_base(self, show: ShowRows) -> None:
        """
        Go over to the newest checkpoint without a change of state, so that the pages and the log before it are not needed any more;
        `show(field, fd, rows)` may map its rows. Does nothing where there is none, or it is beyond what was read.
        """
        if self.files.points.newest() == self._pin.number:
            return
        pin, state = self._newest()
        last = self._follower.last_lsn
        if state.applied_lsn > last:
            return
        try:
            log = self._log_behind(state)
        except Moved:
            return
        overlay = Overlay(pin, state)

        def take(lsn: int, effects: Effects) -> None:
            overlay.expect(lsn, effects)
            overlay.apply(lsn, effects)

        try:
            log.read(self._taking(take), until=last)
            reached = max(log.last_lsn, state.applied_lsn)
        except Moved:
            return
        finally:
            log.close()
        if (reached, overlay.next_offset, overlay.live) != (last, self.next_offset, self.live_count):
            return
        for spec, rows in zip(self._manifest.fields, state.rows, strict=True):
            fd = files.open_file(rows_path(self.files.root, spec.number))
            try:
                show(spec.number, fd, rows.rows)
            finally:
                files.close(fd)
        self.overlay, self._pin = overlay, pin

    def close(self) -> None:
        """
        Let go of the log; the files are the store's.
        """
        self._follower.close()

    def _newest(self) -> tuple[PinnedPoints, BaseState]:
        pin = self.files.points.pin()
        state = pin.snapshot().state()
        check_state(state, self._manifest, self.files.number, pin.path)
        return pin, state

    def _log_behind(self, state: BaseState) -> LogFollower:
        return LogFollower(
            log_directory(self._directory),
            uuid=self._manifest.uuid,
            generation=self.files.number,
            applied_lsn=state.applied_lsn,
            current=partial(_current, self._directory),
        )

    def _taking(self, apply: Apply) -> Callable[[int, memoryview], None]:
        return lambda lsn, body: apply(lsn, Effects.decode(body, self._dims))


def _current(directory: Path) -> int:
    return read_current(directory / "CURRENT").generation


def open_reading(
    directory: Path, manifest: Manifest, present: GenerationFiles | None, *, load: Loader, exclude_writers: Callable[[], None]
) -> ReaderGeneration:
    """
    Return the newest state, its base given to the core. The files in `present` are used again where they are of the same generation.

    `exclude_writers` is called when this process may not write LMDB's table of readers: from its return on no process may write. Raises
    Corruption, StorageError.
    """
    opened = _begin(directory, manifest, present, exclude_writers)
    try:
        opened.load(load)
    except BaseException:
        opened.close()
        if opened.files is not present:
            opened.files.close()
        raise
    return opened


def _begin(directory: Path, manifest: Manifest, present: GenerationFiles | None, exclude_writers: Callable[[], None]) -> ReaderGeneration:
    """
    Open base and log together. A checkpoint or a compaction may get in between, which takes milliseconds: then it is done again.
    """
    seen, is_gap = "", False
    for attempt in range(_ATTEMPTS):
        time.sleep(_PAUSE_SECONDS if attempt else 0)
        number = _current(directory)
        opened = None
        try:
            opened = present if present is not None and present.number == number else None
            opened = opened or GenerationFiles.open(directory, number, exclude_writers=exclude_writers)
            return ReaderGeneration(directory, manifest, opened)
        except Moved as error:
            seen, is_gap = str(error), isinstance(error, LogGap)
            if opened is not None and opened is not present:
                opened.close()
        except BaseException:
            if opened is not None and opened is not present:
                opened.close()
            raise
    if is_gap:
        raise Corruption(f"{log_directory(directory)}: log gap: {seen}; put missing files back, or restore a backup of the database")
    raise StorageError(f"{directory} could not be opened beside its writer: {seen}, again and again; try again")


def _load_rows(path: Path, spec: FieldSpec, state: RowState, load: Loader) -> None:
    """
    Map the rows of a checkpoint as far as they fill pages; the others are copied, so that memory can follow them.
    """
    if not files.exists(path):
        raise Corruption(f"{path} is missing, expected {state.rows} vectors; restore a backup of the database")
    row_bytes = 4 * spec.dim
    step = mmap.PAGESIZE // gcd(mmap.PAGESIZE, row_bytes)
    mapped = state.rows // step * step
    fd = files.open_file(path)
    try:
        check_end(fd, path, spec.dim, state)
        load.map_rows(spec.number, fd, mapped)
        if mapped < state.rows:
            rest = files.read_at(fd, (state.rows - mapped) * row_bytes, mapped * row_bytes)
            load.append_rows(spec.number, np.frombuffer(rest, "<f4").astype(np.float32).reshape(-1, spec.dim))
    finally:
        files.close(fd)
