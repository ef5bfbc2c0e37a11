"""
Following a log: whole calls in order, whatever the writer is doing; and what tells that it has moved on.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from log_harness import GENERATION, UUID, body, create_log, open_log, small_segments
from storage_doubles import QuickSystem

from vecdb.errors import Corruption
from vecdb.storage import files
from vecdb.storage.log_follower import LogFollower, LogGap, Moved, check_reaches
from vecdb.storage.log_reader import list_segments, segment_name
from vecdb.storage.segments import MAX_BODY, SEGMENT_HEADER
from vecdb.storage.wal import Log


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "system", QuickSystem())
    small_segments(monkeypatch, 4096)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    create_log(tmp_path / "wal")
    return tmp_path / "wal"


class Follower:
    """
    A follower and what it was given.
    """

    def __init__(self, directory: Path, *, applied_lsn: int = 0) -> None:
        self.current = GENERATION
        self.taken: list[tuple[int, bytes]] = []
        self.log = LogFollower(directory, uuid=UUID, generation=GENERATION, applied_lsn=applied_lsn, current=lambda: self.current)

    def follow(self) -> list[tuple[int, bytes]]:
        """
        Return what is new.
        """
        before = len(self.taken)
        self.log.hold()
        found = self.log.read(lambda lsn, content: self.taken.append((lsn, bytes(content))))
        assert found == (len(self.taken) > before)
        return self.taken[before:]


def write(log: Log, *numbers: int, size: int = 900) -> list[tuple[int, bytes]]:
    written = []
    for number in numbers:
        ticket = log.enqueue([body(number, size)])
        log.wait(ticket)
        written.append((ticket.lsn, body(number, size)))
    return written


def test_calls_are_handed_out_once_in_order_across_segments(directory: Path) -> None:
    log = open_log(directory).log
    first = write(log, 1, 2)
    follower = Follower(directory)
    assert first == follower.follow()
    assert [] == follower.follow()
    for start in range(3, 40, 9):
        assert write(log, *range(start, start + 9)) == follower.follow()
    assert len(list_segments(directory)) > 3
    clean_lsn = log.close(clean=True)
    assert [] == follower.follow()
    again = open_log(directory, clean_lsn=clean_lsn).log
    assert write(again, 99) == follower.follow()
    again.close(clean=True)
    follower.log.close()


def test_only_calls_behind_the_checkpoint_are_handed_out(directory: Path) -> None:
    log = open_log(directory).log
    written = write(log, *range(1, 20))
    follower = Follower(directory, applied_lsn=7)
    assert written[7:] == follower.follow()
    log.close(clean=False)
    follower.log.close()


def test_a_call_that_is_there_in_part_waits_until_it_is_whole(directory: Path) -> None:
    log = open_log(directory).log
    known = write(log, 1)
    ticket = log.enqueue([body(2, 2 * MAX_BODY + 1000)])
    log.wait(ticket)
    log.close(clean=False)
    *_, last = list_segments(directory)
    whole = (directory / segment_name(last)).read_bytes()
    follower = Follower(directory)
    # Byte by byte around the ends of its three records, as a reader may see them while they are written.
    starts = [at for at in range(0, len(whole), 8) if whole[at : at + 4] == b"VWAL"]
    assert len(starts) >= 3
    for end in (*starts, *(start + 20 for start in starts), *(start + 300 for start in starts), starts[-1] + 1000):
        (directory / segment_name(last)).write_bytes(whole[:end].ljust(len(whole), b"\0"))
        assert (known if not follower.taken else []) == follower.follow()
    (directory / segment_name(last)).write_bytes(whole)
    assert [(ticket.lsn, body(2, 2 * MAX_BODY + 1000))] == follower.follow()
    follower.log.close()


def test_an_unfinished_call_of_a_killed_writer_is_left_out_when_another_goes_on(directory: Path) -> None:
    log = open_log(directory).log
    known = write(log, 1)
    ticket = log.enqueue([body(2, MAX_BODY + 10)])
    log.wait(ticket)
    log.close(clean=False)
    *_, last = list_segments(directory)
    path = directory / segment_name(last)
    data = path.read_bytes()
    second = data.index(b"VWAL", data.index(body(2, 50)) + MAX_BODY - 100)
    path.write_bytes(data[:second].ljust(len(data), b"\0"))
    follower = Follower(directory)
    assert known == follower.follow()
    again = open_log(directory).log
    assert write(again, 3) == follower.follow()
    again.close(clean=False)
    follower.log.close()


def test_what_was_opened_is_read_to_its_end_although_it_was_removed(directory: Path) -> None:
    log = open_log(directory).log
    follower = Follower(directory)
    written = write(log, *range(1, 12))
    follower.log.hold()
    log.switch_segment()
    log.drop_through(log.end_lsn)
    assert written == follower.follow()
    assert write(log, 50) == follower.follow()
    log.close(clean=False)
    follower.log.close()


def test_a_follower_that_is_left_behind_says_so(directory: Path) -> None:
    log = open_log(directory).log
    follower = Follower(directory)
    known = write(log, 1)
    assert known == follower.follow()
    known += write(log, *range(2, 20))
    log.switch_segment()
    log.drop_through(log.end_lsn)
    write(log, 20)
    with pytest.raises(Moved):
        follower.follow()
    with pytest.raises(LogGap):
        Follower(directory, applied_lsn=1)
    assert known[: len(follower.taken)] == follower.taken  # the segment that it had open
    log.close(clean=False)
    follower.log.close()


def test_records_that_a_recovery_has_written_again_are_not_taken_twice(directory: Path) -> None:
    log = open_log(directory).log
    follower = Follower(directory)
    written = write(log, 1, 2, 3)
    assert written == follower.follow()
    log.close(clean=False)
    again = open_log(directory)  # the last call is doubtful, and written again in front of what follows
    assert written == again.replayed
    with pytest.raises(Moved):
        follower.follow()
    assert written == follower.taken
    fresh = Follower(directory)
    assert [*written, *write(again.log, 4)] == fresh.follow()
    again.log.close(clean=False)
    follower.log.close()
    fresh.log.close()


def test_an_empty_segment_may_be_replaced_by_the_next_writer(directory: Path) -> None:
    follower = Follower(directory)
    assert [] == follower.follow()
    log = open_log(directory).log
    assert write(log, 1) == follower.follow()
    log.close(clean=False)
    follower.log.close()


def test_a_segment_of_the_next_generation_ends_the_log_until_current_names_it(directory: Path) -> None:
    log = open_log(directory).log
    follower = Follower(directory)
    assert write(log, 1) == follower.follow()
    assert log.begin_generation(GENERATION + 1, log.end_lsn)
    assert [] == follower.follow()
    fresh = Follower(directory, applied_lsn=1)
    assert [] == fresh.follow()
    for one in (follower, fresh):
        one.current = GENERATION + 1
        with pytest.raises(Moved):
            one.follow()
        one.log.close()
    log.close(clean=False)


def test_damage_below_what_later_records_confirm_is_corruption(directory: Path) -> None:
    log = open_log(directory).log
    write(log, 1)
    follower = Follower(directory)
    assert 1 == len(follower.follow())
    write(log, 2, 3, size=100)
    path = directory / segment_name(list_segments(directory)[-1])
    data = bytearray(path.read_bytes())
    data[data.index(body(2, 50)) + 3] ^= 1
    path.write_bytes(data)
    with pytest.raises(Corruption, match="record 2 is damaged"):
        follower.follow()
    assert 1 == len(follower.taken)
    log.close(clean=False)
    follower.log.close()


def test_a_zeroed_record_is_found_when_the_log_is_opened(directory: Path) -> None:
    log = open_log(directory).log
    write(log, 1, 2, 3, size=100)
    log.close(clean=False)
    path = directory / segment_name(list_segments(directory)[-1])
    data = path.read_bytes()
    path.write_bytes(data[:SEGMENT_HEADER] + bytes(144) + data[SEGMENT_HEADER + 144 :])
    follower = Follower(directory)
    assert [] == follower.follow()
    with pytest.raises(Corruption, match="record 1 is damaged"):
        follower.log.check_end()
    with pytest.raises(Corruption, match="log gap"):
        check_reaches(follower.log, directory, 1)
    follower.log.close()


def test_reading_ends_where_it_is_asked_to(directory: Path) -> None:
    log = open_log(directory).log
    written = write(log, *range(1, 10))
    follower = Follower(directory)
    follower.log.read(lambda lsn, content: follower.taken.append((lsn, bytes(content))), until=4)
    assert (written[:4], 4) == (follower.taken, follower.log.last_lsn)
    assert written[4:] == follower.follow()
    log.close(clean=False)
    follower.log.close()


def two_logs(directory: Path) -> tuple[Path, Path]:
    """
    Write the same numbers of calls of the same sizes into two logs, and return the second segment of each.
    """
    other = directory.with_name("other")
    create_log(other)
    for where, first in ((directory, 1), (other, 11)):
        write(open_log(where).log, *range(first, first + 6))
    assert list_segments(directory) == list_segments(other)
    newest = segment_name(list_segments(directory)[1])
    return directory / newest, other / newest


def test_a_segment_that_does_not_continue_what_was_read_is_another_log(directory: Path) -> None:
    own, foreign = two_logs(directory)
    for path in sorted(directory.iterdir())[1:]:
        path.unlink()
    follower = Follower(directory)
    assert own.name == segment_name(follower.follow()[-1][0] + 1)
    foreign.rename(own)
    with pytest.raises(Moved, match="does not continue what was read"):
        follower.follow()


def test_an_empty_segment_replaced_by_one_that_does_not_continue_is_another_log(directory: Path) -> None:
    own, foreign = two_logs(directory)
    data = own.read_bytes()
    own.write_bytes(data[:SEGMENT_HEADER] + bytes(len(data) - SEGMENT_HEADER))
    follower = Follower(directory, applied_lsn=list_segments(directory)[1] - 1)
    assert [] == follower.follow()
    foreign.rename(own)
    with pytest.raises(Moved, match="was replaced by one that does not continue"):
        follower.follow()
