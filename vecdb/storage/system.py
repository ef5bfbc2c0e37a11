"""
The raw file calls, as the operating system has them: what `files` calls, and what a test replaces there.

Invariant: each method is one call, may raise OSError, and decides nothing. Thread rule: any thread.
"""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
from collections.abc import Callable, Sequence
from pathlib import Path

Buffer = bytes | bytearray | memoryview

_START = 2  # SYNC_FILE_RANGE_WRITE


def _find_start_writing() -> Callable[[int, int, int, int], int] | None:
    """
    Return Linux's sync_file_range(fd, offset, count, flags), None elsewhere.
    """
    found = getattr(ctypes.CDLL(None), "sync_file_range", None)
    if found is not None:
        found.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
    return found


_sync_file_range = _find_start_writing()


class System:
    """
    The raw calls, as the operating system has them; each may raise OSError.
    """

    def open(self, path: Path, flags: int, mode: int) -> int:
        """
        Open a file or directory.
        """
        return os.open(path, flags, mode)

    def close(self, fd: int) -> None:
        """
        Close a descriptor.
        """
        os.close(fd)

    def pread(self, fd: int, count: int, offset: int) -> bytes:
        """
        Read at most count bytes.
        """
        return os.pread(fd, count, offset)

    def map(self, fd: int, count: int) -> mmap.mmap:
        """
        Show the first count bytes, more than none, to be read.
        """
        return mmap.mmap(fd, count, access=mmap.ACCESS_READ)

    def pwritev(self, fd: int, buffers: Sequence[Buffer], offset: int) -> int:
        """
        Write, possibly less than asked for.
        """
        return os.pwritev(fd, buffers, offset)

    def start_writing(self, fd: int, offset: int, count: int) -> None:
        """
        Have written bytes set out for the medium, without waiting. Advice, on Linux only: what goes wrong is told by `sync_data`.
        """
        if _sync_file_range is not None:
            _sync_file_range(fd, offset, count, _START)

    def sync_data(self, fd: int) -> None:
        """
        Bring the file's content and length to the medium.
        """
        if hasattr(fcntl, "F_FULLFSYNC"):
            fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
        else:
            os.fdatasync(fd)

    def sync_directory(self, fd: int) -> None:
        """
        Bring a directory's entries to the medium.
        """
        os.fsync(fd)

    def rename(self, source: Path, target: Path) -> None:
        """
        Rename, replacing the target.
        """
        source.replace(target)

    def unlink(self, path: Path) -> None:
        """
        Remove a file.
        """
        path.unlink()

    def mkdir(self, path: Path, mode: int) -> None:
        """
        Make a directory.
        """
        path.mkdir(mode)

    def rmdir(self, path: Path) -> None:
        """
        Remove an empty directory.
        """
        path.rmdir()

    def listdir(self, path: Path) -> list[str]:
        """
        Return the names in a directory.
        """
        return [entry.name for entry in path.iterdir()]

    def fstat(self, fd: int) -> os.stat_result:
        """
        Return a descriptor's status.
        """
        return os.fstat(fd)

    def lstat(self, path: Path) -> os.stat_result:
        """
        Return a path's status without following a link.
        """
        return path.lstat()

    def may_write(self, path: Path) -> bool:
        """
        Return whether the permissions and the file system allow writing.
        """
        return os.access(path, os.W_OK)

    def statvfs(self, path: Path) -> os.statvfs_result:
        """
        Return the status of a file system.
        """
        return os.statvfs(path)

    def flock(self, fd: int, operation: int) -> None:
        """
        Take or give back an advisory lock.
        """
        fcntl.flock(fd, operation)
