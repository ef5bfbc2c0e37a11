"""
Searching a collection: hits equal brute force, filters included, at every selectivity.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import vecdb
from vecdb import Collection, F

Make = Callable[..., NDArray[np.float32]]


def scores_of(metric: str, rows: NDArray[np.float32], query: NDArray[np.float32]) -> NDArray[np.float64]:
    """
    Return the score of every row, in double precision: the reference.
    """
    wide, one = rows.astype(np.float64), query.astype(np.float64)
    if metric == "l2":
        return np.sqrt(((wide - one) ** 2).sum(axis=1))
    dots = wide @ one
    return dots if metric == "dot" else dots / (np.linalg.norm(wide, axis=1) * np.linalg.norm(one))


def best(metric: str, scores: NDArray[np.float64], allowed: NDArray[np.bool_], k: int) -> list[int]:
    """
    Return the ids of the k best allowed rows, ties by ascending id.
    """
    keys = scores if metric == "l2" else -scores
    return [int(row) for row in np.lexsort((np.arange(len(keys)), keys)) if allowed[row]][:k]


@pytest.mark.parametrize("metric", ["cosine", "dot", "l2"])
def test_exact_search_equals_brute_force(metric: Any, clustered: Make) -> None:
    rows = clustered(600, 17, seed=1)
    points = Collection(dim=17, metric=metric)
    points.upsert(range(600), rows)
    for query in clustered(20, 17, seed=2):
        scores = scores_of(metric, rows, query)
        hits = points.search(query, k=10, exact=True)
        assert best(metric, scores, np.ones(600, dtype=bool), 10) == hits.ids
        assert np.allclose(scores[hits.ids], hits.scores, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("metric", ["cosine", "dot", "l2"])
@pytest.mark.parametrize("exact", [False, True])
def test_every_search_gives_min_of_k_and_matching_hits(metric: Any, exact: bool, clustered: Make) -> None:
    count = 3000
    rows = clustered(count, 16, seed=3)
    points = Collection(dim=16, metric=metric)
    payloads = [{"n": n, "mod": n % 100, "half": n % 2 == 0} for n in range(count)]
    points.upsert(range(count), rows, payloads)
    points.delete(filter=F("mod") == 7)
    points.wait_indexed()
    queries = clustered(5, 16, seed=4)
    for filter, keep in (
        (None, lambda p: True),
        (F("half") == True, lambda p: p["half"]),  # noqa: E712
        (F("mod") == 3, lambda p: p["mod"] == 3),
        ((F("mod") == 3) & (F("n") < 500), lambda p: p["mod"] == 3 and p["n"] < 500),
        (F("n") >= count - 4, lambda p: p["n"] >= count - 4),
        (F("n") == -1, lambda p: False),
        (~(F("mod") == 3), lambda p: p["mod"] != 3),
        (F("mod").any_of(1, 2) | (F("n") == 5), lambda p: p["mod"] in (1, 2) or p["n"] == 5),
    ):
        allowed = np.array([keep(p) and p["mod"] != 7 for p in payloads])
        for k in (1, 10, 200):
            for query, hits in zip(queries, points.search(queries, k=k, filter=filter, exact=exact), strict=True):
                assert min(k, int(allowed.sum())) == len(hits)
                assert len(set(hits.ids)) == len(hits)
                assert all(allowed[one] for one in hits.ids)
                if exact:
                    assert best(metric, scores_of(metric, rows, query), allowed, k) == hits.ids


def test_recall_at_default_settings_under_filters(clustered: Make) -> None:
    count, dim = 20_000, 24
    everything = clustered(count + 100, dim, seed=5, clusters=200)
    rows, queries = everything[:count], everything[count:]
    random = np.random.default_rng(6)
    points = Collection(dim=dim)
    tags = random.random(count)
    points.upsert(range(count), rows, [{"tag": float(tag)} for tag in tags])
    assert points.wait_indexed(120)
    assert points.info().tail < count
    for share in (1.0, 0.5, 0.1, 0.01, 0.001):
        allowed = tags < share
        filter = F("tag") < share
        found, scores = points.knn(queries, 10, filter=filter)
        recalls = []
        for query, row in zip(queries, found, strict=True):
            truth = best("cosine", scores_of("cosine", rows, query), allowed, 10)
            recalls.append(len(set(truth) & set(row.tolist())) / len(truth))
        assert not np.isnan(scores[:, : min(10, int(allowed.sum()))]).any()
        assert np.mean(recalls) >= 0.95, f"selectivity {share}"


def test_a_filter_that_is_used_often_gets_links(clustered: Make) -> None:
    count, dim = 4000, 400
    rows = clustered(count, dim, seed=8)
    points = Collection(dim=dim, m=6, ef_construction=24, metric="l2")
    points.upsert(range(count), rows, [{"kind": n % 3, "n": n} for n in range(count)])
    assert points.wait_indexed(120)
    filter = (F("kind") == 1) & (F("n") >= 2)
    assert points.explain(filter, k=10, ef=24).strategy != "tag"
    assert points.info().bytes["links"] == 0
    for row in rows[:8]:  # one by one: together they would share a scan, which no links beat by much
        points.search(row, k=10, filter=filter, ef=24)
    assert points.wait_indexed(120)
    assert points.explain(filter, k=10, ef=24).strategy == "tag"
    assert 0 < points.info().bytes["links"] < 256 * count
    # What is written now is found now.
    points.upsert(range(count, count + 20), rows[:20], [{"kind": 1, "n": n} for n in range(count, count + 20)])
    points.set_payload({"kind": 1}, ids=range(0, 60, 3))
    points.delete(range(1, 60, 3))
    expected = {*range(61, count, 3), *range(3, 60, 3), *range(count, count + 20)}
    for row in range(20):
        hits = points.search(rows[row], k=10, filter=filter, ef=24)
        assert len(hits) == 10
        assert set(hits.ids) <= expected
        assert count + row in hits.ids[:2]
    assert points.count(filter) == len(expected)


def test_equal_scores_come_by_ascending_id_and_decide_the_cut() -> None:
    points = Collection(dim=2, metric="l2")
    ids: list[Any] = ["b", 7, "a", 3, "é", 12]
    points.upsert(ids, [[1.0, 0.0]] * len(ids))
    assert points.search([0.0, 0.0], k=4, exact=True).ids == [3, 7, 12, "a"]
    assert points.search([0.0, 0.0], k=6).ids == [3, 7, 12, "a", "b", "é"]


def test_the_score_is_the_same_whatever_found_it(clustered: Make) -> None:
    rows = clustered(5000, 20, seed=7)
    points = Collection(dim=20)
    points.upsert(range(5000), rows)
    points.wait_indexed()
    for query in rows[:20]:
        walked = {hit.id: hit.score for hit in points.search(query, k=10)}
        scanned = {hit.id: hit.score for hit in points.search(query, k=10, exact=True)}
        assert {one: scanned[one] for one in walked.keys() & scanned.keys()} == {one: walked[one] for one in walked.keys() & scanned.keys()}


def test_offset_skips_after_ranking_and_the_threshold_cuts(clustered: Make) -> None:
    rows = clustered(300, 8, seed=8)
    for metric in ("cosine", "l2"):
        points = Collection(dim=8, metric=metric)  # type: ignore[arg-type]
        points.upsert(range(300), rows)
        whole = points.search(rows[0], k=30, exact=True)
        assert points.search(rows[0], k=10, offset=5, exact=True).ids == whole.ids[5:15]
        limit = whole[9].score
        kept = points.search(rows[0], k=30, score_threshold=limit, exact=True)
        assert kept.ids == whole.ids[:10]


def test_payload_and_vectors_are_given_as_asked(points: Collection) -> None:
    points.upsert("a", [1, 0, 0, 0], {"x": 1, "y": 2})
    assert points.search([1, 0, 0, 0])[0].payload == {"x": 1, "y": 2}
    assert points.search([1, 0, 0, 0], with_payload=False)[0].payload is None
    assert points.search([1, 0, 0, 0], with_payload=["y", "absent"])[0].payload == {"y": 2}
    assert points.search([1, 0, 0, 0], with_payload={"include": ["y", "absent"]})[0].payload == {"y": 2}
    assert points.search([1, 0, 0, 0], with_payload={"exclude": ["y", "absent"]})[0].payload == {"x": 1}
    for strategy in ("average_vector", "best_score"):
        assert points.recommend([[1, 0, 0, 0]], strategy=strategy, with_payload={"exclude": ["y"]})[0].payload == {"x": 1}
        assert points.recommend([[1, 0, 0, 0]], strategy=strategy, with_payload=False)[0].payload is None
    assert points.search([1, 0, 0, 0], with_payload=[])[0].payload == {}
    assert points.search([1, 0, 0, 0])[0].vector is None
    assert points.search([1, 0, 0, 0], with_vectors=True)[0].vector.tolist() == [1, 0, 0, 0]


def test_knn_pads_short_rows(points: Collection) -> None:
    points.upsert([1, 2], [[1, 0, 0, 0], [0, 1, 0, 0]])
    ids, scores = points.knn([[1, 0, 0, 0], [0, 1, 0, 0]], k=3)
    assert ids.dtype == np.int64
    assert ids.tolist() == [[1, 2, -1], [2, 1, -1]]
    assert np.isnan(scores[:, 2]).all()
    points.upsert("s", [0, 0, 1, 0])
    ids, _ = points.knn([[1, 0, 0, 0]], k=4)
    assert ids.dtype == object
    assert ids[0, 0] == 1
    assert ids[0, 3] is None


def test_a_list_of_filters_is_one_a_query(points: Collection) -> None:
    points.upsert([1, 2], [[1, 0, 0, 0], [0, 1, 0, 0]], [{"n": 1}, {"n": 2}])
    query = [[1, 0, 0, 0]] * 3
    assert [hits.ids for hits in points.search(query, filter=[F("n") == 2, None, F("n") == 9])] == [[2], [1, 2], []]
    with pytest.raises(vecdb.InvalidArgument, match="2 filters"):
        points.search(query, filter=[None, None])


def test_no_queries_give_no_answers(points: Collection) -> None:
    points.upsert([1], [[1, 0, 0, 0]])
    assert points.search(np.empty((0, 4))) == []
    ids, scores = points.knn(np.empty((0, 4)), k=3)
    assert ids.shape == scores.shape == (0, 3)


def test_a_huge_k_costs_no_more_than_the_points(points: Collection) -> None:
    points.upsert([1, 2], [[1, 0, 0, 0], [0, 1, 0, 0]])
    assert points.search([1, 0, 0, 0], k=2**31 - 1).ids == [1, 2]


def test_has_id_scores_just_these_points(points: Collection) -> None:
    points.upsert([1, 2, "x"], [[1, 0, 0, 0], [0, 1, 0, 0], [1, 1, 0, 0]])
    assert points.search([1, 0, 0, 0], k=5, filter=F.has_id([2, "x", 99]), exact=True).ids == ["x", 2]
    assert points.search([1, 0, 0, 0], k=5, filter={"must_not": [{"has_id": [1]}]}).ids == ["x", 2]


def test_an_index_follows_every_kind_of_write(points: Collection) -> None:
    points.upsert([1, 2, 3], np.eye(4)[:3], [{"c": "red", "n": 1}, {"c": "red", "n": 2}, {"c": ["red", "blue"], "n": [1, 30]}])
    red, blue, small = F("c") == "red", F("c") == "blue", F("n") < 2
    assert [points.count(one) for one in (red, blue, small)] == [3, 1, 2]
    points.set_payload({"c": "blue", "n": 0}, ids=1)
    assert [points.count(one) for one in (red, blue, small)] == [2, 2, 2]
    points.update(2, payloads={"n": -5})
    assert [points.count(one) for one in (red, blue, small)] == [2, 2, 3]
    points.delete_payload("c", ids=[2, 3])
    assert [points.count(one) for one in (red, blue, small)] == [0, 1, 3]
    points.upsert([1, 9], np.eye(4)[:2], [{"c": "green"}, {"c": "blue"}])
    assert [points.count(one) for one in (red, blue, small)] == [0, 1, 2]
    points.delete(3)
    assert [points.count(one) for one in (red, blue, small)] == [0, 1, 1]
    assert points.search([1, 0, 0, 0], filter=blue).ids == [9]


def test_integers_compare_exactly_in_ranges(points: Collection) -> None:
    large = 2**53
    points.upsert([1, 2, 3], np.eye(4)[:3], [{"n": large}, {"n": large + 1}, {"n": float(large)}])
    assert points.count(F("n") > large) == 1
    assert points.count(F("n") >= large + 1) == 1
    assert points.count(F("n") <= large) == 2


def test_explain_shows_the_plan_and_its_figures(clustered: Make) -> None:
    points = Collection(dim=8)
    points.upsert(range(100), clustered(100, 8, seed=9), [{"n": n} for n in range(100)])
    plan = points.explain(F("n") < 25)
    assert (plan.strategy, plan.cardinality, plan.selectivity) == ("exact", 25, 0.25)
    assert plan.cost_exact_ns > 0
