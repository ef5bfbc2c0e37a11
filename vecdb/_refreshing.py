"""
Moving a reader on to what its writer has written since: along the log where that leads on, else by a second set of contents that takes the
place of the first, as a compaction's does.

Invariant: a state that is shown is one between two calls. Lock order: compacting (which keeps refreshes, backups and verifications apart),
declarations, write lock, apply lock. Thread rule: any thread; a second refresh waits.
"""

from __future__ import annotations

from functools import partial

from vecdb._contents import Contents, CoreLoader
from vecdb._interrupt import uninterrupted
from vecdb._state import CollectionState
from vecdb.index import CoreIndex
from vecdb.storage.effects import Effects
from vecdb.storage.log_follower import Moved
from vecdb.storage.reader import ReaderStore


def refresh(state: CollectionState) -> bool:
    """
    Move on to the newest state; return whether there was something new.
    """
    store = state.store
    assert isinstance(store, ReaderStore)
    with state.compacting, state.declared.unchanged():
        state.check_open()
        before = store.generation.last_lsn
        try:
            return store.refresh(state.apply, state.core.map_rows)
        except Moved:
            pass  # what it refers to would be kept while another state is made
        return _begin_again(state, store, before)


def _begin_again(state: CollectionState, store: ReaderStore, before: int) -> bool:
    """
    Move on to the newest base and what follows it; return whether there may be something beyond LSN `before`.
    """
    core = CoreIndex(state.fields, threads=0)
    try:
        loader = CoreLoader(core, len(state.fields))
        following = store.reopen(loader)
        try:
            contents = Contents(state.fields, loader, following, state.apply_lock)

            def apply(lsn: int, effects: Effects) -> None:
                with state.apply_lock:
                    contents.apply(lsn, effects)

            following.start(apply, loader)
            state.declared.build_in(contents)
            with state.write_lock, uninterrupted(), state.apply_lock:
                state.check_open()
                old = store.generation
                state.move_to(contents, partial(store.install, following))
            store.let_go(old)
        except BaseException:
            if store.generation is not following:
                store.discard(following)
            raise
    except BaseException:
        if state.core is not core:
            core.close()
        raise
    core.set_threads(state.threads)
    return following.overlay.applied_lsn > before
