"""
Recall and speed of filtered search on real vectors, default settings, against brute force.

    python benchmarks/filtered_recall.py VECTORS.npy [--points 100000] [--queries 500]

VECTORS.npy: (n, dim) floats; the last `--queries` rows are queries, the first `--points` are points. Each point gets four tags at random,
with selectivities 50, 10, 1 and 0.1 %. Prints one line a selectivity: recall@10 (mean, 5th percentile), short results, queries per second
one by one.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import vecdb
from vecdb import F

SHARES = (1.0, 0.5, 0.1, 0.01, 0.001)
K = 10


def truth(rows: NDArray[np.float32], queries: NDArray[np.float32], members: NDArray[np.int64]) -> list[set[int]]:
    """
    Return the ids of the K nearest members by cosine for each query.
    """
    unit = rows[members] / np.linalg.norm(rows[members], axis=1, keepdims=True)
    wanted = min(K, len(members))
    found: list[set[int]] = []
    for start in range(0, len(queries), 100):
        scores = queries[start : start + 100] @ unit.T
        found += [set(members[np.argpartition(-row, wanted - 1)[:wanted]].tolist()) for row in scores]
    return found


def name_of(share: float) -> str:
    """
    Return the payload key of a selectivity; a dot would be a path.
    """
    return f"share_of_{round(share * 1000)}_permille"


def main() -> None:
    """
    Build, measure, print.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("vectors", type=Path)
    parser.add_argument("--points", type=int, default=100_000)
    parser.add_argument("--queries", type=int, default=500)
    parser.add_argument("--path", default=":memory:", help="where to put the database")
    options = parser.parse_args()
    everything = np.load(options.vectors).astype(np.float32)
    rows, queries = everything[: options.points], everything[-options.queries :]
    chance = np.random.default_rng(1)
    tagged = {share: chance.random(len(rows)) < share for share in SHARES}
    payloads = [{name_of(share): True for share in SHARES if tagged[share][row]} for row in range(len(rows))]

    db = vecdb.open(options.path)
    points = db.create_collection("bench", dim=rows.shape[1])
    began = time.perf_counter()
    for start in range(0, len(rows), 1000):
        stop = min(start + 1000, len(rows))
        points.upsert(range(start, stop), rows[start:stop], payloads[start:stop])
    ingested = time.perf_counter() - began
    points.wait_indexed()
    indexed = time.perf_counter() - began
    print(
        f"{len(rows):,} x {rows.shape[1]}: {len(rows) / ingested:,.0f} points/s ingested, {len(rows) / indexed:,.0f} points/s until indexed"
    )
    print(f"{'selectivity':>12} {'plan':>6} {'ef':>5} {'recall@10':>10} {'p5':>6} {'short':>6} {'queries/s':>10}")
    for share in SHARES:
        filter = None if share == 1.0 else (F(name_of(share)) == True)  # noqa: E712
        members = np.flatnonzero(tagged[share])
        expected = truth(rows, queries, members)
        plan = points.explain(filter)
        points.knn(queries[:1], K, filter=filter)
        began = time.perf_counter()
        found = [points.knn(query[None, :], K, filter=filter)[0][0] for query in queries]
        elapsed = time.perf_counter() - began
        recalls = [len(best & set(ids.tolist())) / len(best) for best, ids in zip(expected, found, strict=True)]
        short = sum(int((ids >= 0).sum()) < min(K, len(members)) for ids in found)
        print(
            f"{share:>12.1%} {plan.strategy:>6} {plan.ef:>5} {np.mean(recalls):>10.4f} {np.quantile(recalls, 0.05):>6.2f} {short:>6}"
            f" {len(queries) / elapsed:>10,.0f}"
        )
    db.close()


if __name__ == "__main__":
    main()
