"""
Databases of every released format are read by this version: points, filters and searches, before and after more writes.
"""

from __future__ import annotations

import json
import random
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filter_samples import random_filter
from golden.make import payload_of

import vecdb
from vecdb import Collection, F
from vecdb.filters import matches, parse

GOLDEN = Path(__file__).resolve().parent / "golden"
FORMATS = sorted(path.name.removesuffix(".json") for path in GOLDEN.glob("format-*.json"))
FILTERS = [
    F("city") == "東京",
    F("city").any_of("London", ""),
    F("price") < 12.5,
    F("big") == 2**63 + 4,
    F("when") < "2024-02-10T00:00:00Z",
    F("tags") == 3,
    F("text").phrase("of the articles"),
    F("where").geo_radius(10.0, -10.0, 1_000_000),
    F("seen").is_null(),
    F("parts").nested((F("kind") == "a") & (F("size") > 2)),
]

Points = dict[int | str, tuple[dict[str, Any], dict[str, Any]]]


def opened(name: str, path: Path) -> tuple[vecdb.Database, dict[str, Points]]:
    """
    Open a copy of the files; return it and what it must hold: by collection and id the vectors by name and the payload.
    """
    with tarfile.open(GOLDEN / f"{name}.tar.xz") as archive:
        archive.extractall(path, filter="data")
    held = json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))
    assert name == f"format-{held['format']}"
    expected = {
        collection: {
            one: ({k: v for k, v in (vector if isinstance(vector, dict) else {"": vector}).items() if v is not None}, payload)
            for one, vector, payload in points
        }
        for collection, points in held["collections"].items()
    }
    return vecdb.open(path), expected


def scores(metric: str, query: list[float], rows: list[list[float]]) -> np.ndarray[Any, Any]:
    """
    Return the scores by numpy, larger is better.
    """
    asked, given = np.array(query, dtype=np.float64), np.array(rows, dtype=np.float64)
    if metric == "l2":
        return -np.linalg.norm(given - asked, axis=1)
    found: np.ndarray[Any, Any] = given @ asked
    return found / np.linalg.norm(given, axis=1) / np.linalg.norm(asked) if metric == "cosine" else found


def check(collection: Collection, points: Points, metrics: dict[str, tuple[str, int]]) -> None:
    """
    Compare all points, what filters select, and searches with and without them.
    """
    assert len(points) == len(collection) == collection.count()
    named = set(metrics) != {""}
    for point in collection.scan(with_vectors=True):
        vectors, payload = points[point.id]
        assert payload == point.payload
        read = {name: row for name, row in (point.vector or {}).items() if row is not None} if named else {"": point.vector}
        assert vectors == {name: np.asarray(row).tolist() for name, row in read.items() if row is not None}
    rng = random.Random(9)
    for given in [*FILTERS, *(random_filter(rng, depth=2) for _ in range(10))]:
        node = parse(given)
        kept = {
            one
            for one, (vectors, payload) in points.items()
            if matches(node, payload, id=one, has_vector=lambda name, vectors=vectors: name in vectors)  # type: ignore[misc]
        }
        assert kept == {point.id for point in collection.scan(filter=given)}
        for name, (metric, dim) in metrics.items():
            query = [rng.uniform(-1, 1) for _ in range(dim)]
            ids = [one for one in kept if name in points[one][0]]
            hits = collection.search(query, k=5, filter=given, using=name or None)
            assert len(hits) == min(5, len(ids))
            if ids:
                best = -np.sort(-scores(metric, query, [points[one][0][name] for one in ids]))[:5]
                sign = -1 if metric == "l2" else 1
                assert np.allclose(best, [sign * hit.score for hit in hits], atol=1e-5)


@pytest.mark.parametrize("name", FORMATS)
def test_a_database_of_a_released_format_is_read_written_and_read_again(name: str, tmp_path: Path) -> None:
    database, held = opened(name, tmp_path / "golden.vecdb")
    plain, named = {"": ("l2", 6)}, {"title": ("cosine", 4), "image": ("dot", 3)}
    articles, pictures = "articles", "pictures ∞"
    with database:
        assert sorted(held) == sorted(database)
        assert {"made": "for ever"} == database[articles].metadata
        assert ["city"] == list(database[articles].indexes)
        check(database[articles], held[articles], plain)
        check(database[pictures], held[pictures], named)
        assert database[articles].verify(progress=False).ok
        database[articles].upsert("more", [0.5] * 6, payload_of(1000))
        held[articles]["more"] = ({"": [0.5] * 6}, payload_of(1000))
        database[articles].compact()
    with vecdb.open(tmp_path / "golden.vecdb", verify=True) as again:
        check(again[articles], held[articles], plain)
        check(again[pictures], held[pictures], named)
