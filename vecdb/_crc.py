"""
CRC32C (Castagnoli), the checksum of every stored byte; computed by the core, in hardware where there is some.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vecdb._core import ffi, lib
from vecdb.errors import error_for_status

_FEW = 16  # cost less one by one


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


def crc32c_each(pieces: Sequence[bytes]) -> NDArray[np.uint32]:
    """
    Return the CRC32C of each piece; of many, at the price of one call of the core.

    >>> [hex(one) for one in crc32c_each([b"123456789", b""]).tolist()]
    ['0xe3069283', '0x0']
    >>> set(crc32c_each([b"123456789"] * 100).tolist()) == {0xE3069283}
    True
    """
    if len(pieces) <= _FEW:
        return np.array([lib.vecdb_crc32c(0, piece, len(piece)) for piece in pieces], np.uint32)
    sizes = np.fromiter(map(len, pieces), np.uint64, len(pieces))
    data = b"".join(pieces)
    sums = np.empty(len(pieces), np.uint32)
    status = lib.vecdb_crc32c_each(
        data, len(data), ffi.from_buffer("uint64_t[]", sizes), len(sizes), ffi.from_buffer("uint32_t[]", sums, require_writable=True)
    )
    if status != lib.VECDB_OK:
        raise error_for_status(status, ffi.string(lib.vecdb_last_error()).decode("utf-8", "replace"))
    return sums
