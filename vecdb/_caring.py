"""
The care of a collection: giving space back, looking for damage.

Arguments are checked here; `_compacting` and `_verifying` do the work. Any thread may call.
"""

from __future__ import annotations

from vecdb._compacting import compact
from vecdb._handle import Held
from vecdb._progress import check_progress
from vecdb._verifying import verify
from vecdb.types import Report


class Caring(Held):
    """
    The part of `Collection` that keeps it in good order.
    """

    def compact(self, *, progress: bool = False) -> None:
        """
        Give back the space, on disk and in memory, of points that were deleted or replaced; no answer changes.

        The points are copied while searches and writes go on; writes wait while a graph is copied in memory (some 0.1 s for 100,000
        vectors), and in the last step for some syncs of the disk. Graphs are carried over, not built anew. It needs room for a
        second copy of the collection until it is done, and what is written meanwhile waits in memory: more than 1 GiB of it ends
        the compaction with a StorageError. Searches and iterators that run keep the old files until they are done. Whatever stops
        it, a power cut included, leaves the collection as it was or compacted. `progress=True` shows a bar (needs tqdm). Raises
        ReadOnly, StorageError, and Corruption when stored bytes are not what was written; nothing has changed then.

        >>> import vecdb
        >>> points = vecdb.Collection(dim=2)
        >>> points.upsert([1, 2], [[0.0, 1.0], [1.0, 0.0]])
        >>> points.delete(1), points.info().deleted
        (1, 1)
        >>> points.compact()
        >>> points.info().deleted, points.search([1.0, 0.0])[0].id
        (0, 2)
        """
        self._handle.check_writable()
        compact(self._state, progress=check_progress(progress))

    def verify(self, *, progress: bool = False) -> Report:
        """
        Read every byte that is stored, check it against its checksum and against the rest, and return what was found; nothing is changed.

        Covered are the log, ids, payloads, liveness, vectors and small files; that ids and offsets lead to each other; that files and
        memory describe the same points; and whether every vector can be reached in its graph. What is wrong is listed in
        `Report.problems`, not raised; what costs no answer, such as a damaged graph file, in `Report.notes`. Searches and writes go on;
        writes wait while the log is read. `progress=True` shows a bar (needs tqdm).

        >>> import vecdb
        >>> points = vecdb.Collection(dim=2)
        >>> points.upsert([1, 2], [[0.0, 1.0], [1.0, 0.0]])
        >>> points.verify().ok
        True
        """
        self._handle.check()
        return verify(self._state, progress=check_progress(progress))
