"""
Database: collections by name, handles that share one live database, and what closing and reopening keep.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vecdb
from vecdb import F, _registry
from vecdb.storage import files

ROWS = np.eye(4, dtype=np.float32)


def contents(points: vecdb.Collection) -> list[Any]:
    return [(p.id, p.payload, None if p.vector is None else p.vector.tolist()) for p in points.get_many(list(points)) if p is not None]


def test_collections_are_created_listed_and_dropped(db: vecdb.Database) -> None:
    db.create_collection("b", dim=4)
    db.create_collection("a", dim=4).upsert(1, ROWS[0])
    assert (list(db), len(db), "a" in db, "c" in db) == (["a", "b"], 2, True, False)
    held = db["a"]
    db.drop_collection("a")
    assert list(db) == ["b"]
    with pytest.raises(vecdb.Closed):
        len(held)
    with pytest.raises(vecdb.NotFound, match="'a'"):
        db.drop_collection("a")
    assert len(db.create_collection("a", dim=3)) == 0


def test_dropping_gives_the_space_back(path: Path) -> None:
    with vecdb.open(path) as db:
        db.create_collection("a", dim=4).upsert(1, ROWS[0])
        before = {entry.name for entry in path.iterdir()}
        db.drop_collection("a")
        assert {entry.name for entry in path.iterdir()} < before
    with vecdb.open(path) as db:
        assert list(db) == []


def test_everything_is_there_after_a_reopen(path: Path) -> None:
    with vecdb.open(path) as db:
        points = db.create_collection("p", dim=4, metric="l2", m=8, metadata={"model": "m"})
        points.upsert([1, "b", "c", 4], [ROWS[0], None, ROWS[2], ROWS[3]], [{"n": 1}, {"n": 2}, {}, {"n": [4, None]}])
        points.set_payload({"late": True}, ids="b")
        points.delete(4)
        points.upsert("c", ROWS[1], {"n": 33})
        expected = contents(points)
    for _ in range(2):
        with vecdb.open(path) as db:
            points = db["p"]
            assert (points.dim, points.metric, points.metadata) == (4, "l2", {"model": "m"})
            assert contents(points) == expected
            assert points.count(F("n") > 1) == 2
            assert points.search(ROWS[1], k=3).ids == ["c", 1]
            assert [hit.score for hit in points.search(ROWS[1], k=3)] == [0.0, np.float32(np.sqrt(2.0))]


def test_nothing_is_lost_without_close(path: Path) -> None:
    script = f"""
import os, vecdb
points = vecdb.open({str(path)!r}).create_collection("p", dim=4)
points.upsert([1, 2], [[1, 0, 0, 0], [0, 1, 0, 0]], [{{"n": 1}}, {{"n": 2}}])
points.delete(1)
os._exit(9)
"""
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 9
    with vecdb.open(path) as db:
        assert contents(db["p"]) == [(2, {"n": 2}, [0.0, 1.0, 0.0, 0.0])]


def test_a_program_that_forgets_to_close_ends_cleanly(path: Path) -> None:
    script = f"""
import vecdb
points = vecdb.open({str(path)!r}).create_collection("p", dim=4)
points.upsert(range(5000), [[i % 7, 1, 0, i % 3] for i in range(5000)])
memory = vecdb.Collection(dim=4)
memory.upsert(range(5000), [[i % 7, 1, 0, i % 3] for i in range(5000)])
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    with vecdb.open(path) as db:
        assert len(db["p"]) == 5000


def test_the_same_path_twice_shares_one_live_database(path: Path, tmp_path: Path) -> None:
    first = vecdb.open(path)
    first.create_collection("p", dim=4).upsert(1, ROWS[0])
    link = tmp_path / "link"
    link.symlink_to(path, target_is_directory=True)
    second = vecdb.open(link)
    second["p"].upsert(2, ROWS[1])
    assert list(first["p"]) == [1, 2]
    first.close()
    assert list(second["p"]) == [1, 2]
    with pytest.raises(vecdb.InvalidArgument, match="durability"):
        vecdb.open(path, durability="os")
    with pytest.raises(vecdb.AlreadyExists):
        vecdb.open(path, mode="x")
    second.close()
    with vecdb.open(path, durability="os") as third:
        assert list(third["p"]) == [1, 2]


def test_a_handle_that_was_forgotten_gives_its_files_back(path: Path) -> None:
    vecdb.open(path).create_collection("p", dim=4).upsert(1, ROWS[0])
    with vecdb.open(path, durability="os") as db:  # another durability is only possible when the first was released
        assert list(db["p"]) == [1]


def test_mode_x_wants_a_new_path(path: Path) -> None:
    with vecdb.open(path, mode="x") as db:
        assert list(db) == []
    with pytest.raises(vecdb.AlreadyExists, match="mode='x'"):
        vecdb.open(path, mode="x")


def test_an_empty_directory_becomes_a_database(tmp_path: Path) -> None:
    with vecdb.open(tmp_path) as db:
        db.create_collection("p", dim=4)
    with vecdb.open(tmp_path) as db:
        assert list(db) == ["p"]


def test_every_memory_database_is_separate() -> None:
    first, second = vecdb.open(":memory:"), vecdb.open(":memory:")
    first.create_collection("p", dim=4)
    assert list(second) == []


def test_files_are_for_the_owner_only(path: Path) -> None:
    with vecdb.open(path) as db:
        db.create_collection("p", dim=4).upsert(1, ROWS[0])
        db["p"].checkpoint()
    for entry in [path, *path.rglob("*")]:
        assert entry.stat().st_mode & 0o077 == 0, entry


