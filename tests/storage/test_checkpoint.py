"""
A checkpoint keeps its order, loses nothing when any of its steps fails, and does not disturb reads and writes.
"""

from __future__ import annotations

import errno
import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from vecdb.errors import ReadOnly, StorageError
from vecdb.storage import checkpoint, disk, files, points
from vecdb.storage.codec import decode_payload
from vecdb.storage.points import PointsFile

Open = Callable[..., Any]


class FailingSystem(files.System):
    """
    Fails the n-th changing call that it is asked for, and all after it when `sticky`.
    """

    def __init__(self, *, number: int, code: int, sticky: bool) -> None:
        self.left = number
        self.code = code
        self.sticky = sticky
        self.failed: list[str] = []

    def _count(self, call: str) -> None:
        self.left -= 1
        if self.left == 0 or (self.left < 0 and self.sticky):
            self.failed.append(call)
            raise OSError(self.code, "injected")

    def open(self, path: Path, flags: int, mode: int) -> int:
        self._count(f"open {path}")
        return super().open(path, flags, mode)

    def pwritev(self, fd: int, buffers: Any, offset: int) -> int:
        self._count(f"pwritev {files.path_of(fd)}")
        return super().pwritev(fd, buffers, offset)

    def sync_data(self, fd: int) -> None:
        self._count(f"sync_data {files.path_of(fd)}")
        super().sync_data(fd)

    def sync_directory(self, fd: int) -> None:
        self._count("sync_directory")
        super().sync_directory(fd)

    def rename(self, source: Path, target: Path) -> None:
        self._count(f"rename {source}")
        super().rename(source, target)

    def unlink(self, path: Path) -> None:
        self._count(f"unlink {path}")
        super().unlink(path)


def filled(open_collection: Open, path: Path) -> Any:
    """
    A collection with a checkpoint and, behind it, more log than fits the first segment.
    """
    collection = open_collection(path, dims=(8,))
    collection.upsert(list(range(200)))
    collection.store.checkpoint()
    collection.upsert([*range(100), "a"], version=1)
    collection.upsert(list(range(200, 300)), version=1)
    collection.delete([5, "a"])
    collection.patch([6], {"x": "y" * 400_000})
    return collection


def test_after_a_checkpoint_the_log_is_short_and_reads_are_the_same(tmp_path: Path, open_collection: Open) -> None:
    collection = filled(open_collection, tmp_path / "c-0")
    segments = sorted((tmp_path / "c-0" / "wal").iterdir())
    collection.store.checkpoint()
    collection.check()
    info = collection.store.info()
    assert (info.applied_lsn, 0) == (info.checkpoint_lsn, info.log_bytes)
    assert segments[0] not in (tmp_path / "c-0" / "wal").iterdir()
    assert info.checkpoint_error is None


