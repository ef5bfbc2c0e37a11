"""
The one seam for file calls: every open, read, write, sync, rename and unlink of the Python side goes through `system`, which tests
replace to fail any call or to stop the world after it.

Invariant: an OSError leaves this module as a StorageError that names the path and says what to do; a sync that failed is never tried
again here. Files are 0600, directories 0700, symbolic links are not followed, and no descriptor reaches a child.
Thread rule: any thread; a descriptor is used by whoever owns it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from vecdb.errors import Corruption, StorageError
from vecdb.storage.system import Buffer as Buffer
from vecdb.storage.system import System

_ZEROS = bytes(1 << 20)
_MAX_BUFFERS = 512
_ADVICE = {
    errno.ENOSPC: "free space on that file system and try again",
    errno.EDQUOT: "the disk quota is used up: free space and try again",
    errno.EACCES: "check the owner and permissions of the path",
    errno.EPERM: "check the owner and permissions of the path",
    errno.EROFS: "the file system is read-only: open with mode='r', or move the database",
    errno.ENOENT: "check the path; a file that vecdb wrote may have been removed",
    errno.ELOOP: "a symbolic link stands where a file was expected; open the path that it points to",
    errno.EMFILE: "too many files are open in this process: close databases, or raise the limit (ulimit -n)",
    errno.ENFILE: "too many files are open on this machine",
    errno.EIO: "the medium reports a failure: check it, then open the database again",
}


system: System = System()
_paths: dict[int, Path] = {}


class _reported:  # noqa: N801 - read as a statement
    """
    Turns an OSError of a with block into a StorageError. A class: what `contextmanager` makes costs a small write more.
    """

    __slots__ = ("_action", "_path")

    def __init__(self, action: str, path: Path | int | None) -> None:
        self._action = action
        self._path = path  # or a descriptor, whose path is looked up when it is needed

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if not isinstance(error, OSError) or isinstance(error, StorageError):
            return
        advice = _ADVICE.get(error.errno or 0, "check the path and the file system, then open the database again")
        reason = os.strerror(error.errno) if error.errno else error
        path = path_of(self._path) if isinstance(self._path, int) else self._path
        failure = StorageError(f"cannot {self._action} {path or 'a file'}: {reason}; {advice}")
        failure.errno = error.errno
        try:
            raise failure from error
        finally:
            del failure, error, trace  # a traceback holds this frame, and so would keep all that its callers refer to


def path_of(fd: int) -> Path | None:
    """
    Return the path that a descriptor of this module was opened by.
    """
    return _paths.get(fd)


def open_file(path: Path, *, writable: bool = False) -> int:
    """
    Open an existing file and return its descriptor.
    """
    return _open(path, os.O_RDWR if writable else os.O_RDONLY, "open")


def create_file(path: Path) -> int:
    """
    Create a file that must not exist, 0600, and return its descriptor.
    """
    return _open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, "create")


def open_or_create_file(path: Path) -> int:
    """
    Open a file for reading and writing, creating it (0600) when it is absent, and return its descriptor.
    """
    return _open(path, os.O_RDWR | os.O_CREAT, "open")


def _open(path: Path, flags: int, action: str) -> int:
    with _reported(action, path):
        fd = system.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    _paths[fd] = path
    return fd


def close(fd: int) -> None:
    """
    Close a descriptor.
    """
    path = _paths.pop(fd, None)
    with _reported("close", path):
        system.close(fd)


def size(fd: int) -> int:
    """
    Return the length of an open file in bytes.
    """
    with _reported("read the length of", fd):
        return system.fstat(fd).st_size


def exists(path: Path) -> bool:
    """
    Return whether something, be it a dangling link, has this path.
    """
    with _reported("look for", path):
        try:
            system.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            return False
    return True


def read_at(fd: int, count: int, offset: int) -> bytes:
    """
    Read count bytes at offset; fewer only where the file ends.
    """
    with _reported("read", fd):
        data = system.pread(fd, count, offset)
        if len(data) == count or not data:
            return data
        parts = [data]
        done = len(data)
        while done < count and (data := system.pread(fd, count - done, offset + done)):
            parts.append(data)
            done += len(data)
        return b"".join(parts)


def read_file(path: Path, limit: int) -> bytes:
    """
    Read a whole regular file; raises Corruption when it is longer than limit bytes.
    """
    fd = open_file(path)
    try:
        data = read_at(fd, min(_regular_size(fd, path), limit) + 1, 0)
    finally:
        close(fd)
    if len(data) > limit:
        raise _too_long(path, limit)
    return data


def map_file(path: Path, limit: int) -> memoryview:
    """
    Return the content of a whole regular file, of which nothing is read before it is looked at; raises Corruption when it is longer than
    limit bytes. REQUIRES: a file is replaced by another one, never changed, once it has this name.
    """
    fd = open_file(path)
    try:
        count = _regular_size(fd, path)
        if count > limit:
            raise _too_long(path, limit)
        if not count:
            return memoryview(b"")
        with _reported("map", path):
            return memoryview(system.map(fd, count))
    finally:
        close(fd)


def _regular_size(fd: int, path: Path) -> int:
    with _reported("read", path):
        status = system.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        raise Corruption(f"{path}: expected a regular file; something else was put in its place")
    return status.st_size


def _too_long(path: Path, limit: int) -> Corruption:
    return Corruption(f"{path}: has more than {limit} bytes, which is the most such a file can have; restore it from a backup")


def write_at(fd: int, buffers: Sequence[Buffer], offset: int) -> int:
    """
    Write all buffers one after the other from offset on and return the number of bytes; a short write is continued.
    """
    views = [buffer if type(buffer) is bytes else memoryview(buffer).cast("B") for buffer in buffers if len(buffer)]
    position = offset
    first = 0
    with _reported("write", fd):
        while first < len(views):
            piece = views[first : first + _MAX_BUFFERS]
            written = system.pwritev(fd, piece, position)
            if written <= 0:
                raise OSError(errno.EIO, "a write accepted no byte")
            position += written
            if written == sum(map(len, piece)):
                first += len(piece)
                continue
            while first < len(views) and written >= len(views[first]):
                written -= len(views[first])
                first += 1
            if written:
                views[first] = memoryview(views[first])[written:]
    return position - offset


def write_zeros(fd: int, count: int, offset: int) -> None:
    """
    Write count zero bytes from offset on, so that the file system has allocated what is written there later.
    """
    whole, rest = divmod(count, len(_ZEROS))
    write_at(fd, [*([_ZEROS] * whole), memoryview(_ZEROS)[:rest]], offset)


def start_writing(fd: int, count: int, offset: int) -> None:
    """
    Have count bytes that were written at offset set out for the medium, so that there is less to wait for in `sync_data`.

    It makes nothing durable and reports no failure: both is up to the sync.
    """
    system.start_writing(fd, offset, count)


def sync_data(fd: int) -> None:
    """
    Bring a file's content to the medium.

    After a failure the content is in doubt for good: a second call may succeed without having written anything.
    """
    with _reported("sync", fd):
        system.sync_data(fd)


def sync_directory(path: Path) -> None:
    """
    Bring the entries of a directory to the medium.
    """
    with _reported("sync the directory", path):
        fd = system.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, 0)
        try:
            system.sync_directory(fd)
        finally:
            system.close(fd)


def rename(source: Path, target: Path) -> None:
    """
    Rename a file or directory, replacing a file at target; durable once the directory is synced.
    """
    with _reported(f"rename {source} to", target):
        system.rename(source, target)
    for fd in [fd for fd, path in _paths.copy().items() if path == source]:
        _paths[fd] = target


def remove(path: Path) -> None:
    """
    Remove a file; durable once the directory is synced.
    """
    with _reported("remove", path):
        system.unlink(path)


def make_directory(path: Path) -> None:
    """
    Make a directory, 0700, that must not exist.
    """
    with _reported("make the directory", path):
        system.mkdir(path, 0o700)


def remove_directory(path: Path) -> None:
    """
    Remove an empty directory; durable once its parent is synced.
    """
    with _reported("remove the directory", path):
        system.rmdir(path)


def is_directory(path: Path) -> bool:
    """
    Return whether path is a directory, and not a link to one.
    """
    with _reported("look at", path):
        try:
            return stat.S_ISDIR(system.lstat(path).st_mode)
        except (FileNotFoundError, NotADirectoryError):
            return False


def list_directory(path: Path) -> list[str]:
    """
    Return the names in a directory, sorted.
    """
    with _reported("list the directory", path):
        return sorted(system.listdir(path))


def try_lock(fd: int) -> bool:
    """
    Take an exclusive advisory lock on an open file; False when another open file description holds one.
    """
    return _try_flock(fd, fcntl.LOCK_EX)


def try_lock_shared(fd: int) -> bool:
    """
    Take a shared advisory lock on an open file; False when another open file description holds an exclusive one.
    """
    return _try_flock(fd, fcntl.LOCK_SH)


def _try_flock(fd: int, operation: int) -> bool:
    with _reported("lock", fd):
        try:
            system.flock(fd, operation | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def may_write(path: Path) -> bool:
    """
    Return whether this process may write a file, or into a directory; False where the file system is read-only.
    """
    return system.may_write(path)


def is_read_only(path: Path) -> bool:
    """
    Return whether a path is on a file system that is mounted read-only.
    """
    with _reported("look at the file system of", path):
        return bool(system.statvfs(path).f_flag & os.ST_RDONLY)


def unlock(fd: int) -> None:
    """
    Give the lock back, for every process that has inherited the descriptor.
    """
    with _reported("unlock", fd):
        system.flock(fd, fcntl.LOCK_UN)


def is_at(fd: int, path: Path) -> bool:
    """
    Return whether path still names the open file.
    """
    with _reported("look at", path):
        try:
            there = system.lstat(path)
        except FileNotFoundError:
            return False
        return os.path.samestat(system.fstat(fd), there)


def replace_file(path: Path, data: Buffer) -> None:
    """
    Replace a file's content as one step: write aside, sync, rename, sync the directory.

    After an error the old content stands, or, when the last of these failed, either of the two.
    """
    aside = path.with_name(path.name + ".tmp")
    if exists(aside):
        remove(aside)
    fd = create_file(aside)
    try:
        try:
            write_at(fd, [data], 0)
            sync_data(fd)
        finally:
            close(fd)
        rename(aside, path)
    except BaseException:
        # The first error is what the caller must hear of; what is left aside is removed by the next replacement.
        with contextlib.suppress(StorageError):
            remove(aside)
        raise
    sync_directory(path.parent)
