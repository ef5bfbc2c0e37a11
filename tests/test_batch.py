"""
batch(): a thread's writes are one atomic record at the end of the block, or nothing.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vecdb
from vecdb import Collection, F

V = np.eye(4, dtype=np.float32)


def test_a_block_is_seen_at_its_end_as_one(points: Collection) -> None:
    points.upsert([1, 2], V[:2], [{"n": 1}, {"n": 2}])
    lsn = points.info().wal["last_lsn"]
    with points.batch():
        points.upsert("a", V[2], {"n": 3})
        points.update([1, "a"], payloads=[{"x": 1}, {"x": 2}])
        assert points.delete([2, 7]) == 1
        assert points.delete(2) == 0
        assert len(points) == 2
        assert points.get("a") is None
        assert points[1].payload == {"n": 1}
        assert set(points.search(V[0], k=5).ids) == {1, 2}
    assert {point.id: point.payload for point in points.get_many([1, "a"]) if point} == {1: {"n": 1, "x": 1}, "a": {"n": 3, "x": 2}}
    assert list(points) == [1, "a"]
    assert points.info().wal["last_lsn"] == lsn + 1


def test_an_exception_discards_the_block(points: Collection) -> None:
    points.upsert(1, V[0])

    def fail() -> None:
        with points.batch():
            points.upsert(2, V[1])
            points.delete(1)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert list(points) == [1]
    points.upsert(3, V[2])  # the thread is out of the block
    assert list(points) == [1, 3]


def test_errors_come_at_once_and_leave_the_rest_of_the_block(points: Collection) -> None:
    points.upsert(1, V[0])
    with points.batch():
        points.add(2, V[1])
        with pytest.raises(vecdb.AlreadyExists):
            points.add([3, 2], V[:2])
        with pytest.raises(vecdb.NotFound):
            points.update(9, payloads={"n": 1})
        with pytest.raises(vecdb.InvalidArgument, match="zero vector"):
            points.upsert(4, [0, 0, 0, 0])
    assert list(points) == [1, 2]


def test_blocks_do_not_nest(points: Collection) -> None:
    with points.batch(), pytest.raises(vecdb.InvalidArgument, match="batch"), points.batch():
        pass


def test_filters_in_a_block_see_the_state_before_it(points: Collection) -> None:
    points.upsert([1, 2], V[:2], [{"n": 1}, {"n": 1}])
    with points.batch():
        points.upsert(3, V[2], {"n": 1})
        points.delete(2)
        assert points.set_payload({"seen": True}, filter=F("n") == 1) == 1
        assert points.count(F("n") == 1) == 2
    assert [point.payload for point in points.get_many([1, 3]) if point] == [{"n": 1, "seen": True}, {"n": 1}]


def test_arrays_may_change_before_the_block_ends(points: Collection) -> None:
    vector = V[:1].copy()
    with points.batch():
        points.upsert([1], vector)
        vector[:] = 9
    assert points[1].vector.tolist() == V[0].tolist()


def test_other_threads_write_on_beside_a_block(points: Collection) -> None:
    points.upsert([1, 2], V[:2], [{"n": 1}, {"n": 2}])

    def other() -> None:
        points.update(1, V[3], {"other": True})
        points.upsert(3, V[2])
        points.delete(2)

    with points.batch():
        points.update(1, payloads={"n": 10})
        points.upsert(3, V[0], {"n": 3})
        points.set_payload({"late": True}, filter=F("n") == 2)
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        assert list(points) == [1, 3]
    assert points[1].payload == {"n": 10, "other": True}
    assert points[1].vector.tolist() == V[3].tolist()
    assert points[3].payload == {"n": 3}
    assert 2 not in points


def test_a_block_that_no_longer_fits_the_state_writes_nothing(points: Collection) -> None:
    points.upsert(1, V[0])

    def conflict() -> None:
        with points.batch():
            points.upsert(5, V[1])
            points.update(1, payloads={"n": 1})
            thread = threading.Thread(target=lambda: points.delete(1))
            thread.start()
            thread.join()

    with pytest.raises(vecdb.NotFound, match="1"):
        conflict()
    assert list(points) == []


def test_a_block_is_refused_beyond_its_limit(points: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vecdb._block.MAX_CALL_BYTES", 400)

    def too_much() -> None:
        with points.batch():
            for one in range(100):
                points.upsert(one, V[0], {"n": one})

    with pytest.raises(vecdb.InvalidArgument, match="400"):
        too_much()
    assert len(points) == 0


def test_a_call_is_refused_beyond_its_limit_before_anything_is_written(points: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    points.upsert("a", V[0], {"n": 1})
    before = points.info()
    monkeypatch.setattr("vecdb._block.MAX_CALL_BYTES", 400)
    with pytest.raises(vecdb.InvalidArgument, match="at most 400"):
        points.upsert(range(30), np.tile(V[:1], (30, 1)))
    with pytest.raises(vecdb.InvalidArgument, match="at most 400"):
        points.set_payload({"text": "x" * 500}, ids="a")
    assert before == points.info()
    points.upsert([1, 2], V[:2])
    assert len(points) == 3


def test_a_block_survives_reopening_whole(path: Path) -> None:
    db = vecdb.open(path)
    points = db.create_collection("p", dim=4)
    points.upsert([1, 2], V[:2])
    with points.batch():
        points.upsert([2, 3], V[2:], [{"n": 2}, {"n": 3}])
        points.delete(1)
        points.upsert(1, None, {"n": 1})
    db.close()
    with vecdb.open(path, mode="r") as db:
        assert [point.payload for point in db["p"].get_many([1, 2, 3]) if point] == [{"n": 1}, {"n": 2}, {"n": 3}]
        assert db["p"][1].vector is None
        assert db["p"].search(V[3], k=1).ids == [3]


def test_a_handle_closed_in_the_block_writes_nothing(path: Path) -> None:
    keeper = vecdb.open(path)
    keeper.create_collection("p", dim=4)
    db = vecdb.open(path)
    points = db["p"]

    def close_within() -> None:
        with points.batch():
            points.upsert(1, V[0])
            db.close()

    with pytest.raises(vecdb.Closed):
        close_within()
    assert len(keeper["p"]) == 0
    keeper.close()


IDS = st.sampled_from([1, 2, 3, "a", "b"])
WRITE = st.one_of(
    st.tuples(st.just("upsert"), IDS, st.sampled_from([None, 0, 1, 2, 3]), st.integers(0, 9)),
    st.tuples(st.just("update"), IDS, st.sampled_from([None, 0, 1, 2, 3]), st.integers(0, 9)),
    st.tuples(st.just("delete"), IDS, st.none(), st.just(0)),
    st.tuples(st.just("replace"), IDS, st.none(), st.integers(0, 9)),
)


@settings(max_examples=60, deadline=None)
@given(before=st.lists(WRITE, max_size=6), block=st.lists(WRITE, max_size=12), interfere=st.booleans())
def test_a_block_does_what_its_writes_would_do_one_by_one(before: list[Any], block: list[Any], interfere: bool) -> None:
    plain, blocked = Collection(dim=4), Collection(dim=4)
    for collection in (plain, blocked):
        for write in before:
            carry_out(collection, write)
    if interfere:
        plain.upsert("z", V[0])
    expected = [carry_out(plain, write) for write in block]
    with blocked.batch():
        actual = [carry_out(blocked, write) for write in block]
        if interfere:
            thread = threading.Thread(target=lambda: blocked.upsert("z", V[0]))
            thread.start()
            thread.join()
    assert expected == actual
    assert list(plain) == list(blocked)
    assert plain.get_many(list(plain)) == blocked.get_many(list(blocked))
    found = blocked.search(V[0], k=10, exact=True)
    assert [(hit.id, hit.score) for hit in plain.search(V[0], k=10, exact=True)] == [(hit.id, hit.score) for hit in found]


def carry_out(points: Collection, write: tuple[str, int | str, int | None, int]) -> object:
    kind, one, row, number = write
    vector = None if row is None else V[row]
    try:
        if kind == "upsert":
            points.upsert(one, vector, {f"k{number}": number})
        elif kind == "update":
            points.update(one, vector, {f"k{number}": number})
        elif kind == "replace":
            return points.set_payload({"only": number}, ids=one, replace=True)
        else:
            return points.delete(one)
    except vecdb.NotFound:
        return "not found"
    return None
