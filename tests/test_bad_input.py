"""
Bad input in each public call gives its documented error, says what was seen, and changes nothing.
"""

from __future__ import annotations

import datetime
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vecdb
from vecdb import Collection, Database, F, InvalidArgument, InvalidFilter

GOOD = [[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]]
NAN = [[1.0, 0.0, 0.0, 0.0], [0.0, float("nan"), 0.0, 0.0]]
Call = Callable[[Collection], Any]


class Table:
    """
    What a DataFrame looks like: iterated, it gives the names of its columns.
    """

    ndim = 2
    shape = (2, 2)

    def __iter__(self) -> Iterator[str]:
        return iter(["a", "b"])


class NotATime(datetime.datetime):
    """
    What pandas.NaT looks like: a datetime that equals nothing.
    """

    def __ne__(self, other: object) -> bool:
        return True

    __eq__ = None  # type: ignore[assignment]
    __hash__ = None  # type: ignore[assignment]


def no_groups(**options: Any) -> Call:
    return lambda p: p.search_groups(GOOD[0], "nothing", **options)


def state_of(points: Collection) -> list[Any]:
    return [(point.id, point.payload, point.vector.tolist()) for point in points.get_many(list(points)) if point is not None]


@pytest.fixture
def filled(points: Collection) -> Collection:
    points.upsert(["a", "b"], GOOD, [{"n": 1}, {"n": 2}])
    return points


