"""
recommend and search_groups, and the options of search: compared with numpy over all points.
"""

from __future__ import annotations

import random
import subprocess
import sys
import threading
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import vecdb
from vecdb import Collection, F
from vecdb._recommend import as_examples

DIM = 8
Rows = NDArray[np.float32]
METRICS = ["cosine", "dot", "l2"]


def filled(metric: Any, count: int = 300, **options: Any) -> tuple[Collection, Rows, list[dict[str, Any]]]:
    seed = random.randrange(2**32)
    print(f"seed={seed}")
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((count, DIM)).astype(np.float32)
    payloads = [{"n": int(n), "shop": f"shop {n % 7}", "tags": [int(n % 3), "all"]} for n in range(count)]
    points = Collection(DIM, metric=metric, **options)
    points.upsert(range(count), rows, payloads)
    return points, rows, payloads


def similarities(rows: Rows, query: Rows, metric: str) -> NDArray[np.float64]:
    """
    Return what is larger the nearer: for l2 the negative distance.
    """
    wide, one = rows.astype(np.float64), np.asarray(query, dtype=np.float64)
    if metric == "l2":
        return -np.sqrt(((wide - one) ** 2).sum(axis=1))
    dots = wide @ one
    return dots / (np.linalg.norm(wide, axis=1) * np.linalg.norm(one)) if metric == "cosine" else dots


def ranking(scores: NDArray[np.float64]) -> list[int]:
    return sorted(range(len(scores)), key=lambda row: (-scores[row], row))


@pytest.mark.parametrize("metric", METRICS)
def test_average_vector_is_the_formula(metric: str) -> None:
    points, rows, payloads = filled(metric)
    query = 2 * rows[[1, 2]].mean(axis=0) - rows[[5, 6]].mean(axis=0)
    expected = [row for row in ranking(similarities(rows, query, metric)) if row not in (1, 2, 5) and payloads[row]["n"] % 2 == 0]
    even = F("n").any_of(*range(0, 300, 2))
    hits = points.recommend([1, 2], k=20, negative=[5, rows[6]], filter=even, exact=True)
    assert expected[:20] == hits.ids
    assert hits.scores == sorted(hits.scores, reverse=metric != "l2")
    assert expected[3:8] == points.recommend([1, 2], 5, negative=[5, rows[6]], filter=even, exact=True, offset=3).ids


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("metric", METRICS)
def test_best_score_is_the_formula(metric: str, exact: bool) -> None:
    points, rows, _ = filled(metric, count=2000)
    positive, negative = [10, 11], [20]
    near = [similarities(rows, rows[one], metric) for one in positive + negative]
    if metric == "l2":
        near = [1 / (1 - one) for one in near]
    best, worst = np.maximum(near[0], near[1]), near[2]
    scores = np.where(best > worst, best, -(worst**2))
    expected = [row for row in ranking(scores) if row not in positive + negative]
    hits = points.recommend(positive, k=10, negative=negative, strategy="best_score", exact=exact)
    assert expected[:10] == hits.ids
    assert np.allclose(scores[expected[:10]], hits.scores, atol=1e-5)
    only_negative = [row for row in ranking(-(worst**2)) if row != 20][:5]
    assert only_negative == points.recommend([], k=5, negative=20, strategy="best_score", exact=exact).ids
    everything = points.recommend(positive, k=5000, negative=negative, strategy="best_score", exact=exact)
    assert len(everything) == 1997
    threshold = hits[4].score
    assert hits.ids[:5] == points.recommend(positive, negative=negative, strategy="best_score", exact=exact, score_threshold=threshold).ids


def test_best_score_of_equal_scores_goes_by_id() -> None:
    points = Collection(2)
    points.upsert(["b", 2, "a", 1, "example"], [[1, 0]] * 5)
    assert points.recommend("example", k=3, strategy="best_score").ids == [1, 2, "a"]


