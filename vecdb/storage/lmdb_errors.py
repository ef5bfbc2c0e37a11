"""
Errors of LMDB as errors of this library, with the path and what to do; and the limits that they speak of. Any thread.
"""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

import lmdb

from vecdb.errors import Corruption, StorageError

# Address space, not memory or disk: the same in every process, so that the file can grow without a gate that stops
# all readers.
MAP_SIZE = 64 << 30
MAX_READERS = 512


class _Translating:
    """
    The with block of `lmdb_errors`.
    """

    __slots__ = ("_path",)

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        """
        Do nothing.
        """

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """
        Raise what an error of LMDB means here.
        """
        if isinstance(error, lmdb.Error):
            raise meaning(error, self._path) from error


def lmdb_errors(path: Path) -> _Translating:
    """
    Turn errors of LMDB in a with block into this library's, with the path and what to do.
    """
    return _Translating(path)


def meaning(error: lmdb.Error, path: Path) -> StorageError | Corruption:
    """
    Return what an error of LMDB means here; for the steps of every search, which would notice the price of a with block.
    """
    if isinstance(error, (lmdb.CorruptedError, lmdb.PageNotFoundError, lmdb.InvalidError, lmdb.VersionMismatchError)):
        return Corruption(f"{path} is damaged: {error}; restore a backup of the database")
    if isinstance(error, lmdb.MapFullError):
        return StorageError(f"{path} has reached its limit of {MAP_SIZE >> 30} GiB; delete points, or split the collection")
    if isinstance(error, lmdb.PanicError):
        return StorageError(f"{path} cannot be written any more after a failed write ({error}); close the database and open it again")
    if isinstance(error, lmdb.ReadersFullError):
        return StorageError(f"{path} has {MAX_READERS} readers at work already; close some iterators or readers")
    return StorageError(f"{path}: {error}; check the disk and its free space, then try again")
