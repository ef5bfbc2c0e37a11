"""
What a collection must hold after a call, kept in a dict, and the same call made on the collection; for the tests that make calls at random.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

import vecdb
from vecdb import Collection, F
from vecdb.filters import matches, parse

PointId = int | str
Model = dict[PointId, tuple[int | None, dict[str, Any]]]  # the vector's row in VECTORS, and the payload

DIM = 3
# Whole numbers: distances are exact, and ties are there.
VECTORS = np.array([[0, 0, 1], [0, 1, 0], [1, 0, 0], [1, 1, 0], [0, -2, 1], [2, 1, 0], [-1, -1, -1], [0, 0, 1]], dtype=np.float32)

FILTERS: tuple[Any, ...] = (
    None,
    F("n") == 1,
    F("n") >= 2,
    ~(F("kind") == "a"),
    (F("n") < 3) & (F("kind").any_of("a", "b")),
    (F("tags") == "x") | (F("n") == 0),
    ~F("kind").is_empty(),
    F.has_id([1, "a", 2**63]),
)


@dataclass(frozen=True)
class Chosen:
    """
    The points a call is for: by ids, or by a filter.
    """

    ids: tuple[PointId, ...] | None = None
    filter: Any = None

    def arguments(self) -> dict[str, Any]:
        return {"filter": self.filter} if self.ids is None else {"ids": list(self.ids)}


def order_of(one: PointId) -> tuple[bool, bytes | int]:
    """
    Return the place of an id: ints before strs, which go by their bytes.
    """
    return (True, one.encode()) if isinstance(one, str) else (False, one)


def matching(model: Model, filter: Any) -> list[PointId]:
    """
    Return the ids of a filter's points, in order.
    """
    node = parse(filter)

    def fits(one: PointId) -> bool:
        row, payload = model[one]
        return matches(node, payload, id=one, has_vector=lambda _: row is not None)

    return [one for one in sorted(model, key=order_of) if fits(one)]


def nearest(model: Model, query: int, k: int, filter: Any) -> list[PointId]:
    """
    Return the k nearest ids under a filter: by distance, then by id.
    """
    found = []
    for one in matching(model, filter):
        row = model[one][0]
        if row is not None:
            found.append((float(((VECTORS[row] - VECTORS[query]) ** 2).sum()), order_of(one), one))
    return [one for _, _, one in sorted(found, key=lambda entry: entry[:2])[:k]]


def in_model(model: Model, before: Model, call: tuple[Any, ...]) -> object:
    """
    Make a call on a model and return what it must return or the exception it must raise; filters look at `before`.
    """
    kind, *rest = call
    if kind in ("upsert", "add"):
        points = rest[0]
        ids = [one for one, _, _ in points]
        if kind == "add" and (len(set(ids)) < len(ids) or any(one in model for one in ids)):
            return vecdb.AlreadyExists
        for one, row, payload in points:
            model[one] = (row, dict(payload))
        return None
    if kind == "update":
        points = rest[0]
        if any(one not in model for one, _, _ in points):
            return vecdb.NotFound
        for one, row, payload in points:
            old_row, old = model[one]
            model[one] = (old_row if row is None else row, {**old, **(payload or {})})
        return None
    chosen: Chosen = rest[-1]
    if chosen.ids is None:
        ids = [one for one in matching(before, chosen.filter) if one in model]
    else:
        ids = list(dict.fromkeys(chosen.ids))
        if kind == "delete":
            ids = [one for one in ids if one in model]
        elif any(one not in model for one in ids):
            return vecdb.NotFound
    for one in ids:
        row, payload = model[one]
        if kind == "delete":
            del model[one]
        elif kind == "unset":
            model[one] = (row, {key: value for key, value in payload.items() if key not in rest[0]})
        else:
            model[one] = (row, {**({} if kind == "replace" else payload), **rest[0]})
    return len(ids)


def in_collection(points: Collection, call: tuple[Any, ...]) -> object:
    """
    Make a call on a collection and return what it returned or the exception it raised.
    """
    kind, *rest = call
    try:
        if kind in ("upsert", "add", "update"):
            ids = [one for one, _, _ in rest[0]]
            vectors = [None if row is None else VECTORS[row] for _, row, _ in rest[0]]
            method = {"upsert": points.upsert, "add": points.add, "update": points.update}[kind]
            return method(ids, vectors, [payload for _, _, payload in rest[0]])
        chosen: Chosen = rest[-1]
        if kind == "delete":
            return points.delete(**chosen.arguments())
        if kind == "unset":
            return points.delete_payload(list(rest[0]), **chosen.arguments())
        return points.set_payload(rest[0], **chosen.arguments(), replace=kind == "replace")
    except (vecdb.AlreadyExists, vecdb.NotFound) as error:
        return type(error)


def check(points: Collection, model: Model, *, query: int, filter: Any) -> None:
    """
    Hold a collection against a model: every point, and what a filter counts, scrolls and finds.
    """
    expected = sorted(model, key=order_of)
    assert len(model) == len(points)
    whole = points.scroll(limit=100).points
    assert [(one, model[one][1], model[one][0] is None) for one in expected] == [
        (point.id, point.payload, point.vector is None) for point in whole
    ]
    for point in whole:
        row = model[point.id][0]
        assert row is None or VECTORS[row].tobytes() == point.vector.tobytes()
    if expected:
        one = expected[query % len(expected)]
        assert model[one][1] == points[one].payload
    chosen = matching(model, filter)
    assert len(chosen) == points.count(filter)
    assert chosen == [point.id for point in points.scroll(filter=filter, limit=100, with_vectors=False).points]
    for exact in (False, True):
        assert nearest(model, query, 4, filter) == points.search(VECTORS[query], k=4, filter=filter, exact=exact).ids
