"""
The rows of one vector field: an append-only file of float32 vectors, the present ones in offset order.

Invariant: bytes below the row count of the last checkpoint are never written again; what lies behind is undefined
after a crash and is written anew by replay. Room is made by written zeros before a call is logged, so that applying
it cannot meet a full disk, and no map meets a hole. Checksums are of the bytes as they were applied, never read back.
A sync that failed is final: a second one could succeed without the data. Thread rule: `reserve` under the write lock,
`append` and `freeze` by whoever applies, `sync` by the checkpoint.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vecdb._crc import crc32c
from vecdb.errors import Corruption, InternalError, StorageError
from vecdb.storage import files
from vecdb.storage.base_state import RowState
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
        Write the next rows. REQUIRES: room for them.
        """
        if not len(vectors):
            return
        data = np.ascontiguousarray(vectors, "<f4").data.cast("B")
        start = self.rows * self._row_bytes
        if vectors.shape[1] != self._dim or start + len(data) > self._size:
            raise InternalError(
                f"{self.path}: rows of dim {vectors.shape[1]} up to byte {start + len(data)} do not fit dim {self._dim} "
                f"and {self._size} bytes; please report this"
            )
        files.write_at(self.fd, [data], start)
        self._sum(data, start % self._block_bytes)
        self.rows += len(vectors)

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

    def _sum(self, data: memoryview, used: int) -> None:
        """
        Carry the checksums over data, which begins `used` bytes into a block.
        """
        position = 0
        while position < len(data):
            piece = data[position : position + self._block_bytes - used]
            self._partial_crc = crc32c(piece, self._partial_crc)
            position += len(piece)
            used += len(piece)
            if used == self._block_bytes:
                self._new_sums.append(self._partial_crc)
                self._partial_crc, used = 0, 0
