"""
Compaction of a collection on disk: the next generation is copied from a snapshot while writes go on, follows them, and takes over.

Invariant: until CURRENT names it, nothing refers to the next generation, and whatever stops the compaction leaves the present one as it
was; from the moment the log begins a segment of the next one, nothing is written to the present one any more. docs/file_format.md argues
the cases. Thread rule: one thread, and one compaction at a time, which the caller sees to.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from vecdb.errors import StorageError
from vecdb.storage.checkpoint import Checkpointer, Occasion
from vecdb.storage.derived import DerivedFiles
from vecdb.storage.effects import Effects
from vecdb.storage.framing import Current, Manifest, write_current
from vecdb.storage.generation import Generation
from vecdb.storage.generation_copy import GenerationCopy
from vecdb.storage.generation_lock import remove_older_generations
from vecdb.storage.points_write import write_checkpoint
from vecdb.storage.recovery import generation_directory, graph_name, open_generation, remove_tree
from vecdb.storage.store import Advance, Apply, Loader, Predecessor
from vecdb.storage.wal import Log

logger = logging.getLogger("vecdb.storage")

# While it follows without the write lock, what was applied goes to the file in steps of so many calls.
_FLUSH_BYTES = 64 << 20
# What is written while the copy is made waits in memory.
_MOST_WAITING_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class Present:
    """
    What a compaction replaces: the present generation, and what stays when the next one takes over. `install` makes the store use that.
    """

    directory: Path
    manifest: Manifest
    generation: Generation
    log: Log
    checkpointer: Checkpointer
    install: Callable[[Generation], None]


class DiskCompaction:
    """
    One compaction; see `store.Compaction`.
    """

    def __init__(self, present: Present, load: Loader, old: Predecessor, advance: Advance) -> None:
        self._present = present
        self._number = present.generation.base.generation + 1
        self._directory = generation_directory(present.directory, self._number)
        self._waiting: deque[tuple[int, Effects]] = deque()
        self._next: Generation | None = None
        self._installed = False
        self._waiting_bytes = 0
        self._outrun = False
        try:
            self._build(load, old, advance)
        except BaseException:
            self._undo()
            raise

    @property
    def points(self) -> Generation:
        """
        The next generation.
        """
        assert self._next is not None
        return self._next

    def _build(self, load: Loader, old: Predecessor, advance: Advance) -> None:
        present = self._present
        remove_tree(self._directory)
        # Recorded from before the checkpoint on: what the snapshot holds is dropped below.
        present.generation.recorder = self._record
        present.checkpointer.run(Occasion.RUNNING)
        with present.generation.base.points.snapshot() as snapshot:
            source = generation_directory(present.directory, present.generation.base.generation)
            copy = GenerationCopy(snapshot, present.manifest, source, self._directory, self._number)
            copy.write(advance)
        self._renumbering = copy.renumbering
        lsn = copy.state.applied_lsn
        derived = DerivedFiles(self._directory / "derived", uuid=present.manifest.uuid, generation=self._number)
        for field, kept in enumerate(copy.kept):
            with old.still():
                graph = old.save_kept_graph(field, present.manifest.uuid, self._number, lsn, kept)
            if graph is not None:
                derived.save(graph_name(field), lsn=lsn, body=graph)
        base = open_generation(present.directory, present.manifest, self._number, load=load, verify=False)
        base.points.doubted = False  # this process has just written it
        self._next = Generation(base)
        while self._waiting and self._waiting[0][0] <= lsn:
            self._waiting.popleft()

    def _record(self, lsn: int, effects: Effects) -> None:
        self._waiting_bytes += _bytes_of(effects)
        if self._waiting_bytes > _MOST_WAITING_BYTES:
            self._outrun = True
            self._waiting.clear()
        else:
            self._waiting.append((lsn, effects))

    def follow(self, apply: Apply) -> int:
        """
        Give what was applied meanwhile to `apply`, translated.
        """
        done = pending = 0
        while self._waiting and not self._outrun:
            lsn, effects = self._waiting.popleft()
            self._waiting_bytes -= _bytes_of(effects)
            effects = self._renumbering.translate(effects)
            self.points.reserve(effects)
            self.points.count_reserved(effects)
            apply(lsn, effects)
            done += 1
            pending += _bytes_of(effects)
            if pending >= _FLUSH_BYTES:
                self._flush(self.points.overlay.applied_lsn)
                pending = 0
        if self._outrun:
            raise StorageError(
                f"{self._present.directory}: more than {_MOST_WAITING_BYTES >> 20} MiB were written while it was copied, so it was not "
                "compacted; nothing is lost: call compact again when less is written"
            )
        return done

    def standing_still(self) -> AbstractContextManager[Any]:
        """
        Keep checkpoints of the present generation from being made.
        """
        return self._present.checkpointer.standing_still()

    def commit(self) -> None:
        """
        Bring the next generation to the medium, have the log go on in it, and have CURRENT name it.
        """
        log = self._present.log
        while True:
            lsn = log.end_lsn
            self._flush(lsn)
            if log.begin_generation(self._number, lsn):
                break
        # Whatever fails from here on leaves the log read-only: the next opening finds out which generation counts.
        try:
            write_current(self._present.directory / "CURRENT", Current(self._number))
        except BaseException as error:
            log.fail(error)
            raise

    def _flush(self, lsn: int) -> None:
        """
        Commit what the next generation has taken in.
        """
        base, overlay = self.points.base, self.points.overlay
        frozen = overlay.freeze(lsn, tuple(rows.freeze() for rows in base.rows))
        for rows in base.rows:
            rows.sync()
        overlay.committed(write_checkpoint(base.points, frozen, oldest_derived=base.indexes.oldest()))

    def install(self) -> None:
        """
        Have the store use the next generation.
        """
        self._present.install(self.points)
        self._installed = True

    def __enter__(self) -> DiskCompaction:
        """
        Return itself.
        """
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """
        Remove the generation that does not count: the old one, or the one that did not come to be.
        """
        if self._installed:
            self._forget_old()
        else:
            self._undo()

    def _forget_old(self) -> None:
        """
        Let go of the generation that was replaced, unless a reader in another process has it: then it goes with a later checkpoint or
        opening, as does what fails.
        """
        present = self._present
        present.generation.recorder = None
        try:
            present.generation.retire()
            remove_older_generations(present.directory, self._number)
            present.log.drop_through(self.points.overlay.base.applied_lsn)
        except StorageError as failure:
            logger.warning("%s is compacted, but not all of the old files could be removed yet: %s", present.directory, failure)

    def _undo(self) -> None:
        """
        Leave the present generation as it was.
        """
        log = self._present.log
        self._present.generation.recorder = None
        try:
            if self._next is not None:
                self._next.base.close()
            if log.failed is None and log.generation != self._number:
                remove_tree(self._directory)
        except StorageError as failure:
            logger.warning("%s is of no use any more and stays until the next opening: %s", self._directory, failure)


def _bytes_of(effects: Effects) -> int:
    """
    Return about how much memory a call takes.
    """
    rows = sum(vectors.rows.nbytes for vectors in effects.put_vectors.values())
    return rows + sum(map(len, effects.put_payloads)) + sum(map(len, effects.patch_payloads)) + 100 * len(effects.put_ids)
