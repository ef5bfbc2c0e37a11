"""
The public interface, call by call, as its documentation lists it: names, arguments, defaults and results.
"""

from __future__ import annotations

import datetime
import inspect
import pickle
import subprocess
import sys
import threading
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vecdb
from vecdb import Collection, Database, F, FacetHit, Group, Hit, Hits, Page, Point

V = np.eye(4, dtype=np.float32)
QUERY = [1.0, 0.5, 0.0, 0.0]


@pytest.fixture
def products(db: Database) -> Collection:
    """
    A small shop.
    """
    products = db.create_collection("products", dim=4)
    products.upsert(
        ["a", "b", "c", 7],
        V,
        [
            {"price": 10, "city": "London", "tags": ["new"], "at": {"lat": 51.5, "lon": -0.12}, "text": "a red teapot"},
            {"price": 120.5, "city": "London", "tags": ["sold"]},
            {"price": 60, "city": "Paris", "when": "2026-01-02T00:00:00Z"},
            {},
        ],
    )
    return products


def signature(call: Any) -> str:
    """
    Return a signature without its types.
    """
    parameters = [p.replace(annotation=inspect.Parameter.empty) for p in inspect.signature(call).parameters.values()]
    return str(inspect.Signature(parameters))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("upsert", "(self, ids, vectors, payloads=None)"),
        ("add", "(self, ids, vectors, payloads=None)"),
        ("update", "(self, ids, vectors=None, payloads=None)"),
        ("upsert_points", "(self, points)"),
        ("set_payload", "(self, payload, *, ids=None, filter=None, replace=False)"),
        ("delete_payload", "(self, keys, *, ids=None, filter=None)"),
        ("delete", "(self, ids=None, *, filter=None)"),
        ("upload", "(self, data, *, id='id', vector='vector', batch_size=1000, transform=None, workers=0, progress=False)"),
        ("batch", "(self)"),
        ("get", "(self, id)"),
        ("get_many", "(self, ids, *, with_vectors=True)"),
        ("scroll", "(self, *, filter=None, limit=100, after=None, order_by=None, with_vectors=True)"),
        ("scan", "(self, *, filter=None, batch_size=1000, with_vectors=True)"),
        ("count", "(self, filter=None)"),
        ("facet", "(self, key, *, filter=None, limit=10)"),
        (
            "search",
            "(self, query, k=10, *, filter=None, ef=None, exact=False, score_threshold=None, offset=0, with_payload=True, "
            "with_vectors=False, using=None)",
        ),
        ("knn", "(self, queries, k=10, *, filter=None, ef=None, exact=False, using=None)"),
        (
            "recommend",
            "(self, positive, k=10, *, negative=(), strategy='average_vector', filter=None, ef=None, exact=False, score_threshold=None, "
            "offset=0, with_payload=True, with_vectors=False, using=None)",
        ),
        (
            "search_groups",
            "(self, query, group_by, *, groups=10, group_size=3, filter=None, ef=None, exact=False, score_threshold=None, offset=0, "
            "with_payload=True, with_vectors=False, using=None)",
        ),
        ("create_index", "(self, key, kind=None, *, m=None)"),
        ("drop_index", "(self, key)"),
        ("checkpoint", "(self)"),
        ("wait_indexed", "(self, timeout=None, *, progress=False)"),
        ("to_pandas", "(self, *, filter=None, with_vectors=True)"),
        ("to_arrow", "(self, *, filter=None, with_vectors=True)"),
        ("info", "(self)"),
        ("compact", "(self, *, progress=False)"),
        ("verify", "(self, *, progress=False)"),
    ],
)
def test_signatures(name: str, expected: str) -> None:
    assert signature(getattr(Collection, name)) == expected


# ---- opening ----


