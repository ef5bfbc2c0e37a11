"""
Collection: what is written is what is read, in memory and on disk alike.
"""

from __future__ import annotations

import datetime
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vecdb
from vecdb import Collection, Database, F, Point

V = [[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]]


def test_a_point_comes_back_as_it_was_given(points: Collection) -> None:
    vector = np.array([1.5, -2.0, 0.25, 3.0], dtype=np.float32)
    points.upsert("a", vector, {"city": "London", "n": 3, "nested": {"list": [1, None, True, 2.5]}})
    found = points["a"]
    assert found.id == "a"
    assert found.payload == {"city": "London", "n": 3, "nested": {"list": [1, None, True, 2.5]}}
    assert np.array_equal(vector, found.vector)
    assert found.vector.dtype == np.float32


def test_int_and_str_ids_differ(points: Collection) -> None:
    points.upsert([1, "1"], V[:2], [{"kind": "int"}, {"kind": "str"}])
    assert points[1].payload == {"kind": "int"}
    assert points["1"].payload == {"kind": "str"}
    assert len(points) == 2


def test_the_largest_ids_are_kept(points: Collection) -> None:
    ids = [0, 2**64 - 1, "é" * 240]
    points.upsert(ids, V)
    assert list(points) == ids
    assert [hit.id for hit in points.search(V[1], k=1)] == [2**64 - 1]


def test_numpy_integers_and_uuids_are_ids(points: Collection) -> None:
    one = uuid.UUID(int=7)
    points.upsert([np.int64(5), one], V[:2])
    assert points[5].id == 5
    assert points[str(one)].id == str(one)
    assert one in points


def test_upsert_replaces_the_whole_point(points: Collection) -> None:
    points.upsert("a", V[0], {"old": 1})
    points.upsert("a", V[1], {"new": 2})
    assert points["a"].payload == {"new": 2}
    assert points["a"].vector.tolist() == V[1]
    assert len(points) == 1


def test_of_an_id_that_stands_twice_the_last_wins(points: Collection) -> None:
    points.upsert(["a", "b", "a"], V, [{"n": 1}, {"n": 2}, {"n": 3}])
    assert points["a"].payload == {"n": 3}
    assert points["a"].vector.tolist() == V[2]
    assert len(points) == 2


def test_a_point_without_a_vector_is_counted_and_never_found(points: Collection) -> None:
    points.upsert(["a", "b"], [V[0], None], [{"n": 1}, {"n": 2}])
    points.upsert("c", None, {"n": 3})
    assert len(points) == 3
    assert points["b"].vector is None
    assert points.count(F("n") >= 2) == 2
    assert points.search(V[0], k=5).ids == ["a"]
    points.upsert("c", V[2])
    assert set(points.search(V[0], k=5).ids) == {"a", "c"}


def test_add_refuses_the_whole_batch_when_one_exists(points: Collection) -> None:
    points.upsert("b", V[0])
    with pytest.raises(vecdb.AlreadyExists, match="'b'"):
        points.add(["a", "b"], V[:2])
    assert list(points) == ["b"]
    with pytest.raises(vecdb.AlreadyExists, match="twice"):
        points.add(["c", "c"], V[:2])
    points.add(["a", "c"], V[:2])
    assert list(points) == ["a", "b", "c"]


def test_update_changes_what_is_given_and_leaves_the_rest(points: Collection) -> None:
    points.upsert(["a", "b", "c"], V, [{"n": 1, "x": 1}, {"n": 2}, {"n": 3}])
    points.update(["a", "b"], [None, V[0]], [{"n": 10}, None])
    assert points["a"].payload == {"n": 10, "x": 1}
    assert points["a"].vector.tolist() == V[0]
    assert points["b"].payload == {"n": 2}
    assert points["b"].vector.tolist() == V[0]
    with pytest.raises(vecdb.NotFound, match="'nobody'"):
        points.update(["c", "nobody"], payloads=[{"n": 0}, {"n": 0}])
    assert points["c"].payload == {"n": 3}


def test_update_of_an_id_that_stands_twice_does_both(points: Collection) -> None:
    points.upsert("a", V[0])
    points.update(["a", "a"], [V[1], None], [{"x": 1}, {"y": 2}])
    assert points["a"].payload == {"x": 1, "y": 2}
    assert points["a"].vector.tolist() == V[1]


