"""
A live database: what all handles on one directory in this process share, and the registry of them.

Invariant: one process has one live database a directory, however often it is opened and by whatever path; its files are released when the
last handle is closed. A child made by fork finds all of them marked: it must not touch them. One thread a live database on disk drives
checkpoints and the log's idle records; it starts with the first collection that is opened.

Threads: the registry's lock guards opening and closing, a live database's own lock its catalog and its table of collections.
"""

from __future__ import annotations

import atexit
import itertools
import logging
import os
import re
import shutil
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from vecdb._assemble import disk_state, memory_state
from vecdb._query import Queries
from vecdb._state import CollectionState
from vecdb.errors import AlreadyExists, Closed, Forked, InvalidArgument, MissingDatabase, NotFound, StorageError, VecdbError
from vecdb.storage import files
from vecdb.storage.disk import DiskStore
from vecdb.storage.framing import Catalog, FieldSpec, Manifest, read_catalog, write_catalog
from vecdb.storage.lock import LOCK_NAME, WriterLock

_log = logging.getLogger(__name__)

CATALOG_NAME = "CATALOG"
MAX_NAME_CHARACTERS = 255
_TICK_SECONDS = 0.25
_COLLECTION_DIRECTORY = re.compile(r"c-(\d+)")

_registry_lock = threading.RLock()
_live: dict[tuple[int, int], LiveDatabase] = {}
_in_memory: weakref.WeakSet[LiveDatabase] = weakref.WeakSet()


class OpenCollection:
    """
    A collection's state and queries, shared by all handles.
    """

    def __init__(self, state: CollectionState) -> None:
        self.state = state
        self.queries = Queries(state)


