"""
Errors of LMDB as errors of this library, with the path and what to do; and the limits that they speak of. Any thread.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import lmdb

from vecdb.errors import Corruption, StorageError

# Address space, not memory or disk: the same in every process, so that the file can grow without a gate that stops
# all readers.
MAP_SIZE = 64 << 30
MAX_READERS = 512


@contextmanager
def lmdb_errors(path: Path) -> Iterator[None]:
    """
    Turn errors of LMDB into this library's, with the path and what to do.
    """
    try:
        yield
    except (lmdb.CorruptedError, lmdb.PageNotFoundError, lmdb.InvalidError, lmdb.VersionMismatchError) as error:
        raise Corruption(f"{path} is damaged: {error}; restore a backup of the database") from error
    except lmdb.MapFullError as error:
        raise StorageError(f"{path} has reached its limit of {MAP_SIZE >> 30} GiB; delete points, or split the collection") from error
    except lmdb.PanicError as error:
        raise StorageError(
            f"{path} cannot be written any more after a failed write ({error}); close the database and open it again"
        ) from error
    except lmdb.ReadersFullError as error:
        raise StorageError(f"{path} has {MAX_READERS} readers at work already; close some iterators or readers") from error
    except lmdb.Error as error:
        raise StorageError(f"{path}: {error}; check the disk and its free space, then try again") from error
