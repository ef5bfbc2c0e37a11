"""
The rows of one vector field: an append-only file of float32 vectors, the present ones in offset order.

Invariant: bytes below the row count of the last checkpoint are never written again; what lies behind is undefined
after a crash and is written anew by replay. Room is made by written zeros before a call is logged, so that applying
it cannot meet a full disk, and no map meets a hole. Checksums are of the bytes as they were applied, never read back.
A sync that failed is final: a second one could succeed without the data. Thread rule: `reserve` under the write lock,
`append`, `write_ahead` and `freeze` by whoever applies, `sync` by the checkpoint.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vecdb._crc import crc32c
from vecdb.errors import Corruption, InternalError, StorageError
from vecdb.storage import files
from vecdb.storage.base_state import RowState
from vecdb.storage.columns import array_bytes
from vecdb.storage.points_write import RowsFrozen

BLOCK_BYTES = 65536
_LEAST_GROWTH = 64 << 10
_MOST_GROWTH = 1 << 20
_READ_BYTES = 4 << 20


def rows_per_block(dim: int) -> int:
    """
    Return how many rows one checksum covers: a power of two, at most BLOCK_BYTES of them, at least one.

    >>> rows_per_block(128), rows_per_block(100), rows_per_block(20000)
    (128, 128, 1)
    """
    return 1 << max(0, (BLOCK_BYTES // (4 * dim)).bit_length() - 1)


def read_blocks(fd: int, dim: int, rows: int, sums: Sequence[int]) -> Iterator[tuple[int, bytes, list[int]]]:
    """
    Read rows [0, rows) and yield pieces of whole blocks: (first row, bytes, the first rows of those blocks that are not what was written).

    `sums` has the CRC32C of each block, the last, partial one included.
    """
    block_bytes = rows_per_block(dim) * dim * 4
    for start in range(0, rows * dim * 4, max(1, _READ_BYTES // block_bytes) * block_bytes):
        length = min(max(1, _READ_BYTES // block_bytes) * block_bytes, rows * dim * 4 - start)
        data = files.read_at(fd, length, start)
        view = memoryview(data)
        blocks = range(0, length, block_bytes)
        bad = [at for at in blocks if crc32c(view[at : at + block_bytes]) != sums[(start + at) // block_bytes]]
        if len(data) < length:
            bad = sorted({*bad, len(data) // block_bytes * block_bytes})
        yield start // (dim * 4), data, [(start + at) // (dim * 4) for at in bad]


def check_end(fd: int, path: Path, dim: int, state: RowState) -> None:
    """
    Raise Corruption when a file is shorter than the rows of a checkpoint, or those behind the last whole block are not what was written.
    """
    size, end = files.size(fd), state.rows * dim * 4
    if size < end:
        raise Corruption(
            f"{path} has {size} bytes, expected at least {end} ({state.rows} vectors of dim {dim}); restore a backup of the database"
        )
    start = end - end % (rows_per_block(dim) * dim * 4)
    if crc32c(files.read_at(fd, end - start, start)) != state.partial_crc:
        raise Corruption(
            f"{path}: the vectors from row {start // (dim * 4)} to {state.rows - 1} are not what was written; restore a backup of the "
            "database"
        )


class _Written(NamedTuple):
    """
    Rows in the file: the array they are from, how many rows there are with them, the checksum of those behind the last whole block, and the
    checksums of the blocks that they complete.
    """

    vectors: NDArray[np.float32]
    rows: int
    partial_crc: int
    sums: list[int]


class RowFile:
    """
    An open file of rows.
    """

    def __init__(self, fd: int, path: Path, dim: int, state: RowState) -> None:
        self.fd = fd
        self.path = path
        self.rows = state.rows
        self.failed: StorageError | None = None
        self._row_bytes = 4 * dim
        self._block_bytes = rows_per_block(dim) * self._row_bytes
        self._partial_crc = state.partial_crc
        self._first_block = self.rows // rows_per_block(dim)
        self._new_sums: list[int] = []
        self._ahead: deque[_Written] = deque()
        self._dim = dim
        self._size = files.size(fd)

    @staticmethod
    def create(path: Path) -> None:
        """
        Make an empty file; the caller syncs the directory.
        """
        fd = files.create_file(path)
        try:
            files.sync_data(fd)
        finally:
            files.close(fd)

    @classmethod
    def open(cls, path: Path, *, dim: int, state: RowState) -> RowFile:
        """
        Open the file as of a checkpoint; raises Corruption when it is shorter than the checkpoint's rows, or when
        those behind the last whole block are not what was written.
        """
        if not files.exists(path):
            raise Corruption(f"{path} is missing, expected {state.rows} vectors; restore a backup of the database")
        rows = cls(files.open_file(path, writable=True), path, dim, state)
        try:
            check_end(rows.fd, path, dim, state)
        except BaseException:
            rows.close()
            raise
        return rows

    @property
    def size(self) -> int:
        """
        The length of the file in bytes, reserved room included.
        """
        return self._size

    def reserve(self, rows: int) -> None:
        """
        Make room for `rows` rows in all; raises StorageError with nothing changed but the file's length.
        """
        needed = rows * self._row_bytes
        if needed <= self._size:
            return
        target = max(needed, self._size + min(max(self._size // 4, _LEAST_GROWTH), _MOST_GROWTH))
        target += -target % 4096
        files.write_zeros(self.fd, target - self._size, self._size)
        self._size = target

    def append(self, vectors: NDArray[np.float32]) -> None:
        """
        Write the next rows, unless that was done ahead. REQUIRES: room for them.
        """
        if not len(vectors):
            return
        if self._ahead and self._ahead[0].vectors is vectors:
            written = self._ahead.popleft()
        else:
            self._ahead.clear()
            written = self._write(vectors, self.rows, self._partial_crc)
        self.rows, self._partial_crc = written.rows, written.partial_crc
        self._new_sums += written.sums

    def write_ahead(self, arrays: Sequence[NDArray[np.float32]]) -> None:
        """
        Write the rows that the next calls of `append` will bring, of these very arrays: until then they do not count. What was written
        ahead before, and not appended, is written over. REQUIRES: room for them.
        """
        self._ahead.clear()
        rows, partial_crc = self.rows, self._partial_crc
        for vectors in arrays:
            if len(vectors):
                written = self._write(vectors, rows, partial_crc)
                rows, partial_crc = written.rows, written.partial_crc
                self._ahead.append(written)

    def _write(self, vectors: NDArray[np.float32], first: int, partial_crc: int) -> _Written:
        """
        Write vectors as the rows from `first` on, and carry the checksum of those before them in their block over them.
        """
        data = array_bytes(vectors, "<f4")
        start = first * self._row_bytes
        if vectors.shape[1] != self._dim or start + len(data) > self._size:
            raise InternalError(
                f"{self.path}: rows of dim {vectors.shape[1]} up to byte {start + len(data)} do not fit dim {self._dim} "
                f"and {self._size} bytes; please report this"
            )
        files.write_at(self.fd, [data], start)
        sums: list[int] = []
        position, used = 0, start % self._block_bytes
        while position < len(data):
            piece = data[position : position + self._block_bytes - used]
            partial_crc = crc32c(piece, partial_crc)
            position += len(piece)
            used += len(piece)
            if used == self._block_bytes:
                sums.append(partial_crc)
                partial_crc, used = 0, 0
        return _Written(vectors, first + len(vectors), partial_crc, sums)

    def freeze(self) -> RowsFrozen:
        """
        Return the state for a checkpoint; the next one begins with the checksums after these.
        """
        frozen = RowsFrozen(RowState(self.rows, self._partial_crc), self._first_block, np.array(self._new_sums, np.uint32))
        self._first_block += len(self._new_sums)
        self._new_sums = []
        return frozen

    def sync(self) -> None:
        """
        Bring all rows to the medium; after one failure this fails for ever.
        """
        if self.failed is not None:
            raise StorageError(str(self.failed)) from self.failed
        try:
            files.sync_data(self.fd)
        except StorageError as error:
            self.failed = error
            raise

    def close(self) -> None:
        """
        Release the file; idempotent.
        """
        if self.fd >= 0:
            fd, self.fd = self.fd, -1
            files.close(fd)
