"""
Declared payload indexes: they never change an answer, are kept and kept up to date, and outlive the process.
"""

from __future__ import annotations

import errno
import gc
import logging
import os
import random
import shutil
import signal
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filter_samples import random_condition, random_payload
from numpy.typing import NDArray
from storage_doubles import CountingSystem, FaultySystem, QuickSystem, World
from vecdb._core import lib

import vecdb
from vecdb import AlreadyExists, Closed, Collection, F, InvalidArgument, NotFound, StorageError, _payload_index
from vecdb._index_kinds import KINDS
from vecdb._live import LiveDatabase
from vecdb._state import CollectionState
from vecdb.errors import Corruption
from vecdb.filters import KeyPath, matches, parse
from vecdb.storage import files
from vecdb.storage.codec import decode_payload, encode_payload
from vecdb.storage.framing import Declared, IndexSpec, read_declared, write_declared

Model = dict[Any, dict[str, Any]]
V = [1.0, 0.0, 0.0, 0.0]
KEYS = ["a", "b", "c.d", "e[]", "e[].f", '"g.h"']


def indexes_file(path: Path) -> Path:
    return path / "c-0" / "INDEXES"


def parts_of(points: Collection, key: str) -> dict[str, Any]:
    return {kind: index for (path, kind), index in points._state.indexes._indexes.items() if path == KeyPath.parse(key)}


# ---- answers ----


def write(rng: random.Random, points: Collection, model: Model) -> None:
    """
    Replace, add, change and delete some points.
    """
    ids = rng.sample(range(60), 20)
    given = [decode_payload(encode_payload(random_payload(rng))) for _ in ids]
    points.upsert(ids, [V] * len(ids), given)
    model.update(zip(ids, given, strict=True))
    change = decode_payload(encode_payload(random_payload(rng)))
    changed = rng.sample(sorted(model), 4)
    points.set_payload(change, ids=changed)
    model.update({one: {**model[one], **change} for one in changed})
    gone = rng.sample(sorted(model), 4)
    points.delete(gone)
    for one in gone:
        del model[one]


def check_answers(rng: random.Random, points: Collection, model: Model, filters: int) -> None:
    for _ in range(filters):
        filter = random_condition(rng, 0)
        node = parse(filter)
        expected = {one for one, payload in model.items() if matches(node, payload, id=one, has_vector=lambda name: name == "")}
        assert expected == set(points.search(V, k=100, filter=filter, exact=True).ids), filter
        assert len(expected) == points.count(filter), filter


@pytest.mark.parametrize("kind", [None, *KINDS])
def test_answers_are_those_of_the_evaluator_whatever_is_declared(path: Path, kind: Any) -> None:
    seed = 7
    print(f"seed {seed}")
    rng, model = random.Random(seed), {}
    with vecdb.open(path) as db:
        points = db.create_collection("p", dim=4)
        write(rng, points, model)
        for key in KEYS:
            points.create_index(key, kind)
        declared = points.indexes
        assert sorted(KEYS) == sorted(declared)
        for _ in range(3):
            check_answers(rng, points, model, 25)
            write(rng, points, model)
    with vecdb.open(path) as db:
        points = db["p"]
        write(rng, points, model)  # beside the thread that builds the indexes
        check_answers(rng, points, model, 25)
        assert points.wait_indexed(60)
        check_answers(rng, points, model, 25)
        assert {key: info.kind for key, info in declared.items()} == {
            key: info.kind for key, info in points.indexes.items() if info.declared
        }


