"""
Where points lie: cells around k-means centres, and one or two directions along which a set is widest.

From these come filters that agree with the query, or are opposed to it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .data import BLOCK, Dataset, Rows, unit

CENTRES = 256
_SAMPLE = 20_000
_ROUNDS = 8
_FAR_SHARE = 0.25


def centres(rows: Rows, count: int, *, seed: int) -> Rows:
    """
    Return the centres of spherical k-means over a sample of the rows.
    """
    chance = np.random.default_rng(seed)
    sample = rows[chance.choice(len(rows), min(_SAMPLE, len(rows)), replace=False)]
    count = min(count, len(sample))
    made: Rows = sample[chance.choice(len(sample), count, replace=False)].copy()
    for _ in range(_ROUNDS):
        nearest = np.argmax(sample @ made.T, axis=1)
        sums = np.zeros_like(made)
        np.add.at(sums, nearest, sample)
        filled = np.linalg.norm(sums, axis=1) > 0
        made[filled] = unit(sums[filled])
    return made


class Regions:
    """
    The geometry of one set, made once.
    """

    def __init__(self, data: Dataset, *, seed: int) -> None:
        self._data = data
        self.centres = centres(data.rows, CENTRES, seed=seed)
        chance = np.random.default_rng(seed)
        sample = data.rows[chance.choice(len(data.rows), min(_SAMPLE, len(data.rows)), replace=False)].astype(np.float64)
        self._middle = sample.mean(axis=0)
        _, axes = np.linalg.eigh(np.cov(sample - self._middle, rowvar=False))
        self._axes = axes[:, ::-1][:, :2]

    def ball(self, centre: int, count: int) -> NDArray[np.int64]:
        """
        Return the count rows nearest to a centre, ascending.
        """
        products = np.concatenate([block @ self.centres[centre] for block in _blocks(self._data.rows)])
        return np.sort(np.argpartition(products, len(products) - count)[len(products) - count :])

    def places(self, vectors: Rows) -> NDArray[np.float64]:
        """
        Return where vectors lie along the two directions of greatest variance, (n, 2).
        """
        return np.concatenate([(block.astype(np.float64) - self._middle) @ self._axes for block in _blocks(vectors)])


def _blocks(rows: Rows) -> list[Rows]:
    return [rows[start : start + BLOCK] for start in range(0, len(rows), BLOCK)]


def assign(distances: NDArray[np.floating], correlation: str, chance: np.random.Generator) -> NDArray[np.uint32]:
    """
    Return which filter each query gets, from its distances (queries, filters) to where the filters lie.

    own: the nearest one; far: one of the farthest quarter; none: one after the other, without regard to distances.
    """
    queries, filters = distances.shape
    if correlation == "own":
        return np.asarray(np.argmin(distances, axis=1), dtype=np.uint32)
    if correlation == "far":
        order = np.argsort(distances, axis=1)
        farthest = max(1, round(_FAR_SHARE * filters))
        return np.asarray(order[np.arange(queries), filters - 1 - chance.integers(0, farthest, queries)], dtype=np.uint32)
    return np.asarray(np.arange(queries) % filters, dtype=np.uint32)