class LiveDatabase:
    """
    The shared part of a database; `path` is None when it is kept in memory.
    """

    def __init__(self, path: Path | None, *, durability: str, threads: int, lock: WriterLock | None, writable: bool) -> None:
        self.path = path
        self.durability = durability
        self.threads = threads
        self.writable = writable
        self.handles = 0
        self.key: tuple[int, int] | None = None
        self.lock = threading.RLock()
        self._writer_lock = lock
        self._catalog = read_catalog(path / CATALOG_NAME) if path is not None else Catalog()
        self._open: dict[str, OpenCollection] = {}
        self._stop = threading.Event()
        self._ticker: threading.Thread | None = None
        self._closed = False
        self._forked = False

    # ---- collections ----

    def check(self) -> None:
        """
        Raise unless the database can be used.
        """
        if self._forked:
            raise Forked(f"database {self.path or ':memory:'} was opened before this process was forked: open it again in the child")
        if self._closed:
            raise Closed(f"database {self.path or ':memory:'} is closed: open it again")

    def names(self) -> list[str]:
        """
        Return the names of the collections, sorted.
        """
        self.check()
        return sorted(self._catalog.names if self.path is not None else self._open)

    def collection(self, name: str) -> OpenCollection:
        """
        Return a collection, opened if it was not; raise NotFound when there is none of this name.
        """
        with self.lock:
            self.check()
            found = self._open.get(name)
            if found is None:
                number = self._catalog.names.get(name)
                if number is None or self.path is None:
                    known = ", ".join(repr(other) for other in self.names()) or "none"
                    raise NotFound(
                        f"no collection {name!r} in {self.path or ':memory:'} (there: {known}): create it with create_collection"
                    )
                directory = self.path / f"c-{number}"
                found = OpenCollection(
                    disk_state(name, directory, durability=self.durability, threads=self.threads, writable=self.writable)
                )
                self._open[name] = found
                self._start_ticker()
            return found

    def create(self, name: str, fields: Sequence[FieldSpec], metadata: dict[str, Any]) -> OpenCollection:
        """
        Create a collection and return it.
        """
        check_name(name)
        with self.lock:
            self.check()
            if name in self.names():
                raise AlreadyExists(
                    f"a collection {name!r} exists in {self.path or ':memory:'}: use get_or_create_collection, or another name"
                )
            if self.path is None:
                self._open[name] = OpenCollection(memory_state(name, fields, metadata, threads=self.threads))
                return self._open[name]
            number = self._free_number()
            DiskStore.create(self.path / f"c-{number}", Manifest(os.urandom(16), tuple(fields), metadata, _now()))
            self._replace_catalog(Catalog({**self._catalog.names, name: number}, number + 1))
            return self.collection(name)

    def drop(self, name: str) -> None:
        """
        Delete a collection and its files.
        """
        with self.lock:
            found = self.collection(name) if self.path is None else None
            if self.path is None:
                assert found is not None
                found.state.close()
                del self._open[name]
                return
            self.check()
            number = self._catalog.names.get(name)
            if number is None:
                raise NotFound(f"no collection {name!r} in {self.path}")
            opened = self._open.pop(name, None)
            if opened is not None:
                opened.state.close()
            self._replace_catalog(
                Catalog({other: one for other, one in self._catalog.names.items() if other != name}, self._catalog.next_number)
            )
            _remove_tree(self.path / f"c-{number}")

    def _free_number(self) -> int:
        """
        Return a number that no directory has: one that is not in the catalog may be the rest of a creation that was cut, or belong to a
        newer catalog.
        """
        assert self.path is not None
        taken = [int(found[1]) for name in files.list_directory(self.path) if (found := _COLLECTION_DIRECTORY.fullmatch(name))]
        return max([self._catalog.next_number, *(number + 1 for number in taken)])

    def _replace_catalog(self, catalog: Catalog) -> None:
        assert self.path is not None
        write_catalog(self.path / CATALOG_NAME, catalog)
        self._catalog = catalog

    def remove_leftovers(self) -> None:
        """
        Remove directories of collections that were dropped, and what a creation that was cut left aside.
        """
        assert self.path is not None
        known = set(self._catalog.names.values())
        for name in files.list_directory(self.path):
            found = _COLLECTION_DIRECTORY.fullmatch(name)
            if (found and int(found[1]) < self._catalog.next_number and int(found[1]) not in known) or re.fullmatch(r"\.c-\d+\.tmp", name):
                _log.info("removing %s: no collection uses it", self.path / name)
                _remove_tree(self.path / name)

    # ---- life ----

    def _start_ticker(self) -> None:
        if self._ticker is None and self.writable:
            self._ticker = threading.Thread(target=_tick, args=(weakref.ref(self), self._stop), name="vecdb-care", daemon=True)
            self._ticker.start()

    def care(self) -> None:
        """
        Give every open collection the chance to checkpoint and to confirm its log.
        """
        with self.lock:
            states = [opened.state for opened in self._open.values()]
        for state in states:
            try:
                state.store.note_idle()
                state.store.maybe_checkpoint()
            except VecdbError as error:
                # The store keeps the reason and shows it to the next writer; here there is nobody to tell.
                _log.warning("background care of collection %r failed: %s", state.name, error)

    def close(self) -> None:
        """
        Close every collection and release the directory.
        """
        self._stop.set()
        ticker = self._ticker
        if ticker is not None and ticker is not threading.current_thread():
            ticker.join()
        with self.lock:
            if self._closed:
                return
            self._closed = True
            failures: list[BaseException] = []
            for opened in self._open.values():
                try:
                    opened.state.close()
                except VecdbError as error:
                    failures.append(error)
            if self._writer_lock is not None:
                self._writer_lock.release()
        if failures:
            raise failures[0]

    def mark_forked(self) -> None:
        """
        Make every use in this process raise Forked.
        """
        self._forked = True
        for opened in self._open.values():
            opened.state.forked = True


def _tick(reference: weakref.ref[LiveDatabase], stop: threading.Event) -> None:
    while not stop.wait(_TICK_SECONDS):
        database = reference()
        if database is None:
            return
        database.care()
        del database


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _remove_tree(directory: Path) -> None:
    if directory.exists():
        try:
            shutil.rmtree(directory)
        except OSError as error:
            raise StorageError(f"cannot remove {directory}: {error}; remove it by hand") from error


def check_name(name: object) -> None:
    """
    Raise InvalidArgument unless a collection may have this name.
    """
    if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME_CHARACTERS:
        raise InvalidArgument(f"the name of a collection is {name!r}, expected a str of 1 to {MAX_NAME_CHARACTERS} characters")
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        raise InvalidArgument(
            f"the name of a collection is {name!r}, which holds a lone surrogate: expected text that UTF-8 can encode"
        ) from None


