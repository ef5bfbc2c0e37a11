"""
The segment that is made ahead: when, what it saves, and that the want of it fails nobody.
"""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from log_harness import body, contents, create_log, open_log, read_log, small_segments
from storage_doubles import CountingSystem, FullDisk, QuickSystem, Stopped

from vecdb.errors import StorageError
from vecdb.storage import files
from vecdb.storage.spares import Spares

SIZE = 4096


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(files, "system", QuickSystem())
    small_segments(monkeypatch, SIZE)
    create_log(tmp_path / "wal")
    return tmp_path / "wal"


def spares_in(directory: Path) -> list[int]:
    """
    Return the lengths of the spares.
    """
    return [len(data) for name, data in contents(directory).items() if name.startswith("spare")]


def test_a_segment_is_made_ahead_once_the_open_one_is_half_full(directory: Path) -> None:
    opened = open_log(directory)
    opened.write(body(0, 1000))
    assert [] == spares_in(directory)
    opened.write(body(1, 1000))
    assert [2 * SIZE] == spares_in(directory)
    opened.write(body(2, 1000))
    assert [2 * SIZE] == spares_in(directory)
    opened.write(body(3, 1000))
    assert [] == spares_in(directory), "it is the open segment now"
    assert [SIZE, 2 * SIZE] == [len(data) for data in contents(directory).values()]
    assert [(i + 1, body(i, 1000)) for i in range(4)] == read_log(directory)


def test_entering_a_spare_writes_no_zeros(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = open_log(directory)
    for i in range(3):
        opened.write(body(i, 1000))
    system = CountingSystem()
    monkeypatch.setattr(files, "system", system)
    opened.write(body(3, 1000))
    changes = [name for name in system.calls if name in ("pwritev", "sync_data", "rename", "sync_directory")]
    assert ["pwritev", "sync_data", "rename", "sync_directory", "pwritev", "sync_data"] == changes


def test_a_checkpoint_only_gives_its_spare_a_name_while_it_holds_writers(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = open_log(directory)
    opened.log.spares.wanted = None
    for i in range(3):
        opened.write(body(i, 1000))
    opened.log.spares.make_for_switch()
    system = CountingSystem()
    monkeypatch.setattr(files, "system", system)
    assert 3 == opened.log.switch_segment()
    changes = [name for name in system.calls if name in ("pwritev", "sync_data", "rename", "sync_directory")]
    assert ["pwritev", "sync_data", "rename", "sync_directory"] == changes
    assert [SIZE, SIZE] == [len(data) for data in contents(directory).values()]


def test_no_spare_is_made_for_a_checkpoint_that_stays_in_its_segment(directory: Path) -> None:
    opened = open_log(directory)
    opened.write(b"little")
    opened.log.spares.make_for_switch()
    assert [] == spares_in(directory)


def test_a_full_disk_that_prevents_a_spare_fails_no_write_that_fits(
    directory: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    disk = FullDisk()
    monkeypatch.setattr(files, "system", disk)
    opened = open_log(directory)
    opened.write(body(0, 1000))
    disk.full = True
    opened.write(body(1, 1000))
    assert "could not be made ahead" in caplog.text
    opened.write(body(2, 1000))
    with pytest.raises(StorageError, match="free space"):
        opened.write(body(3, 1000))
    disk.full = False
    assert 4 == opened.write(body(4, 1000))
    assert [1, 2, 3, 4] == [lsn for lsn, _ in read_log(directory)]


def test_a_spare_takes_writes_while_the_disk_is_full(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = FullDisk()
    monkeypatch.setattr(files, "system", disk)
    opened = open_log(directory)
    for i in range(3):
        opened.write(body(i, 1000))
    disk.full = True
    for i in range(3, 10):
        opened.write(body(i, 1000))
    assert [(i + 1, body(i, 1000)) for i in range(10)] == read_log(directory)


def test_a_spare_that_is_too_short_waits_for_a_call_that_fits(directory: Path) -> None:
    opened = open_log(directory)
    for i in range(2):
        opened.write(body(i, 1000))
    opened.write(body(2, 100_000))
    assert [2 * SIZE] == spares_in(directory)
    opened.log.spares.wanted = None
    opened.write(body(3, 5000))
    assert [] == spares_in(directory)
    assert [1000, 1000, 100_000, 5000] == [len(call) for _, call in read_log(directory)]


def test_a_spare_goes_at_an_orderly_end_and_what_a_kill_left_at_the_next_opening(directory: Path) -> None:
    opened = open_log(directory)
    for i in range(2):
        opened.write(body(i, 1000))
    assert [2 * SIZE] == spares_in(directory)
    open_log(directory, writable=False)
    assert [2 * SIZE] == spares_in(directory), "a reader removes nothing"
    again = open_log(directory)
    assert 2 == len(again.replayed)
    assert [] == spares_in(directory)
    for i in range(3):
        again.write(body(i, 1000))
    assert 1 == len(spares_in(directory))
    again.log.close(clean=True)
    again.log.spares.make()
    assert [] == spares_in(directory)


def test_an_interrupt_while_a_spare_is_made_leaves_nothing(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupted(CountingSystem):
        def before(self, name: str) -> None:
            if name == "sync_data":
                raise Stopped

    spares = Spares(directory)
    monkeypatch.setattr(files, "system", Interrupted())
    with pytest.raises(Stopped):
        spares.make()
    assert ["00000000000000000001.log"] == list(contents(directory))


def test_a_thread_that_cannot_be_started_fails_no_write(directory: Path, caplog: pytest.LogCaptureFixture) -> None:
    def refuse() -> None:
        raise RuntimeError("can't start new thread")

    opened = open_log(directory)
    opened.log.spares.wanted = refuse
    for i in range(6):
        opened.write(body(i, 1000))
    assert "can't start new thread" in caplog.text
    assert 6 == len(read_log(directory))


def test_threads_write_through_segments_that_another_thread_makes(directory: Path) -> None:
    opened = open_log(directory)
    opened.log.spares.wanted = opened.log.spares.make_in_background
    placing = threading.Lock()

    def work(number: int) -> None:
        for i in range(30):
            with placing:
                ticket = opened.log.enqueue([body(number * 100 + i, 900)], payload=number * 100 + i)
            opened.log.wait(ticket)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    opened.log.close(clean=True)
    assert [] == spares_in(directory)
    expected = [(lsn, body(number, 900)) for lsn, number in opened.applied if isinstance(number, int)]
    assert 120 == len(expected)
    assert expected == read_log(directory)
