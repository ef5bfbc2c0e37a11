"""
scroll, scan, iteration and facet: the points a plain dict and the reference evaluator say, page by page, while others write.
"""

from __future__ import annotations

import random
import threading
import urllib.parse
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vecdb
from vecdb import Collection, F, FacetHit, Point
from vecdb.filters import matches, parse

PointId = int | str


def ascending(one: PointId) -> tuple[bool, bytes | int]:
    return (True, one.encode()) if isinstance(one, str) else (False, one)


def all_pages(points: Collection, **options: Any) -> list[Point]:
    found: list[Point] = []
    after = None
    while True:
        page = points.scroll(after=after, **options)
        assert len(page.points) <= options.get("limit", 100)
        found += page.points
        if page.next is None:
            return found
        assert page.points
        assert urllib.parse.quote(page.next, safe="") == page.next
        after = page.next


def expected_order(model: dict[PointId, dict[str, Any]], order_by: str) -> list[PointId]:
    """
    Sort by the plain rule: numbers, then the one time there is; the first of several in the direction, ties by id.
    """
    key, sign = order_by.removeprefix("-"), -1 if order_by.startswith("-") else 1
    valued = []
    for one, payload in model.items():
        values = payload.get(key, [])
        for value in values if isinstance(values, list) else [values]:
            if value == "2026-01-01":
                valued.append((sign * 1e30, ascending(one), one))
            elif isinstance(value, (int, float)) and not isinstance(value, bool):
                valued.append((sign * value, ascending(one), one))
    first: dict[PointId, None] = {}
    for _, _, one in sorted(valued):
        first.setdefault(one)
    return list(first)


def test_pages_come_by_ascending_id_and_end(points: Collection) -> None:
    ids: list[Any] = ["b", 10, "a", 9, "é", "z", 2**40, 2**64 - 1]
    points.upsert(ids, None, [{"n": n} for n in range(len(ids))])
    for limit in (1, 3, 8, 9):
        assert sorted(ids, key=ascending) == [point.id for point in all_pages(points, limit=limit)]
    assert points.scroll(limit=8).next is None
    assert points.scroll(filter=F("n") < 3, limit=2).points[0].id == 10
    assert points.scroll(filter=F("n") > 99) == ([], None)


def test_points_of_a_page_are_whole(points: Collection) -> None:
    points.upsert([1, 2], [[1, 0, 0, 0], None], [{"n": 1}, {}])
    first, second = points.scroll().points
    assert first == Point(1, np.array([1, 0, 0, 0], dtype=np.float32), {"n": 1})
    assert second.vector is None
    bare = points.scroll(with_vectors=False).points[0]
    assert bare.vector is None
    with pytest.raises(vecdb.InvalidArgument, match="with_vectors=False"):
        points.upsert_points([bare])


def test_times_are_ordered_by_the_instant_and_come_after_numbers(points: Collection) -> None:
    times = ["2024-01-01T12:00:00+02:00", "2024-01-01T10:30:00Z", "2024-01-01", "2023-12-31T23:59:59.5"]
    values = [*times, 5, 2**53 + 1, 2.0**53, "not a time", True, None]
    points.upsert(range(10), None, [{"v": value} for value in values])
    assert [4, 6, 5, 3, 2, 0, 1] == [point.id for point in all_pages(points, order_by="v", limit=2)]
    assert [1, 0, 2, 3, 5, 6, 4] == [point.id for point in all_pages(points, order_by="-v", limit=2)]


def test_ties_come_by_id_in_both_directions(points: Collection) -> None:
    points.upsert(["a", 7, 3], None, [{"v": 1}] * 3)
    for order_by in ("v", "-v"):
        assert [3, 7, "a"] == [point.id for point in all_pages(points, order_by=order_by, limit=1)]


def test_keys_may_be_paths(points: Collection) -> None:
    points.upsert([1, 2], None, [{"a": [{"b": 3}, {"b": 9}]}, {"a": [{"b": 5}]}])
    assert [1, 2] == [point.id for point in points.scroll(order_by="a[].b").points]
    assert [1, 2] == [point.id for point in points.scroll(order_by="-a[].b").points]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"limit": 0}, "limit is 0"),
        ({"limit": True}, "limit is True"),
        ({"order_by": ""}, "order_by is ''"),
        ({"order_by": 3}, "order_by is 3"),
        ({"after": "?"}, "after is '\\?'"),
        ({"after": 7}, "after is 7"),
        ({"after": "e30"}, "after is 'e30'"),
        ({"with_vectors": 1}, "with_vectors is 1"),
        ({"filter": {"mist": []}}, "mist"),
    ],
)
def test_bad_arguments_are_named(points: Collection, options: dict[str, Any], message: str) -> None:
    with pytest.raises(vecdb.InvalidArgument, match=message):
        points.scroll(**options)