WRITES: dict[str, tuple[Call, type[Exception], str]] = {
    "a wrong dim": (
        lambda p: p.upsert(["a", "c"], [[1, 2, 3], [4, 5, 6]]),
        InvalidArgument,
        r"vectors\[0\] has shape \(3,\), expected \(4,\)",
    ),
    "one ragged row": (lambda p: p.upsert(["a", "c"], [[1, 2, 3, 4], [4, 5, 6]]), InvalidArgument, r"vectors\[1\]"),
    "NaN": (lambda p: p.upsert(["a", "c"], NAN), InvalidArgument, r"vectors\[1\] holds NaN at component 1"),
    "an infinity": (lambda p: p.upsert("a", [0, np.inf, 0, 0]), InvalidArgument, r"vectors\[0\] holds an infinity"),
    "a float64 beyond float32": (lambda p: p.upsert("a", [0, 1e300, 0, 0]), InvalidArgument, "infinity"),
    "a zero vector": (lambda p: p.upsert(["a", "c"], [GOOD[0], [0, 0, 0, 0]]), InvalidArgument, r"vectors\[1\] is a zero vector"),
    "a zero vector after one without": (lambda p: p.upsert(["a", "c"], [None, [0, 0, 0, 0]]), InvalidArgument, r"vectors\[1\]"),
    "text for numbers": (lambda p: p.upsert("a", ["1", "2", "3", "4"]), InvalidArgument, "number"),
    "a dict for vectors": (lambda p: p.upsert(["a"], {"a": 1}), InvalidArgument, "dict"),
    "fewer vectors than ids": (lambda p: p.upsert(["a", "c"], [GOOD[0]]), InvalidArgument, "2 ids but 1 vectors"),
    "a dict for ids": (lambda p: p.upsert({"id": 1}, GOOD[0]), InvalidArgument, "expected ids, got a dict"),
    "a filter for ids": (lambda p: p.delete({"must": []}), InvalidArgument, "filter="),
    "a built filter for ids": (lambda p: p.delete(F("n") == 1), InvalidArgument, "filter="),
    "a bool id": (lambda p: p.upsert(True, GOOD[0]), InvalidArgument, "True"),
    "a negative id": (lambda p: p.upsert([1, -1], GOOD), InvalidArgument, r"ids\[1\] is -1"),
    "a negative numpy id": (lambda p: p.upsert(np.array([1, -1]), GOOD), InvalidArgument, r"ids\[1\] is -1"),
    "an id beyond 64 bits": (lambda p: p.upsert(2**64, GOOD[0]), InvalidArgument, "18446744073709551616"),
    "a float id": (lambda p: p.upsert([1.0], [GOOD[0]]), InvalidArgument, "float"),
    "an empty id": (lambda p: p.upsert("", GOOD[0]), InvalidArgument, "0 bytes"),
    "a long id": (lambda p: p.upsert("x" * 481, GOOD[0]), InvalidArgument, "481 bytes"),
    "a lone surrogate in an id": (lambda p: p.upsert("\ud800", GOOD[0]), InvalidArgument, "surrogate"),
    "None for an id": (lambda p: p.upsert([None], [GOOD[0]]), InvalidArgument, r"ids\[0\] is None"),
    "ids of two dimensions": (lambda p: p.upsert(np.ones((2, 2), dtype=int), GOOD), InvalidArgument, "shape"),
    "a payload that is no object": (lambda p: p.upsert(["c", "a"], GOOD, [{}, [1]]), InvalidArgument, r"payloads\[1\] is a list"),
    "an object in a payload": (lambda p: p.upsert(["c", "a"], GOOD, [{}, {"x": object()}]), InvalidArgument, r"payloads\[1\]\['x'\]"),
    "bytes in a payload": (lambda p: p.upsert("a", GOOD[0], {"x": b"1"}), InvalidArgument, "bytes"),
    "NaN deep in a payload": (lambda p: p.upsert("a", GOOD[0], {"x": {"y": [1.0, float("nan")]}}), InvalidArgument, r"\['x'\]\['y'\]\[1\]"),
    "an int beyond 64 bits in a payload": (lambda p: p.upsert("a", GOOD[0], {"x": 2**64}), InvalidArgument, "64 bit"),
    "an int key in a payload": (lambda p: p.upsert("a", GOOD[0], {1: "x"}), InvalidArgument, "str keys"),
    "a lone surrogate in a payload": (lambda p: p.upsert("a", GOOD[0], {"x": "\udfff"}), InvalidArgument, "surrogate"),
    "one payload for two ids": (lambda p: p.upsert(["a", "c"], GOOD, {"n": 1}), InvalidArgument, "one dict for 2 points"),
    "fewer payloads than ids": (lambda p: p.upsert(["a", "c"], GOOD, [{}]), InvalidArgument, "2 ids but 1 payloads"),
    "neither ids nor filter": (lambda p: p.delete(), InvalidArgument, "neither"),
    "both ids and filter": (lambda p: p.delete("a", filter={}), InvalidArgument, "both"),
    "an unknown filter key": (lambda p: p.delete(filter={"shall": []}), InvalidFilter, "shall"),
    "a payload change of nobody": (lambda p: p.set_payload({"x": 1}, ids=["a", "nobody"]), vecdb.NotFound, "nobody"),
    "a payload change that is no object": (lambda p: p.set_payload([1], ids="a"), InvalidArgument, "list"),  # type: ignore[arg-type]
    "keys that are no text": (lambda p: p.delete_payload([1], ids="a"), InvalidArgument, "keys"),  # type: ignore[list-item]
    "an update of nobody": (lambda p: p.update("nobody", GOOD[0]), vecdb.NotFound, "nobody"),
    "an update with NaN": (lambda p: p.update(["a", "b"], NAN), InvalidArgument, "NaN"),
    "an existing point added": (lambda p: p.add(["c", "a"], GOOD), vecdb.AlreadyExists, "'a'"),
    "keys that are none": (lambda p: p.delete_payload(None, ids="a"), InvalidArgument, "keys are None"),  # type: ignore[arg-type]
    "keys that are a dict": (lambda p: p.delete_payload({"n": 1}, ids="a"), InvalidArgument, "keys"),  # type: ignore[arg-type]
    "keys that are lists": (lambda p: p.delete_payload([["n"]], ids="a"), InvalidArgument, "keys"),  # type: ignore[list-item]
    "a payload change of nothing": (lambda p: p.set_payload(None, ids="a", replace=True), InvalidArgument, "None"),  # type: ignore[arg-type]
    "a replace that is no bool": (lambda p: p.set_payload({}, ids="a", replace="no"), InvalidArgument, "replace"),  # type: ignore[arg-type]
    "no points at all": (lambda p: p.upsert_points(None), InvalidArgument, "NoneType"),  # type: ignore[arg-type]
    "a table for ids": (lambda p: p.delete(Table()), InvalidArgument, "one dimension"),
    "times for ids": (lambda p: p.upsert(np.array(["2020"], dtype="datetime64[ns]"), GOOD[:1]), InvalidArgument, "datetime64"),
    "a time span for an id": (lambda p: p.upsert(np.timedelta64(5, "ns"), GOOD[0]), InvalidArgument, "timedelta64"),
    "a time span in a payload": (lambda p: p.upsert("a", GOOD[0], {"x": np.timedelta64(5, "ns")}), InvalidArgument, "timedelta64"),
    "time spans in a payload": (
        lambda p: p.upsert("a", GOOD[0], {"x": np.array([5], dtype="timedelta64[ns]")}),
        InvalidArgument,
        r"\['x'\]\[0\]",
    ),
    "not a time in a payload": (lambda p: p.upsert("a", GOOD[0], {"x": NotATime(2020, 1, 1)}), InvalidArgument, "expected a time"),
    "points that are none": (lambda p: p.upsert_points([("a", GOOD[0])]), InvalidArgument, "tuple"),  # type: ignore[list-item]
    "an index of no key": (lambda p: p.create_index(5), InvalidArgument, "key is 5 of type int"),  # type: ignore[arg-type]
    "an index of an empty key": (lambda p: p.create_index(""), InvalidArgument, "expected a name"),
    "an index of a broken key": (lambda p: p.create_index("a..b"), InvalidArgument, "at character 2"),
    "an index of a key with a lone surrogate": (lambda p: p.create_index("\ud800"), InvalidArgument, "surrogate"),
    "an index of an unknown kind": (lambda p: p.create_index("n", "number"), InvalidArgument, "kind is 'number'"),  # type: ignore[arg-type]
    "an index of a list of kinds": (lambda p: p.create_index("n", ["float"]), InvalidArgument, r"kind is \['float'\]"),  # type: ignore[arg-type]
    "too few links of an index": (lambda p: p.create_index("n", m=1), InvalidArgument, "m is 1, expected an int from 2 to 10000"),
    "too many links of an index": (lambda p: p.create_index("n", "keyword", m=10_001), InvalidArgument, "m is 10001"),
    "links of an index that are no int": (lambda p: p.create_index("n", m=2.5), InvalidArgument, "m is 2.5"),  # type: ignore[arg-type]
    "links of a kind without terms": (lambda p: p.create_index("n", "text", m=8), InvalidArgument, "leave m out"),
    "dropping an index of no key": (lambda p: p.drop_index(None), InvalidArgument, "key is None"),  # type: ignore[arg-type]
    "dropping an index that is not there": (lambda p: p.drop_index("n"), vecdb.NotFound, r"no index of key 'n' \(there: none\)"),
    "a filter for vectors": (lambda p: p.upsert(["a", "b"], F("n") == 1), InvalidArgument, "expected an array of shape"),
    "an array without dimensions for payloads": (
        lambda p: p.upsert("a", GOOD[0], np.array(1)),
        InvalidArgument,
        "expected a list of dicts",
    ),
    "a filter for payloads": (lambda p: p.update("a", payloads=F("n") == 1), InvalidArgument, "expected a list of dicts"),
    "a filter for points": (lambda p: p.upsert_points(F("n") == 1), InvalidArgument, "iterable of vecdb.Point"),  # type: ignore[arg-type]
    "an array without dimensions for points": (lambda p: p.upsert_points(np.array(1)), InvalidArgument, "ndarray"),  # type: ignore[arg-type]
    "an array without dimensions for keys": (lambda p: p.delete_payload(np.array(1), ids="a"), InvalidArgument, "keys"),  # type: ignore[arg-type]
    "a table for keys": (lambda p: p.delete_payload(Table(), ids="a"), InvalidArgument, "keys"),  # type: ignore[arg-type]
    "an array without dimensions for rows": (lambda p: p.upload(np.array(1)), InvalidArgument, "data is a ndarray"),
    "a time span for a batch size": (lambda p: p.upload([], batch_size=np.timedelta64(5, "ns")), InvalidArgument, "batch_size is"),  # type: ignore[arg-type]
    "deleting nobody by brackets": (lambda p: p.__delitem__("nobody"), vecdb.NotFound, "nobody"),
}

