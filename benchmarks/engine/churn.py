"""
Rounds of deleting and inserting: how much recall is left against a graph built from the same points at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import report, truth
from .data import BLOCK
from .driver import Asked
from .regions import centres
from .report import Table
from .session import Session

ROUNDS = 10
SHARE = 0.2
K = 10
_SELF_SAMPLE = 5000

Members = NDArray[np.int64]


class Round(NamedTuple):
    """
    Rows of the set that go and rows that come.
    """

    leave: Members
    come: Members


def at_random(points: int, *, rounds: int, seed: int) -> tuple[Members, Iterator[Round]]:
    """
    Return the rows to begin with and rounds that replace a fifth of them, picked at random, by rows that were not there.
    """
    chance = np.random.default_rng(seed)
    order = chance.permutation(points)
    changed = round(points * SHARE / (1 + SHARE))
    live, pool = order[changed:], order[:changed]

    def changes() -> Iterator[Round]:
        nonlocal live, pool
        for _ in range(rounds):
            gone = chance.choice(len(live), changed, replace=False)
            leave = live[gone]
            live = np.concatenate([np.delete(live, gone), pool])
            yield Round(leave, pool)
            pool = leave

    return live.copy(), changes()


def by_cluster(cluster: Members, *, rounds: int) -> tuple[Members, Iterator[Round]]:
    """
    Return the rows to begin with, all clusters but the first, and rounds that delete one cluster and insert the one deleted before.
    """
    count = int(cluster.max()) + 1
    changes = (
        Round(np.flatnonzero(cluster == (number + 1) % count), np.flatnonzero(cluster == number % count)) for number in range(rounds)
    )
    return np.flatnonzero(cluster != 0), changes


def clusters(session: Session, count: int) -> Members:
    """
    Return the cell of each row.
    """
    middles = centres(session.data.rows, count, seed=11)
    rows = session.data.rows
    return np.concatenate([np.argmax(rows[start : start + BLOCK] @ middles.T, axis=1) for start in range(0, len(rows), BLOCK)])


def measure(session: Session, *, rounds: int = ROUNDS) -> Table:
    """
    Return recall, speed and lost points after the rounds, beside a fresh build.
    """
    columns = ["change", "rounds", "points", "engine", "recall", "p5", "q/s", "recall, ef 100", "unreachable", "not found by itself"]
    table = Table(f"{session.data.name}: after deleting and inserting", columns)
    schedules = {
        "a fifth, at random": at_random(len(session.data.rows), rounds=rounds, seed=5),
        "one cluster for another": by_cluster(clusters(session, rounds + 1), rounds=rounds),
    }
    for name, (begin, changes) in schedules.items():
        row_of = begin
        live = _Live(len(session.data.rows), begin)
        session.core.create(threads=0)
        session.core.driver.call("add", rows=session.write("begin", session.data.rows[begin]))
        session.core.driver.call("wait")
        for leave, come in changes:
            dead = session.write("tombstones", live.offset[leave])
            added = session.write("come", session.data.rows[come])
            session.core.driver.call("add", rows=added, tombstones=dead)
            session.core.driver.call("wait")
            row_of = np.concatenate([row_of, come])
            live.change(leave, come, first=len(row_of) - len(come))
        remaining = np.flatnonzero(live.is_live)
        table.add(name, rounds, len(remaining), "after the rounds", *_quality(session, live.is_live, row_of))
        session.core.create(threads=0)
        session.core.driver.call("add", rows=session.write("begin", session.data.rows[remaining]))
        session.core.driver.call("wait")
        table.add(name, rounds, len(remaining), "built at once", *_quality(session, live.is_live, remaining))
    table.notes = [
        f"not found by itself: of {_SELF_SAMPLE:,} live points, those that a search for their own vector misses at default settings",
        "unreachable: live points to which no path in the graph leads",
    ]
    session.core.ready()
    return table


class _Live:
    """
    Which rows are there, and at which offset.
    """

    def __init__(self, points: int, begin: Members) -> None:
        self.is_live = np.zeros(points, dtype=bool)
        self.offset = np.zeros(points, dtype=np.uint32)
        self.change(np.empty(0, dtype=np.int64), begin, first=0)

    def change(self, leave: Members, come: Members, *, first: int) -> None:
        self.is_live[leave] = False
        self.is_live[come] = True
        self.offset[come] = np.arange(first, first + len(come), dtype=np.uint32)


def _quality(session: Session, is_live: NDArray[np.bool_], row_of: Members) -> list[report.Value]:
    data = session.data
    none = np.zeros(len(data.queries), dtype=np.uint32)
    asked = session.asked(session.unfiltered(K))
    known = truth.exact(data.rows, data.queries, K, none, lambda _: is_live)

    def scored(found: NDArray[np.uint32]) -> truth.Score:
        return truth.score(data.rows, data.queries, _rows(found, row_of), known, none, lambda _: is_live)

    default = session.core.run(asked, K)
    score = scored(default.found)
    fixed = scored(session.core.run(asked._replace(passes=1), K, ef=100).found)
    return [
        report.recall(score.mean),
        report.recall(score.p5),
        default.qps,
        report.recall(fixed.mean),
        int(session.core.stats()["unreachable"]),
        _lost(session, asked, is_live, row_of),
    ]


def _lost(session: Session, asked: Asked, is_live: NDArray[np.bool_], row_of: Members) -> int:
    """
    Return how many of a sample of live points do not find a point as near to them as they are themselves.
    """
    live = np.flatnonzero(is_live)
    sample = np.random.default_rng(3).choice(live, min(_SELF_SAMPLE, len(live)), replace=False)
    own = session.data.rows[sample]
    files = {"queries": str(session.write("own", own))}
    found = session.core.run(asked._replace(files=files, queries=len(own), passes=1), 1).found
    nearest = session.data.rows[_rows(found, row_of)[:, 0]]
    return int((np.einsum("nd,nd->n", nearest.astype(np.float64), own.astype(np.float64)) < 1 - 1e-5).sum())


def _rows(found: NDArray[np.uint32], row_of: Members) -> NDArray[np.uint32]:
    """
    Return the rows of the set for offsets of the core.
    """
    rows = np.full(found.shape, truth.NO_HIT, dtype=np.uint32)
    is_hit = found != truth.NO_HIT
    rows[is_hit] = row_of[found[is_hit]]
    return rows
