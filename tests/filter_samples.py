"""
Random payloads and filters of every kind, poor in values, so that filters meet payloads, and rich in borders.
"""

from __future__ import annotations

import math
import random
from typing import Any

from vecdb.filters.geo import GeoPoint, distance
from vecdb.storage.codec import decode_payload, encode_payload

SCALARS: list[Any] = ["x", "y", "1", "", 0, 1, 2, True, False, 1.0, -0.0, 2.5, 2**53, 2**53 + 1, -(2**63), 0.1]
TIMES = [
    "2024-02-29T10:00:00Z",
    "2024-02-29 12:00:00.000+02:00",
    "2024-02-29T10:00:00.0000000001Z",
    "2024-02-29T10:00:00.0000000002Z",
    "2024-02-29T10:00:00.000000001",
    "2024-02-29T09:59:59.9999999999Z",
    "2024-02-29",
    "2024-02-28T23:59:60Z",
    "1969-12-31T23:59:59.999999999",
    "0001-01-01T00:00:00+23:59",
    "9999-12-31T23:59:59.99999999999-23:59",
]
TEXTS = ["alpha beta", "Beta gamma", "alpha", "ALPHA-beta_gamma", "-", "Straße 1", "strasse", "alpha beta alpha", "2023-02-29"]
LATS: list[Any] = [90, -90, 90.0, 0, 0.0, -0.0, 10, 10.0, 20, 51.5, math.nextafter(10.0, 11), math.nextafter(90.0, 0), 1e-310, -30]
LONS: list[Any] = [180, -180, 179.9999, -179.9999, 0, -0.0, 10, 10.0, 20, math.nextafter(10.0, 9), -0.1, 1e-310, -170, 170]
OFF_GLOBE: list[Any] = [{"lat": 91, "lon": 0}, {"lat": 10, "lon": 370}, {"lat": 1e300, "lon": -1e300}, {"lat": 10, "lon": 1e308}]
NO_POINTS: list[Any] = [{"lat": 1}, {"lat": "1", "lon": 2}, {"lat": True, "lon": 2}, {"lat": None, "lon": None}]
PATHS = ["a", "b", "c.d", "e[]", "e[].f", "e[0].f", '"g.h"']


def random_spot(rng: random.Random) -> dict[str, Any]:
    """
    A point as a payload has it.
    """
    kind = rng.random()
    if kind < 0.1:
        return dict(rng.choice(OFF_GLOBE + NO_POINTS))
    if kind < 0.7:
        return {"lat": rng.choice(LATS), "lon": rng.choice(LONS)}
    if kind < 0.85:
        return {"lat": rng.choice(LATS), "lon": rng.uniform(-180, 180), "name": "somewhere"}
    return {"lat": rng.uniform(-90, 90), "lon": rng.uniform(-180, 180)}


def random_value(rng: random.Random, depth: int = 2) -> Any:
    """
    A value of any kind, arrays and objects of such values among them.
    """
    kind = rng.random()
    if kind < 0.7 or not depth:
        known = rng.choices([SCALARS, TIMES, TEXTS, [None], None], weights=[5, 3, 3, 1, 5])[0]
        return random_spot(rng) if known is None else rng.choice(known)
    if kind < 0.92:
        return [random_value(rng, depth - 1) for _ in range(rng.randrange(4))]
    return {name: random_value(rng, depth - 1) for name in rng.sample("dfx", rng.randrange(3))}


def random_payload(rng: random.Random) -> dict[str, Any]:
    """
    A payload with values at PATHS.
    """
    payload = {name: random_value(rng) for name in ("a", "b", "g.h") if rng.random() < 0.85}
    if rng.random() < 0.7:
        payload["c"] = rng.choice([{"d": random_value(rng)}, [{"d": "x"}], "x"])
    if rng.random() < 0.7:
        payload["e"] = [rng.choice([{"f": random_value(rng)}, random_value(rng)]) for _ in range(rng.randrange(4))]
    return payload


def random_payloads(rng: random.Random, count: int) -> list[dict[str, Any]]:
    """
    Payloads as they come back, so that a model holds what a collection holds.
    """
    return [decode_payload(encode_payload(random_payload(rng))) for _ in range(count)]


def _bounds(rng: random.Random, values: list[Any]) -> dict[str, Any]:
    return {name: rng.choice(values) for name in rng.sample(["gt", "gte", "lt", "lte"], rng.randint(1, 3))}