def test_opening(tmp_path: Path) -> None:
    path = tmp_path / "shop.vecdb"
    with vecdb.open(path, durability="fsync", timeout=5.0, threads=2) as db:
        products = db.create_collection("products", dim=384, metric="cosine", m=16, ef_construction=200, quantization="auto", seed=1)
        assert db.get_or_create_collection("products", dim=384).name == "products"
        with pytest.raises(vecdb.InvalidArgument, match="dim"):
            db.get_or_create_collection("products", dim=3)
        with pytest.raises(vecdb.AlreadyExists):
            db.create_collection("products", dim=384)
        assert (products.name, products.dim, products.metric, products.metadata) == ("products", 384, "cosine", {})
        with pytest.raises(KeyError):
            db["nothing"]
        assert "products" in db
        assert list(db) == ["products"]
        assert len(db) == 1
        again = vecdb.open(str(path))
        assert again["products"].dim == 384
        with pytest.raises(vecdb.AlreadyExists):
            vecdb.open(path, mode="x")
        with pytest.raises(vecdb.InvalidArgument):
            vecdb.open(path, durability="os")
        with vecdb.open(path, mode="r") as reader, pytest.raises(vecdb.ReadOnly):
            reader["products"].upsert("a", np.ones(384))
        again.close()
        assert db.refresh() is False
        db.drop_collection("products")
        assert len(db) == 0
    with pytest.raises(vecdb.Closed):
        list(db)
    with pytest.raises(FileNotFoundError):
        vecdb.open(tmp_path / "nothing", mode="r")
    assert Collection(dim=3, metadata={"model": "m"}).metadata == {"model": "m"}


# ---- points ----


def test_ids_are_taken_wherever_they_are_expected(products: Collection) -> None:
    one = uuid.uuid4()
    products.upsert([np.uint64(2**64 - 1), one, "1", 1], V)
    assert {2**64 - 1, str(one), "1", 1} < set(products)
    for ids in (np.array([1, 7]), (1, 7), {1: None, 7: None}.keys(), iter([1, 7])):
        assert [point and point.id for point in products.get_many(ids)] == [1, 7]
    for wrong in ({"a": 1}, F("a") == 1, True, -1, 2**64, "", "x" * 481, 1.5):
        with pytest.raises(vecdb.InvalidArgument):
            products.get_many(wrong)
    with pytest.raises(vecdb.InvalidArgument):
        products.delete()
    with pytest.raises(vecdb.InvalidArgument):
        products.delete("a", filter={})


def test_writes(products: Collection) -> None:
    products.upsert("d", V[0], {"when": datetime.date(2026, 1, 2), "size": np.float32(0.5), "id": uuid.UUID(int=1)})
    assert products["d"].payload == {"when": "2026-01-02", "size": 0.5, "id": str(uuid.UUID(int=1))}
    with pytest.raises(vecdb.AlreadyExists):
        products.add(["d", "e"], V[:2])
    products.update(["d", "a"], [V[1], None], [None, {"price": 11}])
    assert products["d"].vector.tolist() == V[1].tolist()
    assert products["a"].payload["price"] == 11
    with pytest.raises(vecdb.NotFound):
        products.update(["d", "nobody"], payloads=[{}, {}])
    products.upsert_points([Point("e", V[2], {"n": 1}), Point("f", None)])
    assert products.set_payload({"seen": True}, filter=F("city") == "London") == 2
    assert products.set_payload({}, ids=["e"], replace=True) == 1
    assert products.delete_payload(["seen", "absent"], filter={}) == 7
    with pytest.raises(vecdb.NotFound):
        products.set_payload({"n": 1}, ids=["nobody"])
    assert products.delete(["e", "nobody"]) == 1
    assert products.delete(filter=F("price") > 100) == 1
    del products["f"]
    with pytest.raises(vecdb.NotFound):
        del products["f"]
    assert products.upload(((n, V[0], {"n": n}) for n in range(10)), batch_size=4) == 10
    with products.batch():
        products.delete(range(5))
        products.upsert("last", V[3])
    assert list(products) == [5, 6, 7, 8, 9, "a", "c", "d", "last"]
    with pytest.raises(vecdb.InvalidArgument, match=r"vectors\[1\] holds NaN"):
        products.upsert(["x", "y"], [V[0], [float("nan")] * 4])
    with pytest.raises(vecdb.InvalidArgument, match="'n'"):
        products.upsert("x", V[0], {"n": float("inf")})
    assert "x" not in products


