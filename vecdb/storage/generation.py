"""
One generation of a collection's files, open: what is applied to it, and how it is read.

Invariant: it holds the base of a checkpoint and every call applied since, and stays readable after the collection has moved on to the next
one, for as long as somebody refers to it: the files are released with the last reference. Thread rule: any thread reads; `apply` by one
thread at a time in LSN order; `reserve` and `count_reserved` under the write lock.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack

from vecdb.storage.effects import Effects
from vecdb.storage.generation_reads import OverlayReads
from vecdb.storage.overlay import Overlay
from vecdb.storage.recovery import Base
from vecdb.storage.saved_indexes import SavedIndexes


class Generation(OverlayReads):
    """
    The files of a generation and what was written since their checkpoint.
    """

    def __init__(self, base: Base) -> None:
        self.base = base
        self.overlay: Overlay = Overlay(base.points, base.state)
        self.failure: str | None = None
        self.recorder: Callable[[int, Effects], None] | None = None
        """
        Gets each call that was applied, while the next generation is in the making.
        """
        self._reserved = [rows.rows for rows in base.rows]

    @property
    def saved_indexes(self) -> SavedIndexes:
        """
        The payload indexes that are saved.
        """
        return self.base.indexes

    def row_file(self, field: int) -> tuple[int, int]:
        """
        Return the descriptor of the field's rows and how many rows are written.
        """
        rows = self.base.rows[field]
        return rows.fd, rows.rows

    def reserve(self, effects: Effects) -> None:
        """
        Make room in the rows' files for a call, behind those of all queued calls; raises StorageError with nothing
        changed.
        """
        for field, vectors in effects.put_vectors.items():
            self.base.rows[field].reserve(self._reserved[field] + len(vectors.rows))

    def count_reserved(self, effects: Effects) -> None:
        """
        Take the room of a call: it is queued.
        """
        for field, vectors in effects.put_vectors.items():
            self._reserved[field] += len(vectors.rows)

    def write_ahead(self, calls: Sequence[Effects]) -> None:
        """
        Write the rows of the calls that will be applied next, in this order; they count when the calls are applied.
        """
        for field, rows in enumerate(self.base.rows):
            rows.write_ahead([effects.put_vectors[field].rows for effects in calls if field in effects.put_vectors])

    def apply(self, lsn: int, effects: Effects) -> None:
        """
        Write the rows and take the call into the applied state. A failure is kept in `failure`: opening the
        collection again replays the call.
        """
        try:
            self.overlay.expect(lsn, effects)
            for field, vectors in effects.put_vectors.items():
                self.base.rows[field].append(vectors.rows)
            self.overlay.apply(lsn, effects)
            if self.recorder is not None:
                self.recorder(lsn, effects.with_own_rows())
        except BaseException as error:
            self.failure = f"the write at LSN {lsn} is in the log but could not be applied ({error}); close the database and open it again"
            raise

    def retire(self) -> None:
        """
        Close the rows' files, whose maps stay, and let points.lmdb go with whoever reads it last.
        """
        with ExitStack() as stack:
            for rows in self.base.rows:
                stack.callback(rows.close)
