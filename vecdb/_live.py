"""
A live database: what all handles on one directory in this process share.

Invariant: the catalog names exactly the collections that exist; what it does not name is no collection. One thread a live database on disk
drives checkpoints and the log's idle records; it starts with the first collection that is opened.

Threads: its lock guards the catalog and the table of open collections. Lock order: refreshing, lock, those of a collection.
"""

from __future__ import annotations

import logging
import os
import re
import threading
import time
import weakref
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from vecdb._assemble import disk_state, memory_state, reader_state
from vecdb._background import BackgroundThread, rest
from vecdb._forked import track
from vecdb._query import Queries
from vecdb._refreshing import refresh
from vecdb._state import CollectionState
from vecdb._verifying import verify
from vecdb.errors import AlreadyExists, Closed, Corruption, Forked, InvalidArgument, NotFound, StorageError, VecdbError
from vecdb.storage import files
from vecdb.storage.disk import DiskStore
from vecdb.storage.framing import Catalog, FieldSpec, Manifest, read_catalog, write_catalog
from vecdb.storage.lock import FileLock, SharedLock
from vecdb.storage.recovery import COLLECTION, remove_tree, written_but_unnamed
from vecdb.storage.verify import raise_if_damaged
from vecdb.types import Report

_log = logging.getLogger(__name__)

