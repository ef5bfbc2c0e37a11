"""
The writer's lock: an advisory lock on the file LOCK, which holds the writer's process id.

Invariant: one process at a time holds it; a child made by fork neither keeps nor releases it. Readers take no lock here.
Thread rule: acquire and release in one thread at a time.
"""

from __future__ import annotations

import os
import time
import weakref
from pathlib import Path

from vecdb.errors import Locked, StorageError
from vecdb.storage import files

LOCK_NAME = "LOCK"

_FIRST_PAUSE_S = 0.002
_LONGEST_PAUSE_S = 0.05
_PID_BYTES = 64


class WriterLock:
    """
    The lock while it is held; made by `acquire`.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        _held.add(self)

    @classmethod
    def acquire(cls, directory: Path, *, timeout: float) -> WriterLock:
        """
        Take the lock of a database, waiting at most timeout seconds; raises Locked naming the path and the process that holds it.
        """
        path = directory / LOCK_NAME
        deadline = time.monotonic() + timeout
        pause = _FIRST_PAUSE_S
        while True:
            lock = cls._try(path)
            if lock is not None:
                return lock
            left = deadline - time.monotonic()
            if left <= 0:
                raise Locked(
                    f"{directory} is being written by {_holder(path)}; waited {timeout:g} s for it: close it there, "
                    "or wait longer (timeout=)"
                )
            time.sleep(min(pause, left))
            pause = min(2 * pause, _LONGEST_PAUSE_S)

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


_held: weakref.WeakSet[WriterLock] = weakref.WeakSet()


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
