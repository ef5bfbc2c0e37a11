"""
CRC32C (Castagnoli), the checksum of every stored byte; computed by the core, in hardware where there is some.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from itertools import chain

from vecdb._core import ffi, lib


def crc32c(data: bytes | bytearray | memoryview, value: int = 0) -> int:
    """
    Return the CRC32C of data, continuing from value.

    >>> hex(crc32c(b"123456789"))
    '0xe3069283'
    """
    if type(data) is bytes:
        checksum: int = lib.vecdb_crc32c(value, data, len(data))
        return checksum
    view = ffi.from_buffer(data)
    return int(lib.vecdb_crc32c(value, view, len(view)))


def count_sealed(entries: Sequence[tuple[bytes, bytes]]) -> int:
    """
    Return how many of the first entries, (key, value), hold: a value begins with the CRC32C, as u32 little-endian, of its key and its rest.

    >>> value = crc32c(b"ab" + b"cde").to_bytes(4, "little") + b"cde"
    >>> count_sealed([(b"ab", value), (b"ab", value), (b"a", value)])
    2
    """
    pieces = [*chain.from_iterable(entries)]
    data = b"".join(pieces)
    count: int = lib.vecdb_count_sealed(data, len(data), array("I", map(len, pieces)).tobytes(), len(entries))
    return count