def test_an_index_declared_before_the_points_is_fed_by_writes(points: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    points.create_index("n", "integer")
    monkeypatch.setattr(points._state.contents.payloads, "between", lambda first, last: pytest.fail("payloads were scanned"))
    points.upsert(range(50), [V] * 50, [{"n": n % 5} for n in range(50)])
    assert points.count(F("n") == 3) == 10
    assert points.count(F("n") < 2) == 20
    assert points.count(F("n").is_empty()) == 0
    info = points.indexes["n"]
    assert ("integer", None, True, True) == (info.kind, info.m, info.complete, info.declared)
    assert info.entries >= 100
    assert info.bytes > 0


# ---- which kind ----


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["red", "blue", 3], "keyword"),
        ([3, 4, "red"], "integer"),
        ([3, 4, 4.5, "red"], "float"),
        ([True, False, 1], "bool"),
        (["2024-02-29", "2024-02-29T10:00:00Z", "red"], "datetime"),
        ([{"lat": 51, "lon": 0}], "geo"),
        (["one two three four five six seven eight nine"], "text"),
        (["one two three four five six seven eight"], "keyword"),
        ([["red", "blue"], 1], "keyword"),
        ([[1, 2], "red"], "integer"),
        ([None, [], {}], "keyword"),
        ([1, "red"], "keyword"),
    ],
)
def test_without_a_kind_the_values_decide(points: Collection, values: list[Any], kind: str) -> None:
    points.upsert(range(len(values)), [V] * len(values), [{"a": value} for value in values])
    points.create_index("a")
    assert kind == points.indexes["a"].kind


def test_a_key_without_values_is_taken_for_keywords(points: Collection) -> None:
    points.create_index("a")
    assert points.indexes["a"].kind == "keyword"


def test_without_a_kind_links_are_refused_where_the_values_are_texts(points: Collection) -> None:
    points.upsert(1, V, {"a": "a text of more than eight words is no keyword here"})
    with pytest.raises(InvalidArgument, match="m is 8, but an index of kind 'text'"):
        points.create_index("a", m=8)
    assert points.indexes == {}


def test_declaring_again_does_nothing_and_another_kind_raises(points: Collection) -> None:
    points.upsert(1, V, {"a": "x"})
    points.create_index("a", "keyword", m=4)
    before = points.indexes
    points.create_index("a")
    points.create_index('"a"', "keyword")
    assert before == points.indexes
    with pytest.raises(AlreadyExists, match="kind 'keyword', got kind 'float': leave kind out"):
        points.create_index("a", "float")
    assert before == points.indexes


# ---- memory ----


def test_declared_indexes_stay_when_memory_is_short(points: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_payload_index, "BUDGET_BYTES", 5000)
    points.upsert(range(200), [V] * 200, [{"a": f"word{n} other", "b": n, "c": n} for n in range(200)])
    points.create_index("a", "text")
    points.create_index("b", "integer")
    kept = {key: set(parts_of(points, key)) for key in "ab"}
    assert {"a": {"words"}, "b": {"tags", "presence", "numbers"}} == kept
    for n in range(5):
        assert points.count(F("c") == n) == points.count(F("c") < 1) == 1
        assert len(parts_of(points, "c")) <= 1
    assert kept == {key: set(parts_of(points, key)) for key in "ab"}
    points.drop_index("b")
    assert points.count(F("b") == 3) == 1
    assert not points.indexes["b"].declared


# ---- links ----


Make = Callable[..., NDArray[np.float32]]


def test_with_m_the_points_of_each_value_are_linked_also_after_reopening(path: Path, clustered: Make) -> None:
    count, dim = 14_000, 100  # so many that links are worth having, however noisy the machine that measures it
    rows = clustered(count, dim, seed=8)
    with vecdb.open(path, durability="os") as db:
        points = db.create_collection("p", dim=dim, ef_construction=60, metric="l2")
        points.upsert(range(count), rows, [{"kind": n % 3} for n in range(count)])
        assert points.wait_indexed(120)
        assert points._state.core.field_stats(0).linked_tags == 0
        points.create_index("kind", "integer", m=8)
        assert points.wait_indexed(120)
        assert points._state.core.field_stats(0).linked_tags == 3
    with vecdb.open(path) as db:
        points = db["p"]
        assert points.wait_indexed(120)
        assert points._state.core.field_stats(0).linked_tags == 3
        assert points.indexes["kind"].m == 8
        points.drop_index("kind")
        assert points._state.core.field_stats(0).linked_tags == 0
        assert points.info().bytes["links"] == 0


