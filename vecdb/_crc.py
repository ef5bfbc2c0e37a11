"""
CRC32C (Castagnoli), the checksum of every stored byte; computed by the core, in hardware where there is some.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np

from vecdb._core import ffi, lib
from vecdb.errors import error_for_status

_FEW = 16  # cost less one by one
_packers = [struct.Struct(f"<{count}I") for count in range(_FEW + 1)]


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


def crc32c_each(pieces: Sequence[bytes]) -> bytes:
    """
    Return the CRC32C of each piece, as u32 little-endian one behind the other; of many, at the price of one call of the core.

    >>> crc32c_each([b"123456789", b""]).hex()
    '839206e300000000'
    >>> crc32c_each([b"123456789"] * 100) == crc32c_each([b"123456789"]) * 100
    True
    """
    count = len(pieces)
    if count <= _FEW:
        compute = lib.vecdb_crc32c
        return _packers[count].pack(*[compute(0, piece, len(piece)) for piece in pieces])
    sizes = np.fromiter(map(len, pieces), np.uint64, count)
    data = b"".join(pieces)
    sums = np.empty(count, np.uint32)
    status = lib.vecdb_crc32c_each(
        data, len(data), ffi.from_buffer("uint64_t[]", sizes), count, ffi.from_buffer("uint32_t[]", sums, require_writable=True)
    )
    if status != lib.VECDB_OK:
        raise error_for_status(status, ffi.string(lib.vecdb_last_error()).decode("utf-8", "replace"))
    return sums.astype("<u4").tobytes()
