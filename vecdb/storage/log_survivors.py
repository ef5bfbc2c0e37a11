"""
What is left of a damaged log: every call whose records verify, whatever stands between them.

Invariant: a call is whole or left out; calls come in the order of their LSNs, each once. Thread rule: one thread.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from vecdb.errors import Corruption, StorageError
from vecdb.storage import files
from vecdb.storage.effects import Effects
from vecdb.storage.findings import Findings
from vecdb.storage.framing import Manifest
from vecdb.storage.log_reader import list_segments, segment_name
from vecdb.storage.segments import COMMIT, MAX_BODY, RECORD_HEADER, SEGMENT_HEADER, Kind, RecordHeader, SegmentHeader

_RECORD_MAGIC = b"VWAL"
_MOST_BYTES = 1 << 40


def surviving_calls(
    directory: Path, manifest: Manifest, generation: int, above: int | None, findings: Findings
) -> Iterator[tuple[int, Effects]]:
    """
    Yield (LSN, effects) of the whole calls above an LSN; None: of all there are.
    """
    dims = {spec.number: spec.dim for spec in manifest.fields}
    last = above
    parts: list[bytes] = []
    expected = 0
    for header, body in _records(directory, manifest, generation, findings):
        if last is not None and header.lsn <= last:
            continue
        if header.part == 0:
            parts, expected = [], header.lsn
        if header.lsn != expected or header.part != len(parts):
            parts, expected = [], 0
            continue
        parts.append(body)
        expected += 1
        if not header.flags & COMMIT:
            continue
        first = header.lsn - header.part
        if last is not None and first != last + 1:
            findings.problem(f"{directory}: what was written from LSN {last + 1} to {first - 1} is lost")
        last = header.lsn
        if header.kind == Kind.CALL:
            try:
                yield header.lsn, Effects.decode(memoryview(b"".join(parts)), dims)
            except Corruption as error:
                findings.problem(f"{directory}: the call at LSN {header.lsn} is lost: {error}")
        parts, expected = [], 0


def newest_generation(directory: Path) -> int | None:
    """
    Return the generation that the newest segment with a whole header names.
    """
    for first in reversed(list_segments(directory)):
        fd = files.open_file(directory / segment_name(first))
        try:
            decoded = SegmentHeader.decode(files.read_at(fd, SEGMENT_HEADER, 0))
        finally:
            files.close(fd)
        if decoded is not None:
            return decoded[1].generation
    return None


def _records(directory: Path, manifest: Manifest, generation: int, findings: Findings) -> Iterator[tuple[RecordHeader, bytes]]:
    """
    Yield the records that verify, segment by segment; of a segment those that the next one does not repeat.
    """
    segments = list_segments(directory) if files.exists(directory) else []
    for place, first in enumerate(segments):
        path = directory / segment_name(first)
        try:
            data = files.read_file(path, _MOST_BYTES)
        except (Corruption, StorageError) as error:
            findings.problem(str(error))
            continue
        decoded = SegmentHeader.decode(data)
        if decoded is None or decoded[1].uuid != manifest.uuid:
            findings.problem(f"{path}: its header is damaged, and what it holds is lost")
            continue
        if decoded[1].generation != generation:
            continue  # of before the last compaction, or begun by one that was cut
        end = segments[place + 1] if place + 1 < len(segments) else None
        position = data.find(_RECORD_MAGIC, SEGMENT_HEADER)
        while position >= 0:
            header = RecordHeader.decode(data[position : position + RECORD_HEADER], decoded[1].salt) if position % 8 == 0 else None
            if header is not None and header.length <= MAX_BODY and (end is None or header.lsn < end):
                body = data[position + RECORD_HEADER : position + RECORD_HEADER + header.length]
                if header.matches(body):
                    yield header, body
                    position = data.find(_RECORD_MAGIC, position + header.size)
                    continue
            position = data.find(_RECORD_MAGIC, position + 1)
