"""
Exact answers, and how much of them a search found: the one routine that every engine's hits go through.

A hit counts by its similarity, not by its identity: whatever ties with the k-th best is right. Hits outside of the filter are counted as
wrong, never as found.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .data import Rows

NO_HIT = 0xFFFFFFFF
TIE = 1e-6
_BLOCK = 100

MaskOf = Callable[[int], NDArray[np.bool_]]


class Truth(NamedTuple):
    """
    Of each query the similarity of its k-th best match (of its last one, when there are fewer) and how many hits it must get.
    """

    threshold: NDArray[np.float64]
    wanted: NDArray[np.int64]


class Score(NamedTuple):
    """
    What hits are worth: recall by query, the share of queries with too few hits, and how many hits were outside of the filter or doubled.
    """

    recall: NDArray[np.float64]
    short: float
    wrong: int

    @property
    def mean(self) -> float:
        """
        The mean recall.
        """
        return float(self.recall.mean())

    @property
    def p5(self) -> float:
        """
        The 5th percentile of the recall.
        """
        return float(np.quantile(self.recall, 0.05))


def similarities(rows: Rows, query: Rows, ids: NDArray[np.integer]) -> NDArray[np.float64]:
    """
    Return the inner products of some rows with a query, in double precision.
    """
    return np.asarray(rows[ids].astype(np.float64) @ query.astype(np.float64))


def exact(rows: Rows, queries: Rows, k: int, filter_of_query: NDArray[np.uint32], mask_of: MaskOf | None) -> Truth:
    """
    Return what a perfect search finds; queries that share a filter share its rows. mask_of(f) is filter f over the rows, None: everything.
    """
    threshold = np.full(len(queries), np.inf)
    wanted = np.zeros(len(queries), dtype=np.int64)
    for number in np.unique(filter_of_query) if mask_of is not None else [None]:
        asked = np.arange(len(queries)) if number is None else np.flatnonzero(filter_of_query == number)
        members = None if number is None or mask_of is None else np.flatnonzero(mask_of(int(number)))
        some = rows if members is None else rows[members]
        kept = min(k, len(some))
        wanted[asked] = kept
        if kept == 0:
            continue
        # A few more than k in single precision, so that rounding cannot lose the k-th in double.
        wide = min(len(some), kept + 10)
        for start in range(0, len(asked), _BLOCK):
            part = asked[start : start + _BLOCK]
            products = queries[part] @ some.T
            best = np.argpartition(products, len(some) - wide, axis=1)[:, len(some) - wide :]
            for query, near in zip(part, best, strict=True):
                threshold[query] = np.sort(similarities(some, queries[query], near))[-kept]
    return Truth(threshold, wanted)


def score(
    rows: Rows, queries: Rows, found: NDArray[np.uint32], truth: Truth, filter_of_query: NDArray[np.uint32], mask_of: MaskOf | None
) -> Score:
    """
    Return what hits (n, k) of the first n queries are worth; NO_HIT fills short rows.
    """
    recall = np.ones(len(found))
    short, wrong = 0, 0
    masks: dict[int, NDArray[np.bool_]] = {}
    for query, hits in enumerate(found):
        ids = hits[hits != NO_HIT]
        once = np.unique(ids)
        if mask_of is not None:
            number = int(filter_of_query[query])
            if number not in masks:
                masks[number] = mask_of(number)
            once = once[masks[number][once]]
        wrong += len(ids) - len(once)
        short += len(once) < truth.wanted[query]
        if truth.wanted[query]:
            good = similarities(rows, queries[query], once) >= truth.threshold[query] - TIE
            recall[query] = min(int(good.sum()), truth.wanted[query]) / truth.wanted[query]
    return Score(recall, short / max(1, len(found)), wrong)
