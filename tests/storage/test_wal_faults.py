"""
The live log when calls fail and when Ctrl-C breaks in: nothing confirmed is lost, nothing happens twice, nobody waits for ever.
"""

from __future__ import annotations

import errno
import os
import signal
import threading
from pathlib import Path

import pytest
from log_harness import Opened, body, contents, create_log, open_log, read_log, small_segments
from storage_doubles import CountingSystem, FaultySystem, QuickSystem

from vecdb.errors import ReadOnly, StorageError, VecdbError
from vecdb.storage import files, wal
from vecdb.storage.wal import Ticket


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "system", QuickSystem())


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    create_log(tmp_path / "wal")
    return tmp_path / "wal"


def test_a_failing_apply_makes_the_log_read_only_and_the_call_is_replayed(directory: Path) -> None:
    opened = open_log(directory)
    opened.write(b"first")

    def fail() -> None:
        raise MemoryError("no room")

    opened.log.prepare = lambda tickets: fail
    with pytest.raises(StorageError, match=r"no room.*read-only from now on"):
        opened.write(b"second")
    with pytest.raises(ReadOnly):
        opened.log.enqueue([b"third"])
    assert [(1, b"first"), (2, b"second")] == read_log(directory)


def test_a_failed_sync_fails_all_who_wait_and_is_never_tried_again(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = open_log(directory)
    opened.write(b"first")
    reached, go_on = threading.Event(), threading.Event()

    class FailingSync(CountingSystem):
        def before(self, name: str) -> None:
            if name == "sync_data":
                reached.set()
                go_on.wait()
                raise OSError(errno.EIO, os.strerror(errno.EIO))

    system = FailingSync()
    monkeypatch.setattr(files, "system", system)
    errors: list[BaseException] = []

    def write(ticket: Ticket) -> None:
        try:
            opened.log.wait(ticket)
        except StorageError as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(opened.log.enqueue([b"leader"]),))]
    threads[0].start()
    reached.wait()
    threads += [threading.Thread(target=write, args=(opened.log.enqueue([b"waits"]),)) for _ in range(3)]
    for thread in threads[1:]:
        thread.start()
    go_on.set()
    for thread in threads:
        thread.join()
    assert 4 == len({id(error) for error in errors})
    assert all("read-only from now on" in str(error) and isinstance(error, StorageError) and error.errno == errno.EIO for error in errors)
    assert opened.log.failed is not None
    with pytest.raises(ReadOnly, match="read-only from now on"):
        opened.log.enqueue([b"later"])
    with pytest.raises(ReadOnly):
        opened.log.switch_segment()
    with pytest.raises(StorageError):
        opened.log.close(clean=True)
    assert "sync_data" not in system.calls
    assert [(1, b"first")] == opened.applied


