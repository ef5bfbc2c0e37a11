"""
The registry: one live database a directory and process, however often and by whatever path it is opened.

A database is attached by each handle and detached when the handle is given back; the last one closes it. A child made by fork begins with
an empty registry; what is still open at exit is closed. Threads: one lock guards all of it; it is held while a database is opened or
closed. The garbage collector may run a finalizer in any thread, whatever that thread holds: `forget` therefore never waits for the lock.
"""

from __future__ import annotations

import atexit
import itertools
import logging
import os
import re
import threading
import warnings
import weakref
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vecdb._background import put_off
from vecdb._live import CATALOG_NAME, LiveDatabase
from vecdb.errors import AlreadyExists, InvalidArgument, MissingDatabase, StorageError, VecdbError
from vecdb.storage import files
from vecdb.storage.findings import Findings
from vecdb.storage.framing import Catalog, write_catalog
from vecdb.storage.lock import LOCK_NAME, SharedLock, WriterLock
from vecdb.storage.recovery import remove_tree
from vecdb.storage.salvage import salvage_database
from vecdb.storage.verify import verify_database
from vecdb.types import Report

_log = logging.getLogger(__name__)

_COLLECTION = re.compile(r"c-\d+")

_registry_lock = threading.Lock()
_forgotten: deque[LiveDatabase] = deque()
_live: dict[tuple[int, int], LiveDatabase] = {}
_in_memory: weakref.WeakSet[LiveDatabase] = weakref.WeakSet()


def attach_memory(*, threads: int) -> LiveDatabase:
    """
    Return a new database in memory, with one handle.
    """
    live = LiveDatabase(None, durability="fsync", threads=threads, lock=None, writable=True)
    live.handles = 1
    _in_memory.add(live)
    return live


def attach(path: Path, *, mode: str, durability: str | None, timeout: float, threads: int, verify: bool, salvage: bool) -> LiveDatabase:
    """
    Return the live database of a directory, opened or created as the mode asks, with one handle more. With `verify`, every byte of it is
    checked before; with `salvage`, what is damaged is replaced by what is left of it.
    """
    with _locked():
        known = _live.get(_identity(path)) if path.is_dir() else None
        if known is not None:
            if salvage:
                raise InvalidArgument(f"{path} is open in this process: close it first to salvage it")
            if mode == "x":
                raise AlreadyExists(f"{path} is open in this process: mode='x' wants a path that does not exist")
            if durability is not None and durability != known.durability:
                raise InvalidArgument(
                    f"{path} is open in this process with durability={known.durability!r}, got {durability!r}: close it first, "
                    "or leave durability out"
                )
            if mode != "r" and not known.writable:
                raise InvalidArgument(f"{path} is open read-only in this process: close it first to write")
            if verify:
                known.verify()
            known.handles += 1
            return known
        if mode == "r":
            return _known(path, _open_reading(path, durability, timeout=timeout, threads=threads, verify=verify))
        created = _prepare(path, mode, salvage=salvage)
        if mode == "x" and not created and files.exists(path / CATALOG_NAME):
            raise AlreadyExists(f"{path} is a database: mode='x' wants a path that does not exist")
        lock = WriterLock.acquire(path, timeout=timeout)
        try:
            report = _salvage(path) if salvage and not created else None
            if not files.exists(path / CATALOG_NAME):
                write_catalog(path / CATALOG_NAME, Catalog())
            elif mode == "x" and not created:
                raise AlreadyExists(f"{path} is a database: mode='x' wants a path that does not exist")
            elif verify:
                verify_database(path)
            live = LiveDatabase(path, durability=durability or "fsync", threads=threads, lock=lock, writable=True)
            live.report = report
            live.remove_leftovers()
        except BaseException:
            lock.release()
            raise
        return _known(path, live)


def _known(path: Path, live: LiveDatabase) -> LiveDatabase:
    """
    Enter a database that was opened.
    """
    live.handles = 1
    live.key = _identity(path)
    _live[live.key] = live
    return live


