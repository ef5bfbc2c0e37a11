"""
What one call does to a collection, resolved (offsets, ids, rows, payloads; never a filter), and its bytes in the log.

Invariant: `decode(encode(effects))` equals effects, and `decode` of any other bytes either gives effects whose parts agree with each
other or raises Corruption. Columns, not points: a loop over points only where ids and payloads become Python objects.
Thread rule: a value, not changed once it was queued. docs/file_format.md has the table of bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate, pairwise
from typing import cast

import numpy as np
from numpy.typing import NDArray

from vecdb.errors import InvalidArgument
from vecdb.storage.columns import ColumnReader, ColumnWriter
from vecdb.storage.system import Buffer

PointId = int | str

MAX_CALL_BYTES = 2 << 30
MAX_ID_BYTES = 480
MAX_OFFSETS = (1 << 32) - 1

_SMALL_CALL = 64 << 10  # bytes that are copied sooner than handled in pieces
_HEADER = struct.Struct("<8I")
_FIELD = struct.Struct("<4I")
_ALL_PUTS = 1
_INT, _STR = 0, 1


@dataclass(slots=True, eq=False)
class FieldRows:
    """
    The vectors of one field in a call.

    `rows` is (n, dim) float32, C-contiguous; `positions` (n,) says which of the puts have one, ascending; None: all of them.
    """

    positions: NDArray[np.uint32] | None
    rows: NDArray[np.float32]


def _no_offsets() -> NDArray[np.uint32]:
    return np.empty(0, np.uint32)


@dataclass(slots=True, eq=False)
class Effects:
    """
    The effects of one call.

    Put i gets the new offset first_offset + i. `tombstones` (ascending) are the offsets that die, because their point is replaced or
    deleted. A patch gives another payload to an offset that stays.
    """

    first_offset: int
    put_ids: list[PointId] = field(default_factory=list)
    put_payloads: list[bytes] = field(default_factory=list)
    put_vectors: dict[int, FieldRows] = field(default_factory=dict)
    tombstones: NDArray[np.uint32] = field(default_factory=_no_offsets)
    deleted_ids: list[PointId] = field(default_factory=list)
    patch_offsets: NDArray[np.uint32] = field(default_factory=_no_offsets)
    patch_payloads: list[bytes] = field(default_factory=list)

    def with_own_rows(self) -> Effects:
        """
        Return what may be kept beyond the call: the rows of this one may be an array of the caller's, who will write other vectors into it.
        """
        own = {number: FieldRows(given.positions, given.rows.copy()) for number, given in self.put_vectors.items()}
        return replace(self, put_vectors=own)

    def encode(self) -> list[Buffer]:
        """
        Return the call's bytes in pieces; rows are referred to, not copied, unless all is small.

        Raises InvalidArgument when they are more than 2 GiB.
        """
        out = ColumnWriter()
        counts = (len(self.put_ids), len(self.put_vectors), len(self.tombstones), len(self.deleted_ids), len(self.patch_offsets))
        out.add(_HEADER.pack(self.first_offset, *counts, 0, 0))
        _write_ids(out, self.put_ids)
        _write_texts(out, self.put_payloads)
        for number, vectors in self.put_vectors.items():
            count, dim = vectors.rows.shape
            out.add(_FIELD.pack(number, _ALL_PUTS if vectors.positions is None else 0, count, dim))
            if vectors.positions is not None:
                out.add_array(vectors.positions, "<u4")
            out.add_array(vectors.rows, "<f4")
        out.add_array(self.tombstones, "<u4")
        _write_ids(out, self.deleted_ids)
        out.add_array(self.patch_offsets, "<u4")
        _write_texts(out, self.patch_payloads)
        if out.size > MAX_CALL_BYTES:
            raise InvalidArgument(f"a call has {out.size:,} bytes, at most {MAX_CALL_BYTES:,} are written as one; split it into several")
        return [b"".join(out.buffers)] if out.size <= _SMALL_CALL else out.buffers

    @classmethod
    def decode(cls, data: memoryview, dims: Mapping[int, int]) -> Effects:
        """
        Return the effects of these bytes; `dims` maps each field's number to its dimension. Arrays refer to data. Raises Corruption.
        """
        take = ColumnReader(data, "a call in the log")
        first_offset, puts, fields, dead, deleted, patches, zero, also_zero = take.header(_HEADER)
        if zero or also_zero or first_offset + puts > MAX_OFFSETS:
            raise take.wrong(f"{puts} points from offset {first_offset} on (reserved words {zero}, {also_zero})")
        effects = cls(
            first_offset=first_offset,
            put_ids=_read_ids(take, puts),
            put_payloads=_read_texts(take, puts),
            put_vectors=_read_vectors(take, fields, puts, dims),
            tombstones=take.array(np.dtype("<u4"), dead),
            deleted_ids=_read_ids(take, deleted),
            patch_offsets=take.array(np.dtype("<u4"), patches),
            patch_payloads=_read_texts(take, patches),
        )
        take.end()
        if not _ascending(effects.tombstones, first_offset + puts):
            raise take.wrong(f"tombstones are not ascending offsets below {first_offset + puts}")
        if patches and int(effects.patch_offsets.max()) >= first_offset + puts:
            raise take.wrong(f"a payload for offset {int(effects.patch_offsets.max())}, expected below {first_offset + puts}")
        return effects


def _ascending(offsets: NDArray[np.uint32], limit: int) -> bool:
    return len(offsets) == 0 or (bool((offsets[1:] > offsets[:-1]).all()) and int(offsets[-1]) < limit)


def _write_ids(out: ColumnWriter, ids: Sequence[PointId]) -> None:
    """
    Write ids as kinds (u8), values (u64: the int, or the length of the text in bytes), texts.
    """
    if not ids:
        return
    kinds = set(map(type, ids))
    if str not in kinds:
        out.add(bytes(len(ids)))
        out.add_words("Q", cast("Sequence[int]", ids), len(ids))
        return
    texts = [point_id.encode() if isinstance(point_id, str) else b"" for point_id in ids]
    values = [len(text) if isinstance(point_id, str) else point_id for point_id, text in zip(ids, texts, strict=True)]
    out.add_array(np.fromiter((isinstance(point_id, str) for point_id in ids), np.uint8, len(ids)), "u1")
    out.add_array(np.fromiter(values, np.uint64, len(ids)), "<u8")
    out.add(b"".join(texts))


def _read_ids(take: ColumnReader, count: int) -> list[PointId]:
    kinds = take.array(np.dtype("u1"), count)
    values = take.array(np.dtype("<u8"), count)
    if not kinds.any():
        return list(values.tolist())
    lengths = values[kinds == _STR]
    if int(kinds.max()) > _STR or int(lengths.min()) == 0 or int(lengths.max()) > MAX_ID_BYTES:
        raise take.wrong(f"an id of kind {int(kinds.max())} or of a length outside [1, {MAX_ID_BYTES}]")
    texts = take.bytes(int(lengths.sum()))
    starts = accumulate(lengths.tolist(), initial=0)
    try:
        decoded = iter([str(texts[start:end], "utf-8") for start, end in pairwise(starts)])
    except UnicodeDecodeError as error:
        raise take.wrong(f"an id that is not UTF-8 ({error.reason})") from error
    return [value if kind == _INT else next(decoded) for kind, value in zip(kinds.tolist(), values.tolist(), strict=True)]


def _write_texts(out: ColumnWriter, texts: Sequence[bytes]) -> None:
    """
    Write byte strings as lengths (u32) and the strings, joined.
    """
    if not texts:
        return
    out.add_words("I", map(len, texts), len(texts))
    out.add(b"".join(texts))


def _read_texts(take: ColumnReader, count: int) -> list[bytes]:
    lengths = take.array(np.dtype("<u4"), count)
    joined = take.bytes(int(lengths.sum(dtype=np.uint64)))
    return [bytes(joined[start:end]) for start, end in pairwise(accumulate(lengths.tolist(), initial=0))]


def _read_vectors(take: ColumnReader, fields: int, puts: int, dims: Mapping[int, int]) -> dict[int, FieldRows]:
    vectors: dict[int, FieldRows] = {}
    for _ in range(fields):
        number, flags, count, dim = take.header(_FIELD)
        if number not in dims or number in vectors or dims[number] != dim or flags not in (0, _ALL_PUTS):
            raise take.wrong(f"vectors of field {number} with dim {dim} and flags {flags}, expected fields and dims of {dict(dims)}")
        positions = None if flags == _ALL_PUTS else take.array(np.dtype("<u4"), count)
        if (count != puts) if positions is None else not _ascending(positions, puts):
            raise take.wrong(f"{count} vectors of field {number} do not belong to its {puts} points")
        vectors[number] = FieldRows(positions, take.array(np.dtype("<f4"), count * dim).reshape(count, dim))
    return vectors
