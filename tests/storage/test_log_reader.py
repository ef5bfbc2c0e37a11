"""
Reading a log: torn ends, damage, gaps, groups across segments; by the rules of docs/file_format.md.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from log_harness import GENERATION, UUID, body, contents, create_log, open_log, read_log, small_segments
from storage_doubles import SECTOR, QuickSystem

from vecdb._crc import crc32c
from vecdb.errors import Corruption, StorageError
from vecdb.storage import files, log_reader, wal
from vecdb.storage.segments import (
    COMMIT,
    MAX_BODY,
    RECORD_HEADER,
    SEGMENT_HEADER,
    Kind,
    RecordHeader,
    SegmentHeader,
    encode_record,
    has_unwritten_sector,
)

FIRST = "00000000000000000001.log"
CALLS = [body(1, 100), body(2, 1300), body(3, 30), body(4, 700)]
EXPECTED = [(lsn, call) for lsn, call in enumerate(CALLS, start=1)]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "system", QuickSystem())
    small_segments(monkeypatch, 4096)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    create_log(tmp_path / "wal")
    return tmp_path / "wal"


def small_log(directory: Path) -> tuple[bytes, list[int]]:
    """
    Write CALLS, all but the last confirmed by the next, and return the only segment and the ends of the records.
    """
    opened = open_log(directory)
    ends = [SEGMENT_HEADER]
    for call in CALLS:
        opened.write(call)
        ends.append(ends[-1] + RECORD_HEADER + len(call) + -len(call) % 8)
    opened.log.close(clean=False)
    assert [FIRST] == list(contents(directory))
    return (directory / FIRST).read_bytes(), ends


def outcome(directory: Path, *, clean_lsn: int = 0) -> list[tuple[int, bytes]] | None:
    """
    Return what is replayed, None for Corruption; and see that a writer that opens the log, writes and opens again agrees.
    """
    try:
        seen = read_log(directory, clean_lsn=clean_lsn)
    except Corruption:
        with pytest.raises(Corruption):
            open_log(directory, clean_lsn=clean_lsn)
        return None
    opened = open_log(directory, clean_lsn=clean_lsn)
    lsn = opened.write(b"new")
    opened.log.close(clean=False)
    assert seen == opened.replayed
    assert [*seen, (lsn, b"new")] == read_log(directory)
    return seen


def written(directory: Path, data: bytes) -> Path:
    """
    Make the log one of this single segment.
    """
    for path in directory.iterdir():
        path.unlink()
    (directory / FIRST).write_bytes(data)
    return directory


def whole_before(ends: list[int], byte: int) -> int:
    return sum(end <= byte for end in ends[1:])


def test_a_log_lost_from_any_sector_on_keeps_the_whole_calls_before_it(directory: Path) -> None:
    data, ends = small_log(directory)
    for cut in range(SECTOR, len(data), SECTOR):
        whole = whole_before(ends, cut)
        for damaged in (data[:cut], data[:cut] + bytes(len(data) - cut)):
            assert EXPECTED[:whole] == outcome(written(directory, damaged)), f"from byte {cut} on"
            if whole < len(CALLS):
                assert outcome(written(directory, damaged), clean_lsn=len(CALLS)) is None, f"from byte {cut} on, after an orderly close"


def test_a_log_lost_from_any_byte_on_is_a_whole_prefix_or_corruption(directory: Path) -> None:
    data, ends = small_log(directory)
    for cut in range(ends[-1] + 50):
        whole = whole_before(ends, cut)
        for damaged in (data[:cut], data[:cut] + bytes(len(data) - cut)):
            try:
                seen: list[tuple[int, bytes]] | None = read_log(written(directory, damaged))
            except Corruption:
                seen = None
            if cut < SEGMENT_HEADER:
                assert seen is None
            elif whole < len(CALLS) and not any(data[cut : ends[whole + 1]]):
                assert EXPECTED[: whole + 1] == seen, f"from byte {cut} on, which are zeros anyway"
            elif cut in ends:
                assert EXPECTED[:whole] == seen, f"from byte {cut} on"
            else:
                # No power cut ends a write within a sector, unless a whole sector is missing too: this may be called damage.
                assert seen in (None, EXPECTED[:whole]), f"from byte {cut} on"


def test_a_flipped_bit_anywhere_is_noticed_or_does_no_harm(directory: Path) -> None:
    data, ends = small_log(directory)
    harmless = 0
    for byte in range(ends[-1] + RECORD_HEADER + 100):
        in_header = any(end <= byte < end + RECORD_HEADER for end in ends)
        for bit in range(8) if in_header or byte < SEGMENT_HEADER else (byte % 8,):
            damaged = bytearray(data)
            damaged[byte] ^= 1 << bit
            written(directory, bytes(damaged))
            try:
                seen = read_log(directory)
            except Corruption:
                continue
            harmless += 1
            if byte >= ends[-1]:
                assert EXPECTED == seen, f"bit {bit} of byte {byte}"
            else:
                # Only of the last call, which no later record confirms, may a sector's share look unwritten.
                assert byte >= ends[-2], f"bit {bit} of byte {byte}"
                assert EXPECTED[:-1] == seen
                assert has_unwritten_sector(bytes(damaged[ends[-2] : ends[-1]]), ends[-2])
    assert harmless > 0


def test_a_flipped_bit_in_a_confirmed_log_is_always_noticed(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wal, "IDLE_SECONDS", 0.0)
    opened = open_log(directory)
    for call in CALLS:
        opened.write(call)
    assert opened.log.note_idle()
    opened.log.close(clean=False)
    data = (directory / FIRST).read_bytes()
    end = len(data.rstrip(b"\0"))
    for byte in range(end - RECORD_HEADER):
        damaged = bytearray(data)
        damaged[byte] ^= 1 << byte % 8
        with pytest.raises(Corruption, match=FIRST):
            read_log(written(directory, bytes(damaged)))


def test_zeroed_sectors_of_confirmed_calls_are_corruption_and_of_the_last_call_its_end(directory: Path) -> None:
    data, ends = small_log(directory)
    for sector in range(0, ends[-1], SECTOR):
        damaged = data[:sector] + bytes(SECTOR) + data[sector + SECTOR :]
        if damaged == data:
            continue
        seen = outcome(written(directory, damaged))
        confirmed = sector < ends[-2]
        # A sector in which the last header stood takes the proof with it.
        proof_lost = sector <= ends[-2] + RECORD_HEADER - 1 < sector + SECTOR or sector <= ends[-2] < sector + SECTOR
        if confirmed and not proof_lost:
            assert seen is None, f"sector at {sector}"
        elif confirmed:
            assert seen is None or EXPECTED[: len(seen)] == seen
        else:
            assert EXPECTED[:-1] == seen, f"sector at {sector}"


def test_a_torn_write_of_two_calls_at_once_drops_both_when_the_first_is_torn(directory: Path) -> None:
    opened = open_log(directory)
    opened.write(body(0, 100))
    tickets = [opened.log.enqueue([body(1, 1400)]), opened.log.enqueue([body(2, 600)])]
    opened.log.wait(tickets[1])
    opened.log.close(clean=False)
    data = (directory / FIRST).read_bytes()
    assert data[512:1024].strip(b"\0")
    assert [(1, body(0, 100))] == outcome(written(directory, data[:512] + bytes(512) + data[1024:]))


def segment(first_lsn: int, records: list[bytes], *, prev_dcrc: int = 0, salt: int = 77, durable_lsn: int | None = None) -> bytes:
    durable = first_lsn - 1 if durable_lsn is None else durable_lsn
    header = SegmentHeader(UUID, GENERATION, first_lsn, durable, prev_dcrc, salt)
    return (header.encode() + b"".join(records)).ljust(4096, b"\0")


class Records:
    """
    Makes records that continue one another.
    """

    def __init__(self, *, lsn: int = 1, dcrc: int = 0, salt: int = 77) -> None:
        self.lsn, self.dcrc, self.salt, self.durable = lsn, dcrc, salt, lsn - 1

    def make(self, call: bytes, *, part: int = 0, flags: int = COMMIT, kind: int = Kind.CALL) -> bytes:
        pieces, self.dcrc = encode_record(
            [call], salt=self.salt, lsn=self.lsn, durable_lsn=self.durable, prev_dcrc=self.dcrc, kind=kind, flags=flags, part=part
        )
        self.lsn += 1
        return b"".join(pieces)


def test_a_call_across_segments_is_put_together(directory: Path) -> None:
    records = Records()
    first = [records.make(b"one"), records.make(b"two-", flags=0)]
    (directory / FIRST).write_bytes(segment(1, first))
    records.durable = 2
    second = [records.make(b"second-", part=1, flags=0), records.make(b"third", part=2), records.make(b"next")]
    dcrc = RecordHeader.decode(first[1], 77)
    assert dcrc is not None
    (directory / "00000000000000000003.log").write_bytes(segment(3, second, prev_dcrc=dcrc.dcrc))
    assert [(1, b"one"), (4, b"two-second-third"), (5, b"next")] == read_log(directory)
    assert [(5, b"next")] == read_log(directory, applied_lsn=4)
    (directory / FIRST).unlink()
    assert [(5, b"next")] == read_log(directory, applied_lsn=4)
    with pytest.raises(Corruption, match="log gap"):
        read_log(directory, applied_lsn=1)
    with pytest.raises(Corruption, match="began before"):
        read_log(directory, applied_lsn=2)


def test_an_unfinished_call_at_the_end_is_dropped_and_its_lsns_are_used_again(directory: Path) -> None:
    records = Records()
    (directory / FIRST).write_bytes(
        segment(1, [records.make(b"one"), records.make(b"half", flags=0), records.make(b"more", part=1, flags=0)])
    )
    opened = open_log(directory)
    assert [(1, b"one")] == opened.replayed
    assert 2 == opened.write(b"two")
    assert [(1, b"one"), (2, b"two")] == outcome(directory)


def test_an_unfinished_call_whose_start_is_proven_ends_where_a_segment_begins_anew(directory: Path) -> None:
    records = Records()
    start = [records.make(b"one"), records.make(b"half", flags=0)]
    last = RecordHeader.decode(start[1], 77)
    assert last is not None
    (directory / FIRST).write_bytes(segment(1, start))
    (directory / "00000000000000000003.log").write_bytes(segment(3, [], prev_dcrc=last.dcrc))
    opened = open_log(directory)
    assert [(1, b"one")] == opened.replayed
    assert 3 == opened.write(b"two")
    assert [(1, b"one"), (3, b"two")] == outcome(directory)


def test_the_bytes_are_those_of_the_format_description(directory: Path) -> None:
    opened = open_log(directory)
    opened.write(b"first")
    opened.write(b"a call")
    opened.log.close(clean=True)
    data = (directory / FIRST).read_bytes()
    magic, version, crc, uuid, generation, first_lsn, durable_lsn, prev_dcrc, salt = struct.unpack_from("<8sII16sQQQII", data)
    assert (b"VDBWAL\0\1", 1, UUID, GENERATION, 1, 0, 0) == (magic, version, uuid, generation, first_lsn, durable_lsn, prev_dcrc)
    assert crc == crc32c(data[:12] + data[16:64])
    position, chain = 64, 0
    for lsn, call, kind in ((1, b"first", 1), (2, b"a call", 1), (3, b"", 3)):
        fields = (lsn, lsn - 1, len(call))
        dcrc = crc32c(call, crc32c(struct.pack("<QQI", *fields)))
        rest = struct.pack("<QQIIIBBH", *fields, dcrc, chain, kind, 1, 0)
        expected = b"VWAL" + struct.pack("<I", crc32c(rest, salt)) + rest + call.ljust((len(call) + 7) // 8 * 8, b"\0")
        assert expected == data[position : position + len(expected)]
        position, chain = position + len(expected), dcrc
    assert not data[position:].strip(b"\0")


def test_a_record_that_does_not_continue_the_one_before_is_corruption(directory: Path) -> None:
    records = Records()
    first = records.make(b"one")
    records.dcrc ^= 1
    (directory / FIRST).write_bytes(segment(1, [first, records.make(b"two")]))
    with pytest.raises(Corruption, match="record 2 was written whole and is damaged"):
        read_log(directory)


def test_a_segment_that_appeared_before_its_predecessor_was_synced_is_corruption(directory: Path) -> None:
    (directory / FIRST).write_bytes(segment(1, [], durable_lsn=1))
    with pytest.raises(Corruption, match="says that it begins at LSN 1"):
        read_log(directory)


@pytest.mark.parametrize(
    "make",
    [
        lambda r: [r.make(b"x", flags=0), r.make(b"new call in the middle of one")],
        lambda r: [r.make(b"x"), r.make(b"a part of nothing", part=1)],
        lambda r: [r.make(b"x", flags=0), r.make(b"a part is missing", part=2)],
        lambda r: [r.make(b"x", kind=9)],
        lambda r: [r.make(b"x", flags=COMMIT | 4)],
        lambda r: [r.make(b"a mark with a body", kind=Kind.NOOP)],
        lambda r: [r.make(b"", kind=Kind.CLOSE, flags=0)],
        lambda r: [setattr(r, "durable", 1) or r.make(b"claims itself durable")],
    ],
)
def test_records_that_no_writer_makes_are_corruption(directory: Path, make: Callable[[Records], list[bytes]]) -> None:
    (directory / FIRST).write_bytes(segment(1, make(Records())))
    with pytest.raises(Corruption, match=FIRST):
        read_log(directory)


def test_a_record_longer_than_the_limit_is_not_read(directory: Path) -> None:
    rest = struct.pack("<QQIIIBBH", 1, 0, MAX_BODY + 8, 0, 0, 1, 1, 0)
    (directory / FIRST).write_bytes(segment(1, [struct.pack("<4sI", b"VWAL", crc32c(rest, 77)) + rest]))
    with pytest.raises(Corruption, match="written whole and is damaged"):
        read_log(directory)


def test_a_call_longer_than_the_limit_is_not_put_together(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_reader, "MAX_CALL_BYTES", 100)
    records = Records()
    (directory / FIRST).write_bytes(segment(1, [records.make(bytes(60), flags=0), records.make(bytes(60), part=1)]))
    with pytest.raises(Corruption, match="larger than 100 bytes"):
        read_log(directory)


def many_segments(directory: Path) -> list[str]:
    opened = open_log(directory)
    for i in range(40):
        opened.write(body(i, 900))
    clean_lsn = opened.log.close(clean=True)
    assert 41 == clean_lsn
    return list(contents(directory))


def test_a_missing_segment_is_a_gap(directory: Path) -> None:
    names = many_segments(directory)
    assert len(names) > 3
    for name in names:
        data = (directory / name).read_bytes()
        (directory / name).unlink()
        with pytest.raises(Corruption):
            read_log(directory, clean_lsn=41)
        if name == names[0]:
            with pytest.raises(Corruption, match="log gap: the log begins at LSN"):
                read_log(directory)
        (directory / name).write_bytes(data)
    assert 40 == len(read_log(directory, clean_lsn=41))
    with pytest.raises(Corruption, match="everything up to 42 was confirmed"):
        read_log(directory, clean_lsn=42)
    with pytest.raises(Corruption, match="everything up to 50 was confirmed"):
        read_log(directory, applied_lsn=50)


def test_a_log_without_segments_is_a_gap(directory: Path) -> None:
    (directory / FIRST).unlink()
    with pytest.raises(Corruption, match="has no segment"):
        read_log(directory)


def test_obsolete_segments_may_be_missing_or_damaged(directory: Path) -> None:
    names = many_segments(directory)
    last = int(names[-1][:20])
    (directory / names[0]).unlink()
    (directory / names[1]).write_bytes(b"damaged")
    assert list(range(last, 41)) == [lsn for lsn, _ in read_log(directory, applied_lsn=last - 1)]


def test_a_segment_put_in_place_of_another_is_noticed(directory: Path) -> None:
    names = many_segments(directory)
    data = [(directory / name).read_bytes() for name in names]
    (directory / names[1]).write_bytes(data[2])
    with pytest.raises(Corruption, match="says that it begins at LSN"):
        read_log(directory)


def test_an_older_copy_of_a_segment_does_not_continue_its_predecessor(directory: Path) -> None:
    records = Records()
    first = [records.make(b"one")]
    (directory / FIRST).write_bytes(segment(1, first))
    (directory / "00000000000000000002.log").write_bytes(segment(2, [], prev_dcrc=12345))
    with pytest.raises(Corruption, match="does not continue"):
        read_log(directory)


def test_a_damaged_record_before_the_last_segment_is_corruption(directory: Path) -> None:
    names = many_segments(directory)
    path = directory / names[1]
    data = path.read_bytes()
    used = len(data.rstrip(b"\0"))
    path.write_bytes(data[: used - 200] + bytes(len(data) - used + 200))
    with pytest.raises(Corruption, match="although the next segment begins at"):
        read_log(directory)


def test_a_newer_segment_format_is_named(directory: Path) -> None:
    data = bytearray((directory / FIRST).read_bytes())
    data[8:12] = struct.pack("<I", 2)
    data[12:16] = struct.pack("<I", crc32c(bytes(data[16:64]), crc32c(bytes(data[:12]))))
    (directory / FIRST).write_bytes(data)
    with pytest.raises(StorageError, match="newer vecdb, format 2"):
        read_log(directory)
