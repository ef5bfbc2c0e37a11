"""
A user's program with every public call, for mypy --strict; it is checked, and run by a test as well.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import vecdb
from vecdb import F, Group, Hits, Point


def rows(count: int) -> Iterator[tuple[int, list[float], dict[str, Any]]]:
    """
    Make points.
    """
    return ((n, [1.0, float(n)], {"n": n, "shop": f"shop {n % 3}"}) for n in range(count))


def write(products: vecdb.Collection) -> None:
    """
    Write in every way.
    """
    vectors: NDArray[np.float32] = np.eye(2, dtype=np.float32)
    products.upsert("a", vectors[0], {"price": 3})
    products.upsert(["b", 2], vectors, [{"price": 4}, None])
    products.add([3, 4], vectors)
    products.update(["a"], [None], [{"price": 5}])
    products.upsert_points([Point("c", vectors[1], {"price": 9}), Point("d")])
    count: int = products.set_payload({"seen": True}, filter=F("price") < 5)
    count += products.delete_payload(["seen"], ids=["a", "b"])
    count += products.delete([3, 4])
    count += products.delete(filter={"must": [{"key": "price", "range": {"gt": 100}}]})
    count += products.upload(rows(50), batch_size=20, transform=None, workers=0, progress=False)
    with products.batch():
        products.upsert("e", [0.5, 1.0], {"when": datetime.datetime(2026, 1, 1)})
        del products["d"]
    assert count > 50


def read(products: vecdb.Collection) -> None:
    """
    Read in every way.
    """
    point = products.get("a")
    assert point is not None
    price: object = point.payload["price"]
    several: list[Point | None] = products.get_many([1, "a"], with_vectors=False)
    assert price == 5
    assert len(several) == 2
    assert products["a"].id == "a"
    assert "a" in products
    assert len(products) == len(list(products))
    page = products.scroll(filter=F("n") >= 3, limit=10, order_by="-n", with_vectors=False)
    token: str | None = page.next
    points: list[Point] = products.scroll(filter=F("n") >= 3, limit=10, order_by="-n", after=token).points
    points.extend(products.scan(filter=None, batch_size=10))
    total: int = products.count(F("n") >= 3)
    for value, count in products.facet("shop", filter={}, limit=None):
        total += count
        assert isinstance(value, str)
    assert total > 0


def search(products: vecdb.Collection) -> None:
    """
    Search in every way.
    """
    hits: Hits = products.search([1.0, 0.0], k=5, filter=F("n") < 10, ef=64, score_threshold=0.1, offset=0, with_payload=["n"])
    scores: list[float] = hits.scores
    assert len(scores) == len(hits.ids)
    for hit in hits:
        payload = hit.payload
        assert payload is not None
        assert isinstance(hit.score, float)
    many: list[Hits] = products.search([[1.0, 0.0], [0.0, 1.0]], filter=[None, F("n") == 1], with_vectors=True, exact=True)
    queries: NDArray[np.float32] = np.eye(2, dtype=np.float32)
    either: list[Hits] = products.search(queries)
    assert len(many) == len(either) == 2
    ids, distances = products.knn(queries, k=3, filter=None, ef=None, exact=True)
    assert ids.shape == distances.shape == (2, 3)
    alike: Hits = products.recommend(["a", queries[1]], k=3, negative="b", strategy="best_score")
    groups: list[Group] = products.search_groups([1.0, 0.0], "shop", groups=2, group_size=1)
    best: Hits = groups[0].hits
    assert alike
    assert best
    strategy: str = products.explain(F("n") == 1).strategy
    assert strategy


def care(products: vecdb.Collection) -> None:
    """
    Take care in every way.
    """
    products.create_index("shop", "keyword", m=8)
    kinds: dict[str, vecdb.IndexInfo] = products.indexes
    assert kinds["shop"].declared
    products.drop_index("shop")
    products.checkpoint()
    done: bool = products.wait_indexed(timeout=10.0)
    assert done
    products.compact()
    report: vecdb.Report = products.verify()
    assert report
    info: vecdb.CollectionInfo = products.info()
    assert info.bytes["vectors"] > 0
    name, dim, metric, metadata = products.name, products.dim, products.metric, products.metadata
    assert (name, dim, metric, metadata["model"]) == ("products", 2, "cosine", "m")


def main(path: Path) -> None:
    """
    Run all of it.
    """
    with vecdb.open(path, mode="a", durability="os", timeout=1.0, threads=2) as db:
        products = db.create_collection("products", dim=2, metric="cosine", metadata={"model": "m"})
        write(products)
        read(products)
        search(products)
        care(products)
        assert db.get_or_create_collection("products").name in db
        assert [db[name].dim for name in db] == [2]
        db.refresh()
        db.backup(path.with_name("backup.vecdb"))
        db.drop_collection("products")
        films = db.create_collection("films", vectors={"title": vecdb.VectorConfig(2), "poster": vecdb.VectorConfig(3, metric="l2")})
        films.upsert([1, 2], {"title": np.eye(2), "poster": [None, [0.1, 0.2, 0.3]]})
        found: Hits = films.search([1.0, 0.0], using="title")
        dims: dict[str, int] = {name: config.dim for name, config in films.vectors.items()}
        assert found.ids == [1, 2]
        assert dims == {"title": 2, "poster": 3}
    alone = vecdb.Collection(dim=2, metric="l2")
    try:
        alone["nobody"]
    except vecdb.NotFound:
        alone.close()
