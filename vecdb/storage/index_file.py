"""
The frame of a saved payload index, the body of a derived file: what index it is, how many offsets it covers, and its sections;
docs/file_format.md has the bytes.

Invariant: what `decode` returns has passed every checksum, and its sections lie within the file; what they mean is not known here. No
number is believed before it is compared with the bytes that are there. Pure functions; any thread.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vecdb._crc import crc32c
from vecdb.errors import Corruption

MAGIC = b"VDBINDEX"
VERSION = 1
MAX_KIND_BYTES = 64
MAX_KEY_BYTES = 4096
MAX_SECTIONS = 32

Sections = Sequence[tuple[int, NDArray[Any]]]
"""
Numbers of sections, ascending, and what is in them.
"""

# magic, version, checksum of the header, its length, covered offsets, sections, bytes of the kind, bytes of the key
_fixed = struct.Struct("<8sIIIIIHH")
_section = struct.Struct("<IIQ")  # number, checksum, size
_CRC_AT = 12

MAX_HEADER_BYTES = _fixed.size + MAX_SECTIONS * _section.size + MAX_KIND_BYTES + MAX_KEY_BYTES


class IndexName(NamedTuple):
    """
    What names a payload index: the path of its key and its kind, as text.
    """

    key: str
    kind: str


class IndexHeader(NamedTuple):
    """
    Which index a file holds, of offsets [0, offsets).
    """

    name: IndexName
    offsets: int


def can_save(name: IndexName) -> bool:
    """
    Return whether an index of this name has a place in a file.
    """
    return len(name.key.encode()) <= MAX_KEY_BYTES and len(name.kind.encode()) <= MAX_KIND_BYTES


def encode(header: IndexHeader, sections: Sections) -> memoryview:
    """
    Return the bytes of the file. REQUIRES: `can_save`.
    """
    kind, key = header.name.kind.encode(), header.name.key.encode()
    assert len(sections) <= MAX_SECTIONS
    contents = [np.ascontiguousarray(content).view(np.uint8).ravel() for _, content in sections]
    table = [_section.pack(number, crc32c(content.data), len(content)) for (number, _), content in zip(sections, contents, strict=True)]
    length = _fixed.size + len(table) * _section.size + len(kind) + len(key)
    rest = b"".join((*table, kind, key))

    def fixed(crc: int) -> bytes:
        return _fixed.pack(MAGIC, VERSION, crc, length, header.offsets, len(sections), len(kind), len(key))

    head = fixed(crc32c(fixed(0) + rest)) + rest
    return np.concatenate([np.frombuffer(head, np.uint8), *contents]).data


def decode_header(data: memoryview) -> IndexHeader:
    """
    Return the header of a file of which `data` is the beginning, MAX_HEADER_BYTES of it or all; raises Corruption.
    """
    return _header(data)[0]


def decode(data: memoryview) -> tuple[IndexHeader, Mapping[int, memoryview]]:
    """
    Return the header and the sections by number; raises Corruption.
    """
    header, start, table = _header(data)
    sections: dict[int, memoryview] = {}
    for place in range(0, len(table), _section.size):
        number, crc, size = _section.unpack_from(table, place)
        if number in sections or size > len(data) - start:
            raise Corruption(f"its section {number} of {size} bytes is there twice, or longer than the file")
        sections[number] = data[start : start + size]
        if crc32c(sections[number]) != crc:
            raise Corruption(f"its section {number} is not what was written")
        start += size
    if start != len(data):
        raise Corruption(f"it has {len(data)} bytes, expected {start}")
    return header, sections


def _header(data: memoryview) -> tuple[IndexHeader, int, memoryview]:
    """
    Return the header, its length, and the table of sections.
    """
    if len(data) < _fixed.size:
        raise Corruption(f"its content has {len(data)} bytes, expected at least {_fixed.size}")
    magic, version, crc, length, offsets, count, kind_bytes, key_bytes = _fixed.unpack_from(data)
    if magic != MAGIC:
        raise Corruption("it does not hold a payload index")
    if version != VERSION:
        raise Corruption(f"its payload index has format {version}, this vecdb reads {VERSION}")
    table_end = _fixed.size + count * _section.size
    if count > MAX_SECTIONS or length != table_end + kind_bytes + key_bytes or length > min(len(data), MAX_HEADER_BYTES):
        raise Corruption(f"the header of its payload index cannot have {count} sections and {length} bytes")
    head = bytearray(data[:length])
    head[_CRC_AT : _CRC_AT + 4] = bytes(4)
    if crc32c(head) != crc:
        raise Corruption("the header of its payload index is damaged")
    try:
        name = IndexName(bytes(head[table_end + kind_bytes :]).decode(), bytes(head[table_end : table_end + kind_bytes]).decode())
    except UnicodeDecodeError:
        raise Corruption("the name of its payload index is not UTF-8") from None
    return IndexHeader(name, offsets), length, data[_fixed.size : table_end]
