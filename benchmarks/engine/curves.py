"""
Recall against queries per second, and where two engines meet at equal recall.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple


class Sample(NamedTuple):
    """
    One setting of one engine: its beam width (0: the default), mean recall and queries per second.
    """

    ef: int
    recall: float
    qps: float


def envelope(samples: Iterable[Sample]) -> list[Sample]:
    """
    Return the samples that no other one beats in both recall and speed, by ascending recall.
    """
    best: list[Sample] = []
    for sample in sorted(samples, key=lambda one: (-one.recall, -one.qps)):
        if not best or sample.qps > best[-1].qps:
            best.append(sample)
    return best[::-1]


def qps_at(samples: Iterable[Sample], recall: float) -> float | None:
    """
    Return the queries per second at a recall, or None when no sample reaches it.

    Between two samples the logarithm of the speed is linear in the logarithm of the misses (1 - recall), as curves of graphs nearly are;
    where a sample has no misses at all, in the recall itself. Below the least recall the speed is that of the first sample: an engine that
    finds more than asked for is not made faster by extrapolation.
    """
    curve = envelope(samples)
    if not curve or curve[-1].recall < recall:
        return None
    if recall <= curve[0].recall:
        return curve[0].qps
    for low, high in pairwise(curve):
        if low.recall <= recall <= high.recall:
            position = _position(low.recall, high.recall, recall)
            return math.exp(math.log(low.qps) * (1 - position) + math.log(high.qps) * position)
    raise AssertionError(f"no step of {curve} holds {recall}")


def _position(low: float, high: float, value: float) -> float:
    if high == low:
        return 1.0
    if high < 1:
        low, high, value = math.log(1 - low), math.log(1 - high), math.log(1 - value)
    return (value - low) / (high - low)


def ratio(ours: float, theirs: float | None) -> float | None:
    """
    Return how many times as fast we are, None when they have no figure.
    """
    return None if theirs is None else ours / theirs


def ladder(least: int, most: int) -> Sequence[int]:
    """
    Return beam widths from least to most, each about 1.4 times the one before.

    >>> list(ladder(10, 40))
    [10, 14, 20, 28, 40]
    """
    steps = max(1, round(math.log(max(most, least + 1) / least) / math.log(math.sqrt(2))))
    return sorted({round(least * (most / least) ** (step / steps)) for step in range(steps + 1)})
