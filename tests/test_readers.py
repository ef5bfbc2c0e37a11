"""
Readers beside a writer in another process: each stays at one state until `refresh`, sees whole calls only, and holds nobody up.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from writer_process import OtherProcess

import vecdb
from vecdb import F

DIM = 5

WRITES = """
db = vecdb.open(path)
p = db.get_or_create_collection("p", dim=5, metric="l2")
def put(ids, seed):
    p.upsert(ids, np.random.default_rng(seed).standard_normal((len(ids), 5)), [{"seed": seed, "id": one} for one in ids])
"""


def vectors_of(seed: int, count: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((count, DIM)).astype(np.float32)


@pytest.fixture(scope="module")
def process() -> Iterator[OtherProcess]:
    with OtherProcess() as one:
        yield one


@pytest.fixture
def writer(process: OtherProcess, path: Path) -> Iterator[OtherProcess]:
    """
    Another process that has the database open, with an empty collection.
    """
    process.do(WRITES, path=str(path))
    yield process
    process.do("db.close()")


def seeds(points: vecdb.Collection) -> dict[vecdb.PointId, int]:
    """
    Return each id's seed, after comparing each vector with what the seed gives.
    """
    found: dict[vecdb.PointId, int] = {}
    for point in points.scan():
        assert isinstance(point.vector, np.ndarray)
        hit = points.search(point.vector, k=1, exact=True)[0]
        assert (point.id, 0.0) == (hit.id, hit.score)
        found[point.id] = point.payload["seed"]
    assert len(found) == len(points)
    return found


def test_a_reader_beside_a_writer_sees_each_write_at_the_next_refresh(writer: OtherProcess, path: Path) -> None:
    writer.do("put([1, 2, 3], 7)")
    with vecdb.open(path, mode="r") as db:
        points = db["p"]
        assert {1: 7, 2: 7, 3: 7} == seeds(points)
        assert np.array_equal(vectors_of(7, 3)[1], points[2].vector)
        assert db.refresh() is False
        writer.do("put([3, 4], 8)")
        assert {1: 7, 2: 7, 3: 7} == seeds(points)
        assert db.refresh() is True
        assert {1: 7, 2: 7, 3: 8, 4: 8} == seeds(points)
        writer.do("p.delete(2); p.set_payload({'n': 1}, ids=[1])")
        assert [] == [hit.id for hit in points.search(vectors_of(7, 1)[0], k=9, filter=F("n") == 1)]
        assert db.refresh() is True
        assert [1] == [hit.id for hit in points.search(vectors_of(7, 1)[0], k=9, filter=F("n") == 1)]
        assert {1: 7, 3: 8, 4: 8} == seeds(points)
        assert db.refresh() is False


def test_a_reader_opens_while_the_writer_has_checkpointed_nothing_or_everything(writer: OtherProcess, path: Path) -> None:
    for step in ("put([1], 1)", "p.checkpoint()", "put(list(range(2000)), 2)", "p.checkpoint()", "p.compact()", "put([5], 3)"):
        writer.do(step)
        with vecdb.open(path, mode="r") as db:
            assert writer.do("result = len(p)") == len(db["p"])
            assert writer.do("result = [[point.id, point.payload['seed']] for point in p.scan()]") == [
                [point.id, point.payload["seed"]] for point in db["p"].scan()
            ]


def test_a_reader_stays_at_its_state_whatever_is_checkpointed_and_compacted(writer: OtherProcess, path: Path) -> None:
    writer.do("put(list(range(500)), 1)")
    with vecdb.open(path, mode="r") as db:
        points = db["p"]
        scan = points.scan(batch_size=10)
        assert next(scan).id == 0
        for step in (
            "p.delete(list(range(0, 500, 2)))",
            "p.checkpoint()",
            "put(list(range(400, 900)), 2)",
            "p.checkpoint()",
            "p.compact()",
        ):
            writer.do(step)
            assert dict.fromkeys(range(500), 1) == seeds(points)
            assert 500 == points.count(F("seed") == 1)
        assert list(range(1, 500)) == [point.id for point in scan]
        assert db.refresh() is True
        assert {**dict.fromkeys(range(1, 400, 2), 1), **dict.fromkeys(range(400, 900), 2)} == seeds(points)
        assert 0 == points.info().deleted


def test_refresh_gives_the_writers_state_after_any_steps(writer: OtherProcess, path: Path) -> None:
    seed = 20
    print(f"seed={seed}")
    chance = np.random.default_rng(seed)
    model: dict[int, dict[str, Any]] = {}
    db = vecdb.open(path, mode="r")
    points = db["p"]
    puts = 0
    for step in range(60):
        before = {point.id: point.payload for point in points.scan(with_vectors=False)}
        changed = False
        for _ in range(int(chance.integers(0, 4))):
            ids = chance.choice(120, size=int(chance.integers(1, 30)), replace=False).tolist()
            kind = chance.choice(
                ["put", "put", "delete", "patch", "checkpoint", "compact", "reopen", "big"], p=[0.2, 0.2, 0.1, 0.2, 0.12, 0.05, 0.05, 0.08]
            )
            if kind == "put":
                puts += 1
                writer.do("put(ids, seed)", ids=ids, seed=puts)
                model.update((one, {"seed": puts, "id": one}) for one in ids)
                changed = True
            elif kind == "delete":
                changed |= writer.do("result = p.delete(ids)", ids=ids) > 0
                for one in ids:
                    model.pop(one, None)
            elif kind == "patch":
                changed |= (
                    writer.do("result = p.set_payload({'patch': step}, ids=[one for one in ids if one in p])", ids=ids, step=step) > 0
                )
                model.update((one, {**model[one], "patch": step}) for one in ids if one in model)
            elif kind == "big":  # more than a segment of the log
                writer.do("p.upsert(1000 + step, None, {'text': 'x' * 300_000})", step=step)
                model[1000 + step] = {"text": "x" * 300_000}
                changed = True
            else:
                writer.do(
                    {"checkpoint": "p.checkpoint()", "compact": "p.compact()", "reopen": "db.close(); db = vecdb.open(path); p = db['p']"}[
                        kind
                    ]
                )
        assert before == {point.id: point.payload for point in points.scan(with_vectors=False)}
        assert changed == db.refresh()
        assert model == {point.id: point.payload for point in points.scan(with_vectors=False)}
        assert sum("patch" in payload for payload in model.values()) == points.count({"must": [{"key": "patch", "range": {"gte": 0}}]})
        some = [one for one in model if one < 1000][:5]
        for one, point in zip(some, points.get_many(some), strict=True):
            assert point is not None
            assert one == points.search(point.vector, k=1, exact=True)[0].id
    db.close()


def test_a_reader_that_checkpoints_have_left_behind_begins_again(writer: OtherProcess, path: Path) -> None:
    writer.do("put([1], 1)")
    with vecdb.open(path, mode="r") as db:
        points = db["p"]
        assert 1 == points.count(F("seed") == 1)
        for seed in (2, 3, 4):
            writer.do("p.upsert(list(range(60)), None, [{'text': 'x' * 10_000}] * 60); put([1, seed], seed); p.checkpoint()", seed=seed)
        assert {1: 1} == seeds(points)
        assert db.refresh() is True
        assert (60, 0, 2) == (len(points), points.count(F("seed") == 1), points.count(F("seed") == 4))
        assert db.refresh() is False


def test_a_reader_lets_go_of_old_pages_when_it_refreshes(writer: OtherProcess, path: Path) -> None:
    writer.do("put(list(range(2000)), 1); p.checkpoint()")
    with vecdb.open(path, mode="r") as db:
        points = db["p"]
        assert 2000 == len(points)
        assert [1, 0] == writer.do("info = p.info(); result = [info.readers, info.readers_behind]")
        writer.do("put([1], 2); p.checkpoint(); put([2], 3); p.checkpoint()")
        assert [1, 2] == writer.do("info = p.info(); result = [info.readers, info.readers_behind]")
        assert db.refresh() is True
        assert [1, 0] == writer.do("info = p.info(); result = [info.readers, info.readers_behind]")
        assert {**dict.fromkeys(range(2000), 1), 1: 2, 2: 3}[2] == points[2].payload["seed"]
        assert points.info().wal["checkpoint_lsn"] == writer.do("result = p.info().wal['checkpoint_lsn']")
    assert 0 == writer.do("result = p.info().readers")


def test_collections_that_are_dropped_and_created_are_seen_at_refresh(writer: OtherProcess, path: Path) -> None:
    writer.do("put([1], 1); q = db.create_collection('q', dim=2); q.upsert(1, [0, 1])")
    with vecdb.open(path, mode="r") as db:
        old, other = db["p"], db["q"]
        writer.do("db.drop_collection('p'); p = db.create_collection('p', dim=5); put([2], 2); r = db.create_collection('r', dim=3)")
        assert ["p", "q"] == list(db)
        assert [1] == list(old)
        assert db.refresh() is True
        assert ["p", "q", "r"] == list(db)
        with pytest.raises(vecdb.Closed):
            old.get(1)
        assert ([2], [1], []) == (list(db["p"]), list(other), list(db["r"]))
        writer.do("db.drop_collection('r')")
        assert db.refresh() is True
        assert "r" not in db


def test_a_collection_that_was_dropped_before_its_first_use_is_not_found(writer: OtherProcess, path: Path) -> None:
    with vecdb.open(path, mode="r") as db:
        writer.do("db.drop_collection('p')")
        with pytest.raises(vecdb.NotFound, match="refresh"):
            db["p"]
        assert db.refresh() is True
        assert [] == list(db)
        writer.do("p = db.create_collection('p', dim=5)")


def test_a_compaction_leaves_the_files_of_a_reader_until_it_has_moved_on(writer: OtherProcess, path: Path) -> None:
    writer.do("put(list(range(100)), 1); p.delete(list(range(50)))")
    directory = path / "c-0"
    with vecdb.open(path, mode="r") as db:
        assert 50 == len(db["p"])
        writer.do("p.compact()")
        assert (True, True) == ((directory / "gen-1").exists(), (directory / "gen-2").exists())
        writer.do("db.close(); db = vecdb.open(path); p = db['p']")
        assert (directory / "gen-1").exists()
        assert dict.fromkeys(range(50, 100), 1) == seeds(db["p"])
        assert db.refresh() is False  # nothing was written, and the state is the same
        assert dict.fromkeys(range(50, 100), 1) == seeds(db["p"])
        writer.do("db.close(); db = vecdb.open(path); p = db['p']")
        assert (False, True) == ((directory / "gen-1").exists(), (directory / "gen-2").exists())


def test_a_killed_reader_leaves_nothing_that_must_be_cleaned(path: Path) -> None:
    with vecdb.open(path) as db, OtherProcess() as reader:
        points = db.create_collection("p", dim=DIM)
        points.upsert(list(range(100)), vectors_of(1, 100))
        reader.do("p = vecdb.open(path, mode='r')['p']; result = len(p)", path=str(path))
        points.delete(list(range(50)))
        assert 1 == points.info().readers
        reader.kill()
        points.checkpoint()
        assert 0 == points.info().readers
        points.compact()
        assert ["gen-2"] == [one.name for one in (path / "c-0").glob("gen-*")]


def test_a_reader_goes_on_when_its_writer_is_killed_and_another_comes(path: Path) -> None:
    with OtherProcess() as first, OtherProcess() as second:
        first.do(WRITES + "put([1, 2], 1); p.checkpoint(); put([2, 3], 2)", path=str(path))
        with vecdb.open(path, mode="r") as db:
            points = db["p"]
            first.do("put([4], 3)")
            first.kill()
            assert {1: 1, 2: 2, 3: 2} == seeds(points)
            assert db.refresh() is True
            assert {1: 1, 2: 2, 3: 2, 4: 3} == seeds(points)
            second.do(WRITES, path=str(path))
            assert db.refresh() is False
            second.do("put([5], 4)")
            assert db.refresh() is True
            second.do("p.checkpoint(); put([6], 5); p.compact()")
            assert db.refresh() is True
            assert {1: 1, 2: 2, 3: 2, 4: 3, 5: 4, 6: 5} == seeds(points)


def test_a_second_writer_is_refused_by_name_whoever_reads(writer: OtherProcess, path: Path) -> None:
    with vecdb.open(path, mode="r") as db, OtherProcess() as third:
        assert [] == list(db["p"])
        with pytest.raises(RuntimeError, match=f"Locked.*process {writer.pid}"):
            third.do("vecdb.open(path, timeout=0.05)", path=str(path))


def test_the_same_path_twice_in_a_reading_process_is_one_database(writer: OtherProcess, path: Path) -> None:
    with vecdb.open(path, mode="r") as one, vecdb.open(path, mode="r") as other:
        points = other["p"]
        writer.do("put([1], 1)")
        assert one.refresh() is True
        assert [1] == list(points)
        assert other.refresh() is False
        with pytest.raises(vecdb.InvalidArgument, match="read-only in this process"):
            vecdb.open(path)


def test_a_reading_handle_in_a_forked_child_says_so_and_keeps_nothing(writer: OtherProcess, path: Path) -> None:
    writer.do("put([1], 1)")
    db = vecdb.open(path, mode="r")
    points = db["p"]
    ready, go = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(go)
        outcome = 1
        try:
            for use in (db.refresh, lambda: points.get(1)):
                with pytest.raises(vecdb.Forked):
                    use()
            os.read(ready, 1)
            outcome = 0
        finally:
            os._exit(outcome)
    os.close(ready)
    db.close()
    writer.do("p.delete(1); p.compact()")  # the child lives, and has the reader's files no more
    assert ["gen-2"] == [one.name for one in (path / "c-0").glob("gen-*")]
    os.close(go)
    assert 0 == os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_searches_of_other_threads_see_whole_batches_while_a_thread_refreshes(writer: OtherProcess, path: Path) -> None:
    writer.do("put(list(range(40)), 0); p.checkpoint()")
    stop = threading.Event()
    seen: list[set[int]] = []
    with vecdb.open(path, mode="r") as db:
        points = db["p"]

        def search() -> None:
            query = np.zeros(DIM, np.float32)
            while not stop.is_set():
                seen.append({hit.payload["seed"] for hit in points.search(query, k=40)})

        thread = threading.Thread(target=search)
        thread.start()
        for seed in range(1, 30):
            writer.do("put(list(range(40)), seed)", seed=seed)
            if seed % 9 == 4:
                writer.do("p.checkpoint()" if seed % 2 else "p.compact()")
            assert db.refresh() is True
        stop.set()
        thread.join()
    assert all(len(one) == 1 for one in seen)
    assert [next(iter(one)) for one in seen] == sorted(next(iter(one)) for one in seen)


def test_a_backup_of_a_reader_is_its_state(writer: OtherProcess, path: Path, tmp_path: Path) -> None:
    writer.do("put(list(range(3000)), 1); p.wait_indexed(); p.checkpoint(); p.delete(list(range(10))); p.create_index('seed')")
    with vecdb.open(path, mode="r") as db:
        assert 2990 == len(db["p"])
        writer.do("put([1], 2); p.checkpoint()")
        db.backup(tmp_path / "copy")
        assert db.refresh() is True
    with vecdb.open(tmp_path / "copy") as copy:
        assert dict.fromkeys(range(10, 3000), 1) == {point.id: point.payload["seed"] for point in copy["p"].scan()}
        assert ["seed"] == list(copy["p"].indexes)
        assert copy["p"].verify().ok


def test_a_reader_can_verify_what_it_reads(writer: OtherProcess, path: Path) -> None:
    writer.do("put(list(range(100)), 1); p.checkpoint(); put([1], 2)")
    with vecdb.open(path, mode="r") as db:
        report = db["p"].verify()
        assert (True, 100) == (report.ok, len(db["p"]))
    with pytest.raises(vecdb.Locked, match=f"process {writer.pid}.*verify=True"):
        vecdb.open(path, mode="r", verify=True, timeout=0.02)
    writer.do("db.close()")
    with vecdb.open(path, mode="r", verify=True) as db:
        assert 100 == len(db["p"])
    writer.do(WRITES, path=str(path))


def test_a_damaged_record_that_was_confirmed_is_reported_by_refresh(writer: OtherProcess, path: Path) -> None:
    writer.do("put([1], 1)")
    with vecdb.open(path, mode="r") as db:
        points = db["p"]
        assert [1] == list(points)
        writer.do("put([2], 2); put([3], 3)")
        segment = next((path / "c-0" / "wal").glob("*.log"))
        data = segment.read_bytes()
        place = data.index(b"VWAL", data.index(b"VWAL") + 1) + 60
        with segment.open("r+b") as file:
            file.seek(place)
            file.write(bytes([data[place] ^ 1]))
        with pytest.raises(vecdb.Corruption, match="record 2 is damaged"):
            db.refresh()
        assert [1] == list(points)
        with segment.open("r+b") as file:
            file.seek(place)
            file.write(data[place : place + 1])
        assert db.refresh() is True
        assert [1, 2, 3] == list(points)