def test_links_are_asked_for_once_for_each_value_and_anew_with_another_m(points: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    core = points._state.core
    asked: list[tuple[str, int]] = []

    def note(field: int, tags: NDArray[np.uint64], *, m: int) -> None:
        assert field == 0
        terms = {tag: term for term, tag in parts_of(points, "a")["tags"].tags.items()}
        asked.extend((terms[tag][-1], m) for tag in tags.tolist())

    monkeypatch.setattr(core, "link_tags", note)
    points.upsert([1, 2], [V] * 2, [{"a": "x"}, {"a": "y"}])
    points.create_index("a", "keyword", m=8)
    assert sorted(asked) == [("x", 8), ("y", 8)]
    asked.clear()
    points.create_index("a", m=8)
    points.create_index("a")
    assert asked == []
    points.upsert(3, V, {"a": "z"})
    assert asked == [("z", 8)]
    asked.clear()
    points.create_index("a", m=12)
    assert sorted(asked) == [("x", 12), ("y", 12), ("z", 12)]
    assert points.indexes["a"].m == 12


def test_with_m_ranges_of_numbers_times_and_places_are_linked_as_searches_use_them(clustered: Make) -> None:
    count, dim = 4000, 400
    rows = clustered(count, dim, seed=9)
    points = Collection(dim=dim, m=6, ef_construction=24, metric="l2")
    chance = np.random.default_rng(9)
    prices = chance.uniform(0, 100, count).tolist()
    days = chance.integers(0, 365, count).tolist()
    first = datetime(2024, 1, 1, tzinfo=timezone.utc)
    times = [(first + timedelta(days=day)).isoformat() for day in days]
    places = [{"lat": lat, "lon": lon} for lat, lon in chance.uniform((45, 5), (50, 15), (count, 2)).tolist()]
    payloads = [{"price": price, "day": time, "place": place} for price, time, place in zip(prices, times, places, strict=True)]
    points.upsert(range(count), rows, payloads)
    assert points.wait_indexed(120)
    end = (first + timedelta(days=120)).isoformat()
    filters = {"price": F("price").range(gte=20, lte=52), "day": F("day") < end, "place": F("place").geo_radius(47.5, 10, 250_000)}
    kinds = {"price": "float", "day": "datetime", "place": "geo"}
    for key, condition in filters.items():
        points.create_index(key, kinds[key], m=8)
        for query in rows[:10]:
            points.search(query, 10, filter=condition, ef=24)
        assert points.wait_indexed(120)
        assert points.explain(condition, ef=24).strategy == "tag"
        found = [hit.id for query in rows[:50] for hit in points.search(query, 10, filter=condition, ef=24)]
        truth = [hit.id for query in rows[:50] for hit in points.search(query, 10, filter=condition, exact=True)]
        assert len(found) == len(truth) == 500
        recall = np.mean([len({*found[i : i + 10]} & {*truth[i : i + 10]}) / 10 for i in range(0, 500, 10)])
        assert recall > 0.9
        assert all(matches(parse(condition), payloads[n], id=n, has_vector=lambda name: name == "") for n in found)
    # A value that leaves the range is gone at once, one that comes into it is found.
    leaving = next(n for n, price in enumerate(prices) if 20 <= price <= 52)
    points.set_payload({"price": 99.0}, ids=leaving)
    assert leaving not in [hit.id for hit in points.search(rows[leaving], 10, filter=filters["price"], ef=24)]
    coming = next(n for n, price in enumerate(prices) if price > 60)
    points.set_payload({"price": 30.0}, ids=coming)
    assert points.search(rows[coming], 1, filter=filters["price"], ef=24)[0].id == coming
    for key in filters:
        points.drop_index(key)
    assert points._state.core.field_stats(0).linked_tags == 0


# ---- dropping ----


def test_dropping_removes_declaration_entries_and_file_entry(path: Path) -> None:
    with vecdb.open(path) as db:
        points = db.create_collection("p", dim=4)
        points.upsert(range(50), [V] * 50, [{"a": n, "b": n} for n in range(50)])
        points.create_index("a", "integer")
        points.create_index("b", "float")
        assert points.count(F("a").count > 0) == 50  # a filter adds a part
        programs = [np.array([lib.VECDB_OP_TAG, tag], dtype=np.uint64) for tag in parts_of(points, "a")["tags"].tags.values()]
        assert [points._state.core.count(program)[0] for program in programs].count(1) == 50
        points.drop_index("a")
        assert list(points.indexes) == ["b"]
        assert {points._state.core.count(program)[0] for program in programs} == {0}
        with pytest.raises(NotFound, match=r"no index of key 'a' \(there: 'b'\)"):
            points.drop_index("a")
        assert points.count(F("a") == 7) == 1
        points.drop_index("a")  # what a filter has built
        assert list(points.indexes) == ["b"]
    with vecdb.open(path) as db:
        assert list(db["p"].indexes) == ["b"]


def test_an_index_is_dropped_when_the_last_filter_has_done_with_it(points: Collection) -> None:
    points.upsert(1, V, {"a": "x"})
    points.create_index("a", "keyword")
    with points._state.indexes.use([(KeyPath.parse("a"), "tags")]):
        points.drop_index("a")
        assert set(parts_of(points, "a")) == {"tags"}
        assert points.count(F("a") == "x") == 1
        assert set(parts_of(points, "a")) == {"tags"}
    assert parts_of(points, "a") == {}
    with points._state.indexes.use([(KeyPath.parse("a"), "tags")]):
        points.drop_index("a")
        points.create_index("a", "keyword")  # declared again before it went
    assert points.indexes["a"].complete


def test_indexes_are_declared_and_dropped_beside_searches_and_writes(points: Collection) -> None:
    points.upsert(range(300), [V] * 300, [{"a": n % 3} for n in range(300)])
    stop = threading.Event()

    def search() -> int:
        rounds = 0
        while not stop.is_set():
            assert points.count(F("a") == 1) == 100
            assert points.count(F("a") < 1) == 100
            points.upsert(range(3), [V] * 3, [{"a": n} for n in range(3)])
            rounds += 1
        return rounds

    with ThreadPoolExecutor(2) as pool:
        running = [pool.submit(search) for _ in range(2)]
        try:
            for _ in range(40):
                points.create_index("a", "integer", m=4)
                points.drop_index("a")
        finally:
            stop.set()
        assert all(one.result() > 0 for one in running)
    assert points.count(F("a") == 1) == 100


# ---- the file ----


@pytest.fixture
def declared(path: Path) -> Iterator[Path]:
    """
    A database with one collection, two declared indexes and 30 points.
    """
    with vecdb.open(path) as db:
        points = db.create_collection("p", dim=4)
        points.upsert(range(30), [V] * 30, [{"a": n % 3, "b": "x"} for n in range(30)])
        points.create_index("a", "integer", m=5)
        points.create_index("b")
    yield path
    gc.collect()


def test_declared_indexes_are_built_in_the_background_after_opening(declared: Path) -> None:
    for mode in ("a", "r"):
        with vecdb.open(declared, mode=mode) as db:
            points = db["p"]
            assert list(points.indexes) == ["a", "b"]
            assert points.wait_indexed(60)
            assert all(info.complete for info in points.indexes.values())
            assert points.info().indexes == ("a", "b")
            assert points.indexes["a"].m == 5


def test_a_database_without_the_file_opens(declared: Path) -> None:
    indexes_file(declared).unlink()
    with vecdb.open(declared) as db:
        assert db["p"].indexes == {}
        assert db["p"].count(F("a") == 1) == 10


def test_a_damaged_file_costs_the_declarations_and_nothing_else(declared: Path, caplog: pytest.LogCaptureFixture) -> None:
    good = indexes_file(declared).read_bytes()
    flipped = [good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :] for at in range(0, len(good), 5)]
    for bad in [b"", good[:-1], good + b"\0", *flipped]:
        indexes_file(declared).write_bytes(bad)
        caplog.clear()
        with vecdb.open(declared) as db:
            points = db["p"]
            assert points.indexes == {}
            assert "INDEXES" in caplog.text
            assert "create_index" in caplog.text
            assert points.count(F("a") == 1) == 10
    with vecdb.open(declared) as db:
        db["p"].create_index("b")
    with vecdb.open(declared) as db:
        assert list(db["p"].indexes) == ["b"]


