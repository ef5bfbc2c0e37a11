"""
`Database.backup`: one moment of all collections, complete or absent, whatever is written, fails or is cut meanwhile.
"""

from __future__ import annotations

import errno
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from storage_doubles import FaultySystem, QuickSystem

import vecdb
from vecdb import F, _backing_up
from vecdb._live import LiveDatabase
from vecdb.storage import files
from vecdb.storage.system import System


def fill(points: vecdb.Collection, count: int = 3000) -> None:
    random = np.random.default_rng(1)
    ids: list[Any] = [i if i % 3 else f"s{i}" for i in range(count)]
    vectors = [None if i % 40 == 0 else row for i, row in enumerate(random.standard_normal((count, 4)))]
    points.upsert(ids, vectors, [{"n": i % 5, "i": i} for i in range(count)])
    points.delete(ids[::7])
    points.set_payload({"n": 17}, ids=ids[1:5])


def contents(points: vecdb.Collection) -> dict[Any, Any]:
    found = points.get_many(list(points))
    return {one.id: (one.payload, None if one.vector is None else np.asarray(one.vector).tobytes()) for one in found if one is not None}


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "backup.vecdb"


def test_the_copy_is_the_database(db: vecdb.Database, target: Path) -> None:
    for name in ("a", "b"):
        fill(db.create_collection(name, dim=4, metric="l2", m=8, metadata={"made": name}))
    db.create_collection("empty", dim=7)
    db["a"].create_index("n", "integer", m=4)
    expected = {name: contents(db[name]) for name in db}
    db.backup(target)
    db["a"].upsert([1], [[9, 9, 9, 9]])
    with vecdb.open(target, verify=True) as copy:
        assert expected == {name: contents(copy[name]) for name in copy}
        points = copy["a"]
        assert (4, "l2", {"made": "a"}) == (points.dim, points.metric, points.metadata)
        assert ("integer", 4, True) == (points.indexes["n"].kind, points.indexes["n"].m, points.indexes["n"].declared)
        assert 0 == points.info().deleted
        assert 4 == points.count(F("n") == 17)
        points.upsert(["new"], [[1, 2, 3, 4]])
        points.delete([2])
    with vecdb.open(target) as copy:
        assert len(expected["a"]) == len(copy["a"])
        copy.create_collection("more", dim=2)
    assert [target.name] == [path.name for path in target.parent.iterdir() if "backup" in path.name]


def test_graphs_are_in_the_copy(db: vecdb.Database, target: Path, clustered: Callable[..., NDArray[np.float32]]) -> None:
    vectors = clustered(24_000, 16, seed=3)
    points = db.create_collection("a", dim=16)
    points.upsert(range(24_000), vectors)
    points.delete(range(0, 24_000, 9))
    points.wait_indexed()
    near = points.knn(vectors[:30], 10)[0]
    db.backup(target)
    assert [1] == [len(list(target.rglob("*.derived")))]
    with vecdb.open(target, threads=1) as copy:
        assert 0 == copy["a"].info().tail
        assert (near == copy["a"].knn(vectors[:30], 10)[0]).mean() > 0.95


def test_a_read_only_handle_can_back_up(path: Path, target: Path) -> None:
    with vecdb.open(path) as db:
        fill(db.create_collection("a", dim=4))
        expected = contents(db["a"])
    with vecdb.open(path, mode="r") as db:
        db.backup(target)
    with vecdb.open(target, mode="r") as copy:
        assert expected == contents(copy["a"])


def test_it_is_one_moment_of_all_collections(path: Path, target: Path) -> None:
    """
    Each round writes a first, then b: a copy never shows b ahead of a, nor a more than a round ahead, nor half a call.
    """
    with vecdb.open(path, durability="os") as db:
        both = [db.create_collection(name, dim=2) for name in "ab"]
        stop = threading.Event()

        def write() -> None:
            number = 0
            while not stop.is_set():
                number += 1
                for points in both:
                    points.upsert([0, 1, number + 2], [[1, number]] * 3, [{"number": number}] * 3)

        writer = threading.Thread(target=write)
        writer.start()
        try:
            for round_ in range(6):
                db.backup(target.with_name(f"backup-{round_}"))
        finally:
            stop.set()
            writer.join()
    for round_ in range(6):
        with vecdb.open(target.with_name(f"backup-{round_}"), verify=True) as copy:
            numbers = []
            for name in copy:
                points = copy[name]
                seen = {point.payload["number"] for point in points.get_many([0, 1]) if point is not None}
                assert len(seen) <= 1
                number = seen.pop() if seen else 0
                assert len(points) == (number + 2 if number else 0)
                numbers.append(number)
            assert 0 <= numbers[0] - numbers[1] <= 1, numbers


def test_a_target_that_cannot_be_is_refused(db: vecdb.Database, path: Path, target: Path) -> None:
    db.create_collection("a", dim=2)
    target.mkdir()
    with pytest.raises(vecdb.AlreadyExists, match=r"backup\.vecdb exists"):
        db.backup(target)
    with pytest.raises(vecdb.StorageError, match="does not exist"):
        db.backup(target / "no" / "such")
    with pytest.raises(vecdb.InvalidArgument, match="target"):
        db.backup("")
    with pytest.raises(vecdb.InvalidArgument, match="progress"):
        db.backup(target / "x", progress=3)  # type: ignore[arg-type]
    if path.exists():
        with pytest.raises(vecdb.InvalidArgument, match="inside"):
            db.backup(path / "backup")
    db.close()
    with pytest.raises(vecdb.Closed):
        db.backup(target / "x")