def test_a_cursor_belongs_to_its_order(points: Collection) -> None:
    points.upsert([1, 2], None, [{"v": 1}, {"v": 2}])
    page = points.scroll(limit=1, order_by="v")
    with pytest.raises(vecdb.InvalidArgument, match="order_by='v'"):
        points.scroll(after=page.next)


@given(text=st.one_of(st.text(max_size=30), st.binary(max_size=40).map(lambda b: __import__("base64").urlsafe_b64encode(b).decode())))
@settings(max_examples=50, deadline=None)
def test_no_text_but_a_cursor_is_taken(text: str) -> None:
    with pytest.raises(vecdb.InvalidArgument, match="after"):
        Collection(dim=2).scroll(after=text, order_by="v")


@pytest.mark.parametrize("where", ["memory", "disk"])
def test_pages_agree_with_a_dict_and_the_evaluator(where: str, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Every way to find a page is taken among a thousand points, too.
    for name, value in (("_scroll._CHUNK", 32), ("_scroll._SAMPLE", 64), ("_scroll._FEW", 100), ("_facet._FEW", 100)):
        monkeypatch.setattr(f"vecdb.{name}", value)
    seed = random.randrange(2**32)
    print(f"seed={seed}")
    rng = random.Random(seed)
    db = vecdb.open(":memory:" if where == "memory" else path)
    points = db.create_collection("p", dim=2)
    model: dict[PointId, dict[str, Any]] = {}
    stars = [1, 1, 1, 1, 1, 1.0, 2, 2, 2, [1, 2], [2, 1, 3], 3, 2.5, "2026-01-01", ["2026-01-01", 4], 2**53, 2**53 + 1]
    ids: list[PointId] = [*rng.sample(range(10**6), 900), *(f"s{n}" for n in rng.sample(range(10**6), 300))]
    if where == "memory":
        ids = [one for one in ids if isinstance(one, int)]
    rng.shuffle(ids)
    for begin in range(0, len(ids), 400):
        batch = ids[begin : begin + 400]
        payloads = [
            {
                "v": rng.choice([rng.randrange(50), rng.random() * 50, [rng.randrange(50), rng.randrange(50)], "x"]),
                "g": rng.randrange(20),
                "stars": rng.choice(stars),
            }
            for _ in batch
        ]
        points.upsert(batch, None, payloads)
        model.update(zip(batch, payloads, strict=True))
        points.checkpoint()
    for one in rng.sample(ids, 50):
        points.delete(one)
        model.pop(one, None)
    for one in rng.sample(ids, 30):
        points.upsert(one, None, {"v": 7, "g": 3})
        model[one] = {"v": 7, "g": 3}
    filters: list[Any] = [None, {}, F("g") == 3, F("g") < 15, F("v") >= 10, (F("g") == 1) & ~(F("v") == "x")]
    for filter in filters:
        node = parse(filter)
        matching = {one: payload for one, payload in model.items() if matches(node, payload, id=one, has_vector=lambda _: False)}
        assert sorted(matching, key=ascending) == [point.id for point in all_pages(points, filter=filter, limit=150)]
        assert sorted(matching, key=ascending) == [point.id for point in points.scan(filter=filter)]
        for order_by in ("v", "-v", "g", "-stars", "stars"):
            found = all_pages(points, filter=filter, order_by=order_by, limit=70)
            assert expected_order(matching, order_by) == [point.id for point in found]
            assert all(model[point.id] == point.payload for point in found)
            few = points.scroll(filter=filter, order_by=order_by, limit=10).points
            assert found[:10] == few
        for key in ("v", "g"):
            assert facets(matching, key) == {(type(value), value): count for value, count in points.facet(key, filter=filter, limit=None)}
    db.close()


def facets(model: dict[PointId, dict[str, Any]], key: str) -> Counter[tuple[type, Any]]:
    counts: Counter[tuple[type, Any]] = Counter()
    for payload in model.values():
        value = payload.get(key)
        elements = value if isinstance(value, list) else [value]
        counts.update({(type(v), v) for v in elements if isinstance(v, (str, int, float))})
    return counts


def test_pages_neither_repeat_nor_skip_what_others_leave_alone(points: Collection) -> None:
    points.upsert(range(0, 4000, 2), None, [{"v": n % 50, "keep": True} for n in range(2000)])
    stop = threading.Event()

    def write() -> None:
        rng = random.Random(1)
        while not stop.is_set():
            points.upsert(rng.randrange(2000) * 2 + 1, None, {"v": rng.randrange(50)})
            points.delete(rng.randrange(2000) * 2 + 1)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for options in ({}, {"order_by": "v"}, {"order_by": "-v"}, {"filter": F("v") >= 25}):
            found = [point.id for point in all_pages(points, limit=97, **options) if int(point.id) % 2 == 0]
            assert len(set(found)) == len(found) == (1000 if "filter" in options else 2000)
    finally:
        stop.set()
        writer.join()


def test_a_scan_shows_one_state_and_holds_up_no_write(points: Collection) -> None:
    points.upsert([1, 2, 3, "a"], np.eye(4), [{"n": n} for n in range(4)])
    scans = [points.scan(batch_size=1), points.scan(filter=F("n") >= 1, batch_size=1), points.scan(with_vectors=False)]
    assert next(scans[0]).id == 1
    points.upsert([2, 9], np.eye(4)[2:], [{"n": 20}, {"n": 9}])
    points.delete([1, 3])
    points.set_payload({"late": True}, filter={})
    points.checkpoint()
    rest = [(point.id, point.payload, None if point.vector is None else int(point.vector.argmax())) for point in scans[0]]
    assert rest == [(2, {"n": 1}, 1), (3, {"n": 2}, 2), ("a", {"n": 3}, 3)]
    assert [point.id for point in scans[1]] == [2, 3, "a"]
    assert [(point.id, point.has_vector_data) for point in scans[2]] == [(1, False), (2, False), (3, False), ("a", False)]
    assert [point.id for point in points.scan()] == [2, 9, "a"]


def test_a_scan_ends_with_its_database(path: Path) -> None:
    db = vecdb.open(path)
    points = db.create_collection("p", dim=4)
    points.upsert([1, 2], None)
    scan = points.scan(batch_size=1)
    next(scan)
    db.close()
    with pytest.raises(vecdb.Closed):
        next(scan)


def test_many_scans_that_are_given_up_hold_nothing(path: Path) -> None:
    with vecdb.open(path) as db:
        points = db.create_collection("p", dim=4)
        points.upsert(range(3000), None)
        points.checkpoint()
        for _ in range(600):  # more than LMDB has room for readers
            next(points.scan(batch_size=1))
            points.scan()
        assert len(list(points.scan())) == 3000


def test_bad_arguments_of_scan_and_facet_come_with_the_call(points: Collection) -> None:
    with pytest.raises(vecdb.InvalidArgument, match="batch_size is 0"):
        points.scan(batch_size=0)
    with pytest.raises(vecdb.InvalidFilter):
        points.scan(filter={"mist": []})
    with pytest.raises(vecdb.InvalidArgument, match="limit is 0"):
        points.facet("a", limit=0)
    with pytest.raises(vecdb.InvalidArgument, match="key"):
        points.facet("")


def test_facets_tell_types_apart_and_count_a_point_once(points: Collection) -> None:
    payloads: list[Any] = [{"v": [1, 1, 1.0]}, {"v": True}, {"v": "1"}, {"v": [None, "x", ["x"], {"y": 1}]}, {"v": "x"}, {}, {"v": 1}]
    points.upsert(range(7), None, payloads)
    expected = [(1, 2), ("x", 2), (True, 1), (1.0, 1), ("1", 1)]
    assert points.facet("v") == [FacetHit(value, count) for value, count in expected]
    assert [type(value) for value, _ in points.facet("v")] == [int, str, bool, float, str]
    assert points.facet("v", filter=F("v") == "x", limit=1) == [FacetHit("x", 2)]
    assert points.facet("nothing") == []


def test_facets_by_tags_agree_with_reading(monkeypatch: pytest.MonkeyPatch, points: Collection) -> None:
    rng = random.Random(5)
    values: list[Any] = [1, 2, True, False, "a", "b", 1.0, 2.5, None, [1, 2.5], ["a", "a"], [], {"x": 1}]
    model: dict[PointId, dict[str, Any]] = {n: {"v": rng.choice(values), "n": rng.randrange(10)} for n in range(500)}
    points.upsert(list(model), None, list(model.values()))
    points.delete(range(0, 500, 7))
    model = {one: payload for one, payload in model.items() if int(one) % 7}
    monkeypatch.setattr("vecdb._facet._FEW", 0)
    for filter in (None, F("n") < 5, F("n") == 77):
        chosen = {one: p for one, p in model.items() if matches(parse(filter), p, id=one, has_vector=lambda _: False)}
        found = points.facet("v", filter=filter, limit=None)
        assert facets(chosen, "v") == {(type(value), value): count for value, count in found}
        assert [hit.count for hit in found] == sorted((hit.count for hit in found), reverse=True)