def test_reads(products: Collection) -> None:
    assert products.get("a") == products["a"]
    assert products.get("nobody") is None
    with pytest.raises(vecdb.NotFound):
        products["nobody"]
    assert [point and point.id for point in products.get_many(["b", "nobody", 7])] == ["b", None, 7]
    assert "a" in products
    assert len(products) == 4
    assert list(products) == [7, "a", "b", "c"]
    page = products.scroll(limit=3)
    assert isinstance(page, Page)
    assert [point.id for point in page.points] == [7, "a", "b"]
    assert [point.id for point in products.scroll(after=page.next).points] == ["c"]
    assert [point.id for point in products.scroll(order_by="-price").points] == ["b", "c", "a"]
    assert [point.id for point in products.scan(filter=F("city") == "London", with_vectors=False)] == ["a", "b"]
    assert products.count(F("price") > 50) == 2
    assert products.count() == products.count({}) == 4
    assert products.facet("city") == [FacetHit("London", 2), FacetHit("Paris", 1)]
    assert products.facet("city", limit=1, filter=F("price") >= 60) == [("London", 1)]
    with pytest.raises(vecdb.InvalidArgument, match="with_vectors"):
        products.upsert_points([point for point in products.get_many(["a"], with_vectors=False) if point])


# ---- search ----


def test_search(products: Collection) -> None:
    hits = products.search(QUERY, k=2, with_vectors=True)
    assert isinstance(hits, Hits)
    assert isinstance(hits[0], Hit)
    assert (hits.ids, hits[0].payload, hits[0].vector.tolist()) == (["a", "b"], products["a"].payload, V[0].tolist())
    assert hits.scores == [hit.score for hit in hits]
    assert [some.ids for some in products.search([QUERY, V[3]], k=1)] == [["a"], [7]]
    assert [some.ids for some in products.search([QUERY, QUERY], k=1, filter=[F("price") > 50, None])] == [["b"], ["a"]]
    assert products.search(QUERY, score_threshold=hits[1].score).ids == ["a", "b"]
    assert products.search(QUERY, k=1, offset=1, ef=50).ids == ["b"]
    assert products.search(QUERY, k=1, with_payload=["price", "nothing"])[0].payload == {"price": 10}
    assert products.search(QUERY, k=1, with_payload=False)[0].payload is None
    assert products.search(QUERY, k=4, exact=True).ids == ["a", "b", 7, "c"]
    assert products.search(QUERY, k=2, filter=F.has_id(["c", "b"]), exact=True).ids == ["b", "c"]
    ids, scores = products.knn([QUERY, V[2]], k=5)
    assert ids.shape == scores.shape == (2, 5)
    assert ids[0].tolist() == ["a", "b", 7, "c", None]
    assert np.isnan(scores[0, 4])
    with pytest.raises(vecdb.InvalidArgument, match="using"):
        products.search(QUERY, using="title")


def test_recommend_groups_and_explain(products: Collection) -> None:
    assert products.recommend(["a", V[1]], k=1, negative=["c"], filter=F("price") > 50).ids == ["b"]
    assert products.recommend(["a", V[1]], k=1, negative=["c"], strategy="best_score").ids == ["b"]
    groups = products.search_groups(QUERY, "city", groups=2, group_size=1, with_payload=["price"])
    assert groups == [Group("London", Hits([Hit("a", groups[0].hits[0].score, {"price": 10})])), groups[1]]
    assert [(key, hits.ids) for key, hits in groups] == [("London", ["a"]), ("Paris", ["c"])]
    plan = products.explain(F("city") == "London")
    assert (plan.cardinality, plan.selectivity) == (2, 0.5)


def test_named_vectors(db: Database) -> None:
    films = db.create_collection("films", vectors={"title": vecdb.VectorConfig(2), "image": vecdb.VectorConfig(3, metric="dot")})
    films.upsert([1, 2], {"title": np.eye(2), "image": [None, [1.0, 2.0, 3.0]]})
    films.update(1, {"image": [3.0, 2.0, 1.0]})
    assert {name: vector.tolist() for name, vector in films[1].vector.items()} == {"title": [1.0, 0.0], "image": [3.0, 2.0, 1.0]}
    assert films.search([0.0, 1.0], k=1, using="title").ids == [2]
    with pytest.raises(vecdb.InvalidArgument, match="using"):
        films.search([0.0, 1.0])