# ---- the registry ----


def attach_memory(*, threads: int) -> LiveDatabase:
    """
    Return a new database in memory, with one handle.
    """
    live = LiveDatabase(None, durability="fsync", threads=threads, lock=None, writable=True)
    live.handles = 1
    _in_memory.add(live)
    return live


def attach(path: Path, *, mode: str, durability: str | None, timeout: float, threads: int) -> LiveDatabase:
    """
    Return the live database of a directory, opened or created as the mode asks, with one handle more.
    """
    with _registry_lock:
        known = _live.get(_identity(path)) if path.is_dir() else None
        if known is not None:
            if mode == "x":
                raise AlreadyExists(f"{path} is open in this process: mode='x' wants a path that does not exist")
            if durability is not None and durability != known.durability:
                raise InvalidArgument(
                    f"{path} is open in this process with durability={known.durability!r}, got {durability!r}: close it first, "
                    "or leave durability out"
                )
            if mode != "r" and not known.writable:
                raise InvalidArgument(f"{path} is open read-only in this process: close it first to write")
            known.handles += 1
            return known
        created = _prepare(path, mode)
        lock = WriterLock.acquire(path, timeout=timeout)
        try:
            if not files.exists(path / CATALOG_NAME):
                write_catalog(path / CATALOG_NAME, Catalog())
            elif mode == "x" and not created:
                raise AlreadyExists(f"{path} is a database: mode='x' wants a path that does not exist")
            live = LiveDatabase(path, durability=durability or "fsync", threads=threads, lock=lock, writable=mode != "r")
            if live.writable:
                live.remove_leftovers()
        except BaseException:
            lock.release()
            raise
        live.handles = 1
        live.key = _identity(path)
        _live[live.key] = live
        return live


def detach(live: LiveDatabase) -> None:
    """
    Give a handle back; the last one closes the database.
    """
    with _registry_lock:
        live.handles -= 1
        if live.handles > 0:
            return
        try:
            live.close()
        finally:
            if live.key is not None:
                _live.pop(live.key, None)


def _prepare(path: Path, mode: str) -> bool:
    """
    Make sure that path is a directory that a database may live in; return whether it was created.
    """
    if not files.exists(path):
        if mode == "r":
            raise MissingDatabase(f"there is no database at {path}: check the path, or open it with mode='a' to create it")
        parent = path.parent
        if not parent.is_dir():
            raise MissingDatabase(f"cannot create {path}: the directory {parent} does not exist")
        _create(path)
        return True
    if not path.is_dir():
        raise StorageError(f"{path} is a file, expected a directory: a vecdb database is a directory, choose another path")
    entries = set(files.list_directory(path)) - {LOCK_NAME, CATALOG_NAME + ".tmp"}
    if CATALOG_NAME not in entries:
        if entries:
            raise StorageError(
                f"{path} is a directory with other things in it ({', '.join(sorted(entries)[:3])}), not a vecdb database: "
                "choose another path"
            )
        if mode == "r":
            raise MissingDatabase(f"there is no database at {path}, only an empty directory: open it with mode='a' to create one")
    return False


def _create(path: Path) -> None:
    """
    Create an empty database aside and move it into place.
    """
    for attempt in itertools.count():
        aside = path.with_name(f".{path.name}.tmp-{os.getpid()}-{attempt}")
        if not files.exists(aside):
            break
    files.make_directory(aside)
    try:
        write_catalog(aside / CATALOG_NAME, Catalog())
        files.rename(aside, path)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        if not path.is_dir():
            raise
        # Another process was faster: its database is opened.
        return
    files.sync_directory(path.parent)


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


def _every_live() -> list[LiveDatabase]:
    return [*_live.values(), *_in_memory]


def _close_all() -> None:
    for live in _every_live():
        _quietly(live.close)


def _quietly(close: Callable[[], None]) -> None:
    try:
        close()
    except VecdbError as error:
        _log.warning("closing at exit failed: %s", error)


def _after_fork() -> None:
    global _registry_lock
    _registry_lock = threading.RLock()
    for live in _every_live():
        live.mark_forked()
    _live.clear()


atexit.register(_close_all)
os.register_at_fork(after_in_child=_after_fork)