@pytest.mark.parametrize(
    ("positive", "count"),
    [
        (3, 1),
        ("a", 1),
        ([3, "a"], 2),
        (np.array([3, 4]), 2),
        ([0.5, 1.0], 1),
        (np.array([0.5, 1.0]), 1),
        ([[0.5, 1.0], 3], 2),
        (np.eye(2), 2),
        ([np.array([1, 0]), (0, 1), "a"], 3),
        ([1.0, 0], 1),
    ],
)
def test_examples_are_ids_and_vectors_in_any_mixture(positive: Any, count: int) -> None:
    points = Collection(2)
    points.upsert([3, 4, "a", "far"], [[1, 0], [1, 0.1], [0, 1], [-1, -1]])
    assert len(as_examples(positive, "positive")) == count
    for strategy in ("average_vector", "best_score"):
        ids = {3, 4, "a", "far"} - {one for one in as_examples(positive, "positive") if isinstance(one, (int, str, np.integer))}
        assert set(points.recommend(positive, strategy=strategy).ids) == ids  # type: ignore[arg-type]


def test_wrong_examples_are_named() -> None:
    points = Collection(2)
    points.upsert(["a", "b", "bare"], [[1, 0], [-1, 0], None])
    with pytest.raises(vecdb.NotFound, match="'nobody'"):
        points.recommend(["a", "nobody"])
    with pytest.raises(vecdb.InvalidArgument, match="'bare' has no vector"):
        points.recommend("bare")
    with pytest.raises(vecdb.InvalidArgument, match=r"negative\[1\].*3"):
        points.recommend("a", negative=["b", [1.0, 2.0, 3.0]])
    with pytest.raises(vecdb.InvalidArgument, match="cancel"):
        points.recommend(["a", "b"])
    with pytest.raises(vecdb.InvalidArgument, match="strategy is 'worst'"):
        points.recommend("a", strategy="worst")  # type: ignore[arg-type]
    with pytest.raises(vecdb.InvalidArgument, match="positive is empty"):
        points.recommend([])
    with pytest.raises(vecdb.InvalidArgument, match="empty"):
        points.recommend([], strategy="best_score")
    with pytest.raises(vecdb.InvalidArgument, match="expected ids and vectors"):
        points.recommend(F("a") == 1)


