"""
Reading the log: which segments count, which records follow one another, which groups are whole, and whether the end is an unfinished write
or damage. Nothing is changed here; a log can be read any number of times with the same result.

Invariant: every group that was confirmed is handed to `replay`, once, whole and in order, or Corruption is raised; of what was never
confirmed a whole prefix is. Thread rule: one thread.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from vecdb.errors import Corruption, StorageError
from vecdb.storage import files
from vecdb.storage.effects import MAX_CALL_BYTES
from vecdb.storage.segments import (
    COMMIT,
    MAX_BODY,
    RECORD_HEADER,
    SEGMENT_HEADER,
    VERSION,
    Kind,
    RecordHeader,
    SegmentHeader,
    find_header,
    has_unwritten_sector,
)

Replay = Callable[[int, memoryview], None]

_NAME = re.compile(r"(\d{20})\.log")
_CHUNK = 1 << 20
_KINDS = frozenset(Kind)


def segment_name(first_lsn: int) -> str:
    """
    Return the name of a segment.

    >>> segment_name(42)
    '00000000000000000042.log'
    """
    return f"{first_lsn:020d}.log"


def list_segments(directory: Path) -> list[int]:
    """
    Return the first LSNs of a log's segments, ascending.
    """
    return sorted(int(match[1]) for name in files.list_directory(directory) if (match := _NAME.fullmatch(name)))


class Place(NamedTuple):
    """
    Where a record stands in the last segment.
    """

    header: RecordHeader
    position: int


class Window:
    """
    An open file, read in pieces large enough for many records.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._start = 0
        self._data = b""

    def read(self, count: int, position: int) -> bytes:
        """
        Return count bytes, fewer only where the file ends.
        """
        at = position - self._start
        if at < 0 or at + count > len(self._data):
            self._start, at = position, 0
            self._data = files.read_at(self._fd, max(count, _CHUNK), position)
        return self._data[at : at + count]


def read_record(window: Window, position: int, *, salt: int, lsn: int, prev_dcrc: int | None) -> tuple[RecordHeader, bytes] | None:
    """
    Return the record at position, or None when there is none that is whole and next in line.
    """
    header = RecordHeader.decode(window.read(RECORD_HEADER, position), salt)
    if header is None or header.lsn != lsn or header.prev_dcrc != prev_dcrc or header.length > MAX_BODY:
        return None
    data = window.read(header.size - RECORD_HEADER, position + RECORD_HEADER)
    # What a file that is too short lacks counts as zeros, here and at the end of the log.
    data = data.ljust(header.size - RECORD_HEADER, b"\0")
    if any(data[header.length :]):
        return None
    body = data[: header.length]
    return (header, body) if header.matches(body) else None


def check_header(path: Path, position: int, header: RecordHeader, *, durable_lsn: int) -> None:
    """
    Raise Corruption when a record next in line has a header that no writer makes; `durable_lsn` is that of the record before.
    """
    in_order = durable_lsn <= header.durable_lsn < header.lsn
    is_plain = header.flags in (0, COMMIT) if header.kind == Kind.CALL else header.flags == COMMIT and header.length == header.part == 0
    if not in_order or header.kind not in _KINDS or not is_plain:
        raise damaged(path, position, f"record {header.lsn} has a header that cannot be")


@dataclass(slots=True)
class LogState:
    """
    What reading a log found.

    `last_lsn` is the end of the last whole group, `proven_lsn` the highest LSN known to be on the medium, `proven_dcrc` that record's
    checksum. `doubtful` are the records of whole groups above it, all in the last segment; `used` and `size` are that segment's bytes.
    """

    segments: list[int]
    last_lsn: int
    proven_lsn: int
    proven_dcrc: int = 0
    doubtful: list[Place] = field(default_factory=list)
    replayed_bytes: int = 0
    used: int = SEGMENT_HEADER
    size: int = 0


