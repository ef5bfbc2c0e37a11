"""
Compaction of a collection: a second set of contents is made beside the live one, follows it, and takes its place.

Invariant: until the last step nothing of the live state changes; that step is taken with writers held, nothing queued, and no call being
applied. Lock order: compacting, declarations, checkpoints, write lock, apply lock. Thread rule: any thread; a second compaction waits.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vecdb._contents import Contents, CoreLoader
from vecdb._interrupt import uninterrupted
from vecdb._progress import progress_bar
from vecdb._state import CollectionState
from vecdb.index import CoreIndex
from vecdb.storage.effects import Effects

# Rounds of following without the write lock; what is left after them is taken over while writers wait.
_ROUNDS = 8
_FEW_CALLS = 4


class OldCore:
    """
    The core of the contents of now, as a store sees it that copies them.
    """

    def __init__(self, state: CollectionState) -> None:
        self._apply_lock = state.apply_lock
        self._core = state.core
        self.get_rows = state.core.get_rows

    def still(self) -> AbstractContextManager[Any]:
        """
        Keep calls from being applied for the time of a with block.
        """
        return self._apply_lock

    def save_kept_graph(self, field: int, uuid: bytes, generation: int, lsn: int, kept: NDArray[np.bool_]) -> memoryview | None:
        """
        Return the graph of the kept rows. REQUIRES: `still`.
        """
        return self._core.save_graph(field, uuid, generation, lsn, kept_rows=kept)


def compact(state: CollectionState, *, progress: bool) -> None:
    """
    Number the points of a collection anew, without tombstones; see `Collection.compact`.
    """
    with state.compacting, state.declared.unchanged():
        state.check_writable()
        core = CoreIndex(state.fields, threads=0)
        try:
            with progress_bar(state.store.live_count, "compact", shown=progress) as advance:

                def done(count: int) -> None:
                    state.check_open()
                    advance(count)

                _compact(state, core, done)
        except BaseException:
            if state.core is not core:
                core.close()
            raise
        core.set_threads(state.threads)


def _compact(state: CollectionState, core: CoreIndex, advance: Any) -> None:
    loader = CoreLoader(core, len(state.fields))
    with state.store.compact(loader, loader, OldCore(state), advance) as compaction:
        contents = Contents(state.fields, loader, compaction.points, state.apply_lock)

        def apply(lsn: int, effects: Effects) -> None:
            with state.apply_lock:
                contents.apply(lsn, effects)

        compaction.follow(apply)
        state.declared.build_in(contents)
        for _ in range(_ROUNDS):
            if compaction.follow(apply) <= _FEW_CALLS:
                break
        with compaction.standing_still(), state.write_lock, uninterrupted():
            state.check_writable()
            state.settle()
            compaction.follow(apply)
            compaction.commit()
            with state.apply_lock:
                state.move_to(contents, compaction.install)