def test_ctrl_c_in_the_leader_comes_after_the_call_is_done(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupting(CountingSystem):
        def before(self, name: str) -> None:
            signal.raise_signal(signal.SIGINT)

    opened = open_log(directory)
    opened.write(b"first")
    with monkeypatch.context() as patch:
        patch.setattr(files, "system", Interrupting())
        ticket = opened.log.enqueue([b"second"], payload=b"second")
        with pytest.raises(KeyboardInterrupt):
            opened.log.wait(ticket)
    assert ticket.done
    assert 3 == opened.write(b"third")
    assert [(1, b"first"), (2, b"second"), (3, b"third")] == opened.applied == read_log(directory)


def test_ctrl_c_in_a_follower_comes_after_the_call_is_done(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = open_log(directory)
    opened.write(b"first")
    reached, go_on = threading.Event(), threading.Event()

    class Held(CountingSystem):
        def before(self, name: str) -> None:
            if name == "sync_data" and threading.current_thread() is not threading.main_thread():
                reached.set()
                go_on.wait()

    monkeypatch.setattr(files, "system", Held())
    leader = threading.Thread(target=opened.write, args=(b"leader",))
    leader.start()
    reached.wait()
    ticket = opened.log.enqueue([b"follower"], payload=b"follower")

    def interrupt() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        go_on.set()

    timer = threading.Timer(0.05, interrupt)
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        opened.log.wait(ticket)
    leader.join()
    timer.join()
    assert ticket.done
    assert [(1, b"first"), (2, b"leader"), (3, b"follower")] == opened.applied == read_log(directory)


class RaisesOnce(QuickSystem):
    """
    Raises an interrupt before call number `at`, or after it.
    """

    def __init__(self, *, at: int, after: bool) -> None:
        self.at = at
        self.after = after
        self.calls: list[str] = []

    def __getattribute__(self, name: str) -> object:
        method = super().__getattribute__(name)
        if name not in CountingSystem.CALLS:
            return method

        def call(*arguments: object) -> object:
            self.calls.append(name)
            due = self.at == len(self.calls) - 1
            if due and not self.after:
                raise KeyboardInterrupt
            result = method(*arguments)
            if due:
                raise KeyboardInterrupt
            return result

        return call


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("size", [50, 300_000])
def test_an_interrupt_that_breaks_into_any_call_loses_and_doubles_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, after: bool, size: int
) -> None:
    for at in range(100):
        directory = tmp_path / f"wal-{at}"
        create_log(directory)
        opened = open_log(directory)
        opened.write(b"first")
        system = RaisesOnce(at=at, after=after)
        tickets: list[Ticket] = []
        with monkeypatch.context() as patch:
            patch.setattr(files, "system", system)
            for i in range(2):
                try:
                    tickets.append(opened.log.enqueue([body(i, size)], payload=body(i, size)))
                    opened.log.wait(tickets[-1])
                except KeyboardInterrupt:
                    assert at < len(system.calls)
            opened.log.drain()
        assert opened.log.failed is None, f"calls {system.calls}: {opened.log.failed}"
        assert all(ticket.done and ticket.error is None for ticket in tickets)
        assert opened.applied == read_log(directory), f"calls {system.calls}"
        assert [b"first", *(ticket.payload for ticket in tickets)] == [payload for _, payload in opened.applied]
        clean_lsn = opened.log.close(clean=True)
        open_log(directory, clean_lsn=clean_lsn).log.close(clean=True)
        assert not any(name.endswith(".tmp") for name in contents(directory))
        if at >= len(system.calls):
            assert 2 == len(tickets)
            break
    assert at >= 4


def test_a_leader_that_was_stopped_leaves_the_others_a_way_on(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = open_log(directory)
    opened.write(b"first")
    reached, go_on = threading.Event(), threading.Event()

    class StopsOnce(CountingSystem):
        def before(self, name: str) -> None:
            if name == "sync_data" and not reached.is_set():
                reached.set()
                go_on.wait()
                raise SystemExit

    monkeypatch.setattr(files, "system", StopsOnce())
    stopped: list[BaseException] = []

    def lead() -> None:
        try:
            opened.write(b"leader")
        except SystemExit as error:
            stopped.append(error)

    leader = threading.Thread(target=lead)
    leader.start()
    reached.wait()
    followers = [threading.Thread(target=opened.log.wait, args=(opened.log.enqueue([b"f"], payload=b"f"),)) for _ in range(3)]
    for thread in followers:
        thread.start()
    go_on.set()
    for thread in [leader, *followers]:
        thread.join()
    assert 1 == len(stopped)
    assert [(1, b"first"), (2, b"leader"), (3, b"f"), (4, b"f"), (5, b"f")] == opened.applied == read_log(directory)


def test_an_interrupt_does_not_hide_a_failed_sync(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class FailsInterrupted(CountingSystem):
        def before(self, name: str) -> None:
            if name == "sync_data":
                try:
                    raise OSError(errno.EIO, os.strerror(errno.EIO))
                except OSError:
                    raise KeyboardInterrupt  # noqa: B904 as Python does when a signal arrives in a handler

    opened = open_log(directory)
    opened.write(b"first")
    system = FailsInterrupted()
    monkeypatch.setattr(files, "system", system)
    with pytest.raises(KeyboardInterrupt):
        opened.write(b"second")
    assert opened.log.failed is not None
    monkeypatch.setattr(files, "system", CountingSystem())
    with pytest.raises(ReadOnly):
        opened.log.enqueue([b"third"])


def test_an_interrupt_while_the_caller_handles_an_error_is_no_failure(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = open_log(directory)
    opened.write(b"first")
    with monkeypatch.context() as patch:
        patch.setattr(files, "system", RaisesOnce(at=1, after=False))
        try:
            try:
                raise OSError("something else")
            finally:
                raise KeyboardInterrupt
        except KeyboardInterrupt:
            with pytest.raises(KeyboardInterrupt):
                opened.write(b"second")
    assert opened.log.failed is None
    assert 3 == opened.write(b"third")
    assert [(1, b"first"), (2, b"second"), (3, b"third")] == read_log(directory)


def workload(opened: Opened, confirmed: list[tuple[int, bytes]], issued: list[tuple[int, bytes]]) -> None:
    for i, size in enumerate((60, 700, 5000, 20_000, 9, 3000)):
        ticket = opened.log.enqueue([body(i, size)], payload=body(i, size))
        issued.append((ticket.lsn, body(i, size)))
        opened.log.wait(ticket)
        confirmed.append(issued[-1])
        if i == 3:
            opened.log.switch_segment()
        if i == 4:
            opened.log.note_idle()
    opened.log.close(clean=True)


@pytest.mark.parametrize("sticky", [False, True])
@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC])
def test_a_fault_in_any_call_loses_nothing_confirmed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, error: int, sticky: bool) -> None:
    small_segments(monkeypatch, 4096)
    monkeypatch.setattr(wal, "IDLE_SECONDS", 0.0)
    for at in range(300):
        directory = tmp_path / f"wal-{at}"
        create_log(directory)
        first = open_log(directory)
        first.write(b"before")
        confirmed, issued = [(1, b"before")], [(1, b"before")]
        system = FaultySystem(at=at, error=error, sticky=sticky)
        raised: VecdbError | None = None
        with monkeypatch.context() as patch:
            patch.setattr(files, "system", system)
            opened: Opened | None = None
            try:
                opened = open_log(directory)
                workload(opened, confirmed, issued)
            except (StorageError, ReadOnly) as failure:
                raised = failure
        if opened is not None and opened.log.failed is not None:
            with pytest.raises(ReadOnly):
                opened.log.enqueue([b"later"])
        context = f"call {at}, {system.failed[:1]}: {raised}"
        recovered = open_log(directory)
        assert recovered.replayed[: len(confirmed)] == confirmed, context
        assert recovered.replayed == issued[: len(recovered.replayed)], context
        lsn = recovered.write(b"after")
        assert [*recovered.replayed, (lsn, b"after")] == read_log(directory), context
        recovered.log.close(clean=False)
        if not system.failed:
            assert raised is None
            break
    assert at > 60


def test_a_refused_enqueue_is_the_only_failure_that_leaves_the_log_writable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small_segments(monkeypatch, 4096)
    for at in range(60):
        directory = tmp_path / f"wal-{at}"
        create_log(directory)
        opened = open_log(directory)
        opened.write(b"first")
        system = FaultySystem(at=at, error=errno.EIO, sticky=False)
        queued = False
        with monkeypatch.context() as patch:
            patch.setattr(files, "system", system)
            try:
                ticket = opened.log.enqueue([body(1, 9000)])
                queued = True
                opened.log.wait(ticket)
            except StorageError:
                assert queued == (opened.log.failed is not None)
        if not system.failed:
            break
        if not queued:
            assert 2 == opened.write(b"second")
            assert [(1, b"first"), (2, b"second")] == read_log(directory)
    assert at > 8