def expected_groups(scores: NDArray[np.float64], values: list[list[Any]], groups: int, size: int) -> list[tuple[Any, list[int]]]:
    found: dict[tuple[type, Any], list[int]] = {}
    for row in ranking(scores):
        for value in values[row]:
            found.setdefault((type(value), value), []).append(row)
    return [(value, rows[:size]) for (_, value), rows in found.items()][:groups]


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("few", [64, 0])
def test_groups_are_those_of_the_whole_ranking(metric: str, few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vecdb._groups._FEW_VALUES", few)
    points, rows, _ = filled(metric, count=600)
    rng = random.Random(3)
    # One group dominates; there are arrays, values that make no group, and points without any.
    choices: list[Any] = ["big"] * 30 + [1, "1", True, [1, "big"], ["x", "y", 2.5], 2.5, {"a": 1}, None, [None, False]]
    values = [rng.choice(choices) for _ in range(500)] + [f"rare {n}" for n in range(100)]
    points.set_payload({}, filter={}, replace=True)
    points.update(range(600), payloads=[{"deep": {"v": value}} for value in values])
    kept = [[v for v in (value if isinstance(value, list) else [value]) if isinstance(v, (str, int))] for value in values]
    query = rows[0] + 0.1
    scores = similarities(rows, query, metric)
    for groups, size in ((1, 1), (5, 3), (200, 2)):
        expected = expected_groups(scores, kept, groups, size)
        found = points.search_groups(query, "deep.v", groups=groups, group_size=size, exact=True)
        assert [(key, ids) for key, ids in expected] == [(group.key, group.hits.ids) for group in found]
        assert [type(key) for key, _ in expected] == [type(group.key) for group in found]
    later = points.search_groups(query, "deep.v", groups=3, group_size=1, exact=True, offset=2)
    assert [key for key, _ in expected_groups(scores, kept, 5, 1)[2:]] == [group.key for group in later]


def test_groups_take_the_options_of_search() -> None:
    points, rows, payloads = filled("cosine")
    groups = points.search_groups(
        rows[4], "shop", groups=2, filter=F("n") < 100, with_payload=["n"], with_vectors=True, score_threshold=0.2, exact=True
    )
    scores = similarities(rows, rows[4], "cosine")
    assert groups[0].key == payloads[4]["shop"]
    assert groups[0].hits[0].id == 4
    for group in groups:
        for hit in group.hits:
            assert hit.payload == {"n": hit.id}
            assert hit.id < 100
            assert hit.score == pytest.approx(scores[hit.id], abs=1e-5)
            assert hit.score >= 0.2
            assert payloads[hit.id]["shop"] == group.key
            assert np.array_equal(rows[hit.id], hit.vector)
    assert points.search_groups(rows[4], "nothing") == []
    for wrong in ({"groups": 0}, {"group_size": 0}, {"group_by": ""}, {"filter": [None]}, {"query": rows[:2]}):
        with pytest.raises(vecdb.InvalidArgument):
            points.search_groups(**{"query": rows[0], "group_by": "shop", **wrong})


def test_groups_are_of_one_state_while_another_thread_replaces_every_value():
    points, rows, _ = filled("cosine", 120)
    points.set_payload({"version": 0}, filter={})
    stop = threading.Event()

    def write() -> None:
        version = 0
        while not stop.is_set():
            version += 1
            points.set_payload({"version": version}, filter={})

    writer = threading.Thread(target=write)
    writer.start()
    try:
        found = [points.search_groups(rows[0], "version", groups=3, group_size=2) for _ in range(150)]
    finally:
        stop.set()
        writer.join()
    assert [1] * 150 == [len(groups) for groups in found]
    assert all(len(groups[0].hits) == 2 for groups in found)
    assert len({groups[0].key for groups in found}) > 1


def test_a_list_of_filters_has_one_for_each_query() -> None:
    points, rows, _ = filled("l2")
    filters = [F("n") < 50, None, F("n") < 50, {"key": "shop", "match": {"value": "shop 3"}}]
    found = points.search(rows[:4], k=5, filter=filters, exact=True)
    ids, scores = points.knn(rows[:4], k=5, filter=filters, exact=True)
    for place, one in enumerate(filters):
        alone = points.search(rows[place], k=5, filter=one, exact=True)
        assert alone == found[place]
        assert alone.ids == ids[place].tolist()
        assert np.allclose(alone.scores, scores[place])


@pytest.mark.parametrize("metric", METRICS)
def test_offset_and_threshold_cut_the_ranking(metric: str) -> None:
    points, rows, _ = filled(metric)
    whole = points.search(rows[0], k=100, exact=True)
    assert whole.ids[7:17] == points.search(rows[0], k=10, offset=7, exact=True).ids
    cut = whole[49].score
    assert whole.ids[:50] == points.search(rows[0], k=100, score_threshold=cut, exact=True).ids
    assert whole.ids[40:50] == points.search(rows[0], k=60, offset=40, score_threshold=cut, exact=True).ids
    assert points.search(rows[0], k=10, offset=1000) == []


def test_a_table_of_hits_keeps_every_payload_key() -> None:
    pandas = pytest.importorskip("pandas")
    points = Collection(2)
    points.upsert([1, 2], [[1, 0], [0, 1]], [{"id": "other", "n": 1}, {"m": [2]}])
    table = points.search([1, 0], with_vectors=True).to_pandas()
    assert isinstance(table, pandas.DataFrame)
    assert list(table.columns) == ["id", "score", "vector", "payload.id", "n", "m"]
    assert table["payload.id"].tolist() == ["other", None]
    assert list(points.search([1, 0], filter=F("n") > 5).to_pandas().columns) == ["id", "score"]


def test_importing_vecdb_imports_no_optional_package() -> None:
    code = "import sys, vecdb; print(sorted({'pandas', 'pyarrow', 'polars', 'tqdm', 'multiprocessing'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