READS: dict[str, tuple[Call, type[Exception], str]] = {
    "a query of a wrong dim": (lambda p: p.search([1, 2, 3]), InvalidArgument, "3 components, expected 4"),
    "queries of a wrong dim": (lambda p: p.search([[1, 2, 3]]), InvalidArgument, r"queries\[0\]"),
    "a query with NaN": (lambda p: p.search([1, np.nan, 0, 0]), InvalidArgument, "NaN"),
    "a zero query": (lambda p: p.search([0, 0, 0, 0]), InvalidArgument, "zero vector"),
    "a scalar query": (lambda p: p.search(1.0), InvalidArgument, "float"),
    "text for a query": (lambda p: p.search("text"), InvalidArgument, "str"),
    "None for a query": (lambda p: p.search(None), InvalidArgument, "NoneType"),
    "k of 0": (lambda p: p.search(GOOD[0], k=0), InvalidArgument, "k is 0"),
    "k that is no int": (lambda p: p.search(GOOD[0], k=1.5), InvalidArgument, "k is 1.5"),  # type: ignore[arg-type]
    "a negative ef": (lambda p: p.search(GOOD[0], ef=-1), InvalidArgument, "ef is -1"),
    "a negative offset": (lambda p: p.search(GOOD[0], offset=-1), InvalidArgument, "offset is -1"),
    "an exact that is no bool": (lambda p: p.search(GOOD[0], exact="no"), InvalidArgument, "exact is 'no'"),  # type: ignore[arg-type]
    "a threshold that is no number": (
        lambda p: p.search(GOOD[0], score_threshold="high"),  # type: ignore[arg-type]
        InvalidArgument,
        "score_threshold is 'high'",
    ),
    "a threshold of NaN": (lambda p: p.search(GOOD[0], score_threshold=float("nan")), InvalidArgument, "score_threshold is nan"),
    "an explained ef that is no int": (lambda p: p.explain({}, ef="wide"), InvalidArgument, "ef is 'wide'"),  # type: ignore[arg-type]
    "an explained negative ef": (lambda p: p.explain({}, ef=-1), InvalidArgument, "ef is -1"),
    "a wait for no time": (lambda p: p.wait_indexed(float("nan")), InvalidArgument, "timeout is nan"),
    "a wait that is no number": (lambda p: p.wait_indexed("long"), InvalidArgument, "timeout is 'long'"),  # type: ignore[arg-type]
    "a name of a vector that is none": (lambda p: p.search(GOOD[0], using="title"), InvalidArgument, "title"),
    "with_payload of an unknown word": (lambda p: p.search(GOOD[0], with_payload={"only": ["n"]}), InvalidArgument, "exclude"),
    "with_payload that is one key": (lambda p: p.search(GOOD[0], with_payload={"exclude": "n"}), InvalidArgument, "with_payload.*exclude"),
    "with_payload of two words": (
        lambda p: p.search(GOOD[0], with_payload={"include": ["a"], "exclude": ["b"]}),
        InvalidArgument,
        "with_payload.*exclude",
    ),
    "with_payload of numbers": (lambda p: p.search(GOOD[0], with_payload=[1]), InvalidArgument, "with_payload"),  # type: ignore[list-item]
    "an unknown clause": (lambda p: p.search(GOOD[0], filter={"shall": []}), InvalidFilter, "shall"),
    "an unknown predicate": (lambda p: p.count({"must": [{"key": "n", "matches": 1}]}), InvalidFilter, r"must\[0\]"),
    "a condition without a predicate": (lambda p: p.count({"must": [{"key": "n"}]}), InvalidFilter, r"must\[0\]"),
    "a range over text": (lambda p: p.count({"must": [{"key": "n", "range": {"lt": "cheap"}}]}), InvalidFilter, "cheap"),
    "a filter that is a list": (lambda p: p.count([{"key": "n"}]), InvalidFilter, "expected a filter"),
    "an id that is none": (lambda p: p.get(1.5), InvalidArgument, "1.5"),
    "a get_many with_vectors that is no bool": (
        lambda p: p.get_many("a", with_vectors="no"),  # type: ignore[arg-type]
        InvalidArgument,
        "with_vectors is 'no'",
    ),
    "a threshold beyond a double": (lambda p: p.search(GOOD[0], score_threshold=10**400), InvalidArgument, "score_threshold is 1000"),
    "a time span for k": (lambda p: p.search(GOOD[0], k=np.timedelta64(5, "ns")), InvalidArgument, "k is"),  # type: ignore[arg-type]
    "an array for using": (lambda p: p.search(GOOD[0], using=np.zeros(2)), InvalidArgument, "using is"),  # type: ignore[arg-type]
    "an array for a strategy": (
        lambda p: p.recommend("a", strategy=np.zeros(2)),  # type: ignore[arg-type]
        InvalidArgument,
        "strategy is",
    ),
    "an example of no dimension": (lambda p: p.recommend(np.array(0.5)), InvalidArgument, r"positive\[0\]"),
    "an ef of groups that there are none of": (no_groups(ef="wide"), InvalidArgument, "ef is 'wide'"),
    "an exact of no groups": (no_groups(exact="no"), InvalidArgument, "exact is 'no'"),
    "a threshold of no groups": (no_groups(score_threshold="high"), InvalidArgument, "score_threshold is 'high'"),
    "vectors of no groups": (no_groups(with_vectors="no"), InvalidArgument, "with_vectors is 'no'"),
    "a table for ids in a filter": (lambda p: p.count(F.has_id(Table())), InvalidFilter, "has_id"),  # type: ignore[arg-type]
    "a number for rings": (lambda p: p.count(F("n").geo_polygon([(0, 0)] * 4, 5)), InvalidFilter, "interiors"),  # type: ignore[arg-type]
    "not a time in a filter": (lambda p: p.count(F("n") < NotATime(2020, 1, 1)), InvalidFilter, "RFC 3339"),
    "a time span in a filter": (lambda p: p.count(F("n") == np.timedelta64(5, "ns")), InvalidFilter, "timedelta64"),
    "a dict of ids": (lambda p: p.get_many({"a": 1}), InvalidArgument, "dict"),
}


