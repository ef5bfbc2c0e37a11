"""
Mending the end of a log before it takes writes: the records that nobody proved to be on the medium are written again, into a new segment.

Invariant: no file is changed; the new segment appears complete, and seals the old one by its first LSN. Cut anywhere, it can be repeated.
Without this step, what was replayed from the page cache could vanish in a later power loss underneath newer, confirmed records.
Thread rule: one thread, under the writer's lock.
"""

from __future__ import annotations

from pathlib import Path

from vecdb.errors import Corruption
from vecdb.storage import files
from vecdb.storage.log_reader import LogState, segment_name
from vecdb.storage.segment_file import SegmentFile, aside_of, next_size
from vecdb.storage.segments import RECORD_HEADER, SEGMENT_HEADER, SegmentHeader, encode_record


def rewrite_doubtful(directory: Path, state: LogState, *, uuid: bytes, generation: int) -> tuple[SegmentFile, int, int]:
    """
    Write the doubtful records again; return the new segment, published and open, the end of its records, and the last one's checksum.

    Adds the segment to `state.segments`. Raises Corruption when a record no longer reads as it did a moment ago.
    """
    first_lsn = state.proven_lsn + 1
    needed = sum(place.header.size for place in state.doubtful)
    source_path = directory / segment_name(state.segments[-1])
    source = files.open_file(source_path)
    try:
        segment = SegmentFile.prepare(aside_of(directory, first_lsn), next_size(state.size, state.used, needed))
        try:
            position, dcrc = SEGMENT_HEADER, state.proven_dcrc
            for place in state.doubtful:
                old = place.header
                body = files.read_at(source, old.length, place.position + RECORD_HEADER)
                if not old.matches(body):
                    raise Corruption(f"{source_path}, byte {place.position}: record {old.lsn} changed while it was read; check the medium")
                record, dcrc = encode_record(
                    [body],
                    salt=segment.salt,
                    lsn=old.lsn,
                    durable_lsn=state.proven_lsn,
                    prev_dcrc=dcrc,
                    kind=old.kind,
                    flags=old.flags,
                    part=old.part,
                )
                position += files.write_at(segment.fd, record, position)
            segment.publish(SegmentHeader(uuid, generation, first_lsn, state.proven_lsn, state.proven_dcrc, segment.salt))
        except BaseException:
            segment.discard()
            raise
    finally:
        files.close(source)
    if state.segments[-1] != first_lsn:
        state.segments.append(first_lsn)
    return segment, position, dcrc
