"""
Named vectors: several a point, each with its own dim and metric, any of them absent.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vecdb
from vecdb import Collection, F, Point, VectorConfig

CONFIGS = {"title": VectorConfig(3), "image": VectorConfig(2, metric="l2")}
T = np.eye(3, dtype=np.float32)
I = np.array([[1, 0], [0, 2], [3, 3]], dtype=np.float32)  # noqa: E741


@pytest.fixture(params=["memory", "disk"])
def points(request: pytest.FixtureRequest, path: Path) -> Iterator[Collection]:
    """
    An empty collection with two vectors a point.
    """
    with vecdb.open(":memory:" if request.param == "memory" else path) as db:
        yield db.create_collection("p", vectors=CONFIGS)


def test_each_vector_is_searched_by_its_name(points: Collection) -> None:
    points.upsert([1, 2, 3], {"title": T, "image": [I[0], None, I[2]]}, [{"n": n} for n in range(3)])
    points.upsert("a", {"title": T[0]}, {"n": 3})
    points.upsert("none", None)
    assert points.search([1.0, 0.0, 0.0], using="title", k=2).ids == [1, "a"]
    assert points.search([3.0, 3.0], using="image").ids == [3, 1]
    assert points.search([3.0, 3.0], using="image", filter=F("n") == 1) == []
    assert points.knn([[0.0, 0.0]], k=1, using="image")[0].tolist() == [[1]]
    assert [point.id for point in points.scan(filter=F.has_vector("image"))] == [1, 3]
    assert points.count(F.has_vector("title")) == 4
    assert len(points) == 5
    assert points[1] == Point(1, {"title": T[0], "image": I[0]}, {"n": 0})
    assert points[2] == Point(2, {"title": T[1]}, {"n": 1})
    assert points["none"].vector == {}
    hit = points.search([1.0, 0.0, 0.0], using="title", k=1, with_vectors=True)[0]
    assert sorted(hit.vector) == ["image", "title"]
    assert points.recommend([1], using="image").ids == [3]
    assert points.recommend("a", using="title", k=1, strategy="best_score").ids == [1]
    assert [group.key for group in points.search_groups([1.0, 0.0], "n", using="image")] == [0, 2]
    assert points.explain(F("n") == 0, using="image").cardinality == 1


def test_an_update_changes_only_the_names_it_gives(points: Collection) -> None:
    points.upsert([1, 2, 3], {"title": T, "image": [I[0], None, I[2]]}, [{"n": n} for n in range(3)])
    points.update([1, 2, 3], {"image": [None, I[1], I[0]]}, [{"x": 1}, None, {"x": 3}])
    assert points[1] == Point(1, {"title": T[0], "image": I[0]}, {"n": 0, "x": 1})
    assert points[2] == Point(2, {"title": T[1], "image": I[1]}, {"n": 1})
    assert points[3] == Point(3, {"title": T[2], "image": I[0]}, {"n": 2, "x": 3})
    points.upsert(1, {"image": I[2]})
    assert points[1] == Point(1, {"image": I[2]})
    points.update([1], [{"title": T[1]}])
    assert points[1] == Point(1, {"title": T[1], "image": I[2]})


def test_points_and_rows_carry_dicts(points: Collection) -> None:
    points.upsert_points([Point(1, {"title": T[0]}), Point(2, None, {"n": 2}), Point(3, {"title": T[1], "image": I[1]})])
    assert points[3] == Point(3, {"title": T[1], "image": I[1]})
    assert points.upload([(4, {"image": I[0]}, {"n": 4}), {"id": 5, "vector": {"title": T[2], "image": None}}, Point(6)]) == 3
    assert points[4] == Point(4, {"image": I[0]}, {"n": 4})
    assert points[5] == Point(5, {"title": T[2]})
    copy = Collection(vectors=CONFIGS)
    assert copy.upload(points.scan()) == 6
    assert list(copy.scan()) == list(points.scan())


def test_tables_of_named_vectors_come_back(points: Collection) -> None:
    points.upsert([1, 2, 3], {"title": T, "image": [I[0], None, I[2]]}, [{"n": n} for n in range(3)])
    for package, read in (("pandas", Collection.to_pandas), ("pyarrow", Collection.to_arrow)):
        pytest.importorskip(package)
        copy = Collection(vectors=CONFIGS)
        assert copy.upload(read(points)) == 3
        assert list(copy.scan()) == list(points.scan())


def test_mistakes_name_vector_and_row(points: Collection) -> None:
    for vectors, message in (
        ({"title": [T[0], [1, 2]], "image": I[:2]}, r"vectors\['title'\]\[1\] has shape \(2,\)"),
        ({"sound": T[:2]}, "'sound', which is no vector"),
        ({"title": [T[0], T[0] * 0]}, r"vectors\['title'\]\[1\] is a zero vector"),
        ({"title": T[:1]}, r"2 ids but 1 vectors\['title'\]"),
        (T[:2], "expected a dict of arrays"),
        ([], "2 ids but 0 vectors"),
        ([None], "2 ids but 1 vectors"),
        ([{"title": T[0]}, {"sound": T[0]}], "'sound', which is no vector"),
    ):
        with pytest.raises(vecdb.InvalidArgument, match=message):
            points.upsert([1, 2], vectors)
    assert len(points) == 0
    for using in (None, "sound", ""):
        with pytest.raises(vecdb.InvalidArgument, match="one of 'title', 'image'"):
            points.search([1.0, 0.0, 0.0], using=using)
    with pytest.raises(vecdb.InvalidArgument, match="components, expected 2"):
        points.search([1.0, 0.0, 0.0], using="image")
    points.upsert(1, {"title": T[0]})
    with pytest.raises(vecdb.InvalidArgument, match="1 has no vector 'image'"):
        points.recommend(1, using="image")
    with pytest.raises(vecdb.InvalidArgument, match="named vectors"):
        points.dim  # noqa: B018


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "dim is missing"),
        ({"dim": 3, "vectors": CONFIGS}, "dim and vectors"),
        ({"metric": "l2", "vectors": CONFIGS}, "metric and vectors"),
        ({"vectors": {}}, "at least one"),
        ({"vectors": [3]}, "expected a dict"),
        ({"vectors": {"": VectorConfig(3)}}, "named ''"),
        ({"vectors": {1: VectorConfig(3)}}, "named 1"),
        ({"vectors": {"a": 3}}, r"vectors\['a'\] is a int"),
        ({"vectors": {"a": VectorConfig(0)}}, r"vectors\['a'\]: dim is 0"),
        ({"vectors": {"a": VectorConfig(3, metric="angle")}}, r"vectors\['a'\]: metric is 'angle'"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(vecdb.InvalidArgument, match=message):
        Collection(**options)


def test_named_vectors_survive_reopening_and_options_must_agree(path: Path) -> None:
    with vecdb.open(path) as db:
        points = db.create_collection("p", vectors=CONFIGS)
        points.upsert([1, 2], {"title": T[:2], "image": [None, I[1]]})
        points.checkpoint()
        points.upsert([3], {"image": I[:1]})
    with vecdb.open(path) as db:
        points = db.get_or_create_collection("p", vectors=CONFIGS)
        assert points.vectors == CONFIGS
        assert [point.vector.keys() for point in points.scan()] == [{"title"}, {"title", "image"}, {"image"}]
        assert points.search([1.0, 0.0], using="image", k=1).ids == [3]
        assert repr(points) == "<vecdb.Collection 'p': 3 points, 'title' dim 3, cosine; 'image' dim 2, l2>"
        assert db.get_or_create_collection("p").vectors == CONFIGS
        for wrong in ({"dim": 3}, {"vectors": {"title": VectorConfig(3)}}, {"vectors": {**CONFIGS, "image": VectorConfig(2)}}):
            with pytest.raises(vecdb.InvalidArgument):
                db.get_or_create_collection("p", **wrong)
        assert db.get_or_create_collection("q", vectors={"one": VectorConfig(2)}).search([1.0, 0.0]) == []
        assert db.create_collection("plain", dim=2).vectors == {"": VectorConfig(2)}


def test_a_life_of_named_vectors_agrees_with_a_dict(points: Collection) -> None:
    seed = random.randrange(2**32)
    print(f"seed={seed}")
    rng = random.Random(seed)
    model: dict[int, tuple[dict[str, list[float]], dict[str, Any]]] = {}

    def vector(name: str) -> list[float]:
        return [rng.choice([-2.0, -1.0, 1.0, 2.0]) for _ in range(CONFIGS[name].dim)]

    def step() -> None:
        ids = rng.sample(range(12), rng.randrange(1, 4))
        kind = rng.choice(["upsert", "update", "delete", "payload"])
        if kind in ("update", "payload"):
            ids = [one for one in ids if one in model]
        rows = {name: [vector(name) if rng.random() < 0.6 else None for _ in ids] for name in CONFIGS if rng.random() < 0.8}
        given = [{name: row[place] for name, row in rows.items() if row[place] is not None} for place in range(len(ids))]
        number = rng.randrange(100)
        if kind == "upsert":
            points.upsert(ids, rows if rng.random() < 0.5 else given, [{"n": number}] * len(ids))
            model.update((one, (vectors, {"n": number})) for one, vectors in zip(ids, given, strict=True))
        elif kind == "update":
            points.update(ids, rows, [{f"k{number % 3}": number}] * len(ids))
            for one, vectors in zip(ids, given, strict=True):
                model[one] = ({**model[one][0], **vectors}, {**model[one][1], f"k{number % 3}": number})
        elif kind == "payload":
            points.set_payload({"p": number}, ids=ids)
            for one in ids:
                model[one] = (model[one][0], {**model[one][1], "p": number})
        else:
            points.delete(ids)
            for one in ids:
                model.pop(one, None)

    for _ in range(60):
        if rng.random() < 0.3:
            with points.batch():
                for _ in range(rng.randrange(1, 5)):
                    step()
        else:
            step()
        found = {point.id: ({name: row.tolist() for name, row in point.vector.items()}, point.payload) for point in points.scan()}
        assert model == found
    for name, config in CONFIGS.items():
        having = {one for one, (vectors, _) in model.items() if name in vectors}
        assert having == set(points.search([1.0] * config.dim, k=50, using=name, exact=True).ids)