def test_rows_are_synced_before_points_commit_and_both_before_a_segment_goes(
    tmp_path: Path, open_collection: Open, system: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    collection = filled(open_collection, tmp_path / "c-0")
    calls: list[str] = []
    write = PointsFile.write

    @contextmanager
    def recorded(self: PointsFile) -> Iterator[Any]:
        with write(self) as transaction:
            yield transaction
        calls.append("commit")

    monkeypatch.setattr(PointsFile, "write", recorded)
    system.after = calls.append
    collection.store.checkpoint()
    system.after = lambda call: None
    rows_synced = calls.index(f"sync_data {tmp_path / 'c-0' / 'gen-1' / 'vectors' / '0.f32'}")
    unlinked = next(i for i, call in enumerate(calls) if call.startswith("unlink") and call.endswith(".log"))
    assert rows_synced < calls.index("commit") < unlinked


def test_writes_go_on_while_a_checkpoint_copies_a_graph(tmp_path: Path, open_collection: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    collection = filled(open_collection, tmp_path / "c-0")
    monkeypatch.setattr(checkpoint, "GRAPH_LEAST_ROWS", 1)
    collection.core.indexed[0] = 300
    save = collection.core.save_graph
    before = collection.store.info().last_lsn

    def save_beside_a_write(*arguments: Any) -> memoryview | None:
        writer = threading.Thread(target=collection.upsert, args=([1000, 1001],))
        writer.start()
        writer.join()
        return save(*arguments)

    monkeypatch.setattr(collection.core, "save_graph", save_beside_a_write)
    collection.store.checkpoint()
    info = collection.store.info()
    assert before + 1 == info.last_lsn == info.checkpoint_lsn
    collection.check()
    collection.store.close()
    again = open_collection(tmp_path / "c-0", dims=(8,))
    assert {0: 300} == again.core.graph_rows
    assert 1001 in list(again.store.iterate_ids())


def test_a_checkpoint_with_nothing_new_writes_nothing(tmp_path: Path, open_collection: Open, system: Any) -> None:
    collection = filled(open_collection, tmp_path / "c-0")
    collection.store.checkpoint()
    calls: list[str] = []
    system.after = calls.append
    collection.store.checkpoint()
    assert [] == calls


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
@pytest.mark.parametrize("sticky", [False, True], ids=["once", "sticky"])
def test_a_failing_call_at_any_place_of_a_checkpoint_loses_nothing(
    tmp_path: Path, open_collection: Open, worlds: Any, monkeypatch: pytest.MonkeyPatch, code: int, sticky: bool
) -> None:
    base = tmp_path / "base"
    original = filled(open_collection, base)
    monkeypatch.setattr(checkpoint, "GRAPH_LEAST_ROWS", 10)
    number = 1
    while True:
        home = tmp_path / f"c-{number}"
        worlds[0](base, home)
        collection = open_collection(home, dims=(8,))
        collection.model = dict(original.model)
        collection.upsert(list(range(250)), version=2)
        collection.patch([7], {"x": "y" * 200_000})
        collection.core.indexed[0] = 100
        system = FailingSystem(number=number, code=code, sticky=sticky)
        with monkeypatch.context() as patch:
            patch.setattr(files, "system", system)
            try:
                collection.store.checkpoint()
            except (StorageError, ReadOnly):
                assert system.failed
        collection.check()
        if collection.store.read_only_reason is None:
            collection.upsert(["after"], version=5)
            collection.store.checkpoint()
            collection.check()
        else:
            with pytest.raises(ReadOnly, match="open"):
                collection.upsert(["refused"])
        collection.close()
        again = open_collection(home, dims=(8,))
        again.model = collection.model
        again.check()
        again.close()
        if not system.failed:
            break
        number += 1
    assert number > 12


def test_after_a_failed_sync_of_rows_there_is_no_checkpoint_until_reopened(
    tmp_path: Path, open_collection: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    collection = filled(open_collection, tmp_path / "c-0")

    class Failing(files.System):
        def sync_data(self, fd: int) -> None:
            path = files.path_of(fd)
            if path is not None and path.suffix == ".f32":
                raise OSError(errno.EIO, "injected")
            super().sync_data(fd)

    before = collection.store.info().checkpoint_lsn
    with monkeypatch.context() as patch:
        patch.setattr(files, "system", Failing())
        with pytest.raises(StorageError, match=r"0\.f32 could not be synced"):
            collection.store.checkpoint()
    with pytest.raises(ReadOnly, match="could not be synced"):
        collection.store.checkpoint()
    assert not collection.store.maybe_checkpoint()
    with pytest.raises(ReadOnly, match="could not be synced"):
        collection.upsert([1])
    collection.check()
    collection.close()
    again = open_collection(tmp_path / "c-0", dims=(8,))
    assert before == again.store.info().checkpoint_lsn
    again.model = collection.model
    again.check()
    again.upsert([1], version=7)
    again.store.checkpoint()
    again.check()


def test_a_failed_commit_is_made_good_by_the_next_checkpoint(
    tmp_path: Path, open_collection: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    collection = filled(open_collection, tmp_path / "c-0")
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "write_checkpoint", lambda *_, **__: (_ for _ in ()).throw(StorageError("injected")))
        for _ in range(2):
            with pytest.raises(StorageError, match="injected"):
                collection.store.checkpoint()
        assert "injected" == collection.store.info().checkpoint_error
        collection.check()
        collection.upsert([1, "new"], version=3)
        collection.delete([2])
        collection.check()
    collection.store.checkpoint()
    collection.check()
    info = collection.store.info()
    assert (info.applied_lsn, None) == (info.checkpoint_lsn, info.checkpoint_error)


def test_a_points_file_that_is_full_fails_the_checkpoint_and_not_the_writes(
    tmp_path: Path, open_collection: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(points, "MAP_SIZE", 256 << 10)
        collection = open_collection(tmp_path / "c-0")
        collection.upsert(list(range(5000)))
        with pytest.raises(StorageError, match="has reached its limit"):
            collection.store.checkpoint()
        collection.upsert([1, "still written"], version=1)
        collection.check()
        collection.close()
    again = open_collection(tmp_path / "c-0")
    again.model = collection.model
    again.check()
    again.store.checkpoint()
    again.check()


def test_a_checkpoint_is_due_by_size_and_by_age(tmp_path: Path, open_collection: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    collection = open_collection(tmp_path / "c-0")
    assert not collection.store.maybe_checkpoint()
    collection.upsert([1])
    assert not collection.store.maybe_checkpoint()
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "LOG_BYTES", 1)
        assert collection.store.maybe_checkpoint()
        assert not collection.store.maybe_checkpoint()
    collection.upsert([2])
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "AGE_SECONDS", 0.0)
        assert collection.store.maybe_checkpoint()
        assert not collection.store.maybe_checkpoint()
    collection.check()


def test_a_checkpoint_in_the_background_that_fails_is_told_and_tried_again_later(
    tmp_path: Path, open_collection: Open, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    collection = open_collection(tmp_path / "c-0")
    collection.upsert([1])
    monkeypatch.setattr(checkpoint, "LOG_BYTES", 1)
    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING):
        patch.setattr(checkpoint, "write_checkpoint", lambda *_, **__: (_ for _ in ()).throw(StorageError("injected")))
        assert not collection.store.maybe_checkpoint()
        assert "injected" in caplog.text
        caplog.clear()
        assert not collection.store.maybe_checkpoint()
        assert "" == caplog.text
    monkeypatch.setattr(checkpoint.time, "monotonic", lambda: 1e12)
    assert collection.store.maybe_checkpoint()
    assert collection.store.info().checkpoint_error is None


def test_writes_that_outrun_checkpoints_make_one_themselves(tmp_path: Path, open_collection: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "LOG_BYTES", 1000)
    monkeypatch.setattr(disk, "_HELP_BYTES", 100_000)
    collection = open_collection(tmp_path / "c-0")
    for version in range(40):
        collection.upsert(list(range(100)), version=version)
    assert collection.store.info().log_bytes < 120_000
    assert collection.store.info().checkpoint_lsn > 0
    collection.check()


def test_writes_are_refused_when_the_log_reaches_its_limit_because_checkpoints_fail(
    tmp_path: Path, open_collection: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk, "_LOG_LIMIT_BYTES", 10_000)
    collection = open_collection(tmp_path / "c-0")
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "write_checkpoint", lambda *_, **__: (_ for _ in ()).throw(StorageError("injected")))
        collection.upsert([1])
        with pytest.raises(StorageError):
            collection.store.checkpoint()
        collection.upsert(list(range(1000)))
        with pytest.raises(StorageError, match=r"takes no more writes.*injected"):
            collection.upsert([1])
        collection.check()
    collection.store.checkpoint()
    collection.upsert([1], version=2)
    collection.check()


def test_reads_see_whole_calls_while_checkpoints_and_writes_run(tmp_path: Path, open_collection: Open) -> None:
    collection = open_collection(tmp_path / "c-0")
    ids = [*range(50), "a", "b"]
    collection.upsert(ids)
    stop = threading.Event()

    def repeat(work: Callable[[], None]) -> None:
        while not stop.is_set():
            work()

    def read() -> None:
        offsets = collection.store.offsets_of(ids)
        assert all(offset is not None for offset in offsets)
        assert len({offset - i for i, offset in enumerate(offsets)}) == 1
        payloads = collection.store.payloads_of(offsets)
        versions = {decode_payload(payload)["version"] for payload in payloads if payload is not None}
        assert len(versions) <= 1

    def iterate() -> None:
        assert ids == list(collection.store.iterate_ids())
        versions = {decode_payload(payload)["version"] for _, payload in collection.store.iterate_payloads(0, 2**32)}
        assert len(versions) == 1

    with ThreadPoolExecutor() as pool:
        running = [pool.submit(repeat, work) for work in (read, read, iterate, collection.store.checkpoint)]
        try:
            for version in range(1, 60):
                collection.upsert(ids, version=version)
        finally:
            stop.set()
    for future in running:
        future.result()
    collection.check()


def test_many_threads_write_while_checkpoints_run(tmp_path: Path, open_collection: Open) -> None:
    collection = open_collection(tmp_path / "c-0")

    def write(worker: int) -> None:
        for version in range(20):
            collection.upsert([f"{worker}-{i}" for i in range(10)], version=version)

    threads = [threading.Thread(target=write, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        collection.store.checkpoint()
    for thread in threads:
        thread.join()
    collection.check()
    collection.close()
    again = open_collection(tmp_path / "c-0")
    again.model = collection.model
    again.check()