CATALOG_NAME = "CATALOG"
MAX_NAME_CHARACTERS = 255
_TICK_SECONDS = 0.25


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

    def __init__(
        self, path: Path | None, *, durability: str, threads: int, lock: FileLock | None, writable: bool, timeout: float = 0.0
    ) -> None:
        self.path = path
        self.durability = durability
        self.threads = threads
        self.writable = writable
        self.handles = 0
        self.report: Report | None = None
        self.key: tuple[int, int] | None = None
        self.lock = threading.RLock()
        self._lock = lock
        self._timeout = timeout
        self._refreshing = threading.Lock()
        self._catalog = self._read_catalog() if path is not None else Catalog()
        self._open: dict[str, OpenCollection] = {}
        self._stop = threading.Event()
        self._ticker: BackgroundThread | None = None
        self._closed = False
        self.forked = False
        # Whether `check` has nothing to raise: what every search asks first.
        self.is_usable = True
        track(self)

    # ---- collections ----

    def note_fork(self) -> None:
        """
        Refuse every use from now on: in a child made by fork.
        """
        self.forked = True
        self.is_usable = False

    def check(self) -> None:
        """
        Raise unless the database can be used.
        """
        if self.is_usable:
            return
        if self.forked:
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
                if self.writable:
                    found = OpenCollection(disk_state(name, directory, durability=self.durability, threads=self.threads))
                else:
                    found = OpenCollection(self._reader_state(name, directory))
                self._open[name] = found
                self._start_ticker()
            return found

    def _reader_state(self, name: str, directory: Path) -> CollectionState:
        try:
            return reader_state(name, directory, threads=self.threads, exclude_writers=self._exclude_writers)
        except (StorageError, Corruption):
            if self._read_catalog().names.get(name) == self._catalog.names.get(name):
                raise
            raise NotFound(f"collection {name!r} was dropped by another process since: call refresh() on the database") from None

    def _exclude_writers(self) -> None:
        """
        Keep writers out for as long as the database is open, on behalf of a reader that may not write LMDB's table of readers.
        """
        assert self.path is not None
        if self._lock is None:
            why = "this process may not write to it, as a reader beside a writer has to"
            self._lock = SharedLock.exclude_writers(self.path, timeout=self._timeout, why=why)

    def _read_catalog(self) -> Catalog:
        assert self.path is not None
        catalog = read_catalog(self.path / CATALOG_NAME)
        if unnamed := written_but_unnamed(self.path, catalog):
            # A writer beside a reader may just have made them; it names a collection before it writes to it.
            catalog = read_catalog(self.path / CATALOG_NAME)
            unnamed = [number for number in unnamed if number >= catalog.next_number]
        if unnamed:
            raise Corruption(
                f"{self.path / CATALOG_NAME} does not name c-{unnamed[0]}, which holds points: an older copy was put in its place; restore "
                "the newest one, or open the database with salvage=True"
            )
        return catalog

    def refresh(self) -> bool:
        """
        Move every open collection, and the catalog, on to what the writer has written by now; return whether there was something new.
        """
        self.check()
        if self.path is None or self.writable:
            return False
        with self._refreshing:
            new = self._take_catalog()
            failures: list[VecdbError] = []
            for name, opened in tuple(self._open.items()):
                try:
                    new |= refresh(opened.state)
                except (StorageError, Corruption) as error:
                    # Of a collection that is being dropped, the files go one by one.
                    if self._take_catalog() and self._open.get(name) is not opened:
                        new = True
                    else:
                        failures.append(error)
            if failures:
                raise failures[0]
            return new

    def _take_catalog(self) -> bool:
        """
        Take over the catalog as it is now, and close the collections that it does not name any more; return whether it was another.
        """
        catalog = self._read_catalog()
        with self.lock:
            self.check()
            before, self._catalog = self._catalog, catalog
            gone = [name for name in self._open if catalog.names.get(name) != before.names.get(name)]
            closing = [self._open.pop(name).state for name in gone]
        for state in closing:
            state.close()
        return catalog != before

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
            DiskStore.create(self.path / f"c-{number}", Manifest(os.urandom(16), tuple(fields), metadata, now()))
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
            remove_tree(self.path / f"c-{number}")

    def _free_number(self) -> int:
        """
        Return a number that no directory has: one that is not in the catalog may be the rest of a creation that was cut, or belong to a
        newer catalog.
        """
        assert self.path is not None
        taken = [int(found[1]) for name in files.list_directory(self.path) if (found := COLLECTION.fullmatch(name))]
        return max([self._catalog.next_number, *(number + 1 for number in taken)])

    def _replace_catalog(self, catalog: Catalog) -> None:
        assert self.path is not None
        write_catalog(self.path / CATALOG_NAME, catalog)
        self._catalog = catalog

    def settle_names(self) -> None:
        """
        Bring the names to the medium that a killed process may have left in the page cache only, before anything rests on them: those in
        the directory, CATALOG among them, and that of the directory while it holds nothing.
        """
        assert self.path is not None
        files.sync_directory(self.path)
        if self._catalog == Catalog():
            files.sync_directory(self.path.parent)

    def remove_leftovers(self) -> None:
        """
        Remove directories of collections that were dropped, and what a creation that was cut left aside.
        """
        assert self.path is not None
        known = set(self._catalog.names.values())
        for name in files.list_directory(self.path):
            found = COLLECTION.fullmatch(name)
            if (found and int(found[1]) < self._catalog.next_number and int(found[1]) not in known) or re.fullmatch(r"\.c-\d+\.tmp", name):
                _log.info("removing %s: no collection uses it", self.path / name)
                remove_tree(self.path / name)

    def open_all(self) -> tuple[dict[str, CollectionState], Catalog]:
        """
        Return the states of all collections, opened, by name, and the catalog; one of those in memory is made up.
        """
        with self.lock:
            states = {name: self.collection(name).state for name in self.names()}
            if self.path is not None:
                return states, self._catalog
            return states, Catalog({name: number for number, name in enumerate(states)}, len(states))

    def verify(self) -> None:
        """
        Check every collection; raises Corruption that names what was found.
        """
        with self.lock:
            problems = [problem for name in self.names() for problem in verify(self.collection(name).state, progress=False).problems]
        raise_if_damaged(self.path, problems)

    # ---- life ----

    def _start_ticker(self) -> None:
        if self._ticker is None and self.writable:
            self._ticker = BackgroundThread(partial(_tick, weakref.ref(self), self._stop), name="vecdb-care")
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
        Close every collection and release the directory; without effect in a child made by fork.
        """
        if self.forked:
            return
        self._stop.set()
        ticker = self._ticker
        if ticker is not None and ticker is not threading.current_thread():
            ticker.join()
        with self.lock:
            if self._closed:
                return
            self._closed = True
            self.is_usable = False
            failures: list[BaseException] = []
            for opened in self._open.values():
                try:
                    opened.state.close()
                except VecdbError as error:
                    failures.append(error)
            if self._lock is not None:
                self._lock.release()
        if failures:
            raise failures[0]


def _tick(reference: weakref.ref[LiveDatabase], stop: threading.Event) -> None:
    while not stop.wait(_TICK_SECONDS):
        database = reference()
        if database is None:
            return
        database.care()
        del database
        rest()


def now() -> str:
    """
    Return the time as RFC 3339, for a manifest.
    """
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


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
