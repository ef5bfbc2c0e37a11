"""
The writing end of the log: where it stands, groups into the open segment, the step to the next one, what may be synced and removed.

Invariant: `end` is replaced as one, after what it says has happened, and every step may be repeated as long as it has not moved: the same
bytes go to the same place. A segment appears under its name only when all that comes before it is on the medium.
Thread rule: one thread at a time, which the caller sees to; `end` may be read, and `drop_through` called, by any.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from vecdb.errors import StorageError
from vecdb.storage import files
from vecdb.storage.log_reader import LogState, segment_name
from vecdb.storage.segment_file import SegmentFile, aside_of, least_size, next_size, pays_to_leave, size_after_switch
from vecdb.storage.segments import SEGMENT_HEADER, Kind, SegmentHeader, encode_group
from vecdb.storage.spares import Spares
from vecdb.storage.system import Buffer

logger = logging.getLogger("vecdb")


class LogEnd(NamedTuple):
    """
    The end of what was written: segment (None: none is open, the next call begins one), position in it, last LSN and its checksum.

    `durable_lsn` is the highest LSN that a sync brought to the medium; `unconfirmed` says that no later record tells so of the last call.
    """

    segment: SegmentFile | None
    position: int
    lsn: int
    dcrc: int
    durable_lsn: int
    unconfirmed: bool


class Group(NamedTuple):
    """
    What is to be written as one: a call (or a mark) in pieces, its LSNs, its place and its bytes there.
    """

    kind: Kind
    body: Sequence[Buffer]
    first_lsn: int
    last_lsn: int
    segment: SegmentFile
    position: int
    size: int


class LogWriter:
    """
    Writes groups behind one another; `segments` are the first LSNs of the files that exist, ascending.
    """

    def __init__(self, directory: Path, *, uuid: bytes, generation: int, state: LogState, end: LogEnd, syncs: bool) -> None:
        self.end = end
        self.segments: list[int] = state.segments
        self._directory = directory
        self._uuid = uuid
        self.generation = generation
        self._syncs = syncs
        self._last_size, self._last_used = state.size, state.used
        self._prepared: list[SegmentFile] = []
        self._dropping = threading.Lock()
        self.spares: Spares = Spares(directory)

    def prepare(self, first_lsn: int, last: SegmentFile | None, used: int, needed: int) -> SegmentFile:
        """
        Make the segment after `last`, of which `used` bytes will be used, aside, with room for a group of `needed` bytes.

        Raises StorageError with nothing changed. May be called while another thread writes.
        """
        size = next_size(self._last_size, self._last_used, needed) if last is None else next_size(last.size, used, needed)
        return self._prepared_for(first_lsn, least_size(needed), size)

    def _prepared_for(self, first_lsn: int, least: int, size: int) -> SegmentFile:
        segment = self.spares.take(least)
        if segment is None:
            segment = SegmentFile.prepare(aside_of(self._directory, first_lsn), size)
        self._prepared.append(segment)
        return segment

    def write(self, groups: Sequence[Group]) -> int:
        """
        Write groups that follow one another, but those that are written already, and return their bytes. `sync` makes them durable, and has
        less to wait for when something else is done in between.
        """
        written, run = 0, list[Group]()
        for group in groups:
            if group.last_lsn > self.end.lsn:
                if run and run[0].segment is not group.segment:
                    written += self._write_run(run)
                    run = []
                run.append(group)
        return written + self._write_run(run) if run else written

    def _write_run(self, groups: Sequence[Group]) -> int:
        """
        Write groups that follow one another in one segment, in as few calls as possible, and return their bytes.
        """
        segment = groups[0].segment
        if segment is not self.end.segment:
            self.sync()
            self._enter(segment)
        end = self.end
        dcrc = end.dcrc
        pieces: list[Buffer] = []
        for group in groups:
            records, dcrc = encode_group(
                group.body,
                salt=segment.salt,
                first_lsn=group.first_lsn,
                durable_lsn=end.durable_lsn,
                prev_dcrc=dcrc,
                kind=group.kind,
            )
            pieces += records
        written = files.write_at(segment.fd, pieces, groups[0].position)
        if self._syncs:
            files.start_writing(segment.fd, written, groups[0].position)
        last = groups[-1]
        self.end = LogEnd(segment, last.position + last.size, last.last_lsn, dcrc, end.durable_lsn, unconfirmed=last.kind == Kind.CALL)
        return written

    def sync(self) -> None:
        """
        Bring everything written to the medium.
        """
        end = self.end
        if end.segment is not None and end.durable_lsn < end.lsn:
            files.sync_data(end.segment.fd)
            self.end = LogEnd(end.segment, end.position, end.lsn, end.dcrc, end.lsn, end.unconfirmed)

    def leave_segment(self) -> None:
        """
        Go on in a new segment, so that this one can be removed, unless it is nearly empty or there is no room for another.
        """
        end = self.end
        if end.segment is None or not pays_to_leave(end.position):
            return
        try:
            segment = self._prepared_for(end.lsn + 1, 0, size_after_switch(end.segment.size))
        except StorageError as error:
            logger.warning("%s: the log goes on in its last segment, a new one could not be made: %s", self._directory, error)
            return
        self._enter(segment)

    def begin_generation(self, generation: int, segment: SegmentFile) -> None:
        """
        Go on in a prepared segment, which names another generation of the files. REQUIRES: everything written is on the medium.
        """
        self.generation = generation
        self._enter(segment)

    def drop_through(self, lsn: int) -> None:
        """
        Remove the segments that hold nothing above lsn, but never the last one.

        May be called by any thread, also while another writes: that one only appends to `segments`.
        """
        # A checkpoint and the end of a compaction come at once: between them, the last segment could be taken for the first.
        with self._dropping:
            while len(self.segments) > 1 and self.segments[1] <= lsn + 1:
                path = self._directory / segment_name(self.segments[0])
                if files.exists(path):
                    files.remove(path)
                del self.segments[0]

    def close(self) -> None:
        """
        Close the open segment and remove those that were only prepared; idempotent.
        """
        self.spares.close()
        segment = self.end.segment
        for prepared in self._prepared:
            if prepared is not segment:
                prepared.discard()
        self._prepared.clear()
        if segment is not None:
            segment.close()

    def _enter(self, segment: SegmentFile) -> None:
        """
        Publish a prepared segment and go on in it. REQUIRES: everything written is on the medium.
        """
        end = self.end
        first_lsn = end.lsn + 1
        segment.publish(SegmentHeader(self._uuid, self.generation, first_lsn, end.lsn, end.dcrc, segment.salt))
        if self.segments[-1] != first_lsn:
            self.segments.append(first_lsn)
        self.end = LogEnd(segment, SEGMENT_HEADER, end.lsn, end.dcrc, end.lsn, unconfirmed=False)
        self._prepared.remove(segment)
        if end.segment is not None:
            end.segment.close()