def test_damage_is_not_copied(path: Path, target: Path) -> None:
    with vecdb.open(path) as db:
        fill(db.create_collection("a", dim=4))
        db["a"].checkpoint()
        rows = path / "c-0" / "gen-1" / "vectors" / "0.f32"
        data = bytearray(rows.read_bytes())
        data[55] ^= 1
        rows.write_bytes(data)
        with pytest.raises(vecdb.Corruption, match=r"0\.f32"):
            db.backup(target)
    assert [path] == list(target.parent.iterdir())


@pytest.mark.parametrize("kind", ["memory", "disk"])
def test_a_cut_at_any_call_leaves_a_whole_copy_or_none(
    tmp_path: Path, path: Path, target: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    with vecdb.open(":memory:" if kind == "memory" else path) as db:
        for name in ("a", "b"):
            fill(db.create_collection(name, dim=4), 60)
        expected = {name: contents(db[name]) for name in db}
        seen: list[bool] = []

        class Stopping(QuickSystem):
            """
            Looks, behind each call, at what a process that died here would leave.
            """

            def __getattribute__(self, name: str) -> Any:
                method = super().__getattribute__(name)
                if name not in ("open", "pwritev", "sync_data", "sync_directory", "rename", "unlink", "mkdir"):
                    return method

                def call(*arguments: Any) -> Any:
                    result = method(*arguments)
                    if target.exists() and seen[-1:] != [True]:
                        shutil.copytree(target, tmp_path / "seen", ignore=shutil.ignore_patterns("*-lock"))
                    seen.append(target.exists())
                    return result

                return call

        with monkeypatch.context() as patch:
            patch.setattr(files, "system", Stopping())
            db.backup(target)
    assert seen == sorted(seen)
    assert (False, True) == (seen[0], seen[-1])
    with vecdb.open(tmp_path / "seen", verify=True) as copy:
        assert expected == {name: contents(copy[name]) for name in copy}


def test_everything_is_synced_before_it_appears(path: Path, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: set[str] = set()
    appeared: list[set[str]] = []

    class Watching(System):
        def pwritev(self, fd: int, buffers: Any, offset: int) -> int:
            written.add(str(files.path_of(fd)))
            return super().pwritev(fd, buffers, offset)

        def sync_data(self, fd: int) -> None:
            written.discard(str(files.path_of(fd)))
            super().sync_data(fd)

        def rename(self, source: Path, goal: Path) -> None:
            if goal == target:
                appeared.append({name for name in written if target.name in name and "-lock" not in name})
            super().rename(source, goal)

    for where in (":memory:", path):
        with vecdb.open(where) as db:
            fill(db.create_collection("a", dim=4), 60)
            with monkeypatch.context() as patch:
                patch.setattr(files, "system", Watching())
                db.backup(target)
        shutil.rmtree(target)
    assert [set(), set()] == appeared


@pytest.mark.parametrize("sticky", [False, True], ids=["once", "sticky"])
def test_a_failing_call_at_any_place_leaves_nothing_behind(path: Path, target: Path, monkeypatch: pytest.MonkeyPatch, sticky: bool) -> None:
    # The background's own writes would meet the same failures, and end writing.
    monkeypatch.setattr(LiveDatabase, "care", lambda self: None)
    with vecdb.open(path) as db:
        fill(db.create_collection("a", dim=4), 60)
        expected = contents(db["a"])
        at = 0
        while True:
            faulty = FaultySystem(at=at, error=errno.ENOSPC, sticky=sticky, names=("open", "pwritev", "mkdir", "rename"))
            with monkeypatch.context() as patch:
                patch.setattr(files, "system", faulty)
                try:
                    db.backup(target)
                except vecdb.VecdbError:
                    assert faulty.failed
            if target.exists():
                with vecdb.open(target, verify=True) as copy:
                    assert expected == contents(copy["a"])
                shutil.rmtree(target)
            for left in target.parent.glob(".backup*"):
                shutil.rmtree(left)
            if not faulty.failed:
                break
            at += 1
        assert at > 20
        db["a"].upsert(["after"], [[1, 2, 3, 4]])
        assert len(expected) + 1 == len(contents(db["a"]))


def test_closing_the_database_ends_it(db: vecdb.Database, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(db.create_collection("a", dim=4))
    state = db["a"]._state
    write = _backing_up._write
    closing: list[threading.Thread] = []

    def close_first(*arguments: Any) -> None:
        closing.append(threading.Thread(target=db.close))
        closing[0].start()
        while not state._closed:
            closing[0].join(0.01)
        write(*arguments)

    monkeypatch.setattr(_backing_up, "_write", close_first)
    with pytest.raises(vecdb.Closed):
        db.backup(target)
    closing[0].join()
    assert not target.exists()
    assert [] == list(target.parent.glob(".backup*"))


def test_compaction_and_backup_follow_one_another(db: vecdb.Database, target: Path) -> None:
    points = db.create_collection("a", dim=4)
    fill(points)
    expected = contents(points)
    threads = [threading.Thread(target=points.compact) for _ in range(3)]
    for thread in threads:
        thread.start()
    db.backup(target)
    for thread in threads:
        thread.join()
    assert expected == contents(points)
    with vecdb.open(target) as copy:
        assert expected == contents(copy["a"])