def _open_reading(path: Path, durability: str | None, *, timeout: float, threads: int, verify: bool) -> LiveDatabase:
    """
    Return a database that another process may write. Every byte can be checked only while none does.
    """
    _prepare(path, "r", salvage=False)
    if verify:
        still = SharedLock.exclude_writers(path, timeout=timeout, why="verify=True reads what a writer changes")
        try:
            verify_database(path)
        finally:
            if still is not None:
                still.release()
    return LiveDatabase(path, durability=durability or "fsync", threads=threads, lock=None, writable=False, timeout=timeout)


def detach(live: LiveDatabase) -> None:
    """
    Give a handle back; the last one closes the database.
    """
    if live.forked:
        return
    with _locked():
        _detach(live)


def forget(live: LiveDatabase) -> None:
    """
    Give back a handle that was collected; done at once, by whoever holds the lock now, or when this thread of the library rests.
    """
    if live.forked:
        return
    _forgotten.append(live)
    if not put_off(_settle):
        _settle()


def _settle() -> None:
    while _forgotten and _registry_lock.acquire(blocking=False):
        try:
            _detach_forgotten()
        finally:
            _registry_lock.release()


@contextmanager
def _locked() -> Iterator[None]:
    """
    Hold the lock, with all forgotten handles given back before and after.
    """
    try:
        with _registry_lock:
            _detach_forgotten()
            yield
    finally:
        _settle()


def _detach_forgotten() -> None:
    while _forgotten:
        live = _forgotten.popleft()
        try:
            _detach(live)
        except VecdbError as error:
            _log.warning("closing %s, whose last handle was collected, failed: %s", live.path, error)


def _detach(live: LiveDatabase) -> None:
    live.handles -= 1
    if live.handles > 0:
        return
    try:
        live.close()
    finally:
        if live.key is not None:
            _live.pop(live.key, None)


def _salvage(path: Path) -> Report | None:
    """
    Replace what is damaged by what is left of it, and tell what that was; None when nothing is damaged.
    """
    findings = Findings()
    if any(_COLLECTION.fullmatch(name) for name in files.list_directory(path)) or files.exists(path / CATALOG_NAME):
        salvage_database(path, findings)
    if not findings.problems:
        return None
    report = Report(str(path), *findings.finish())
    _log.warning("%s was damaged, what verifies was kept: %r", path, report)
    told = f"{path} was damaged; what verifies was kept, see `report` of the database: {report!r}"
    warnings.warn(told, RuntimeWarning, stacklevel=4)
    return report


def _prepare(path: Path, mode: str, *, salvage: bool) -> bool:
    """
    Make sure that path is a directory that a database may live in; return whether it was created. One without
    a catalog may be salvaged.
    """
    if not files.exists(path):
        if mode == "r":
            raise MissingDatabase(f"there is no database at {path}: check the path, or open it with mode='a' to create it")
        parent = path.parent
        if not parent.is_dir():
            raise MissingDatabase(f"cannot create {path}: the directory {parent} does not exist")
        return _create(path)
    if not path.is_dir():
        raise StorageError(f"{path} is a file, expected a directory: a vecdb database is a directory, choose another path")
    entries = set(files.list_directory(path)) - {LOCK_NAME, CATALOG_NAME + ".tmp"}
    if CATALOG_NAME not in entries and not (salvage and any(map(_COLLECTION.fullmatch, entries))):
        if entries:
            raise StorageError(
                f"{path} is a directory with other things in it ({', '.join(sorted(entries)[:3])}), not a vecdb database: "
                "choose another path"
            )
        if mode == "r":
            raise MissingDatabase(f"there is no database at {path}, only an empty directory: open it with mode='a' to create one")
    return False


def _create(path: Path) -> bool:
    """
    Create an empty database aside and move it into place; False when another process was faster: its database is there now.
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
        remove_tree(aside)
        if not path.is_dir():
            raise
        return False
    files.sync_directory(path.parent)
    return True


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


def _close_all() -> None:
    for live in [*_live.values(), *_in_memory]:
        try:
            live.close()
        except VecdbError as error:
            _log.warning("closing %s at exit failed: %s", live.path, error)


def _after_fork() -> None:
    global _registry_lock
    _registry_lock = threading.Lock()
    _live.clear()
    _forgotten.clear()


atexit.register(_close_all)
os.register_at_fork(after_in_child=_after_fork)
