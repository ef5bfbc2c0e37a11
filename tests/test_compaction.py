"""
`Collection.compact` changes no answer, whatever searches, filters, indexes and writes go on beside it, and gives the space back.
"""

from __future__ import annotations

import gc
import sys
import threading
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import vecdb
from vecdb import F, _compacting
from vecdb._declared import DeclaredIndexes
from vecdb._state import CollectionState

DIM = 16
FILTERS: tuple[Any, ...] = (
    None,
    F("n") == 3,
    F("kind") == "b",
    (F("n") < 4) & ~(F("kind") == "a"),
    F("text").text("word"),
    F.has_id([1, 5, 9, "s4"]),
    F("nested").nested(F("x") == 1),
)


def fill(points: vecdb.Collection, vectors: NDArray[np.float32]) -> None:
    """
    Points with int and str ids, some without a vector; a third is replaced, a fifth deleted, some get another payload.
    """
    count = len(vectors)
    ids: list[Any] = [i if i % 4 else f"s{i}" for i in range(count)]
    payloads = [{"n": i % 10, "kind": "abc"[i % 3], "text": f"word {i}", "nested": [{"x": i % 2}, {"y": 1}]} for i in range(count)]
    points.upsert(ids, [None if i % 50 == 0 else row for i, row in enumerate(vectors)], payloads)
    points.upsert(ids[::3], -vectors[::3], [{"n": i % 7, "kind": "b"} for i in range(len(ids[::3]))])
    points.delete(ids[::5])
    points.set_payload({"n": 3}, ids=ids[1::5][:40])


def answers(points: vecdb.Collection, queries: NDArray[np.float32]) -> list[Any]:
    """
    Everything there is to ask, of a kind that has one right answer.
    """
    found: list[Any] = [list(points), len(points)]
    for condition in FILTERS:
        ids, scores = points.knn(queries, 10, filter=condition, exact=True)
        found += [ids.tolist(), scores.tobytes(), points.count(condition)]
        hits = points.search(queries[0], 5, filter=condition, with_vectors=True, exact=True)
        found += [(hit.id, hit.payload, hit.vector.tobytes()) for hit in hits if hit.vector is not None]
    found += [(one.id, one.payload) for one in points.get_many(list(points)) if one is not None]
    return found


@pytest.fixture
def vectors(clustered: Callable[..., NDArray[np.float32]]) -> NDArray[np.float32]:
    return clustered(4000, DIM, seed=5)


@pytest.fixture
def filled(db: vecdb.Database, vectors: NDArray[np.float32]) -> vecdb.Collection:
    points = db.create_collection("filled", dim=DIM)
    fill(points, vectors)
    return points


def test_no_answer_changes(db: vecdb.Database, clustered: Callable[..., NDArray[np.float32]]) -> None:
    filled, vectors = db.create_collection("filled", dim=DIM), clustered(16_000, DIM, seed=6)
    fill(filled, vectors)
    filled.wait_indexed()
    assert filled.info().bytes["graph"] > 0
    expected = answers(filled, vectors[:5])
    near = filled.knn(vectors[:50], 10)[0]
    before = filled.info()
    assert before.deleted > 1000
    filled.compact()
    assert expected == answers(filled, vectors[:5])
    info = filled.info()
    assert (before.points, 0, 0) == (info.points, info.deleted, info.dead_in_graph)
    # The graph came along: nothing had to be built.
    assert 0 == info.tail
    assert (near == filled.knn(vectors[:50], 10)[0]).mean() > 0.95
    assert sum(info.bytes.values()) < sum(before.bytes.values())


def test_writes_go_on_after_it(filled: vecdb.Collection, vectors: NDArray[np.float32]) -> None:
    for version in range(3):
        filled.compact()
        filled.upsert([1, f"new{version}"], vectors[:2], [{"n": 3, "version": version}, {"kind": "b"}])
        filled.delete(list(filled)[:5])
        filled.set_payload({"n": 9}, filter=F("kind") == "c")
        nines = [point for point in filled.get_many(list(filled)) if point is not None and point.payload.get("n") == 9]
        assert len(nines) == filled.count(F("n") == 9)
        assert [f"new{version}"] == filled.search(vectors[1], 1, filter=F.has_id([f"new{version}"])).ids


def test_a_compacted_database_opens_again(path: Path, vectors: NDArray[np.float32]) -> None:
    with vecdb.open(path) as db:
        points = db.create_collection("filled", dim=DIM)
        fill(points, vectors)
        points.create_index("n", "integer", m=4)
        expected = answers(points, vectors[:5])
        points.compact()
    with vecdb.open(path) as db:
        assert expected == answers(db["filled"], vectors[:5])
        assert 0 == db["filled"].info().deleted
        assert db["filled"].indexes["n"].declared


