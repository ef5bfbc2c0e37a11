"""
Following a log that another process writes: whole calls are handed out in order, from the end of a checkpoint to what is written by now.

Invariant: a call is handed out once, whole and in order, or not at all; the first record that is not whole yet ends the log for now. What
was opened by `hold` is read to its end whatever the writer removes; where what follows it is gone or was replaced, `Moved` says so, and
nothing was handed out that was not written. No file is changed. Thread rule: one thread at a time.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from vecdb._interrupt import uninterrupted
from vecdb.errors import Corruption, StorageError, VecdbError
from vecdb.storage import files
from vecdb.storage.effects import MAX_CALL_BYTES
from vecdb.storage.log_reader import Replay, Window, check_header, damaged, list_segments, read_record, segment_header, segment_name
from vecdb.storage.segments import COMMIT, RECORD_HEADER, SEGMENT_HEADER, Kind, RecordHeader, SegmentHeader, find_header

_CHUNK = 1 << 20


class Moved(VecdbError):
    """
    What a reader goes on from is gone: a checkpoint, a compaction or a recovery has moved on. It starts again from the newest base.
    """


class LogGap(Moved):
    """
    The log does not reach back to the checkpoint: another one has been made meanwhile, or a segment is missing.
    """


@dataclass(frozen=True, slots=True)
class _Segment:
    """
    An open segment.
    """

    path: Path
    fd: int
    header: SegmentHeader


@dataclass(frozen=True, slots=True)
class _Cursor:
    """
    A place behind a whole group: the first LSN of its segment, the position there, the LSN and checksum of the last record, and the highest
    LSN that it is known to say to be durable. `begins` at the first record of all, whose group may have begun before.
    """

    segment: int
    position: int
    lsn: int
    dcrc: int
    durable_lsn: int
    begins: bool


class LogFollower:
    """
    A place in the log of a collection. `applied_lsn` is the LSN behind which calls are handed out; `current` returns the generation that
    CURRENT names now. Raises Moved when the log does not reach back that far any more.
    """

    def __init__(self, directory: Path, *, uuid: bytes, generation: int, applied_lsn: int, current: Callable[[], int]) -> None:
        self._directory = directory
        self._uuid = uuid
        self._generation = generation
        self._applied_lsn = applied_lsn
        self._current = current
        self._held: list[_Segment] = []
        try:
            self._hold_first()
        except BaseException:
            self.close()
            raise

    @property
    def last_lsn(self) -> int:
        """
        The last LSN that was read, of a call or of a mark.
        """
        return self._cursor.lsn

    @property
    def durable_lsn(self) -> int:
        """
        The highest LSN that what was read says to be durable.
        """
        return self._cursor.durable_lsn

    def _hold_first(self) -> None:
        fitting = [first for first in list_segments(self._directory) if first <= self._applied_lsn + 1]
        if not fitting:
            raise LogGap(f"no segment begins at or below LSN {self._applied_lsn + 1}")
        self._open(fitting[-1])
        first = self._held[0]
        header = first.header
        self._cursor = _Cursor(header.first_lsn, SEGMENT_HEADER, header.first_lsn - 1, header.prev_dcrc, header.durable_lsn, begins=True)
        self.hold()
        if not files.is_at(first.fd, first.path):
            raise Moved(f"{first.path} is gone, and others behind it may be")

    def hold(self) -> None:
        """
        Open what segments there are by now, so that all that is written by now can be read.
        """
        last = self._held[-1]
        self._check_generation(last.path, last.header)
        if not files.is_at(last.fd, last.path) and files.exists(last.path):
            self._open_again(last)
        newest = last.header.first_lsn
        if any(first > newest for first in list_segments(self._directory)):
            # Again: a directory that is read while files are added may show the later of two alone.
            for first in list_segments(self._directory):
                if first > newest:
                    self._open(first)

    def _open_again(self, last: _Segment) -> None:
        """
        Open a segment that was replaced: one that was empty is, by the first call of a writer or by a compaction.
        """
        at, first = self._cursor, last.header.first_lsn
        if at.segment == first and at.position > SEGMENT_HEADER:
            raise Moved(f"{last.path} was replaced")
        files.close(self._held.pop().fd)
        self._open(first)
        if at.segment == first and self._held[-1].header.prev_dcrc != at.dcrc:
            raise Moved(f"{last.path} was replaced by one that does not continue what was read")

    def read(self, take: Replay, *, until: int | None = None) -> bool:
        """
        Hand out each whole call up to the end of what is held, or up to the LSN `until`; return whether there was one.
        """
        found = False
        if not self._is_at_rest():
            windows: dict[int, Window] = {}
            while (group := self._next_group(windows)) is not None:
                cursor, kind, parts = group
                if until is not None and cursor.lsn > until:
                    break
                with uninterrupted():
                    if kind == Kind.CALL and cursor.lsn > self._applied_lsn:
                        found = True
                        take(cursor.lsn, memoryview(parts[0] if len(parts) == 1 else b"".join(parts)))
                    self._cursor = cursor
        self._let_go()
        return found

    def check_end(self) -> None:
        """
        Raise Corruption when the record that ends the log for now is damaged: a later one says that it is on the medium.
        """
        last = self._held[-1]
        if last.header.first_lsn == self._cursor.segment and last.header.generation == self._generation:
            self._check_end(last, self._cursor.position, self._cursor.lsn + 1, self._cursor.dcrc)

    def close(self) -> None:
        """
        Let go of all segments; idempotent.
        """
        held, self._held = self._held, []
        for segment in held:
            files.close(segment.fd)

    def _open(self, first: int) -> None:
        path = self._directory / segment_name(first)
        try:
            fd = files.open_file(path)
        except StorageError as error:
            if error.errno == errno.ENOENT:
                raise Moved(f"{path} is gone") from error
            raise
        try:
            header = segment_header(path, files.read_at(fd, SEGMENT_HEADER, 0), first)
            if header.uuid != self._uuid:
                raise damaged(path, 0, f"the segment belongs to collection {header.uuid.hex()}, expected {self._uuid.hex()}")
            self._check_generation(path, header)
        except BaseException:
            files.close(fd)
            raise
        self._held.append(_Segment(path, fd, header))

    def _check_generation(self, path: Path, header: SegmentHeader) -> None:
        """
        Raise Moved when CURRENT names another generation than is read. A segment of the next, while it does not, ends the log: a compaction
        is at its last step, or was cut there.
        """
        if header.generation == self._generation:
            return
        current = self._current()
        if current != self._generation:
            raise Moved(f"{path} is of generation {header.generation}, and CURRENT names {current}")
        if header.generation != self._generation + 1:
            raise damaged(path, 0, f"the segment belongs to generation {header.generation}, expected {self._generation}")

    def _is_at_rest(self) -> bool:
        """
        Return whether nothing at all is written behind the cursor; cheap, for a reader that asks often.
        """
        last = self._held[-1]
        if last.header.first_lsn != self._cursor.segment:
            return False
        return last.header.generation != self._generation or not any(files.read_at(last.fd, RECORD_HEADER, self._cursor.position))

    def _next_group(self, windows: dict[int, Window]) -> tuple[_Cursor, int, list[bytes]] | None:
        """
        Return the whole group behind the cursor: the cursor behind it, its kind and bodies; None: none is whole by now.
        """
        at = self._cursor
        place = next(place for place, segment in enumerate(self._held) if segment.header.first_lsn == at.segment)
        lsn, next_part, skipping = at.lsn + 1, 0, at.begins
        parts: list[bytes] = []
        size = 0
        while True:
            segment = self._held[place]
            if segment.header.generation != self._generation:
                return None
            end = self._held[place + 1].header if place + 1 < len(self._held) else None
            if end is not None and end.first_lsn == lsn:
                if end.prev_dcrc != at.dcrc:
                    raise Moved(f"{self._held[place + 1].path} does not continue what was read")
                place, at = place + 1, replace(at, position=SEGMENT_HEADER, durable_lsn=max(at.durable_lsn, end.durable_lsn))
                continue
            if end is not None and end.first_lsn < lsn:
                raise Moved(f"{self._held[place + 1].path} replaces what was read")
            window = windows.setdefault(segment.fd, Window(segment.fd))
            found = read_record(window, at.position, salt=segment.header.salt, lsn=lsn, prev_dcrc=at.dcrc)
            if found is None:
                self._stop(segment, at, lsn, end)
                return None
            header, body = found
            check_header(segment.path, at.position, header, durable_lsn=at.durable_lsn)
            opens_segment = at.position == SEGMENT_HEADER
            if header.part == 0 and opens_segment:
                # A segment may begin with a new group where the one before was never finished.
                parts, size, skipping = [], 0, False
            elif header.part != next_part and not (skipping and opens_segment):
                raise damaged(segment.path, at.position, f"record {lsn} is part {header.part} of its call, expected part {next_part}")
            elif header.part == 0:
                skipping = False
            next_part = header.part + 1
            parts.append(body)
            size += header.length
            if size > MAX_CALL_BYTES:
                raise damaged(segment.path, at.position, f"record {lsn} makes its call larger than {MAX_CALL_BYTES:,} bytes")
            if header.flags & COMMIT:
                self._check_begin(segment, at, header, skipping=skipping)
            at = _Cursor(segment.header.first_lsn, at.position + header.size, lsn, header.dcrc, header.durable_lsn, begins=False)
            if header.flags & COMMIT:
                return at, header.kind, parts
            lsn += 1

    def _check_begin(self, segment: _Segment, at: _Cursor, header: RecordHeader, *, skipping: bool) -> None:
        if header.lsn > self._applied_lsn and (skipping or header.lsn - header.part <= self._applied_lsn):
            raise damaged(segment.path, at.position, f"the call that ends with record {header.lsn} began before what the checkpoint covers")

    def _stop(self, segment: _Segment, at: _Cursor, lsn: int, end: SegmentHeader | None) -> None:
        """
        Decide what a record that is not there means: return when it ends the log for now.
        """
        if end is None:
            self._check_end(segment, at.position, lsn, at.dcrc)
        elif not files.is_at(segment.fd, segment.path):
            raise Moved(f"{segment.path} was removed, and what follows it too")
        else:
            raise damaged(segment.path, at.position, f"record {lsn} is not there, although the next segment begins at {end.first_lsn}")

    def _check_end(self, segment: _Segment, position: int, lsn: int, dcrc: int) -> None:
        start = position + 8
        while chunk := files.read_at(segment.fd, _CHUNK + RECORD_HEADER - 8, start):
            if find_header(chunk, segment.header.salt, lsn=lsn):
                # Whoever wrote that had written this one before, and has since: it is there by now, or damaged.
                if read_record(Window(segment.fd), position, salt=segment.header.salt, lsn=lsn, prev_dcrc=dcrc) is None:
                    raise damaged(segment.path, position, f"record {lsn} is damaged, and a later one says that it was on the medium")
                return
            start += _CHUNK

    def _let_go(self) -> None:
        """
        Close the segments before the cursor's.
        """
        while self._held[0].header.first_lsn != self._cursor.segment:
            files.close(self._held.pop(0).fd)


def check_reaches(follower: LogFollower, directory: Path, lsn: int) -> None:
    """
    Raise Corruption when a log ends below what is known to be confirmed.
    """
    if follower.last_lsn < lsn:
        raise Corruption(
            f"{directory}: log gap: the log ends at LSN {follower.last_lsn}, but everything up to {lsn} was confirmed; put missing files "
            "back, or restore a backup of the database"
        )
