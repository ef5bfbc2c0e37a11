"""
Advisory locks: the writer's on the file LOCK, which holds its process id, and shared ones of readers.

Invariant: one process at a time holds the writer's; a child made by fork neither keeps nor releases a lock. A reader shares LOCK only where
it must keep writers out: where it may not write LMDB's table of readers, or checks every byte. Otherwise it shares a file of the generation
it reads (generation_lock.py). Thread rule: acquire and release in one thread at a time.
"""

from __future__ import annotations

import errno
import os
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from vecdb.errors import Locked, StorageError
from vecdb.storage import files

LOCK_NAME = "LOCK"

_FIRST_PAUSE_S = 0.002
_LONGEST_PAUSE_S = 0.05
_PID_BYTES = 64


class FileLock:
    """
    A lock while it is held; it goes with the last reference, too.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        _held.add(self)

    @property
    def held(self) -> bool:
        """
        Whether this process holds the lock.
        """
        return self._fd >= 0

    def release(self) -> None:
        """
        Give the lock back; idempotent, and without effect in a child made by fork.
        """
        fd, self._fd = self._fd, -1
        if fd >= 0:
            try:
                files.unlock(fd)
            finally:
                files.close(fd)

    def _forget(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            files.close(fd)

    def __del__(self) -> None:
        """
        Let the descriptor go, and with it the lock, unless a child shares it.
        """
        self._forget()


_held: weakref.WeakSet[FileLock] = weakref.WeakSet()


class SharedLock(FileLock):
    """
    One of several locks on a file; made by `take`.
    """

    @classmethod
    def take(cls, path: Path) -> SharedLock | None:
        """
        Share a lock on a file without writing to it; None when somebody has it alone, or the file is gone.
        """
        try:
            fd = files.open_file(path)
        except StorageError as error:
            if error.errno == errno.ENOENT:
                return None
            raise
        try:
            if files.try_lock_shared(fd) and files.is_at(fd, path):
                return cls(fd)
        except BaseException:
            files.close(fd)
            raise
        files.close(fd)
        return None

    @classmethod
    def exclude_writers(cls, directory: Path, *, timeout: float, why: str) -> SharedLock | None:
        """
        Keep writers out of a database until the lock is given back, waiting at most timeout seconds for the one there is; raises Locked.

        None where nobody can write: on a read-only file system without a file LOCK. `why` is said in errors.
        """
        path = directory / LOCK_NAME
        if not files.exists(path):
            if files.is_read_only(directory):
                return None
            raise StorageError(
                f"{path} does not exist, and {why}, for which it keeps writers out: open the database once with mode='a', or give this "
                "process the right to write to the directory"
            )
        lock = _wait_for(lambda: cls.take(path), timeout)
        if lock is None:
            raise Locked(f"{directory} is being written by {_holder(path)}, and {why}; waited {timeout:g} s for it: close it there")
        return lock


class WriterLock(FileLock):
    """
    The lock of the one writer; made by `acquire`.
    """

    @classmethod
    def acquire(cls, directory: Path, *, timeout: float) -> WriterLock:
        """
        Take the lock of a database, waiting at most timeout seconds; raises Locked naming the path and the process that holds it.
        """
        path = directory / LOCK_NAME
        lock = _wait_for(lambda: cls._try(path), timeout)
        if lock is not None:
            return lock
        if (readers := SharedLock.take(path)) is not None:
            readers.release()
            seen = "being read by a process that may not write to it, and so keeps writers out"
        else:
            seen = f"being written by {_holder(path)}"
        raise Locked(f"{directory} is {seen}; waited {timeout:g} s for it: close it there, or wait longer (timeout=)")

    @classmethod
    def _try(cls, path: Path) -> WriterLock | None:
        fd = files.open_or_create_file(path)
        try:
            # A file that was removed and made anew in between would give two processes a lock each.
            if files.try_lock(fd) and files.is_at(fd, path):
                files.write_at(fd, [f"{os.getpid()}\n".encode().ljust(_PID_BYTES)], 0)
                return cls(fd)
        except BaseException:
            files.close(fd)
            raise
        files.close(fd)
        return None


_Lock = TypeVar("_Lock", bound=FileLock)


def _wait_for(attempt: Callable[[], _Lock | None], timeout: float) -> _Lock | None:
    """
    Return a lock as soon as there is one, None after timeout seconds.
    """
    deadline = time.monotonic() + timeout
    pause = _FIRST_PAUSE_S
    while (lock := attempt()) is None and (left := deadline - time.monotonic()) > 0:
        time.sleep(min(pause, left))
        pause = min(2 * pause, _LONGEST_PAUSE_S)
    return lock


def _holder(path: Path) -> str:
    try:
        fd = files.open_file(path)
        try:
            text = files.read_at(fd, _PID_BYTES, 0).decode("ascii", "replace").strip()
        finally:
            files.close(fd)
    except StorageError as error:
        return f"another process ({error})"
    if not text.isdecimal():
        return "another process"
    return "this process" if int(text) == os.getpid() else f"process {text}"


def _forget_in_child() -> None:
    # The lock belongs to the open file, which a child shares: an unlock here would release the parent's, a copy left open would keep it
    # after the parent's death.
    for lock in list(_held):
        lock._forget()


os.register_at_fork(after_in_child=_forget_in_child)