def test_space_on_disk_and_descriptors_are_given_back(path: Path, vectors: NDArray[np.float32]) -> None:
    def size() -> int:
        # Without the graph, of which there is as much as the background has made by the time.
        return sum(file.stat().st_size for file in path.glob("c-0/gen-*/**/*") if file.is_file() and file.parent.name != "derived")

    def is_open(part: str) -> bool:
        links = [link for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
        return any(part in str(link.readlink()) for link in links) or part in Path("/proc/self/maps").read_text()

    with vecdb.open(path) as db:
        points = db.create_collection("filled", dim=DIM)
        fill(points, vectors)
        for _ in range(3):
            points.upsert(range(4000), vectors)
        points.checkpoint()
        before = size()
        gc.disable()  # nothing may hang on a cycle
        try:
            points.compact()
            assert size() < before * 0.6
            if Path("/proc/self/fd").exists():
                assert is_open(str(path / "c-0" / "gen-2"))
                assert not is_open(str(path / "c-0" / "gen-1"))
        finally:
            gc.enable()


def test_indexes_stay_declared_and_complete(filled: vecdb.Collection) -> None:
    filled.create_index("n", "integer", m=4)
    filled.create_index("kind", "keyword")
    filled.count(F("text").text("word"))
    before = filled.indexes
    filled.compact()
    assert before == filled.indexes
    filled.drop_index("n")
    filled.create_index("n", "float")
    assert "float" == filled.indexes["n"].kind


def test_iterating_goes_on_over_the_state_it_began_with(filled: vecdb.Collection) -> None:
    expected = list(filled)
    ids = iter(filled)
    first = next(ids)
    filled.compact()
    filled.delete(expected[:100])
    assert expected == [first, *ids]


def test_searches_filters_and_writes_beside_it_see_whole_states(db: vecdb.Database, vectors: NDArray[np.float32]) -> None:
    points = db.create_collection("busy", dim=DIM)
    count = 400
    ids: list[Any] = [i if i % 2 else f"s{i}" for i in range(count)]

    def write(version: int) -> None:
        points.upsert(ids, vectors[version : version + count], [{"version": version, "place": i} for i in range(count)])

    write(0)
    stop = threading.Event()
    failures: list[Exception] = []

    def repeatedly(work: Callable[[], None]) -> Callable[[], None]:
        def run() -> None:
            try:
                while not stop.wait(0.002):  # so that compact gets its share of the interpreter
                    work()
            except Exception as error:  # noqa: BLE001
                failures.append(error)

        return run

    def search() -> None:
        hits = points.search(vectors[7], k=20, exact=True, with_vectors=True)
        versions = {hit.payload["version"] for hit in hits if hit.payload is not None}
        assert 20 == len(hits)
        assert 1 == len(versions)
        version = versions.pop()
        for hit in hits:
            assert hit.payload is not None
            place = hit.payload["place"]
            assert hit.vector is not None
            assert ids[place] == hit.id
            assert vectors[version + place].tobytes() == hit.vector.tobytes()

    def search_under_filter() -> None:
        found = points.search(vectors[3], k=50, filter=F("place") < 10)
        assert sorted(range(10)) == sorted(hit.payload["place"] for hit in found if hit.payload is not None)
        assert count == points.count(F("place") >= 0)
        ids_found = points.knn(vectors[:3], 5, filter=F("place") == 12)[0]
        assert {"s12"} == set(ids_found[:, 0].tolist())

    def read() -> None:
        got = points.get_many(ids)
        assert 1 == len({point.payload["version"] for point in got if point is not None})
        assert count == len(list(points))

    def page() -> None:
        first = points.scroll(filter=F("place") < 100, limit=60)
        assert 60 == len(first.points)
        assert 1 == len({point.payload["version"] for point in first.points})
        dear = points.scroll(order_by="-place", limit=5)
        assert [399, 398, 397, 396, 395] == [point.payload["place"] for point in dear.points]

    def walk() -> None:
        for filter in (None, F("place") >= 300):
            seen = [(point.id, point.payload["version"]) for point in points.scan(filter=filter, batch_size=70)]
            assert (count if filter is None else 100) == len(seen)
            assert 1 == len({version for _, version in seen})

    def explore() -> None:
        facets = points.facet("place", filter=F("place") < 3, limit=None)
        assert {0: 1, 1: 1, 2: 1} == {one.value: one.count for one in facets}
        assert 5 == len(points.recommend([1, "s2"], k=5, strategy="best_score", with_vectors=True))
        assert 2 == len(points.search_groups(vectors[1], "place", groups=2, group_size=2, filter=F("place") < 3))

    def batch() -> None:
        with points.batch():
            points.upsert(["one", "two"], vectors[:2], [{"pair": 1}] * 2)
            points.update(["one"], payloads=[{"pair": 2}])
            points.delete(["one", "two"])

    works = (search, search_under_filter, read, page, walk, explore, batch)
    threads = [threading.Thread(target=repeatedly(work)) for work in works]
    writer = iter(range(1, 3000))
    threads.append(threading.Thread(target=repeatedly(lambda: write(next(writer)))))
    for thread in threads:
        thread.start()
    try:
        for _ in range(3):
            points.compact()
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert [] == failures
    read()
    points.compact()
    assert (count, 0) == (len(points), points.info().deleted)
    search()


def test_what_happens_between_its_steps_is_followed(
    filled: vecdb.Collection, vectors: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    build = DeclaredIndexes.build_in

    def write_and_build(self: Any, contents: Any) -> None:
        filled.upsert([1, "meanwhile"], vectors[:2], [{"n": 77}, {"n": 78}])
        filled.delete([2])
        filled.set_payload({"n": 79}, ids=[6])
        build(self, contents)
        filled.upsert([3], vectors[3:4], [{"n": 80}])

    filled.count(F("n") == 1)
    monkeypatch.setattr(DeclaredIndexes, "build_in", write_and_build)
    filled.compact()
    assert {1: 77, "meanwhile": 78, 6: 79, 3: 80} == {
        point.id: point.payload["n"] for point in filled.get_many([1, "meanwhile", 2, 6, 3]) if point is not None
    }
    for value in (77, 78, 79, 80):
        assert 1 == filled.count(F("n") == value)
    assert ["meanwhile"] == filled.search(vectors[1], k=1, filter=F("n") == 78).ids


def test_an_array_may_be_used_again_beside_it(
    filled: vecdb.Collection, vectors: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    build = DeclaredIndexes.build_in
    one, several = vectors[0].copy(), vectors[1:3].copy()

    def write_and_build(self: Any, contents: Any) -> None:
        filled.upsert("one", one)
        filled.upsert(["two", "three"], several)
        one[:], several[:] = 9.0, 9.0
        build(self, contents)

    monkeypatch.setattr(DeclaredIndexes, "build_in", write_and_build)
    filled.compact()
    for id, expected in zip(("one", "two", "three"), vectors, strict=False):
        assert expected.tolist() == filled[id].vector.tolist()


def test_closing_ends_it(filled: vecdb.Collection, db: vecdb.Database, monkeypatch: pytest.MonkeyPatch) -> None:
    held = filled._state
    closing: list[threading.Thread] = []

    def close_meanwhile(state: CollectionState, core: Any, advance: Callable[[int], None]) -> None:
        closing.append(threading.Thread(target=db.close))
        closing[0].start()
        while not state._closed:
            closing[0].join(0.01)
        advance(1)

    monkeypatch.setattr(_compacting, "_compact", close_meanwhile)
    with pytest.raises(vecdb.Closed):
        filled.compact()
    closing[0].join()
    with pytest.raises(vecdb.Closed):
        held.check_open()


def test_an_error_leaves_everything_as_it_was(
    filled: vecdb.Collection, vectors: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = answers(filled, vectors[:3])
    with monkeypatch.context() as patch:

        def fail(self: Any, contents: Any) -> None:
            raise KeyboardInterrupt

        patch.setattr(DeclaredIndexes, "build_in", fail)
        with pytest.raises(KeyboardInterrupt):
            filled.compact()
    assert expected == answers(filled, vectors[:3])
    filled.upsert([1], vectors[:1])
    filled.create_index("n")
    filled.compact()
    assert 0 == filled.info().deleted


def test_a_read_only_handle_refuses(path: Path) -> None:
    with vecdb.open(path) as db:
        db.create_collection("a", dim=2)
        with vecdb.open(path, mode="r") as reader, pytest.raises(vecdb.ReadOnly):
            reader["a"].compact()


def test_progress_counts_the_points(filled: vecdb.Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    bars: list[Any] = []

    class Bar:
        def __init__(self, **options: Any) -> None:
            self.options, self.done, self.closed = options, 0, False
            bars.append(self)

        def update(self, count: int) -> None:
            self.done += count

        def __enter__(self) -> Bar:
            return self

        def __exit__(self, *_: object) -> None:
            self.closed = True

    module = types.ModuleType("tqdm.auto")
    module.tqdm = Bar  # type: ignore[attr-defined]
    parent = types.ModuleType("tqdm")
    parent.auto = module  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tqdm", parent)
    monkeypatch.setitem(sys.modules, "tqdm.auto", module)
    filled.compact(progress=True)
    assert [(len(filled), len(filled), True)] == [(bar.options["total"], bar.done, bar.closed) for bar in bars]


def test_progress_without_tqdm_says_what_is_missing(points: vecdb.Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tqdm", None)
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    with pytest.raises(vecdb.InvalidArgument, match="pip install tqdm"):
        points.compact(progress=True)
    with pytest.raises(vecdb.InvalidArgument, match="progress"):
        points.compact(progress="yes")  # type: ignore[arg-type]


def test_an_error_that_a_compaction_caused_is_none_of_the_reader(filled: vecdb.Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A read that begins with the old contents and goes on with the new ones may find anything; it begins again.
    """
    expected = filled.count(F("n") == 3)
    core = filled._state.core
    count = type(core).count
    crossed: list[int] = []

    def crossing(self: Any, *arguments: Any) -> Any:
        if not crossed:
            crossed.append(1)
            filled.compact()
            raise KeyError("an index that is not there")
        return count(self, *arguments)

    monkeypatch.setattr(type(core), "count", crossing)
    assert expected == filled.count(F("n") == 3)
    assert [1] == crossed
    monkeypatch.setattr(type(core), "count", lambda self, *arguments: {}["really missing"])
    with pytest.raises(KeyError, match="really missing"):
        filled.count(F("n") == 3)