@pytest.mark.parametrize("case", WRITES)
def test_a_bad_write_raises_and_changes_nothing(filled: Collection, case: str) -> None:
    call, error, text = WRITES[case]
    before = state_of(filled)
    with pytest.raises(error, match=text):
        call(filled)
    assert state_of(filled) == before
    assert filled.indexes == {}
    filled.upsert("z", GOOD[0])
    assert len(filled) == 3


@pytest.mark.parametrize("case", READS)
def test_a_bad_read_raises(filled: Collection, case: str) -> None:
    call, error, text = READS[case]
    with pytest.raises(error, match=text):
        call(filled)


BAD_OPTIONS: list[tuple[dict[str, Any], str]] = [
    ({"dim": 0}, "dim is 0"),
    ({"dim": 2.5}, "dim is 2.5"),
    ({"dim": 70_000}, "dim is 70000"),
    ({"dim": 4, "metric": "manhattan"}, "manhattan"),
    ({"dim": 4, "m": 1}, "m is 1"),
    ({"dim": 4, "metric": np.zeros(2)}, "metric is"),
    ({"dim": 4, "quantization": np.zeros(2)}, "quantization is"),
    ({"vectors": {"a": vecdb.VectorConfig(n for n in "no")}}, "dim is <generator"),  # type: ignore[arg-type]
    ({"dim": 4, "ef_construction": 0}, "ef_construction is 0"),
    ({"dim": 4, "quantization": "pq"}, "pq"),
    ({"dim": 4, "seed": -1}, "seed is -1"),
    ({"dim": 4, "metadata": [1]}, "metadata is a list"),
    ({"dim": 4, "metadata": {"x": object()}}, "metadata"),
]


