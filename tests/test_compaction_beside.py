"""
Compaction beside scans, pages, blocks and named vectors: numbers change, what is read does not.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np

import vecdb
from vecdb import Collection, Database, F, Point, VectorConfig

V = np.eye(4, dtype=np.float32)


def filled(db: Database) -> Collection:
    """
    Points of which half are gone, so that a compaction numbers the others anew.
    """
    points = db.create_collection("p", dim=4)
    points.upsert(range(200), np.tile(V, (50, 1)), [{"n": n, "g": n % 3} for n in range(200)])
    points.delete(range(0, 200, 2))
    return points


def test_a_scan_goes_on_over_its_state(db: Database) -> None:
    points = filled(db)
    expected = list(points.scan())
    scans = [points.scan(batch_size=7), points.scan(filter=F("g") == 1, batch_size=7)]
    first = [next(scan) for scan in scans]
    points.compact()
    points.delete(range(100))
    points.compact()
    assert [first[0], *scans[0]] == expected
    assert [first[1], *scans[1]] == [point for point in expected if point.payload["g"] == 1]


def test_pages_go_on_after_it(db: Database) -> None:
    points = filled(db)
    expected = [point.id for point in points.scroll(limit=200, order_by="-n").points]
    page = points.scroll(limit=30, order_by="-n")
    points.compact()
    rest = points.scroll(limit=200, order_by="-n", after=page.next)
    assert [point.id for point in [*page.points, *rest.points]] == expected
    assert points.facet("g") == [(1, 34), (0, 33), (2, 33)]


def test_a_block_around_it_is_written_whole(db: Database) -> None:
    points = filled(db)
    with points.batch():
        points.update(1, V[3], {"seen": 1})
        points.set_payload({"seen": 2}, ids=[3, 5])
        points.upsert("new", V[0])
        thread = threading.Thread(target=lambda: (points.compact(), points.upsert(7, V[2], {"other": True})))
        thread.start()
        thread.join()
        points.update("new", payloads={"seen": 3})
        points.delete(9)
    assert points[1].vector.tolist() == V[3].tolist()
    assert [point.payload.get("seen") for point in points.get_many([1, 3, 5, "new"]) if point] == [1, 2, 2, 3]
    assert points[7].payload == {"other": True}
    assert 9 not in points


def test_searches_of_every_kind_go_on_beside_it(db: Database) -> None:
    points = filled(db)
    stop = threading.Event()

    def search() -> None:
        while not stop.is_set():
            assert len(points.recommend([1, 3], k=5, negative=[5], strategy="best_score", with_vectors=True)) == 5
            assert {group.key for group in points.search_groups(V[0], "g", group_size=2)} == {0, 1, 2}
            assert len(points.scroll(order_by="n", limit=10, filter=F("g") < 5).points) == 10
            assert sum(hit.count for hit in points.facet("g")) in (100, 101)

    with ThreadPoolExecutor(2) as pool:
        searches = [pool.submit(search) for _ in range(2)]
        for turn in range(10):
            points.upsert(1000 + turn, V[0], {"n": turn, "g": 0})
            points.delete(1000 + turn)
            points.compact()
        stop.set()
        for one in searches:
            one.result()


def test_named_vectors_are_kept(db: Database) -> None:
    points = db.create_collection("named", vectors={"a": VectorConfig(4), "b": VectorConfig(2, metric="l2")})
    points.upsert(range(8), {"a": [V[n % 4] if n % 3 else None for n in range(8)], "b": [[n, 1] if n % 2 else None for n in range(8)]})
    points.delete([0, 4])
    points.update(1, {"b": [9.0, 9.0]})
    expected = list(points.scan())
    points.compact()
    assert points.info().deleted == 0
    assert list(points.scan()) == expected
    assert points[1] == Point(1, {"a": V[1], "b": np.array([9, 9], dtype=np.float32)})
    assert points.search([9.0, 9.0], using="b", k=1).ids == [1]
    points.update(2, {"b": [7.0, 7.0]})
    assert sorted(points[2].vector) == ["a", "b"]
    assert points.verify()
    assert isinstance(points.info(), vecdb.CollectionInfo)