class LogReader:
    """
    One pass over a log. `applied_lsn` is the LSN that the checkpoint covers, `clean_lsn` the last one at the latest orderly close.
    """

    def __init__(self, directory: Path, *, uuid: bytes, generation: int, applied_lsn: int, clean_lsn: int, replay: Replay) -> None:
        self._directory = directory
        self._uuid = uuid
        self._generation = generation
        self._applied_lsn = applied_lsn
        self._replay = replay
        self._known_lsn = max(applied_lsn, clean_lsn)
        self._segments = list_segments(directory)
        self._state = LogState(self._segments, last_lsn=0, proven_lsn=self._known_lsn)
        self._expected = 0
        self._chain: int | None = None
        self._durable_lsn = 0
        self._recent: deque[Place] = deque()
        self._group: list[bytes] = []
        self._group_bytes = 0
        self._next_part = 0
        self._skipping = False
        self._in_next_generation = False

    def read(self) -> LogState:
        """
        Read everything and return what was found.
        """
        start = self._start()
        for index in range(start, len(self._segments)):
            end = self._segments[index + 1] if index + 1 < len(self._segments) else None
            self._read_segment(self._segments[index], end)
        state = self._state
        if self._known_lsn > state.last_lsn:
            raise self._gap(f"ends at LSN {state.last_lsn}, but everything up to {self._known_lsn} was confirmed")
        state.proven_lsn = max(self._known_lsn, self._durable_lsn)
        for place in self._recent:
            if place.header.lsn <= state.proven_lsn:
                state.proven_dcrc = place.header.dcrc
            elif place.header.lsn <= state.last_lsn:
                state.doubtful.append(place)
        # A group whose first records are proven but that was never finished keeps its LSNs.
        state.last_lsn = max(state.last_lsn, state.proven_lsn)
        return state

    def _start(self) -> int:
        """
        Return the place of the last segment that begins at or below the first LSN to replay; those before it are obsolete.
        """
        fitting = [index for index, first in enumerate(self._segments) if first <= self._applied_lsn + 1]
        if not fitting:
            seen = f"begins at LSN {self._segments[0]}" if self._segments else "has no segment"
            raise self._gap(f"{seen}, but the checkpoint covers only what is up to {self._applied_lsn}")
        return fitting[-1]

    def _gap(self, seen: str) -> Corruption:
        return Corruption(f"{self._directory}: log gap: the log {seen}; put missing files back, or restore a backup of the database")

    def _read_segment(self, first_lsn: int, end_lsn: int | None) -> None:
        """
        Read the records of a segment, up to end_lsn, where the next one begins; None: it is the last one.
        """
        path = self._directory / segment_name(first_lsn)
        fd = files.open_file(path)
        try:
            size = files.size(fd)
            salt = self._enter_segment(path, files.read_at(fd, SEGMENT_HEADER, 0), first_lsn)
            position = SEGMENT_HEADER
            window = Window(fd)
            while self._expected != end_lsn:
                record = read_record(window, position, salt=salt, lsn=self._expected, prev_dcrc=self._chain)
                if record is not None and self._in_next_generation:
                    raise damaged(path, position, f"a call of generation {self._generation + 1}, but CURRENT names the one before it")
                if record is None:
                    if end_lsn is not None:
                        raise damaged(
                            path, position, f"record {self._expected} is not there, although the next segment begins at {end_lsn}"
                        )
                    self._check_end(fd, path, position, salt)
                    break
                header, body = record
                self._take(path, position, header, body, opens_segment=position == SEGMENT_HEADER)
                position += header.size
            self._state.used, self._state.size = position, size
        finally:
            files.close(fd)

    def _enter_segment(self, path: Path, data: bytes, first_lsn: int) -> int:
        header = segment_header(path, data, first_lsn)
        # A compaction that was cut has begun a segment of the generation it was making, and written nothing into it.
        self._in_next_generation = header.generation == self._generation + 1 and first_lsn == self._segments[-1]
        if header.uuid != self._uuid or (header.generation != self._generation and not self._in_next_generation):
            raise damaged(
                path,
                0,
                f"the segment belongs to collection {header.uuid.hex()}, generation {header.generation}, "
                f"expected {self._uuid.hex()}, generation {self._generation}",
            )
        if self._chain is None:
            self._expected = first_lsn
            self._state.last_lsn = first_lsn - 1
            # Only a group that the checkpoint covers can have begun in an earlier segment that is gone.
            self._skipping = True
        elif header.prev_dcrc != self._chain:
            raise damaged(path, 0, "the segment does not continue the one before it")
        self._chain = header.prev_dcrc
        self._durable_lsn = max(self._durable_lsn, header.durable_lsn)
        self._recent.clear()
        self._state.proven_dcrc = header.prev_dcrc
        return header.salt

    def _take(self, path: Path, position: int, header: RecordHeader, body: bytes, *, opens_segment: bool) -> None:
        """
        Take the next record: into its group, and the group, when it is whole, to `replay`.
        """
        check_header(path, position, header, durable_lsn=self._durable_lsn)
        if header.part == 0 and opens_segment:
            # A segment may begin with a new group where the one before was never finished.
            self._group, self._group_bytes, self._skipping = [], 0, False
        elif header.part != self._next_part and not (self._skipping and opens_segment):
            raise damaged(path, position, f"record {header.lsn} is part {header.part} of its call, expected part {self._next_part}")
        elif header.part == 0:
            self._skipping = False
        self._next_part = 0 if header.flags & COMMIT else header.part + 1
        if not self._skipping:
            self._group.append(body)
            self._group_bytes += header.length
        if self._group_bytes > MAX_CALL_BYTES:
            raise damaged(path, position, f"record {header.lsn} makes its call larger than {MAX_CALL_BYTES:,} bytes")
        self._chain = header.dcrc
        self._expected = header.lsn + 1
        self._durable_lsn = header.durable_lsn
        self._recent.append(Place(header, position))
        self._forget_proven()
        if header.flags & COMMIT:
            self._finish_group(path, position, header)

    def _forget_proven(self) -> None:
        """
        Keep of the recent records the last proven one and those above it.
        """
        proven = max(self._durable_lsn, self._known_lsn)
        while self._recent and self._recent[0].header.lsn <= proven:
            self._state.proven_dcrc = self._recent.popleft().header.dcrc

    def _finish_group(self, path: Path, position: int, header: RecordHeader) -> None:
        self._state.last_lsn = header.lsn
        group, self._group, self._group_bytes = self._group, [], 0
        if header.lsn <= self._applied_lsn:
            return
        if self._skipping or header.lsn - header.part <= self._applied_lsn:
            raise damaged(path, position, f"the call that ends with record {header.lsn} began before what the checkpoint covers")
        self._state.replayed_bytes += sum(map(len, group)) + RECORD_HEADER * len(group)
        if header.kind == Kind.CALL:
            self._replay(header.lsn, memoryview(group[0] if len(group) == 1 else b"".join(group)))

    def _check_end(self, fd: int, path: Path, position: int, salt: int) -> None:
        """
        Decide what the first record of the last segment that is not valid means: return when it ends the log, raise when it is damage.
        """
        start = position + 8
        while chunk := files.read_at(fd, _CHUNK + RECORD_HEADER - 8, start):
            if find_header(chunk, salt, lsn=self._expected):
                raise damaged(path, position, f"record {self._expected} is damaged, and a later one says that it was on the medium")
            start += _CHUNK
        header = RecordHeader.decode(files.read_at(fd, RECORD_HEADER, position), salt)
        size = RECORD_HEADER if header is None or header.length > MAX_BODY else header.size
        record = files.read_at(fd, size, position)
        if not has_unwritten_sector(record.ljust(size, b"\0"), position):
            raise damaged(path, position, f"record {self._expected} was written whole and is damaged")


def segment_header(path: Path, data: bytes, first_lsn: int) -> SegmentHeader:
    """
    Return the header of the segment that begins at first_lsn; raises Corruption, and StorageError when a newer vecdb wrote it.
    """
    decoded = SegmentHeader.decode(data)
    if decoded is None:
        raise damaged(path, 0, "the segment's header is damaged")
    version, header = decoded
    if version > VERSION:
        raise StorageError(f"{path} was written by a newer vecdb, format {version}; this one reads formats up to {VERSION}: upgrade vecdb")
    if header.first_lsn != first_lsn or header.durable_lsn != first_lsn - 1:
        raise damaged(path, 0, f"the segment says that it begins at LSN {header.first_lsn}")
    return header


def damaged(path: Path, position: int, seen: str) -> Corruption:
    """
    Return the error for damage at a byte of a segment.
    """
    return Corruption(f"{path}, byte {position}: {seen}; restore a backup of the database")