def test_a_declaration_of_a_newer_vecdb_is_left_out(declared: Path, caplog: pytest.LogCaptureFixture) -> None:
    specs = {
        "a": IndexSpec("uuid"),
        "b": IndexSpec("text"),
        "c..d": IndexSpec("text"),
        "e": IndexSpec("text", 8),
        "f": IndexSpec("bool", 1),
    }
    write_declared(indexes_file(declared), Declared(specs))
    with caplog.at_level(logging.WARNING), vecdb.open(declared) as db:
        assert {"b": "text"} == {key: info.kind for key, info in db["p"].indexes.items()}
    assert all(f"'{key}'" in caplog.text for key in ("a", "c..d", "e", "f"))


def test_a_failing_file_call_leaves_the_index_undeclared(declared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LiveDatabase, "care", lambda self: None)  # no file calls of another thread
    for at in range(100):
        with vecdb.open(declared) as db:
            points = db["p"]
            before = points.indexes.keys()
            with monkeypatch.context() as patched:
                faulty = FaultySystem(
                    at=at, error=errno.EIO, sticky=False, names=("open", "pwritev", "sync_data", "sync_directory", "rename")
                )
                patched.setattr(files, "system", faulty)
                try:
                    points.create_index("c", "keyword")
                except StorageError:
                    assert faulty.failed
                    assert before == points.indexes.keys() - {"c"}
                    assert not points.indexes["c"].declared
                else:
                    assert faulty.failed == []
                    assert at > 3
                    return
            points.upsert(99, V, {"c": "x"})
            assert points.count(F("c") == "x") == 1
        with vecdb.open(declared) as db:  # old or new, whole
            if "c" in db["p"].indexes:
                db["p"].drop_index("c")
            db["p"].delete(99)
            assert list(db["p"].indexes) == ["a", "b"]
    pytest.fail("the file calls never ended")