# ---- filters ----

ENDED = {"exterior": {"points": [{"lat": a, "lon": b} for a, b in ((51, -1), (52, -1), (52, 1), (51, 1), (51, -1))]}}


@pytest.mark.parametrize(
    ("grammar", "built", "ids"),
    [
        ({"key": "city", "match": {"value": "London"}}, F("city") == "London", ["a", "b"]),
        ({"key": "city", "match": {"any": ["Paris", "Rome"]}}, F("city").any_of("Paris", "Rome"), ["c"]),
        ({"key": "city", "match": {"except": ["London"]}}, F("city").except_("London"), ["c"]),
        ({"must_not": [{"key": "city", "match": {"value": "London"}}]}, F("city") != "London", [7, "c"]),
        ({"key": "text", "match": {"text": "teapot red"}}, F("text").text("teapot red"), ["a"]),
        ({"key": "text", "match": {"text_any": "blue red"}}, F("text").text_any("blue red"), ["a"]),
        ({"key": "text", "match": {"phrase": "red teapot"}}, F("text").phrase("red teapot"), ["a"]),
        ({"key": "text", "match": {"prefix": "a r"}}, F("text").prefix("a r"), ["a"]),
        ({"key": "price", "range": {"gt": 10, "lte": 60}}, F("price").range(gt=10, lte=60), ["c"]),
        ({"key": "when", "range": {"gte": "2026-01-01"}}, F("when") >= datetime.datetime(2026, 1, 1), ["c"]),
        ({"key": "at", "geo_radius": {"center": {"lat": 51.5, "lon": 0}, "radius": 10e3}}, F("at").geo_radius(51.5, 0, 10e3), ["a"]),
        (
            {"key": "at", "geo_bounding_box": {"top_left": {"lat": 52, "lon": -1}, "bottom_right": {"lat": 51, "lon": 1}}},
            F("at").geo_box((52, -1), (51, 1)),
            ["a"],
        ),
        ({"key": "at", "geo_polygon": ENDED}, F("at").geo_polygon([(51, -1), (52, -1), (52, 1), (51, 1), (51, -1)]), ["a"]),
        ({"key": "tags", "values_count": {"gte": 1}}, F("tags").count >= 1, ["a", "b"]),
        ({"is_empty": {"key": "tags"}}, F("tags").is_empty(), [7, "c"]),
        ({"is_null": {"key": "tags"}}, F("tags").is_null(), []),
        ({"has_id": [7, "b"]}, F.has_id([7, "b"]), [7, "b"]),
        (
            {"min_should": {"conditions": [{"key": "price", "range": {"gt": 1}}, {"has_id": ["c"]}], "min_count": 2}},
            F.min_should(2, F("price") > 1, F.has_id("c")),
            ["c"],
        ),
        (
            {
                "must": [{"key": "city", "match": {"value": "London"}}, {"key": "price", "range": {"lt": 100}}],
                "must_not": [{"key": "tags", "match": {"any": ["sold", "reserved"]}}],
            },
            (F("city") == "London") & (F("price") < 100) & ~F("tags").any_of("sold", "reserved"),
            ["a"],
        ),
        ({"should": [{"has_id": [7]}, {"match": {"key": "city", "keyword": "Paris"}}]}, F.has_id(7) | (F("city") == "Paris"), [7, "c"]),
        ({"must": None, "should": [{"match": {"key": "price", "integer": 10}}]}, F("price") == 10, ["a"]),
        ({}, None, [7, "a", "b", "c"]),
    ],
)
def test_filters_in_both_forms(products: Collection, grammar: Any, built: Any, ids: list[Any]) -> None:
    for filter in (grammar, built):
        assert [point.id for point in products.scan(filter=filter)] == ids
        assert products.count(filter) == len(ids)
        assert set(products.search(QUERY, filter=filter).ids) == set(ids)
    if built is not None:
        assert [point.id for point in products.scan(filter=built.to_dict())] == ids