@pytest.mark.parametrize(("options", "text"), BAD_OPTIONS)
def test_bad_options_raise_and_create_nothing(db: Database, options: dict[str, Any], text: str) -> None:
    with pytest.raises(InvalidArgument, match=text):
        db.create_collection("x", **options)
    assert list(db) == []


@pytest.mark.parametrize("name", ["", 1, None, "x" * 256, "\ud800", ["x"]])
def test_bad_names_raise_and_create_nothing(db: Database, name: Any) -> None:
    with pytest.raises(InvalidArgument, match="name"):
        db.create_collection(name, dim=4)
    for call in (db.__getitem__, db.drop_collection):
        with pytest.raises(vecdb.NotFound if isinstance(name, str) else InvalidArgument):
            call(name)
    assert list(db) == []


def test_names_never_become_paths(db: Database) -> None:
    for name in ("../x", "/etc/passwd", "a\nb", ".", "CON", "ünï"):
        db.create_collection(name, dim=2).upsert(1, [0, 1])
        assert len(db[name]) == 1


def test_a_closed_handle_raises_closed_from_every_call(filled: Collection, db: Database) -> None:
    db.close()
    for call in (
        lambda: filled.upsert("a", GOOD[0]),
        lambda: filled.search(GOOD[0]),
        lambda: filled.get("a"),
        lambda: filled.count(),
        lambda: len(filled),
        lambda: list(filled),
        lambda: "a" in filled,
        lambda: filled.delete("a"),
        lambda: filled.info(),
        lambda: filled.checkpoint(),
        lambda: list(db),
        lambda: db["points"],
        lambda: db.create_collection("y", dim=2),
    ):
        with pytest.raises(vecdb.Closed):
            call()


