"""
The values of points.lmdb as bytes: a checksum over key and content, blocks of ids, bitmaps. docs/file_format.md has
the tables.

Invariant: every value begins with the CRC32C of its key followed by the rest, so that a value under another's key is
as wrong as a flipped bit. Pure functions; any thread.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vecdb._crc import count_sealed, crc32c
from vecdb.errors import Corruption
from vecdb.storage.effects import PointId

IDS_PER_BLOCK = 4096
OFFSETS_PER_BITMAP = 65536
BITMAP_BYTES = OFFSETS_PER_BITMAP // 8
SUMS_PER_VALUE = 4096
CHANGES_PER_VALUE = 16384

INT_KIND, STR_KIND = 0, 1
MAX_ID_BYTES = 480

u32: struct.Struct = struct.Struct("<I")
key_u32: struct.Struct = struct.Struct(">I")
key_u32_u32: struct.Struct = struct.Struct(">II")
key_u64_u32: struct.Struct = struct.Struct(">QI")
_count = struct.Struct("<II")
_id_int = struct.Struct(">BQ")


class IdBlock(NamedTuple):
    """
    The ids of consecutive offsets, in the form the core takes: `slots` holds an int id, or start << 16 | length into
    `text` for a str.
    """

    first_offset: int
    slots: NDArray[np.uint64]
    kinds: NDArray[np.uint8]
    text: bytes


def seal(key: bytes, content: bytes) -> bytes:
    """
    Return the value to store under key.
    """
    return u32.pack(crc32c(key + content)) + content


def unseal(key: bytes, value: bytes, where: str) -> bytes:
    """
    Return the content of a value; raises Corruption naming `where` (file and table) and the key when the checksum
    differs.
    """
    content = value[4:]
    if value[:4] != u32.pack(crc32c(key + content)):
        raise Corruption(
            f"{where}, key {key.hex()}: the checksum of a value of {len(value)} bytes does not match; restore a backup of the database"
        )
    return content


def unseal_each(entries: Sequence[tuple[bytes, bytes]], where: str) -> list[bytes]:
    """
    Return the contents of several values, given with their keys, quicker than one by one; raises Corruption as `unseal` does.
    """
    if count_sealed(entries) != len(entries):
        return [unseal(key, value, where) for key, value in entries]
    return [value[4:] for _, value in entries]


def id_key(point_id: PointId) -> bytes:
    """
    Return the key of an id; keys sort as ids do: ints, then strs by their UTF-8.
    """
    if isinstance(point_id, int):
        return _id_int.pack(INT_KIND, point_id)
    return FIRST_STR_KEY + point_id.encode()


FIRST_STR_KEY = b"\x01"
"""
Sorts behind the keys of ints and before those of strs.
"""


def is_id_key(key: bytes) -> bool:
    """
    Return whether `id_key` could have made a key.
    """
    return len(key) == _id_int.size if key[0] == INT_KIND else key[0] == 1 and len(key) > 1


def id_of_key(key: bytes) -> PointId:
    """
    Return the id of a key made by `id_key`.
    """
    if key[0] == INT_KIND:
        return int(_id_int.unpack(key)[1])
    return key[1:].decode()


def id_block(first_offset: int, ids: Sequence[PointId]) -> IdBlock:
    """
    Return ids in the form the core takes.

    >>> id_block(0, [7, "seven"]).text
    b'seven'
    """
    count = len(ids)
    if str not in set(map(type, ids)):
        return IdBlock(first_offset, np.fromiter(ids, np.uint64, count), np.zeros(count, np.uint8), b"")
    kinds = np.fromiter((STR_KIND if isinstance(i, str) else INT_KIND for i in ids), np.uint8, count)
    texts = [i.encode() if isinstance(i, str) else b"" for i in ids]
    lengths = np.fromiter(map(len, texts), np.uint64, count)
    starts = np.cumsum(lengths) - lengths
    ints = np.fromiter((0 if isinstance(i, str) else i for i in ids), np.uint64, count)
    slots = np.where(kinds == STR_KIND, (starts << np.uint64(16)) | lengths, ints)
    return IdBlock(first_offset, slots, kinds, b"".join(texts))


def encode_ids(ids: Sequence[PointId]) -> bytes:
    """
    Return the content of a block of at most IDS_PER_BLOCK ids: count u32, 0 u32, slots u64, kinds u8, text.
    """
    block = id_block(0, ids)
    return b"".join((_count.pack(len(ids), 0), block.slots.astype("<u8").tobytes(), block.kinds.tobytes(), block.text))


def decode_ids(content: bytes, *, first_offset: int, where: str) -> IdBlock:
    """
    Return a block of ids, all bounds checked; raises Corruption naming `where`.
    """
    count, zero = _count.unpack_from(content) if len(content) >= 8 else (0, 0)
    if zero or not 0 < count <= IDS_PER_BLOCK or len(content) < 8 + 9 * count:
        raise Corruption(
            f"{where}: a block of ids has {len(content)} bytes and says {count} ids, expected 1 to {IDS_PER_BLOCK} of 9 bytes and more"
        )
    slots = np.frombuffer(content, "<u8", count, 8).astype(np.uint64)
    kinds = np.frombuffer(content, np.uint8, count, 8 + 8 * count).copy()
    text = content[8 + 9 * count :]
    is_str = kinds == STR_KIND
    places = slots[is_str]
    lengths = places & np.uint64(0xFFFF)
    ends = (places >> np.uint64(16)) + lengths
    outside = len(places) and (lengths.min() == 0 or lengths.max() > MAX_ID_BYTES or ends.max() > len(text))
    if kinds.max(initial=0) > STR_KIND or outside:
        raise Corruption(f"{where}: a block of ids holds a kind that is unknown or a text outside its {len(text)} bytes")
    try:
        text.decode()
    except UnicodeDecodeError as error:
        raise Corruption(f"{where}: a block of ids holds text that is not UTF-8 ({error.reason})") from error
    return IdBlock(first_offset=first_offset, slots=slots, kinds=kinds, text=text)


def ids_of_block(block: IdBlock) -> list[PointId]:
    """
    Return the ids of a block as Python values.
    """
    ids: list[PointId] = []
    for slot, kind in zip(block.slots.tolist(), block.kinds.tolist(), strict=True):
        ids.append(slot if kind == INT_KIND else block.text[slot >> 16 : (slot >> 16) + (slot & 0xFFFF)].decode())
    return ids


def bits_of(bitmap: bytes, first: int, count: int) -> NDArray[np.uint8]:
    """
    Return the bits [first, first + count) of a bitmap as 0 and 1; first is a multiple of 8.
    """
    return np.unpackbits(np.frombuffer(bitmap, np.uint8, (count + 7) // 8, first // 8), count=count, bitorder="little")


def with_bits(bitmap: bytes | None, *, ones: NDArray[np.uint32], zeros: NDArray[np.uint32]) -> bytes:
    """
    Return a bitmap with the positions `ones` set and then `zeros` cleared; None is the empty one.
    """
    bits = np.zeros(OFFSETS_PER_BITMAP, np.uint8) if bitmap is None else np.unpackbits(np.frombuffer(bitmap, np.uint8), bitorder="little")
    bits[ones] = 1
    bits[zeros] = 0
    return np.packbits(bits, bitorder="little").tobytes()