def test_nested_filters(products: Collection) -> None:
    products.upsert("n", V[0], {"parts": [{"kind": "lid", "size": 3}, {"kind": "body", "size": 9}]})
    inner = (F("kind") == "lid") & (F("size") < 5)
    assert products.count(F("parts").nested(inner)) == 1
    assert products.count({"nested": {"key": "parts", "filter": {"must": [{"key": "kind", "match": {"value": "body"}}]}}}) == 1
    assert products.count((F("parts[].kind") == "body") & (F("parts[0].size") == 3)) == 1


def test_mistakes_in_filters_are_found(products: Collection) -> None:
    for wrong in ({"mist": []}, {"must": [{"key": "a"}]}, {"must": [{"key": "a", "match": {"value": 1.5}}]}, {"key": "a"}):
        with pytest.raises(vecdb.InvalidFilter):
            products.count(wrong)
    with pytest.raises(TypeError):
        bool(F("a") == 1)
    with pytest.raises(TypeError):
        _ = (F("a") == 1) and (F("b") == 2)
    with pytest.raises(TypeError):
        assert 1 < F("a") < 5  # type: ignore[operator]


# ---- indexes and care ----


def test_indexes_and_care(products: Collection) -> None:
    products.create_index("city", "keyword", m=8)
    products.create_index("price")
    products.create_index("city")
    with pytest.raises(vecdb.AlreadyExists):
        products.create_index("city", "text")
    assert {key: info.kind for key, info in products.indexes.items() if info.declared} == {"city": "keyword", "price": "float"}
    products.drop_index("city")
    products.checkpoint()
    assert products.wait_indexed(timeout=10) is True
    info = products.info()
    assert (info.points, info.vectors, info.deleted) == (4, 4, 0)
    assert "price" in info.indexes


def test_backups_compaction_and_checks(path: Path, tmp_path: Path) -> None:
    with vecdb.open(path) as db:
        products = db.create_collection("products", dim=4)
        products.upsert(range(4), V, [{"n": n} for n in range(4)])
        products.delete([0, 2])
        products.compact()
        assert products.info().deleted == 0
        assert isinstance(products.verify(), vecdb.Report)
        db.backup(tmp_path / "backup.vecdb")
        with pytest.raises(vecdb.AlreadyExists):
            db.backup(tmp_path / "backup.vecdb")
        products.delete(filter={})
    with vecdb.open(tmp_path / "backup.vecdb", verify=True) as restored:
        assert [point.payload for point in restored["products"].scan()] == [{"n": 1}, {"n": 3}]
    with vecdb.open(path, salvage=True) as db:
        assert len(db["products"]) == 0


# ---- threads, processes, errors ----


def test_errors_are_what_python_expects_too() -> None:
    for error, bases in {
        vecdb.InvalidArgument: (vecdb.VecdbError, ValueError),
        vecdb.InvalidFilter: (vecdb.InvalidArgument,),
        vecdb.NotFound: (vecdb.VecdbError, KeyError),
        vecdb.Corruption: (vecdb.VecdbError,),
        vecdb.StorageError: (vecdb.VecdbError, OSError),
        vecdb.AlreadyExists: (vecdb.VecdbError,),
        vecdb.Locked: (vecdb.StorageError,),
        vecdb.Closed: (vecdb.VecdbError,),
        vecdb.ReadOnly: (vecdb.VecdbError,),
        vecdb.Forked: (vecdb.VecdbError,),
    }.items():
        assert issubclass(error, bases)


def test_pickles_carry_the_path(path: Path) -> None:
    with vecdb.open(path) as db:
        db.create_collection("p", dim=2).upsert("a", [1, 2])
        copy = pickle.loads(pickle.dumps(db["p"]))
        assert copy["a"].vector.tolist() == [1, 2]
        with pytest.raises(vecdb.ReadOnly):
            copy.delete("a")
        del copy
    with pytest.raises(TypeError, match="memory"):
        pickle.dumps(vecdb.open(":memory:"))


def test_importing_starts_no_thread_and_prints_nothing() -> None:
    code = "import threading, vecdb; assert threading.active_count() == 1"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")


def test_objects_are_shared_between_threads(products: Collection) -> None:
    threads = [threading.Thread(target=lambda n=n: products.upsert(n, V[0], {"n": n})) for n in range(100, 110)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert products.count(F("n") >= 100) == 10
