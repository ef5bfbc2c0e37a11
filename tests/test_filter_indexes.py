"""
An index never changes an answer: filters of every kind select from a collection what the reference evaluator selects from a plain dict
of its points, before and after updates and deletes.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from filter_samples import random_condition, random_filter, random_payloads

import vecdb
from vecdb import Collection, F, _payload_index
from vecdb._one_index import PayloadIndex
from vecdb._payload_index import PayloadIndexes
from vecdb.filters import GeoPoint, KeyPath, matches, parse
from vecdb.filters.geo import distance, in_box, in_polygon

Model = dict[Any, dict[str, Any]]
V = [1.0, 0.0, 0.0, 0.0]


def expected_of(model: Model, filter: Any) -> set[Any]:
    node = parse(filter)
    return {one for one, payload in model.items() if matches(node, payload, id=one, has_vector=lambda name: name == "")}


def found_of(points: Collection, filter: Any) -> set[Any]:
    hits = points.search(V, k=max(1, len(points)), filter=filter, exact=True)
    ids = set(hits.ids)
    assert len(hits.ids) == len(ids) == points.count(filter)
    return ids


def write(rng: random.Random, points: Collection, model: Model) -> None:
    """
    Replace, add, change and delete some points.
    """
    ids = [one if rng.random() < 0.9 else f"id-{one}" for one in rng.sample(range(60), 12)]
    given = random_payloads(rng, len(ids))
    points.upsert(ids, [V] * len(ids), given)
    model.update(zip(ids, given, strict=True))
    for one in rng.sample(sorted(model, key=str), 6):
        (payload,) = random_payloads(rng, 1)
        replace = rng.random() < 0.5
        points.set_payload(payload, ids=one, replace=replace)
        model[one] = payload if replace else {**model[one], **payload}
    gone = rng.sample(sorted(model, key=str), 5)
    points.delete(gone)
    for one in gone:
        del model[one]


def compare(seed: int, filters: int) -> int:
    """
    Compare that many filters, with writes between them; return how many matched some points and not all.
    """
    rng = random.Random(seed)
    points, model, telling = vecdb.Collection(dim=4), {}, 0
    for number in range(filters):
        if number % 12 == 0:
            write(rng, points, model)
        filter = random_filter(rng) if rng.random() < 0.4 else random_condition(rng, 0)
        expected = expected_of(model, filter)
        assert expected == found_of(points, filter), f"seed {seed}, filter {number}: {filter}"
        telling += 0 < len(expected) < len(model)
    return telling


@pytest.mark.parametrize("seed", range(16))
def test_filters_of_every_kind_select_what_the_evaluator_selects(seed: int) -> None:
    print(f"seed {seed}")
    assert compare(seed, 60) > 8


def spots_on_borders(rng: random.Random, corners: list[GeoPoint]) -> list[GeoPoint]:
    """
    Points on the edges between corners, one step of a double beside them, and anywhere.
    """
    spots: list[GeoPoint] = [*corners]
    for a, b in pairwise(corners):
        for _ in range(25):
            share = rng.choice([0.5, 0.25, rng.random()])
            lat, lon = a.lat + share * (b.lat - a.lat), a.lon + share * (b.lon - a.lon)
            towards = rng.choice([-1000.0, 1000.0])
            spots += [GeoPoint(lat, lon), GeoPoint(math.nextafter(lat, towards), lon), GeoPoint(lat, math.nextafter(lon, towards))]
    spots += [GeoPoint(rng.uniform(-90, 90), rng.uniform(-180, 180)) for _ in range(300)]
    return spots


def areas_on_borders(
    rng: random.Random, spots: list[GeoPoint], corners: list[GeoPoint]
) -> Iterator[tuple[Any, Callable[[GeoPoint], bool]]]:
    """
    Areas with spots on their borders: the filter, and the evaluator's predicate.
    """
    valid = [spot for spot in spots if abs(spot.lat) <= 90 and abs(spot.lon) <= 180]
    for _ in range(60):
        center, there = rng.sample(valid, 2)
        exact = distance(center, there)
        for metres in (exact, math.nextafter(exact, math.inf), math.nextafter(exact, 0)):
            yield F("p").geo_radius(*center, metres), lambda spot, c=center, m=metres: distance(c, spot) < m
        yield F("p").geo_box(center, there), lambda spot, a=center, b=there: in_box(spot, a, b)
        ring = [*rng.sample(corners if rng.random() < 0.5 else valid, 4)]
        ring.append(ring[0])
        hole = [*rng.sample(valid, 3)]
        hole.append(hole[0])
        interiors = [hole] if rng.random() < 0.5 else []
        yield F("p").geo_polygon(ring, interiors), lambda spot, r=ring, i=interiors: in_polygon(spot, r, i)


@pytest.mark.parametrize("seed", range(4))
def test_areas_select_to_the_last_bit_what_the_evaluator_selects(seed: int) -> None:
    print(f"seed {seed}")
    rng = random.Random(seed)
    scale = rng.choice([1.0, 1e-7, 1e-300])
    corners = [GeoPoint(rng.uniform(-80, 80) * scale, rng.uniform(-180, 180) * scale) for _ in range(6)]
    corners += [GeoPoint(rng.randint(-9, 9) * 10.0, rng.randint(-18, 18) * 10.0) for _ in range(6)]
    spots = spots_on_borders(rng, corners)
    points = vecdb.Collection(dim=4)
    points.upsert(list(range(len(spots))), np.tile(np.float32(V), (len(spots), 1)), [{"p": spot._asdict()} for spot in spots])
    for filter, inside in areas_on_borders(rng, spots, corners):
        assert {number for number, spot in enumerate(spots) if inside(spot)} == found_of(points, filter), filter


def index_of(points: Collection, key: str, kind: Any) -> PayloadIndex:
    return points._state.indexes._indexes[KeyPath.parse(key), kind]


def test_only_what_no_index_can_tell_is_read_from_payloads(points: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    points.upsert(
        [1, 2, 3],
        [V] * 3,
        [
            {"p": {"lat": 1, "lon": 2}, "t": "2024-01-01", "w": "one two", "n": []},
            {"p": [{"lat": 50, "lon": 2}], "t": ["2025-01-01"], "w": ["one", "two"], "n": [1, None]},
            {"w": "two one"},
        ],
    )
    lowered = [
        (F("p").geo_radius(1, 2, 5), {1}),
        (F("p").geo_box((60, 0), (40, 10)), {2}),
        (F("p").geo_polygon([(0, 0), (0, 9), (9, 9), (9, 0), (0, 0)]), {1}),
        (F("t") < "2024-06-01", {1}),
        (F("n").is_empty(), {1, 3}),
        (F("n").is_null(), {2}),
        (F("n").count < 1, {1, 3}),
        (F("w").text("two"), {1, 2, 3}),
        (F("w").text_any("one three"), {1, 2, 3}),
        (F("w").prefix("one"), {1, 2}),
    ]
    for filter, expected in lowered:
        assert found_of(points, filter) == expected
    read: list[int] = []
    original = points._state.contents.points.payloads_of
    monkeypatch.setattr(points._state.contents.points, "payloads_of", lambda offsets: (read.extend(offsets), original(offsets))[1])
    for filter, expected in lowered:
        assert points.count(filter) == len(expected)
    assert read == []
    assert points.count(F("w").text("one two")) == 2
    assert len(read) == 1  # of the point with two texts, which has the words in different ones
    read.clear()
    assert points.count(F("w").phrase("two one")) == 1
    assert len(read) == 3


def test_the_indexes_forget_points_that_die_or_change(points: Collection) -> None:
    payload = {"a": ["x", 1.5, "2024-01-01", {"lat": 1, "lon": 2}, "some words"]}
    use = (F("a") == "x") & (F("a") < 2) & (F("a") < "2025-01-01") & F("a").geo_radius(1, 2, 9) & F("a").text("words") & (F("a").count > 0)
    points.upsert(list(range(50)), [V] * 50, [payload] * 50)
    assert points.count(use) == 50
    kinds = ["tags", "numbers", "times", "points", "words", "counts"]
    before = {kind: index_of(points, "a", kind).entries for kind in kinds}
    assert min(before.values()) >= 50
    for _ in range(3):
        points.upsert(list(range(50)), [V] * 50, [payload] * 50)
        points.set_payload({"b": 1}, filter={})
    assert points.count(use) == 50
    assert {kind: index_of(points, "a", kind).entries for kind in kinds} == before
    points.set_payload({"a": "x"}, ids=list(range(25)))
    points.delete(list(range(25, 50)))
    assert [index_of(points, "a", kind).entries for kind in kinds] == [50, 0, 0, 0, 25, 25]
    points.delete(filter={})
    assert [index_of(points, "a", kind).entries for kind in kinds] == [0] * 6


def test_points_that_die_while_an_index_is_built_are_not_counted(points: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_payload_index, "BLOCK", 10)
    points.upsert(list(range(40)), [V] * 40, [{"a": "x"}] * 40)
    scan = PayloadIndexes._scan
    calls: list[int] = []

    def meanwhile(self: PayloadIndexes, building: Any, rows: Any, last: int) -> None:
        scan(self, building, rows, last)
        calls.append(last)

    between = points._state.contents.payloads.between

    def crossed(first: int, last: int, names: tuple[str, ...]) -> Any:
        rows = between(first, last, names)
        if first == 10:  # one scanned, two of the block that was just read, one yet to be scanned
            points.delete([3, 12, 35])
            points.upsert([13, 4], [V] * 2, [{"a": "x"}, {"a": "y"}])
            points.set_payload({"a": "y"}, ids=[5, 14, 36])
        return rows

    monkeypatch.setattr(PayloadIndexes, "_scan", meanwhile)
    monkeypatch.setattr(points._state.contents.payloads, "between", crossed)
    assert found_of(points, F("a") == "x") == {*range(40)} - {3, 12, 35, 4, 5, 14, 36}
    assert calls == [10, 20, 30, 40]
    assert index_of(points, "a", "tags").entries == 2 * 37
    assert points.count(F("a") == "y") == 4


def test_words_beyond_the_budget_are_left_to_the_evaluator(points: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_payload_index, "BUDGET_BYTES", 20_000)
    points.upsert(list(range(200)), [V] * 200, [{"a": f"word{n} other", "b": n % 5} for n in range(200)])
    filter = F("a").text("other word7") & (F("b") == 2)
    for _ in range(2):
        assert found_of(points, filter) == {7}
        assert {kind for _, kind in points._state.indexes._indexes} == {"tags"}
    points.upsert(300, V, {"a": "other, word7", "b": 2})
    assert found_of(points, filter) == {7, 300}


def test_one_scan_builds_all_indexes_of_a_filter(points: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    points.upsert(list(range(10)), [V] * 10, [{"a": n, "p": {"lat": n, "lon": 0}} for n in range(10)])
    scans: list[int] = []
    between = points._state.contents.payloads.between
    monkeypatch.setattr(
        points._state.contents.payloads, "between", lambda first, last, names: (scans.append(first), between(first, last, names))[1]
    )
    assert found_of(points, (F("a") < 6) & F("p").geo_box((9.5, -1), (2.5, 1)) & ~(F("a") == 4)) == {3, 5}
    assert scans == [0]


def test_a_prefix_of_very_many_strings_is_left_to_the_evaluator(points: Collection) -> None:
    count = 4200
    points.upsert(list(range(count)), np.tile(np.float32(V), (count, 1)), [{"a": f"s{n}"} for n in range(count)])
    assert points.count(F("a").prefix("s")) == count
    assert points.count(F("a").prefix("s41")) == 111