def test_a_process_that_dies_while_declaring_leaves_the_old_or_the_new(
    declared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies: list[Path] = []

    class Copying(CountingSystem):
        def before(self, name: str) -> None:
            if name in ("pwritev", "sync_data", "rename", "sync_directory", "close"):
                copies.append(tmp_path / f"copy-{len(copies)}")
                shutil.copytree(declared, copies[-1])

    with vecdb.open(declared) as db:
        points = db["p"]
        points.wait_indexed()
        with monkeypatch.context() as patched:
            patched.setattr(files, "system", Copying())
            points.create_index("c", "keyword")
    found = []
    for copy in copies:
        with vecdb.open(copy) as db:
            found.append(list(db["p"].indexes))
            assert db["p"].count(F("a") == 1) == 10
            db["p"].create_index("d", "keyword")  # over what was left aside
        with vecdb.open(copy) as db:
            assert [*found[-1], "d"] == list(db["p"].indexes)
    assert found[0] == ["a", "b"]
    assert found[-1] == ["a", "b", "c"]


@pytest.mark.parametrize("seed", range(3))
def test_a_power_cut_leaves_the_old_or_the_new_declarations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    print(f"seed {seed}")
    rng = random.Random(seed)
    root = tmp_path / "root"
    root.mkdir()
    world = World(root)
    monkeypatch.setattr(files, "system", world)
    states = [Declared({f"key{n}": IndexSpec("keyword", n + 2) for n in range(count)}) for count in (40, 3)]
    seen: list[Declared | None] = []

    def look() -> None:
        copy = tmp_path / f"cut-{len(seen)}"
        world.after_cut(copy, rng)
        monkeypatch.setattr(files, "system", QuickSystem())
        seen.append(read_declared(copy / "INDEXES") if (copy / "INDEXES").exists() else None)
        monkeypatch.setattr(files, "system", world)

    write_declared(root / "INDEXES", states[0])
    world.on_change = look
    write_declared(root / "INDEXES", states[1])
    assert len(seen) >= 5
    assert all(found in states for found in seen)
    assert states[1] == seen[-1]


def test_too_many_declarations_are_refused_before_anything_changes(declared: Path) -> None:
    with vecdb.open(declared) as db:
        points = db["p"]
        before = indexes_file(declared).read_bytes()
        with pytest.raises(InvalidArgument, match="INDEXES would have"):
            points.create_index("k" * (4 << 20), "keyword")
        assert before == indexes_file(declared).read_bytes()
        assert not any(info.declared for key, info in points.indexes.items() if key not in ("a", "b"))


def test_a_declaration_file_of_another_kind_is_corruption_to_its_reader(tmp_path: Path) -> None:
    (tmp_path / "INDEXES").write_bytes(b"VDBCURR\0" + bytes(20))
    with pytest.raises(Corruption, match="begins with"):
        read_declared(tmp_path / "INDEXES")


# ---- interruptions ----


def test_an_interrupt_while_an_index_is_built_declares_nothing(points: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_payload_index, "BLOCK", 10)
    points.upsert(range(40), [V] * 40, [{"a": n % 4} for n in range(40)])
    between = points._state.contents.payloads.between
    with monkeypatch.context() as patched:

        def interrupted(first: int, last: int, names: tuple[str, ...]) -> Any:
            if first == 20:
                os.kill(os.getpid(), signal.SIGINT)
            return between(first, last, names)

        patched.setattr(points._state.contents.payloads, "between", interrupted)
        with pytest.raises(KeyboardInterrupt):
            points.create_index("a", "integer", m=4)
    assert points.indexes == {}
    assert points.count(F("a") == 1) == 10
    assert not points.indexes["a"].declared
    points.create_index("a", "integer", m=4)
    assert points.indexes["a"].declared


def test_an_interrupt_while_a_declaration_is_written_comes_after_it(declared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupting(CountingSystem):
        def before(self, name: str) -> None:
            if name == "rename":
                os.kill(os.getpid(), signal.SIGINT)

    with vecdb.open(declared) as db:
        points = db["p"]
        with monkeypatch.context() as patched:
            patched.setattr(files, "system", Interrupting())
            with pytest.raises(KeyboardInterrupt):
                points.create_index("c", "keyword")
        assert points.indexes["c"].declared
        assert points.indexes["c"].complete
    with vecdb.open(declared) as db:
        assert list(db["p"].indexes) == ["a", "b", "c"]


def test_closing_ends_what_is_built_in_the_background(declared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_payload_index, "BLOCK", 1)
    begun, go_on = threading.Event(), threading.Event()
    scanned: list[int] = []

    def slow(self: Any, building: Sequence[Any], rows: Any, last: int) -> None:
        scanned.append(last)
        begun.set()
        assert go_on.wait(60)

    monkeypatch.setattr(_payload_index.PayloadIndexes, "_scan", slow)
    db = vecdb.open(declared)
    points = db["p"]
    assert begun.wait(60)
    assert not points.wait_indexed(0.01)
    assert not points.indexes["a"].complete
    stop = points._state.indexes.stop

    def stopped() -> None:
        stop()
        go_on.set()

    monkeypatch.setattr(points._state.indexes, "stop", stopped)
    db.close()
    assert scanned == [1]
    assert all(thread.name != "vecdb-indexes" for thread in threading.enumerate())
    with pytest.raises(Closed):
        points.create_index("d")


def test_a_database_that_its_own_thread_collects_is_closed_when_that_rests(declared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scan = _payload_index.PayloadIndexes._scan
    forgotten, collected = threading.Event(), threading.Event()
    states: list[CollectionState] = []
    closed: list[bool] = []

    def collecting(self: Any, *arguments: Any) -> None:
        if threading.current_thread().name == "vecdb-indexes" and not collected.is_set():
            assert forgotten.wait(60)
            gc.collect()
            closed.append(states[0]._closed)
            collected.set()
        scan(self, *arguments)

    monkeypatch.setattr(_payload_index.PayloadIndexes, "_scan", collecting)
    gc.disable()
    try:
        db = vecdb.open(declared)
        states.append(db["p"]._state)
        builder = states[0].declared._builder
        handle = weakref.ref(db)
        cycle: list[Any] = [db]
        cycle.append(cycle)
        del db, cycle
        forgotten.set()
        assert builder is not None
        builder.join(60)
        assert handle() is None
        assert not builder.is_alive()
        assert closed == [False]
        assert states[0]._closed
    finally:
        gc.enable()
    with vecdb.open(declared) as db:
        assert db["p"].count(F("a") == 1) == 10
