"""
Power cuts and kills at every file call of a workload, of the recovery after it, and of the recovery after that.

The oracle: what is replayed is the issued calls in order, whole, without a gap, and none that was confirmed is missing; the log then takes
a call; opening it once more agrees.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from log_harness import Opened, body, contents, create_log, open_log, read_log, small_segments
from storage_doubles import QuickSystem, Stopped, World

from vecdb.errors import Corruption
from vecdb.storage import files, segment_file, wal
from vecdb.storage.log_reader import LogState
from vecdb.storage.segment_file import SegmentFile, aside_of
from vecdb.storage.segments import RESERVE, SEGMENT_HEADER, RecordHeader, SegmentHeader, group_size


class Run:
    """
    What a workload has issued and confirmed, in a world that may stop at any call.

    `applied_lsn` is what a checkpoint elsewhere has made durable.
    """

    def __init__(self, root: Path, *, durability: str = "fsync") -> None:
        self.world = World(root)
        self.directory = root / "wal"
        self.durability = durability
        self.issued: list[tuple[int, bytes]] = []
        self.confirmed = 0
        self.synced = 0
        self.applied_lsn = 0
        self.clean_lsn = 0

    def create(self) -> None:
        create_log(self.directory)
        files.sync_directory(self.directory.parent)

    def open(self) -> Opened:
        opened = open_log(self.directory, applied_lsn=self.applied_lsn, clean_lsn=self.clean_lsn, durability=self.durability)
        self.clean_lsn = 0
        # What was issued, not confirmed and not found is not going to happen any more.
        found = [lsn for lsn, _ in opened.replayed]
        self.issued = [call for call in self.issued if call[0] <= self.applied_lsn or call[0] in found]
        assert [call for call in self.issued if call[0] > self.applied_lsn] == opened.replayed
        self.confirmed = len(self.issued)
        return opened

    def write(self, opened: Opened, *sizes: int) -> None:
        """
        Write calls that are queued together.
        """
        tickets = []
        for size in sizes:
            call = body(len(self.issued), size)
            ticket = opened.log.enqueue([call])
            tickets.append(ticket)
            self.issued.append((ticket.lsn, call))
        for ticket in tickets:
            opened.log.wait(ticket)
        self.confirmed = len(self.issued)
        self.synced = sum(lsn <= opened.log.durable_lsn for lsn, _ in self.issued)

    def checkpoint(self, opened: Opened) -> None:
        self.applied_lsn = opened.log.switch_segment()
        opened.log.drop_through(self.applied_lsn)

    def close(self, opened: Opened) -> None:
        self.clean_lsn = opened.log.close(clean=True)

    def workload(self) -> None:
        opened = self.open()
        self.write(opened, 60)
        self.write(opened, 700, 10, 1200)
        self.write(opened, 3000)
        opened.log.note_idle()
        self.write(opened, 9000)
        self.checkpoint(opened)
        self.write(opened, 500)
        self.write(opened, 500, 2000)
        self.close(opened)

    def check(self, directory: Path, context: str, *, confirmed: int | None = None) -> None:
        """
        Check a log that a crash left.
        """
        before = read_log(directory, applied_lsn=self.applied_lsn, clean_lsn=self.clean_lsn)
        expected = [call for call in self.issued if call[0] > self.applied_lsn]
        assert expected[: len(before)] == before, context
        skipped = len(self.issued) - len(expected)
        assert skipped + len(before) >= (self.confirmed if confirmed is None else confirmed), context
        opened = open_log(directory, applied_lsn=self.applied_lsn, clean_lsn=self.clean_lsn)
        assert before == opened.replayed, context
        lsn = opened.write(b"after the crash")
        opened.log.close(clean=False)
        assert [*before, (lsn, b"after the crash")] == read_log(directory, applied_lsn=self.applied_lsn), context


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    small_segments(monkeypatch, 4096)
    monkeypatch.setattr(wal, "IDLE_SECONDS", 0.0)


@pytest.fixture
def seed() -> int:
    chosen = random.randrange(2**32)
    print(f"seed {chosen}")
    return chosen


def run_until(run: Run, stop: int | None, monkeypatch: pytest.MonkeyPatch) -> bool:
    """
    Run the workload in its world, from creation on; False when it was stopped.
    """
    with monkeypatch.context() as patch:
        patch.setattr(files, "system", run.world)
        run.directory.parent.mkdir(parents=True)
        run.create()
        if stop is not None:
            run.world.stop_after = run.world.count + stop
        try:
            run.workload()
        except Stopped:
            return False
    return True


def quick_check(run: Run, directory: Path, context: str, monkeypatch: pytest.MonkeyPatch, *, confirmed: int | None = None) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(files, "system", QuickSystem())
        run.check(directory, context, confirmed=confirmed)


@pytest.mark.parametrize("durability", ["fsync", "os"])
def test_a_cut_or_a_kill_anywhere_loses_nothing_confirmed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int, *, durability: str
) -> None:
    for stop in range(1000):
        run = Run(tmp_path / f"{stop}", durability=durability)
        finished = run_until(run, stop, monkeypatch)
        for cut in range(6):
            copy = tmp_path / f"{stop}-{cut}"
            run.world.after_cut(copy, random.Random(seed + cut))
            context = f"seed {seed} + {cut}, cut after {stop} calls"
            # Without syncs a power cut may take confirmed calls, but never one before another that stays.
            quick_check(run, copy / "wal", context, monkeypatch, confirmed=run.synced if durability == "os" else None)
        copy = tmp_path / f"{stop}-killed"
        run.world.after_kill(copy)
        quick_check(run, copy / "wal", f"killed after {stop} calls", monkeypatch)
        if finished:
            break
    assert finished
    assert stop > 40


def killed_then_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int, *, stops: range) -> int:
    """
    Kill the workload after each number of calls, recover from the page cache, go on, and cut the power at each call of that.

    Return the number of states seen.
    """
    states = 0
    for stop in stops:
        for second in range(1000):
            run = Run(tmp_path / f"{stop}-{second}")
            if run_until(run, stop, monkeypatch):
                return states
            run.world.stop_after = run.world.count + second
            finished = True
            with monkeypatch.context() as patch:
                patch.setattr(files, "system", run.world)
                try:
                    opened = run.open()
                    run.write(opened, 200)
                    run.write(opened, 900, 40)
                except Stopped:
                    finished = False
            for cut in range(3):
                copy = tmp_path / f"{stop}-{second}-{cut}"
                run.world.after_cut(copy, random.Random(seed + cut))
                quick_check(run, copy / "wal", f"seed {seed} + {cut}, killed after {stop} calls, cut {second} calls later", monkeypatch)
                states += 1
            if finished:
                break
    return states


def test_a_cut_after_a_kill_and_a_recovery_loses_nothing_confirmed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    assert killed_then_cut(tmp_path, monkeypatch, seed, stops=range(1, 1000, 3)) > 200


def test_recovery_may_be_cut_and_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    rng = random.Random(seed)
    for number in range(150):
        run = Run(tmp_path / f"{number}")
        if run_until(run, rng.randint(3, 45), monkeypatch):
            continue
        for again in range(4):
            run.world.stop_after = run.world.count + rng.randint(0, 12)
            with monkeypatch.context() as patch:
                patch.setattr(files, "system", run.world)
                try:
                    opened = run.open()
                    run.write(opened, rng.randint(0, 3000))
                except Stopped:
                    pass
            copy = tmp_path / f"{number}-{again}"
            run.world.after_cut(copy, rng)
            quick_check(run, copy / "wal", f"seed {seed}, run {number}, recovery {again}", monkeypatch)


def test_without_writing_the_doubtful_tail_again_calls_would_be_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    def only_seal(directory: Path, state: LogState, *, uuid: bytes, generation: int) -> tuple[SegmentFile, int, int]:
        dcrc = state.doubtful[-1].header.dcrc
        segment = SegmentFile.prepare(aside_of(directory, state.last_lsn + 1), 4096)
        segment.publish(SegmentHeader(uuid, generation, state.last_lsn + 1, state.last_lsn, dcrc, segment.salt))
        state.segments.append(state.last_lsn + 1)
        return segment, SEGMENT_HEADER, dcrc

    monkeypatch.setattr(wal, "rewrite_doubtful", only_seal)
    with pytest.raises(Corruption, match="although the next segment begins at"):
        killed_then_cut(tmp_path, monkeypatch, seed, stops=range(1, 1000))


def test_recovery_writes_the_doubtful_tail_again_and_leaves_proven_calls_alone(tmp_path: Path) -> None:
    directory = tmp_path / "wal"
    create_log(directory)
    opened = open_log(directory)
    for i in range(3):
        opened.write(body(i, 100))
    before = contents(directory)
    again = open_log(directory)
    after = contents(directory)
    assert ["00000000000000000001.log", "00000000000000000003.log"] == list(after)
    assert before["00000000000000000001.log"] == after["00000000000000000001.log"]
    assert body(2, 100) in after["00000000000000000003.log"]
    assert body(1, 100) not in after["00000000000000000003.log"]
    assert 3 == again.log.durable_lsn
    third = open_log(directory)
    assert list(after) == list(contents(directory)), "the new segment is replaced as one, not followed by another"
    assert [(i + 1, body(i, 100)) for i in range(3)] == third.replayed


def test_the_records_of_a_doubtful_tail_claim_only_what_was_proven(tmp_path: Path) -> None:
    create_log(tmp_path / "wal")
    opened = open_log(tmp_path / "wal", durability="os")
    for i in range(3):
        opened.write(body(i, 8))
    open_log(tmp_path / "wal")
    (data,) = contents(tmp_path / "wal").values()
    decoded = SegmentHeader.decode(data)
    assert decoded is not None
    for i in range(3):
        record = RecordHeader.decode(data[SEGMENT_HEADER + 48 * i :], decoded[1].salt)
        assert record is not None
        assert (i + 1, 0) == (record.lsn, record.durable_lsn)


def test_a_doubtful_call_larger_than_a_segment_is_written_into_one_that_fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segment_file, "LARGEST", 8192)
    directory = tmp_path / "wal"
    create_log(directory)
    open_log(directory).write(body(1, 30_000))
    opened = open_log(directory)
    (data,) = contents(directory).values()
    assert len(data) >= SEGMENT_HEADER + group_size(30_000) + RESERVE
    assert 2 == opened.write(b"")
    assert [(1, body(1, 30_000)), (2, b"")] == read_log(directory)