def _corner(rng: random.Random) -> dict[str, float]:
    lat = rng.choice(LATS) if rng.random() < 0.8 else rng.uniform(-90, 90)
    return {"lat": lat, "lon": rng.choice(LONS) if rng.random() < 0.8 else rng.uniform(-180, 180)}


def _radius(rng: random.Random) -> dict[str, Any]:
    center = _corner(rng)
    there = _corner(rng)
    exact = distance(GeoPoint(**center), GeoPoint(**there))
    border = [exact, math.nextafter(exact, math.inf), math.nextafter(exact, 0)]
    metres = rng.choice([*border, 0, 1, 10**6, rng.uniform(0, 2.1e7), 10**7, 1e300])
    return {"geo_radius": {"center": center, "radius": max(0, metres)}}


def _ring(rng: random.Random) -> dict[str, Any]:
    points = [_corner(rng) for _ in range(rng.randint(3, 6))]
    return {"points": [*points, points[0]]}


def random_predicate(rng: random.Random) -> dict[str, Any]:
    """
    A predicate to stand beside a key.
    """
    strs, ints = [*TIMES[:2], *TEXTS, "x", "y", "1"], [0, 1, 2, 2**53, 2**53 + 1]
    listed = rng.choice([strs, ints])
    queries = [*TEXTS, "beta alpha", "alpha alpha", "gamma ALPHA", ""]
    choices = [
        lambda: {"match": {"value": rng.choice([*strs, *ints, True, False])}},
        lambda: {"match": {rng.choice(["any", "except"]): rng.sample(listed, rng.randrange(4))}},
        lambda: {"range": _bounds(rng, [0, 1, 1.0, 1.5, -1, 2**53, 2**53 + 1, float(2**53), -(2**63), 2**64, 0.1, 2**70])},
        lambda: {"range": _bounds(rng, TIMES)},
        lambda: {"match": {rng.choice(["text", "text_any", "phrase"]): rng.choice(queries)}},
        lambda: {"match": {"prefix": rng.choice(["", "x", "2024", "alpha", "alpha b", "A"])}},
        lambda: {rng.choice(["is_empty", "is_null"]): rng.random() < 0.5},
        lambda: {"values_count": _bounds(rng, [-1, 0, 1, 2, 3, 2**80])},
        lambda: _radius(rng),
        lambda: {"geo_bounding_box": {"top_left": _corner(rng), "bottom_right": _corner(rng)}},
        lambda: {"geo_polygon": {"exterior": _ring(rng), "interiors": [_ring(rng) for _ in range(rng.randrange(2))]}},
    ]
    return rng.choice(choices)()


def _inner_filter(rng: random.Random, depth: int) -> dict[str, Any]:
    filter: dict[str, Any] = {"must": [{"key": rng.choice(["f", "x", "d"]), **random_predicate(rng)} for _ in range(rng.choice([1, 1, 2]))]}
    if rng.random() < 0.3:
        filter[rng.choice(["should", "must_not"])] = [{"key": "f", **random_predicate(rng)}]
    if depth and rng.random() < 0.2:
        filter["must"].append({"nested": {"key": rng.choice("fd"), "filter": _inner_filter(rng, depth - 1)}})
    return filter


def random_condition(rng: random.Random, depth: int) -> dict[str, Any]:
    """
    A condition; one in three is a filter while depth is left.
    """
    if depth and rng.random() < 0.3:
        return random_filter(rng, depth - 1)
    kind = rng.random()
    if kind < 0.05:
        return {"has_id": rng.sample([*range(40), "id-1", "1"], rng.randrange(12))}
    if kind < 0.08:
        return {"has_vector": rng.choice(["", "title"])}
    if kind < 0.14:
        return {"nested": {"key": rng.choice(["e", "a", "b[]"]), "filter": _inner_filter(rng, 1)}}
    return {"key": rng.choice([*PATHS, "a", "b"]), **random_predicate(rng)}


def random_filter(rng: random.Random, depth: int = 3) -> dict[str, Any]:
    """
    A filter, in the grammar of dicts.
    """
    filter: dict[str, Any] = {}
    for clause in ("must", "should", "must_not"):
        if rng.random() < 0.45:
            filter[clause] = [random_condition(rng, depth) for _ in range(rng.randrange(4))]
    if rng.random() < 0.2:
        conditions = [random_condition(rng, depth) for _ in range(rng.randint(1, 4))]
        filter["min_should"] = {"conditions": conditions, "min_count": rng.randint(1, 3)}
    return filter
