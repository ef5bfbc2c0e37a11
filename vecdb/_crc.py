"""
CRC32C (Castagnoli), the checksum of every stored byte; computed by the core, in hardware where there is some.
"""

from __future__ import annotations

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