def test_other_options_for_an_existing_collection_raise(db: Database) -> None:
    db.create_collection("x", dim=4, metric="l2")
    with pytest.raises(InvalidArgument, match="dim=4, got 5"):
        db.get_or_create_collection("x", dim=5)
    with pytest.raises(InvalidArgument, match="metric='l2', got 'dot'"):
        db.get_or_create_collection("x", metric="dot")
    assert db.get_or_create_collection("x", metric="l2").dim == 4
    with pytest.raises(vecdb.AlreadyExists, match="'x'"):
        db.create_collection("x", dim=4)
    with pytest.raises(vecdb.NotFound, match="'y'"):
        db["y"]
    with pytest.raises(InvalidArgument, match="dim was not given"):
        db.get_or_create_collection("y")


def test_a_path_that_is_a_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("precious")
    with pytest.raises(vecdb.StorageError, match="is a file, expected a directory"):
        vecdb.open(file)
    assert file.read_text() == "precious"


def test_a_directory_of_other_things_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(vecdb.StorageError, match=r"thesis\.tex"):
        vecdb.open(tmp_path)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["thesis.tex"]


def test_reading_an_absent_path_is_file_not_found(path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no database at"):
        vecdb.open(path, mode="r")
    assert not path.exists()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"mode": "w"}, "mode is 'w'"),
        ({"durability": "none"}, "durability"),
        ({"timeout": -1}, "timeout"),
        ({"timeout": "long"}, "timeout is 'long'"),
        ({"timeout": 10**400}, "timeout is 1000"),
        ({"mode": np.zeros(2)}, "mode is"),
        ({"durability": np.zeros(2)}, "durability is"),
        ({"threads": 0}, "threads is 0"),
    ],
)
def test_bad_arguments_of_open_raise_and_create_nothing(path: Path, arguments: dict[str, Any], text: str) -> None:
    with pytest.raises(InvalidArgument, match=text):
        vecdb.open(path, **arguments)
    assert not path.exists()


@pytest.mark.parametrize("path", [None, 5, b"x", ""])
def test_a_path_that_is_none_is_refused(path: Any) -> None:
    with pytest.raises(InvalidArgument, match="path is"):
        vecdb.open(path)


def test_a_second_writer_process_is_refused_and_named(path: Path) -> None:
    script = f"""
import sys, vecdb
db = vecdb.open({str(path)!r})
print("open", flush=True)
sys.stdin.read()
"""
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdin is not None
        assert child.stdout.readline() == "open\n"
        with pytest.raises(vecdb.Locked, match=f"process {child.pid}"):
            vecdb.open(path, timeout=0.05)
        child.stdin.close()
        assert child.wait() == 0
    with vecdb.open(path, timeout=5) as db:
        assert list(db) == []


def test_writes_through_a_read_only_handle_are_refused(path: Path) -> None:
    with vecdb.open(path) as db:
        db.create_collection("x", dim=4).upsert("a", GOOD[0])
        with vecdb.open(path, mode="r") as reader:
            assert reader["x"].search(GOOD[0]).ids == ["a"]
            with pytest.raises(vecdb.ReadOnly, match="mode='r'"):
                reader["x"].upsert("b", GOOD[0])
            with pytest.raises(vecdb.ReadOnly, match="mode='r'"):
                reader["x"].create_index("n")
            with pytest.raises(vecdb.ReadOnly, match="mode='r'"):
                reader["x"].drop_index("n")
            with pytest.raises(vecdb.ReadOnly):
                reader.create_collection("y", dim=2)
    with vecdb.open(path, mode="r") as reader:
        with pytest.raises(vecdb.ReadOnly):
            reader["x"].delete("a")
        assert reader["x"]["a"].vector.tolist() == GOOD[0]


def test_a_query_whose_square_overflows_is_refused_without_a_warning():
    points = vecdb.Collection(dim=4, metric="l2")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(InvalidArgument, match=r"queries\[0\] has norm 6e\+30"):
            points.knn(np.full((1, 4), 3e30, dtype=np.float32), 1)