def test_set_payload_merges_or_replaces_by_ids_or_filter(points: Collection) -> None:
    points.upsert([1, 2, 3], V, [{"n": 1}, {"n": 2}, {"n": 3}])
    assert points.set_payload({"seen": True}, ids=[1, 2]) == 2
    assert points.set_payload({"big": True}, filter=F("n") >= 2) == 2
    assert points.set_payload({"only": 1}, ids=3, replace=True) == 1
    assert [point.payload for point in points.get_many([1, 2, 3])] == [
        {"n": 1, "seen": True},
        {"n": 2, "seen": True, "big": True},
        {"only": 1},
    ]
    assert points.delete_payload(["n", "absent"], filter={}) == 3
    assert points[1].payload == {"seen": True}


def test_delete_says_how_many_existed(points: Collection) -> None:
    points.upsert([1, 2, 3], V, [{"n": 1}, {"n": 2}, {"n": 3}])
    assert points.delete([1, 1, 9]) == 1
    assert points.delete(filter=F("n") == 3) == 1
    assert list(points) == [2]
    del points[2]
    with pytest.raises(vecdb.NotFound):
        del points[2]
    assert len(points) == 0
    assert points.search(V[0]) == []


def test_delete_by_the_empty_filter_deletes_all(points: Collection) -> None:
    points.upsert([1, 2, 3], V)
    assert points.delete(filter={}) == 3
    assert list(points) == []


def test_get_gives_none_and_brackets_raise_for_an_absent_point(points: Collection) -> None:
    assert points.get("a") is None
    assert "a" not in points
    assert points.get_many(["a"]) == [None]
    with pytest.raises(KeyError, match="no point with id 'a'"):
        points["a"]


def test_iteration_goes_by_ascending_id_ints_first(points: Collection) -> None:
    ids: list[Any] = ["b", 10, "a", 9, "é", "z", 2**40]
    points.upsert(ids, [V[0]] * len(ids))
    assert list(points) == [9, 10, 2**40, "a", "b", "z", "é"]


def test_payloads_take_what_json_can_say(points: Collection) -> None:
    moment = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.timezone.utc)
    payload = {
        "np": np.float32(0.5),
        "array": np.arange(3),
        "tuple": (1, 2),
        "when": moment,
        "day": moment.date(),
        "id": uuid.UUID(int=1),
        "flag": np.bool_(True),
        "large": 2**63,
    }
    points.upsert("a", V[0], payload)
    assert points["a"].payload == {
        "np": 0.5,
        "array": [0, 1, 2],
        "tuple": [1, 2],
        "when": "2026-01-02T03:04:05Z",
        "day": "2026-01-02",
        "id": "00000000-0000-0000-0000-000000000001",
        "flag": True,
        "large": 2**63,
    }


def test_what_is_read_is_a_copy(points: Collection) -> None:
    points.upsert("a", V[0], {"list": [1]})
    first = points["a"]
    first.payload["list"].append(2)
    first.vector[0] = 9.0
    for hits in points.search([V[0], V[0]], with_vectors=True):
        assert hits[0].payload == {"list": [1]}
        hits[0].payload["list"].append(3)
        hits[0].vector[0] = 7.0
    assert points["a"] == Point("a", np.array(V[0], dtype=np.float32), {"list": [1]})


def test_points_are_written_and_refused_when_read_without_vectors(points: Collection) -> None:
    points.upsert_points([Point("a", V[0], {"n": 1}), Point("b")])
    assert points["b"].vector is None
    partial = points.get_many(["a"], with_vectors=False)[0]
    assert partial is not None
    with pytest.raises(vecdb.InvalidArgument, match="with_vectors=False"):
        points.upsert_points([partial])
    assert points["a"].vector.tolist() == V[0]


def test_vectors_of_many_kinds_are_taken(points: Collection) -> None:
    for kind in (np.float16, np.float64, np.int8):
        points.upsert([1, 2], np.asarray(V[:2], dtype=kind))
        assert points[2].vector.tolist() == V[1]
    points.upsert([3], (tuple(V[2]),))
    points.upsert([4, 5], np.asfortranarray(np.asarray(V[:2])))
    assert points[5].vector.tolist() == V[1]
    assert points[3].vector.tolist() == V[2]