def test_os_durability_survives_the_death_of_the_process(path: Path) -> None:
    script = f"""
import os, vecdb
points = vecdb.open({str(path)!r}, durability="os").create_collection("p", dim=4)
for n in range(20):
    points.upsert(n, [1, 0, 0, n])
os._exit(9)
"""
    subprocess.run([sys.executable, "-c", script], check=False)
    with vecdb.open(path) as db:
        assert list(db["p"]) == list(range(20))


def test_a_forked_child_is_told_so_and_does_no_harm(path: Path) -> None:
    with vecdb.open(path) as db:
        points = db.create_collection("p", dim=4)
        points.upsert(1, ROWS[0])
        child = os.fork()
        if child == 0:
            outcome = 1
            try:
                points.search(ROWS[0])
            except vecdb.Forked:
                try:
                    points.upsert(2, ROWS[1])
                except vecdb.Forked:
                    outcome = 0
            os._exit(outcome)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        points.upsert(3, ROWS[2])
        assert list(points) == [1, 3]
    with vecdb.open(path) as db:
        assert list(db["p"]) == [1, 3]


def test_pickling_carries_the_path_and_memory_refuses(path: Path) -> None:
    with vecdb.open(path) as db:
        db.create_collection("p", dim=4).upsert(1, ROWS[0])
        copy = pickle.loads(pickle.dumps(db["p"]))
        assert list(copy) == [1]
        with pytest.raises(vecdb.ReadOnly):
            copy.upsert(2, ROWS[1])
    with pytest.raises(TypeError, match="memory"):
        pickle.dumps(vecdb.Collection(dim=4))
    with pytest.raises(TypeError, match="memory"):
        pickle.dumps(vecdb.open(":memory:"))


def test_closing_is_idempotent_and_repr_says_what_there_is(path: Path) -> None:
    db = vecdb.open(path)
    db.create_collection("p", dim=4)
    assert repr(db) == f"<vecdb.Database '{path}', mode 'a': p>"
    db.close()
    db.close()
    assert repr(db) == f"<vecdb.Database '{path}': closed>"


def test_importing_starts_no_thread_and_prints_nothing() -> None:
    script = "import threading, vecdb; assert threading.active_count() == 1"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_an_index_never_changes_an_answer_across_a_reopen(path: Path) -> None:
    with vecdb.open(path) as db:
        points = db.create_collection("p", dim=4)
        points.upsert(range(4), ROWS, [{"k": [1, "1"]}, {"k": True}, {"k": 1.0}, {}])
        before = [points.count(F("k") == 1), points.count(F("k") == "1"), points.count(F("k") == True), points.count(F("k") <= 1)]  # noqa: E712
        assert before == [1, 1, 1, 2]
    with vecdb.open(path) as db:
        points = db["p"]
        assert [points.count(F("k") == 1), points.count(F("k") == "1"), points.count(F("k") == True), points.count(F("k") <= 1)] == before  # noqa: E712


ENDS = {
    "closing": "db.close()",
    "collecting": "del db, points; gc.collect()",
    "exiting": "sys.exit()",
    "a with block": "db.__exit__(None, None, None)",
}


@pytest.mark.parametrize("end", ENDS)
def test_a_forked_child_that_lets_go_leaves_the_parent_alone(path: Path, end: str) -> None:
    script = f"""
import gc, os, sys, vecdb
db = vecdb.open({str(path)!r})
points = db.create_collection("p", dim=4)
points.upsert(range(3000), [[i % 7, 1, 0, i % 3] for i in range(3000)])
before = points.info().wal
if os.fork() == 0:
    {ENDS[end]}
    sys.exit()
assert os.waitstatus_to_exitcode(os.wait()[1]) == 0
assert points.info().wal == before
points.upsert(3000, [1, 1, 1, 1])
points.checkpoint()
assert points.get(3000).id == 3000
db.close()
assert len(vecdb.open({str(path)!r})["p"]) == 3001
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_forked_child_is_told_of_a_collection_without_a_database() -> None:
    alone = vecdb.Collection(dim=4)
    alone.upsert(range(3000), np.random.default_rng(1).standard_normal((3000, 4)))
    child = os.fork()
    if child == 0:
        outcome = 0
        for call in (lambda: alone.search(ROWS[0]), lambda: alone.upsert(1, ROWS[0])):
            try:
                call()
                outcome = 1
            except vecdb.Forked:
                pass
        alone.close()
        os._exit(outcome)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert len(alone) == 3000


def test_mode_x_of_two_that_race_succeeds_for_one(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Another process moves its database into place just before this one does.
    """
    rename = files.rename
    first = [True]

    def overtaken(source: Path, target: Path) -> None:
        if target == path and first:
            first.clear()
            assert subprocess.run([sys.executable, "-c", f"import vecdb; vecdb.open({str(path)!r})"], check=True).returncode == 0
        rename(source, target)

    monkeypatch.setattr(files, "rename", overtaken)
    with pytest.raises(vecdb.AlreadyExists, match="mode='x'"):
        vecdb.open(path, mode="x")
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_a_handle_is_collected_in_any_thread_without_waiting(path: Path) -> None:
    """
    The collector may run in a thread that another one, which opens or closes a database just now, waits for.
    """
    forgotten = [vecdb.open(path)]
    collector = threading.Thread(target=forgotten.clear, daemon=True)
    with _registry._locked():
        collector.start()
        collector.join(10)
        assert not collector.is_alive()
    with vecdb.open(path, durability="os") as db:  # another durability is only possible when the first was released
        assert list(db) == []
