"""
The bytes of the log: segment headers, records, and how a call's bytes are cut into a group of records. docs/file_format.md has the tables.

Invariant: what is decoded has a matching checksum; checksums of a segment are seeded with its random salt, and each record's with the one
before, so that no byte of another segment, place or order passes. Pure functions and values; any thread.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from vecdb._crc import crc32c
from vecdb.storage.columns import padding
from vecdb.storage.system import Buffer

VERSION = 1
MAX_BODY = 4 << 20
SECTOR = 512
_SMALL = 64 << 10  # a record that is copied sooner than handled in pieces
COMMIT = 1

_MAGIC = b"VDBWAL\0\1"
_RECORD_MAGIC = b"VWAL"
_SEGMENT = struct.Struct("<8sII16sQQQII")
_START = struct.Struct("<4sI")
_REST = struct.Struct("<QQIIIBBH")
_SEED = struct.Struct("<QQI")

SEGMENT_HEADER = _SEGMENT.size
RECORD_HEADER = _START.size + _REST.size
# Room that is kept at the end of a segment, so that the records that confirm and close the log never need another one.
RESERVE = 2 * RECORD_HEADER


class Kind(IntEnum):
    """
    What a record is: a call's effects; a confirmation of what was synced before; the mark of an orderly end.
    """

    CALL = 1
    NOOP = 2
    CLOSE = 3


@dataclass(frozen=True, slots=True)
class SegmentHeader:
    """
    The first 64 bytes of a segment. `prev_dcrc` is the checksum of the last record before it, `durable_lsn` that record's LSN.
    """

    uuid: bytes
    generation: int
    first_lsn: int
    durable_lsn: int
    prev_dcrc: int
    salt: int

    def encode(self) -> bytes:
        """
        Return the header's bytes.
        """
        fields = (self.uuid, self.generation, self.first_lsn, self.durable_lsn, self.prev_dcrc, self.salt)
        checksum = _segment_checksum(_SEGMENT.pack(_MAGIC, VERSION, 0, *fields))
        return _SEGMENT.pack(_MAGIC, VERSION, checksum, *fields)

    @classmethod
    def decode(cls, data: bytes) -> tuple[int, SegmentHeader] | None:
        """
        Return (format version, header), or None when these are not the bytes of one.
        """
        if len(data) < SEGMENT_HEADER:
            return None
        magic, version, checksum, *fields = _SEGMENT.unpack_from(data)
        if magic != _MAGIC or checksum != _segment_checksum(data[:SEGMENT_HEADER]):
            return None
        return version, cls(*fields)


def _segment_checksum(header: bytes) -> int:
    return crc32c(header[16:], crc32c(header[:12]))


class RecordHeader(NamedTuple):
    """
    The first 40 bytes of a record. `durable_lsn` is the highest LSN that was synced when it was written, `part` its place in its group.
    """

    lsn: int
    durable_lsn: int
    length: int
    dcrc: int
    prev_dcrc: int
    kind: int
    flags: int
    part: int

    @classmethod
    def decode(cls, data: bytes | memoryview, salt: int) -> RecordHeader | None:
        """
        Return the header in the first bytes of data, or None when there is none that was written for a segment with this salt.
        """
        if len(data) < RECORD_HEADER:
            return None
        magic, checksum = _START.unpack_from(data)
        if magic != _RECORD_MAGIC or checksum != crc32c(data[_START.size : RECORD_HEADER], salt):
            return None
        return cls._make(_REST.unpack_from(data, _START.size))

    @property
    def size(self) -> int:
        """
        Bytes of the whole record, its padding included.
        """
        return record_size(self.length)

    def matches(self, body: Buffer) -> bool:
        """
        Return whether a body is the one that this header was written with.
        """
        return self.dcrc == crc32c(body, _body_seed(self.lsn, self.durable_lsn, self.length))


def _body_seed(lsn: int, durable_lsn: int, length: int) -> int:
    return crc32c(_SEED.pack(lsn, durable_lsn, length))


def record_size(length: int) -> int:
    """
    Return the bytes of a record with a body of this length.

    >>> record_size(0), record_size(1)
    (40, 48)
    """
    return RECORD_HEADER + length + padding(length)


def group_size(length: int) -> int:
    """
    Return the bytes of the group of records that a call of this length becomes.
    """
    whole, rest = divmod(length, MAX_BODY)
    return whole * record_size(MAX_BODY) + (record_size(rest) if rest or not whole else 0)


def group_records(length: int) -> int:
    """
    Return the number of records, and so of LSNs, that a call of this length becomes.

    >>> [group_records(length) for length in (0, 1, MAX_BODY, MAX_BODY + 1)]
    [1, 1, 1, 2]
    """
    return max(1, -(-length // MAX_BODY))


def cut(pieces: Sequence[Buffer], size: int = MAX_BODY) -> Iterator[list[memoryview]]:
    """
    Cut a stream, given in pieces, into bodies of `size` bytes, the last one shorter; an empty stream is one empty body.
    """
    body: list[memoryview] = []
    room = size
    for piece in pieces:
        rest = memoryview(piece)
        while len(rest) > room:
            body.append(rest[:room])
            yield body
            rest = rest[room:]
            body, room = [], size
        if len(rest):
            body.append(rest)
            room -= len(rest)
    yield body


def encode_record(
    body: Sequence[Buffer], *, salt: int, lsn: int, durable_lsn: int, prev_dcrc: int, kind: int, flags: int, part: int
) -> tuple[list[Buffer], int]:
    """
    Return a record in pieces that refer to the body, and its dcrc, which the next record chains.
    """
    length = sum(map(len, body))
    dcrc = _body_seed(lsn, durable_lsn, length)
    for piece in body:
        dcrc = crc32c(piece, dcrc)
    rest = _REST.pack(lsn, durable_lsn, length, dcrc, prev_dcrc, kind, flags, part)
    pieces = [_START.pack(_RECORD_MAGIC, crc32c(rest, salt)), rest, *body, bytes(padding(length))]
    return [b"".join(pieces)] if length <= _SMALL else pieces, dcrc


def encode_group(
    pieces: Sequence[Buffer], *, salt: int, first_lsn: int, durable_lsn: int, prev_dcrc: int, kind: Kind
) -> tuple[list[Buffer], int]:
    """
    Return a call as a group of records with consecutive LSNs, the last with COMMIT, in pieces, and the last one's dcrc.
    """
    length = sum(map(len, pieces))
    if length <= MAX_BODY:
        return encode_record(
            pieces, salt=salt, lsn=first_lsn, durable_lsn=durable_lsn, prev_dcrc=prev_dcrc, kind=kind, flags=COMMIT, part=0
        )
    out: list[Buffer] = []
    count = group_records(length)
    for part, body in enumerate(cut(pieces)):
        flags = COMMIT if part == count - 1 else 0
        record, prev_dcrc = encode_record(
            body,
            salt=salt,
            lsn=first_lsn + part,
            durable_lsn=durable_lsn,
            prev_dcrc=prev_dcrc,
            kind=kind,
            flags=flags,
            part=part,
        )
        out += record
    return out, prev_dcrc


def find_header(data: bytes, salt: int, *, lsn: int) -> bool:
    """
    Return whether data, which begins at a multiple of 8 in its segment, holds a header that says that `lsn` was durable.
    """
    at = data.find(_RECORD_MAGIC)
    while at >= 0:
        if at % 8 == 0:
            header = RecordHeader.decode(data[at : at + RECORD_HEADER], salt)
            if header is not None and header.durable_lsn >= lsn:
                return True
        at = data.find(_RECORD_MAGIC, at + 1)
    return False


def has_unwritten_sector(record: bytes, position: int) -> bool:
    """
    Return whether some 512-byte sector's share of a record, which begins at `position` in its segment, is all zero.
    """
    start = 0
    while start < len(record):
        end = start + SECTOR - (position + start) % SECTOR
        if not record[start:end].strip(b"\0"):
            return True
        start = end
    return False
