"""
Which filters are measured: the grid of selectivity, kind and correlation, and the shorter list that slow engines get.
"""

from __future__ import annotations

from itertools import product
from typing import NamedTuple

SHARES = (0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.001, 0.0001)
KINDS = ("tag", "and2", "and3", "or", "not", "range", "geo", "bitmap")
CORRELATIONS = ("none", "own", "far")
KS = (10, 100)
# A tag on nearly every point: below this share of the others, NOT is the same cell again.
_LEAST_NOT = 0.01
MOST_LISTED = 60


class Spec(NamedTuple):
    """
    One cell: `share` of the points match, `kind` says by which expression, `correlation` whether they lie where the query does.
    """

    share: float
    kind: str
    correlation: str
    k: int

    @property
    def name(self) -> str:
        """
        A short name, such as "and2 10% far k10"; `parsed` reads it.
        """
        return f"{self.kind} {self.share:.4%}".rstrip("%").rstrip("0").rstrip(".") + f"% {self.correlation} k{self.k}"


def parsed(name: str) -> Spec:
    """
    Return the cell of a name; raise ValueError for what is none.
    """
    words = name.split()
    if len(words) != 4 or words[0] not in ("all", *KINDS) or words[2] not in CORRELATIONS or words[1][-1:] != "%" or words[3][:1] != "k":
        raise ValueError(f"no cell {name!r}: expected a name such as 'tag 10% none k10' or 'and2 0.5% far k100'")
    return Spec(float(words[1][:-1]) / 100, words[0], words[2], int(words[3][1:]))


def feasible(spec: Spec, points: int) -> bool:
    """
    Return whether so many points have such a filter: at least one match, and a meaning of its own.
    """
    if spec.kind == "all":
        return spec.share == 1.0 and spec.correlation == "none"
    return spec.share < 1 and round(spec.share * points) >= 1 and (spec.kind != "not" or spec.share >= _LEAST_NOT)


def full(points: int, ks: tuple[int, ...] = KS) -> list[Spec]:
    """
    Return every feasible combination.
    """
    grid = [Spec(1.0, "all", "none", k) for k in ks]
    grid += [Spec(share, kind, correlation, k) for k, kind, correlation, share in product(ks, KINDS, CORRELATIONS, SHARES)]
    return [spec for spec in grid if feasible(spec, points)]


_LISTED: tuple[tuple[int, str, str, tuple[float, ...]], ...] = (
    (10, "all", "none", (1.0,)),
    (100, "all", "none", (1.0,)),
    (10, "tag", "none", SHARES),
    (10, "tag", "own", (0.1, 0.03, 0.01)),
    (10, "tag", "far", (0.2, 0.1, 0.03, 0.005)),
    (10, "and2", "none", (0.2, 0.1, 0.04, 0.01, 0.001)),
    (10, "and2", "own", (0.1,)),
    (10, "or", "none", (0.1,)),
    (10, "not", "none", (0.2,)),
    (10, "range", "none", (0.1, 0.01)),
    (10, "geo", "none", (0.1, 0.01)),
    (10, "bitmap", "none", (0.1,)),
    (100, "tag", "none", (0.1,)),
)


def listed(points: int, ks: tuple[int, ...] = KS) -> list[Spec]:
    """
    Return the feasible cells of the list: at most MOST_LISTED.
    """
    cells = [Spec(share, kind, correlation, k) for k, kind, correlation, shares in _LISTED for share in shares]
    assert len(cells) <= MOST_LISTED, f"{len(cells)} cells are listed, at most {MOST_LISTED} may be"
    return [spec for spec in cells if spec.k in ks and feasible(spec, points)]