def test_an_empty_batch_does_nothing(points: Collection) -> None:
    points.upsert([], [])
    points.upsert([], np.empty((0, 4)))
    assert points.delete([]) == 0
    assert points.get_many([]) == []
    assert len(points) == 0


def test_info_counts_points_tail_and_deleted(points: Collection) -> None:
    points.upsert([1, 2, 3], V)
    points.upsert(1, V[1])
    points.delete(2)
    info = points.info()
    assert (info.points, info.vectors, info.deleted) == (2, 2, 2)
    assert info.bytes["vectors"] >= 4 * 4 * 4
    assert "2 points" in str(info)


def test_repr_says_name_size_and_shape(points: Collection) -> None:
    points.upsert(1, V[0])
    assert repr(points) == "<vecdb.Collection 'points': 1 points, dim 4, cosine>"


def test_metadata_is_kept_and_given_as_a_copy(db: Database) -> None:
    made = db.create_collection("with metadata", dim=2, metadata={"model": "m"})
    made.metadata["model"] = "other"
    assert db["with metadata"].metadata == {"model": "m"}


def test_a_collection_without_a_database_works_and_closes() -> None:
    alone = Collection(dim=2)
    alone.upsert(1, [0, 1])
    assert alone.search([0, 1]).ids == [1]
    alone.close()
    with pytest.raises(vecdb.Closed):
        alone.search([0, 1])


def test_times_of_any_precision_and_offset_become_rfc_3339(points: Collection) -> None:
    zone = datetime.timezone(datetime.timedelta(hours=1, seconds=30))
    times = {
        "nanoseconds": np.array(["2020-01-01T00:00:00"], dtype="datetime64[ns]"),
        "seconds in the offset": datetime.datetime(1900, 1, 1, tzinfo=zone),
        "offset": datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone(datetime.timedelta(hours=-2))),
        "no dimension": np.array({"a": 1}, dtype=object),
        "odd nanoseconds": np.datetime64("2020-01-01T00:00:00.123456789"),
        "month": np.datetime64("2020-02"),
    }
    points.upsert("a", V[0], times)
    assert points["a"].payload == {
        "nanoseconds": ["2020-01-01T00:00:00Z"],
        "seconds in the offset": "1899-12-31T22:59:30Z",
        "offset": "2020-01-01T00:00:00-02:00",
        "no dimension": {"a": 1},
        "odd nanoseconds": "2020-01-01T00:00:00.123456789Z",
        "month": "2020-02-01T00:00:00Z",
    }
    assert points.count(vecdb.F('"odd nanoseconds"') >= times["odd nanoseconds"]) == 1
    assert points.count(vecdb.F("month").range(gte=times["month"], lte=times["month"])) == 1


def test_vectors_of_whatever_numpy_takes(points: Collection) -> None:
    class Tensor:
        def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
            return np.asarray(V[:2], dtype=dtype)

    points.upsert([1, 2], Tensor())
    assert points[2].vector.tolist() == V[1]
    points.upsert([3, 4], memoryview(np.asarray(V[:2], dtype=np.float32)))
    assert points[4].vector.tolist() == V[1]


def test_iteration_keeps_its_database_open_and_ends_with_it(path: Path) -> None:
    with vecdb.open(path) as db:
        db.create_collection("p", dim=4).upsert([1, 2, 3], V)
    assert list(vecdb.open(path)["p"]) == [1, 2, 3]
    db = vecdb.open(path)
    ids = iter(db["p"])
    assert next(ids) == 1
    db.close()
    with pytest.raises(vecdb.Closed):
        next(ids)


def test_waiting_for_the_graph_shows_progress_where_it_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("tqdm")
    points = Collection(dim=4)
    points.upsert(range(3000), np.random.default_rng(1).standard_normal((3000, 4)))
    assert points.wait_indexed(progress=True)
    assert "index" in capsys.readouterr().err
    assert points.wait_indexed(timeout=5, progress=True)
