"""
Backup of a live database: every collection as of one moment, written aside, and moved into place when it is complete.

Invariant: the target appears whole and synced, or not at all. Between the moment and the end of the copy writes go on; compactions and
declarations of indexes wait. Lock order: compacting, declarations, the database's lock, checkpoints, write locks. Thread rule: any thread.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

from vecdb._compacting import OldCore
from vecdb._live import CATALOG_NAME, LiveDatabase, now
from vecdb._progress import progress_bar
from vecdb._state import CollectionState
from vecdb.errors import AlreadyExists, InternalError, InvalidArgument, MissingDatabase, StorageError
from vecdb.storage import files
from vecdb.storage.backup import DiskPin, MemoryPin, ReaderPin
from vecdb.storage.disk import DiskStore
from vecdb.storage.framing import Catalog, Manifest, write_catalog
from vecdb.storage.memory import MemoryStore
from vecdb.storage.reader import ReaderStore
from vecdb.storage.recovery import remove_tree


def backup(live: LiveDatabase, target: Path, *, progress: bool) -> None:
    """
    Copy a live database; see `Database.backup`.
    """
    _check_target(live, target)
    with ExitStack() as held:
        states, catalog = _hold(live, held)
        pins = _pin(live, states, held)
        aside = _aside(target)
        files.make_directory(aside)
        try:
            with progress_bar(sum(state.store.live_count for state in states.values()), "backup", shown=progress) as advance:
                for name, state in states.items():
                    _write(pins[name], aside / f"c-{catalog.names[name]}", state, advance)
            write_catalog(aside / CATALOG_NAME, catalog)
            _check_target(live, target)
            files.rename(aside, target)
        except BaseException:
            with suppress(StorageError):  # the first error is what the caller must hear of
                remove_tree(aside)
            raise
    files.sync_directory(target.parent)


def _check_target(live: LiveDatabase, target: Path) -> None:
    if files.exists(target):
        raise AlreadyExists(f"{target} exists: a backup goes to a path that does not")
    if not target.parent.is_dir():
        raise MissingDatabase(f"cannot write {target}: the directory {target.parent} does not exist")
    if live.path is not None and live.path.resolve() in target.resolve().parents:
        raise InvalidArgument(f"{target} is inside of the database {live.path}: a backup goes to a path of its own")


def _aside(target: Path) -> Path:
    return next(
        path for attempt in itertools.count() if not files.exists(path := target.with_name(f".{target.name}.tmp-{os.getpid()}-{attempt}"))
    )


def _hold(live: LiveDatabase, held: ExitStack) -> tuple[dict[str, CollectionState], Catalog]:
    """
    Keep every collection from being compacted, and from other declarations, until `held` ends.
    """
    while True:
        states, catalog = live.open_all()
        with ExitStack() as holding:
            for state in states.values():
                holding.enter_context(state.compacting)
                holding.enter_context(state.declared.unchanged())
                state.check_open()
                # Most of the work of the commit at the moment itself, without the lock.
                state.store.checkpoint()
            if live.open_all() == (states, catalog):
                held.enter_context(holding.pop_all())
                return states, catalog


def _pin(live: LiveDatabase, states: dict[str, CollectionState], held: ExitStack) -> dict[str, DiskPin | MemoryPin | ReaderPin]:
    """
    Fix one moment of all collections: with every writer held, nothing queued, everything committed.
    """
    pins: dict[str, DiskPin | MemoryPin | ReaderPin] = {}
    with ExitStack() as still:
        for state in states.values():
            if isinstance(state.store, DiskStore):
                still.enter_context(state.store.standing_still())
        for state in states.values():
            still.enter_context(state.write_lock)
        for name, state in states.items():
            state.check_open()
            state.settle()
            pin: DiskPin | MemoryPin | ReaderPin
            if isinstance(state.store, DiskStore):
                state.store.commit_all()
                pin = DiskPin(state.store)
            elif isinstance(state.store, ReaderStore):
                pin = ReaderPin(state.store)  # it stays as it is: a refresh waits
            elif isinstance(state.store, MemoryStore):
                with state.apply_lock:
                    pin = MemoryPin(state.store)
            else:
                raise InternalError(f"a store of {type(state.store).__name__} has no backup; please report this")
            held.callback(pin.close)
            pins[name] = pin
    return pins


def _write(pin: DiskPin | MemoryPin | ReaderPin, directory: Path, state: CollectionState, advance: Callable[[int], None]) -> None:
    def done(count: int) -> None:
        state.check_open()
        advance(count)

    if isinstance(state.store, (DiskStore, ReaderStore)):
        pin.write(directory, state.store.manifest, OldCore(state), done)
    else:
        pin.write(directory, Manifest(os.urandom(16), state.fields, state.metadata, now()), OldCore(state), done)
