"""
Arrays and byte strings one after the other in one stream, each padded with zeros to 8 bytes.

Invariant: a reader believes no count before the bytes are there, never reads or allocates beyond its data, and every way in which
bytes can be wrong is Corruption. Thread rule: one thread each.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from vecdb.errors import Corruption
from vecdb.storage.system import Buffer


def padding(count: int) -> int:
    """
    Return how many zero bytes follow count bytes up to the next multiple of 8.

    >>> padding(13)
    3
    """
    return -count % 8


def array_bytes(array: NDArray[np.generic], dtype: DTypeLike) -> Buffer:
    """
    Return an array's values as bytes: a copy of a few, else a view, where the array is laid out like that.
    """
    if array.size <= _FEW:
        return np.asarray(array, dtype).tobytes()
    return np.ascontiguousarray(array, dtype).data.cast("B")


_FEW = 4096  # values that are copied sooner than handled as a view
_ZEROS = [bytes(count) for count in range(8)]


class ColumnWriter:
    """
    Collects the pieces of a stream; `size` is the number of bytes so far, `buffers` the pieces, which refer to what was added.
    """

    def __init__(self) -> None:
        self.buffers: list[Buffer] = []
        self.size = 0

    def add(self, data: Buffer) -> None:
        """
        Append bytes.
        """
        size = len(data)
        if size:
            self.buffers.append(data)
            zeros = padding(size)
            if zeros:
                self.buffers.append(_ZEROS[zeros])
                size += zeros
            self.size += size

    def add_words(self, layout: str, values: Iterable[int], count: int) -> None:
        """
        Append count integers of a kind of `struct`, little-endian.
        """
        if count:
            self.add(struct.pack(f"<{count}{layout}", *values))

    def add_array(self, array: NDArray[np.generic], dtype: DTypeLike) -> None:
        """
        Append an array's values, little-endian.
        """
        if array.size:
            self.add(array_bytes(array, dtype))


class ColumnReader:
    """
    Takes apart what a ColumnWriter collected; `what` names the stream in errors.
    """

    def __init__(self, data: memoryview, what: str) -> None:
        self._data = data.cast("B")
        self._what = what
        self._position = 0

    def wrong(self, seen: str) -> Corruption:
        """
        Return the error for content that cannot be.
        """
        return Corruption(f"{self._what} holds {seen}, although its checksum is right: restore a backup of the database")

    def bytes(self, count: int) -> memoryview:
        """
        Return the next count bytes.
        """
        start = self._position
        end = start + count + padding(count)
        if end > len(self._data):
            raise self.wrong(f"{len(self._data)} bytes, expected at least {end}")
        if any(self._data[start + count : end]):
            raise self.wrong(f"padding at byte {start + count} that is not zero")
        self._position = end
        return self._data[start : start + count]

    def header(self, layout: struct.Struct) -> tuple[int, ...]:
        """
        Return the next integers.
        """
        return layout.unpack(self.bytes(layout.size))

    def array(self, dtype: np.dtype[Any], count: int) -> NDArray[Any]:
        """
        Return the next count values; the array refers to the data.
        """
        return np.frombuffer(self.bytes(count * dtype.itemsize), dtype, count)

    def end(self) -> None:
        """
        Raise Corruption when bytes are left.
        """
        if self._position != len(self._data):
            raise self.wrong(f"{len(self._data) - self._position} bytes behind its end")
