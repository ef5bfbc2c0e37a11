"""
The live log: LSNs, segments, group commit, marks, refusals, and Ctrl-C.
"""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from log_harness import GENERATION, UUID, Opened, body, contents, create_log, open_log, read_log, small_segments
from storage_doubles import CountingSystem, FullDisk, QuickSystem

from vecdb.errors import InternalError, InvalidArgument, ReadOnly, StorageError
from vecdb.storage import files, wal
from vecdb.storage.segments import MAX_BODY
from vecdb.storage.wal import Log, Ticket


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "system", QuickSystem())


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    create_log(tmp_path / "wal")
    return tmp_path / "wal"


def test_calls_are_replayed_in_order_with_consecutive_lsns(directory: Path) -> None:
    opened = open_log(directory)
    lsns = [opened.write(body(i), b"", body(i)) for i in range(20)]
    expected = [(i + 1, body(i) * 2) for i in range(20)]
    assert list(range(1, 21)) == lsns
    assert expected == opened.applied
    assert expected == read_log(directory)
    assert expected[7:] == read_log(directory, applied_lsn=7)
    assert (20, 20) == (opened.log.last_lsn, opened.log.durable_lsn)


@pytest.mark.parametrize("size", [0, 1, 7, 8, MAX_BODY - 1, MAX_BODY, MAX_BODY + 1, 2 * MAX_BODY, 2 * MAX_BODY + 9])
def test_a_call_of_any_size_is_one_group(directory: Path, size: int) -> None:
    opened = open_log(directory)
    records = max(1, -(-size // MAX_BODY))
    call = (bytes(range(1, 252)) * (size // 251 + 1))[:size]
    assert 1 == opened.write(b"before")
    assert 1 + records == opened.write(call[: size // 3], call[size // 3 :])
    assert 2 + records == opened.write(b"after")
    assert [(1, b"before"), (1 + records, call), (2 + records, b"after")] == read_log(directory)


def test_a_call_beyond_the_limit_is_refused_before_anything_is_written(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wal, "MAX_CALL_BYTES", 1000)
    opened = open_log(directory)
    opened.write(bytes(1000))
    before = contents(directory)
    with pytest.raises(InvalidArgument, match="1,001 bytes, at most 1,000"):
        opened.log.enqueue([bytes(1001)])
    assert before == contents(directory)
    assert 2 == opened.write(b"fits")


def many_segments(directory: Path, monkeypatch: pytest.MonkeyPatch) -> Opened:
    """
    Return a new log of 200 calls over several segments.
    """
    small_segments(monkeypatch, 4096)
    create_log(directory)
    opened = open_log(directory)
    opened.log.spares.wanted = None
    for i in range(200):
        opened.write(body(i, 1000))
    return opened


def test_segments_follow_one_another_and_obsolete_ones_can_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = tmp_path / "wal"
    opened = many_segments(directory, monkeypatch)
    sizes = [len(data) for data in contents(directory).values()]
    assert len(sizes) >= 3
    assert sizes[1] < sizes[2]
    second = int(list(contents(directory))[1][:20])
    opened.log.drop_through(second - 2)
    assert len(sizes) == len(contents(directory)), "the last call of the first segment is not covered"
    opened.log.drop_through(second - 1)
    assert len(sizes) - 1 == len(contents(directory))
    opened.log.drop_through(100)
    assert [(i + 1, body(i, 1000)) for i in range(100, 200)] == read_log(directory, applied_lsn=100)
    opened.log.drop_through(10_000)
    assert 1 == len(contents(directory))
    opened.write(b"more")
    assert (201, b"more") == read_log(directory, applied_lsn=199)[-1]


def test_several_threads_may_drop_segments_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = tmp_path / "wal"
    opened = many_segments(directory, monkeypatch)
    assert len(contents(directory)) >= 3
    remove, others = files.remove, []

    def remove_and_cross(path: Path) -> None:
        remove(path)
        if not others:
            others.append(threading.Thread(target=opened.log.drop_through, args=(10_000,)))
            others[0].start()
            others[0].join(0.2)

    monkeypatch.setattr(files, "remove", remove_and_cross)
    opened.log.drop_through(10_000)
    others[0].join()
    assert 1 == len(contents(directory))
    for i in range(200, 400):
        opened.write(body(i, 1000))
    assert [(i + 1, body(i, 1000)) for i in range(200, 400)] == read_log(directory, applied_lsn=200)


def test_a_call_larger_than_a_segment_gets_one_that_fits_and_the_next_is_of_usual_size(directory: Path) -> None:
    opened = open_log(directory)
    opened.write(bytes(20 << 20))
    opened.write(b"next")
    opened.write(bytes(8 << 20))
    sizes = [len(data) for data in contents(directory).values()]
    assert (20 << 20) < max(sizes) < (20 << 20) + 8192
    assert sizes[-1] == 16 << 20
    assert [20 << 20, 4, 8 << 20] == [len(call) for _, call in read_log(directory)]


def test_a_checkpoint_starts_a_segment_so_that_the_log_can_shrink(directory: Path) -> None:
    opened = open_log(directory)
    opened.write(bytes(1 << 20))
    assert opened.log.bytes_since_checkpoint > 1 << 20
    assert 1 == opened.log.switch_segment()
    assert 0 == opened.log.bytes_since_checkpoint
    opened.log.drop_through(1)
    assert ["00000000000000000002.log"] == list(contents(directory))
    opened.write(b"small")
    assert 2 == opened.log.switch_segment()
    opened.log.drop_through(2)
    assert ["00000000000000000002.log"] == list(contents(directory)), "a nearly empty segment goes on"
    opened.write(b"later")
    assert [(3, b"later")] == read_log(directory, applied_lsn=2)


def test_a_checkpoint_on_a_full_disk_goes_on_in_the_old_segment(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = FullDisk()
    monkeypatch.setattr(files, "system", disk)
    opened = open_log(directory)
    opened.write(bytes(200_000))
    disk.full = True
    assert 1 == opened.log.switch_segment()
    assert 2 == opened.write(b"still fits")
    assert [(2, b"still fits")] == read_log(directory, applied_lsn=1)


def test_a_call_without_room_on_the_disk_is_refused_and_nothing_is_changed(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = FullDisk()
    monkeypatch.setattr(files, "system", disk)
    opened = open_log(directory)
    opened.write(b"first")
    before = contents(directory)
    disk.full = True
    with pytest.raises(StorageError, match="free space") as caught:
        opened.log.enqueue([bytes(400_000)])
    assert errno.ENOSPC == caught.value.errno
    assert before == contents(directory)
    assert 2 == opened.write(b"small ones still fit")
    disk.full = False
    assert 3 == opened.write(bytes(400_000))
    assert [1, 2, 3] == [lsn for lsn, _ in read_log(directory)]


def test_many_threads_share_syncs(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class SlowSync(CountingSystem):
        def before(self, name: str) -> None:
            if name == "sync_data":
                time.sleep(0.005)

    opened = open_log(directory)
    opened.write(b"first")
    system = SlowSync()
    monkeypatch.setattr(files, "system", system)
    write_lock = threading.Lock()
    done: list[int] = []

    def work(thread: int) -> None:
        for i in range(25):
            with write_lock:
                ticket = opened.log.enqueue([b"thread %d call %d" % (thread, i)], payload=(thread, i))
            opened.log.wait(ticket)
            assert opened.log.durable_lsn >= ticket.lsn
            assert opened.log.last_lsn >= ticket.lsn
            done.append(ticket.lsn)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(range(2, 202)) == sorted(done)
    assert list(range(1, 202)) == [lsn for lsn, _ in opened.applied]
    assert [b"thread %d call %d" % payload for _, payload in opened.applied[1:]] == [call for _, call in read_log(directory)[1:]]
    assert system.calls.count("sync_data") < 150


def test_calls_are_prepared_while_the_medium_is_at_work_and_applied_after_the_sync(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Noting(CountingSystem):
        def start_writing(self, fd: int, offset: int, count: int) -> None:
            self.calls.append(f"start {count}")

    opened, system = open_log(directory), Noting()
    opened.write(b"first")

    def prepare(tickets: Sequence[Ticket]) -> Callable[[], None]:
        system.calls.append(f"prepare {[ticket.lsn for ticket in tickets]}")
        return lambda: system.calls.append("apply")

    opened.log.prepare = prepare
    monkeypatch.setattr(files, "system", system)
    opened.write(b"eight by")
    assert ["pwritev", "start 48", "prepare [2]", "sync_data", "apply"] == system.calls


def test_a_call_whose_preparation_fails_is_not_applied_and_ends_writing(directory: Path) -> None:
    opened = open_log(directory)
    opened.write(b"first")

    def fail(tickets: object) -> Callable[[], None]:
        raise MemoryError("no room")

    opened.log.prepare = fail
    with pytest.raises(StorageError, match=r"no room.*read-only from now on"):
        opened.write(b"second")
    assert [(1, b"first")] == opened.applied
    with pytest.raises(ReadOnly):
        opened.log.enqueue([b"third"])
    assert [(1, b"first"), (2, b"second")] == read_log(directory)


def test_one_ticket_may_be_waited_for_by_many_and_again(directory: Path) -> None:
    opened = open_log(directory)
    ticket = opened.log.enqueue([b"x"])
    threads = [threading.Thread(target=opened.log.wait, args=(ticket,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    opened.log.wait(ticket)
    assert ticket.done
    with pytest.raises(InternalError):
        opened.log.wait(Ticket(1))


def test_an_idle_log_confirms_its_last_call_once(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = open_log(directory)
    assert not opened.log.note_idle()
    opened.write(b"call")
    assert not opened.log.note_idle(), "not before a second has passed"
    monkeypatch.setattr(wal, "IDLE_SECONDS", 0.0)
    assert opened.log.note_idle()
    assert not opened.log.note_idle()
    assert 2 == opened.log.last_lsn
    assert [(1, b"call")] == opened.applied
    data = contents(directory)["00000000000000000001.log"]
    damaged = data.replace(b"call", b"cal!")
    (directory / "00000000000000000001.log").write_bytes(damaged)
    with pytest.raises(Exception, match="a later one says that it was on the medium"):
        read_log(directory)


def test_marks_fit_behind_a_full_segment(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wal, "IDLE_SECONDS", 0.0)
    room = len(contents(directory)["00000000000000000001.log"]) - 64 - 2 * 40
    opened = open_log(directory)
    opened.write(bytes(room - 40 - 40))
    opened.write(b"")
    assert opened.log.note_idle()
    assert 4 == opened.log.close(clean=True)
    assert ["00000000000000000001.log"] == list(contents(directory))
    assert [1, 2] == [lsn for lsn, _ in read_log(directory, clean_lsn=4)]


def test_a_call_does_not_take_the_room_of_the_marks(directory: Path) -> None:
    room = len(contents(directory)["00000000000000000001.log"]) - 64 - 2 * 40
    opened = open_log(directory)
    opened.write(bytes(room - 40 - 40))
    opened.write(b"")
    opened.write(b"")
    assert ["00000000000000000001.log", "00000000000000000003.log"] == list(contents(directory))


def test_an_orderly_end_is_marked_and_needs_no_mending(directory: Path) -> None:
    opened = open_log(directory)
    opened.write(b"call")
    clean_lsn = opened.log.close(clean=True)
    assert 2 == clean_lsn
    before = contents(directory)
    again = open_log(directory, clean_lsn=clean_lsn)
    assert [(1, b"call")] == again.replayed
    assert clean_lsn == again.log.close(clean=True)
    assert before == contents(directory)
    third = open_log(directory, clean_lsn=clean_lsn)
    assert 3 == third.write(b"next")
    assert [(1, b"call"), (3, b"next")] == read_log(directory)


def test_reopening_again_and_again_keeps_everything(directory: Path) -> None:
    expected: list[tuple[int, bytes]] = []
    for i in range(12):
        opened = open_log(directory)
        assert expected == opened.replayed
        if i % 3:
            expected.append((opened.write(body(i, 300 * i)), body(i, 300 * i)))
        opened.log.close(clean=i % 4 == 0)
    assert expected == read_log(directory)


def test_opening_to_read_changes_nothing(directory: Path) -> None:
    opened = open_log(directory)
    opened.write(b"call")
    (directory / "00000000000000000009.log.tmp").write_bytes(b"left over")
    before = contents(directory)
    reader = open_log(directory, writable=False)
    assert [(1, b"call")] == reader.replayed
    with pytest.raises(ReadOnly, match="mode='a'"):
        reader.log.enqueue([b"x"])
    assert not reader.log.note_idle()
    reader.log.close(clean=True)
    assert before == contents(directory)
    open_log(directory)
    assert not any(name.endswith(".tmp") for name in contents(directory))


def test_os_durability_never_syncs_a_call_and_never_claims_so(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    system = CountingSystem()
    opened = open_log(directory, durability="os")
    opened.write(b"first")
    monkeypatch.setattr(files, "system", system)
    durable = opened.log.durable_lsn
    for i in range(10):
        opened.write(body(i))
    assert "sync_data" not in system.calls
    assert durable == opened.log.durable_lsn < opened.log.last_lsn == 11
    monkeypatch.setattr(wal, "IDLE_SECONDS", 0.0)
    assert not opened.log.note_idle()
    assert 11 == opened.log.switch_segment() == opened.log.durable_lsn
    assert 11 == len(read_log(directory))


def test_an_unknown_durability_is_refused(directory: Path) -> None:
    with pytest.raises(InvalidArgument, match='expected "fsync" or "os"'):
        open_log(directory, durability="none")


def test_a_log_of_another_collection_is_not_taken_for_this_one(directory: Path) -> None:
    for uuid, generation in ((bytes(16), GENERATION), (UUID, GENERATION + 1)):
        with pytest.raises(Exception, match="belongs to collection"):
            Log.open(directory, uuid=uuid, generation=generation, applied_lsn=0, clean_lsn=0, replay=lambda lsn, call: None)
