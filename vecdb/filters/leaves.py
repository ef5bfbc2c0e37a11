"""
What each condition becomes over the indexes of its key, and which indexes it needs for that.

A condition becomes an exact set as far as its index tells; what the index cannot tell of some points is left undecided for these
points alone. Functions without state.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from vecdb.filters import conditions as c
from vecdb.filters.paths import KeyPath
from vecdb.filters.program import (
    Bound,
    Expression,
    Located,
    Nothing,
    Program,
    Ranged,
    Shape,
    Undecided,
    conjunction,
    disjunction,
    negation,
    tagged,
)
from vecdb.filters.terms import FILLED, MANY, NULL, ONE, TEXTS, IndexKey, Kind, Number, Term, number
from vecdb.filters.text import tokens
from vecdb.filters.times import Time
from vecdb.filters.tree import Node

MOST_PREFIXED = 4096
"""
Strings that begin with a prefix beyond this many are left to the evaluator.
"""

# What a 64-bit integer loses by rounding is at most 1024, so that a bound may be cut off here without changing a comparison.
_MAX_REST = 2**31 - 1
_INFINITY = float("inf")
# Beyond every distance on the earth, and a double.
_MOST_METRES = 10**9


class Resolver(Protocol):
    """
    What a collection knows: its indexes, its ids, its payloads.
    """

    def has(self, key: KeyPath, kind: Kind) -> bool:
        """
        Return whether there is an index; without one the evaluator decides.
        """
        ...

    def tag(self, key: KeyPath, kind: Kind, term: Term) -> int | None:
        """
        Return the tag of a term in an index, None when no point ever had it.
        """
        ...

    def prefixed(self, key: KeyPath, prefix: str, most: int) -> list[int] | None:
        """
        Return the tags of the strings at a key that begin with a prefix, None when they are more than `most`.
        """
        ...

    def column(self, key: KeyPath, kind: Kind) -> int:
        """
        Return the column of an index.
        """
        ...

    def offsets(self, ids: Sequence[int | str]) -> list[int]:
        """
        Return the live offsets of those ids that exist, in any order.
        """
        ...

    def evaluate(self, node: Node, candidates: Program) -> list[int]:
        """
        Return the offsets among the candidates whose points satisfy the node, by the reference evaluator.
        """
        ...


def indexes_of(node: Node) -> frozenset[IndexKey]:
    """
    Return the indexes by which a condition is decided, none when the evaluator does it.
    """
    if not isinstance(node, c.Keyed):
        return frozenset()
    if isinstance(node, c.TextMatch):
        if node.kind == "prefix":
            return frozenset({(node.key, "tags")})
        return frozenset({(node.key, "words")} if tokens(node.query) else ())
    return frozenset((node.key, kind) for kind in _KINDS[type(node)])


def leaf(node: c.Keyed, resolver: Resolver) -> Expression:
    """
    Return the set of a condition on the values at a key.
    """
    if not all(resolver.has(key, kind) for key, kind in indexes_of(node)):
        return Undecided(node)
    return _LOWERED[type(node)](node, resolver)


def _equal(node: c.Equal, resolver: Resolver) -> Expression:
    return tagged([resolver.tag(node.key, "tags", node.term)])


def _listed(node: c.Listed, resolver: Resolver) -> Expression:
    terms: list[Term] = [("str" if isinstance(value, str) else "int", value) for value in node.values]
    return tagged(resolver.tag(node.key, "tags", term) for term in terms)


def _except(node: c.Except, resolver: Resolver) -> Expression:
    one, many = (tagged([resolver.tag(node.key, "tags", marker)]) for marker in (ONE, MANY))
    listed = _listed(node, resolver)
    # With a listed element among several, another may not be listed: only the payload tells.
    unlisted = conjunction([disjunction([one, many]), negation(listed)])
    return disjunction([unlisted, conjunction([many, listed, Undecided(node)])])


def _text(node: c.TextMatch, resolver: Resolver) -> Expression:
    if node.kind == "prefix":
        tags = resolver.prefixed(node.key, node.query, MOST_PREFIXED)
        return Undecided(node) if tags is None else tagged(tags)
    wanted = tokens(node.query)
    words = [tagged([resolver.tag(node.key, "words", ("word", word))]) for word in dict.fromkeys(wanted)]
    if node.kind == "text_any":
        return disjunction(words)
    together = conjunction(words) if words else Nothing()
    if len(words if node.kind == "text" else wanted) <= 1:
        return together
    if node.kind == "phrase":
        return conjunction([together, Undecided(node)])
    # All words are at the key; of a point with several texts only the payload tells whether they are in one of them.
    several = tagged([resolver.tag(node.key, "words", TEXTS)])
    return disjunction([conjunction([together, negation(several)]), conjunction([together, several, Undecided(node)])])


def _numbers(node: c.NumberRange | c.ValuesCount, resolver: Resolver, kind: Kind) -> Expression:
    bounds: c.Bounds[Any] = node.bounds
    low, low_kind = _low(bounds)
    high, high_kind = _high(bounds)
    return _ranged(resolver.column(node.key, kind), _pair(low, -_INFINITY), low_kind, _pair(high, _INFINITY), high_kind)


def _range(node: c.NumberRange, resolver: Resolver) -> Expression:
    return _numbers(node, resolver, "numbers")


def _counts(node: c.ValuesCount, resolver: Resolver) -> Expression:
    counted = _numbers(node, resolver, "counts")
    if not node.bounds.contain(0):
        return counted
    return disjunction([counted, negation(tagged([resolver.tag(node.key, "presence", FILLED)]))])


def _times(node: c.TimeRange, resolver: Resolver) -> Expression:
    column = resolver.column(node.key, "times")
    bounds: list[tuple[Number, Bound]] = []
    shared: set[Number] = set()
    for (time, kind), strict, absent in ((_low(node.bounds), Bound.GT, -_INFINITY), (_high(node.bounds), Bound.LT, _INFINITY)):
        if isinstance(time, Time) and time.is_fine:
            # Other instants have the bound's pair, on both sides of it.
            shared.add(time.pair)
            kind = strict
        bounds.append((time.pair if isinstance(time, Time) else (absent, 0), kind))
    between = _ranged(column, *bounds[0], *bounds[1])
    doubtful = disjunction(Ranged(column, pair, pair, Bound.GTE | Bound.LTE) for pair in sorted(shared))
    return disjunction([between, conjunction([doubtful, Undecided(node)])])


def _radius(node: c.GeoRadius, resolver: Resolver) -> Expression:
    return Located(resolver.column(node.key, "points"), Shape.RADIUS, ((*node.center, float(min(node.radius, _MOST_METRES))),))


def _box(node: c.GeoBox, resolver: Resolver) -> Expression:
    return Located(resolver.column(node.key, "points"), Shape.BOX, ((*node.top_left, *node.bottom_right),))


def _polygon(node: c.GeoPolygon, resolver: Resolver) -> Expression:
    rings = tuple(tuple(degree for point in ring for degree in point) for ring in (node.exterior, *node.interiors))
    return Located(resolver.column(node.key, "points"), Shape.POLYGON, rings)


def _is_empty(node: c.IsEmpty, resolver: Resolver) -> Expression:
    filled = tagged([resolver.tag(node.key, "presence", FILLED)])
    return negation(filled) if node.expected else filled


def _is_null(node: c.IsNull, resolver: Resolver) -> Expression:
    null = tagged([resolver.tag(node.key, "presence", NULL)])
    return null if node.expected else negation(null)


_KINDS: Mapping[type[c.Keyed], tuple[Kind, ...]] = {
    c.Equal: ("tags",),
    c.AnyOf: ("tags",),
    c.Except: ("tags",),
    c.NumberRange: ("numbers",),
    c.TimeRange: ("times",),
    c.ValuesCount: ("counts", "presence"),
    c.GeoRadius: ("points",),
    c.GeoBox: ("points",),
    c.GeoPolygon: ("points",),
    c.IsEmpty: ("presence",),
    c.IsNull: ("presence",),
}

_LOWERED: Mapping[type[c.Keyed], Callable[[Any, Resolver], Expression]] = {
    c.Equal: _equal,
    c.AnyOf: _listed,
    c.Except: _except,
    c.TextMatch: _text,
    c.NumberRange: _range,
    c.TimeRange: _times,
    c.ValuesCount: _counts,
    c.GeoRadius: _radius,
    c.GeoBox: _box,
    c.GeoPolygon: _polygon,
    c.IsEmpty: _is_empty,
    c.IsNull: _is_null,
}


def _low(bounds: c.Bounds[c.Value]) -> tuple[c.Value | None, Bound]:
    """
    Return the lower bound that implies the other; an absent one is None, part of the range.
    """
    if bounds.gt is None or (bounds.gte is not None and bounds.gte > bounds.gt):
        return bounds.gte, Bound.GTE
    return bounds.gt, Bound.GT


def _high(bounds: c.Bounds[c.Value]) -> tuple[c.Value | None, Bound]:
    """
    Return the upper bound that implies the other; an absent one is None, part of the range.
    """
    if bounds.lt is None or (bounds.lte is not None and bounds.lte < bounds.lt):
        return bounds.lte, Bound.LTE
    return bounds.lt, Bound.LT


def _ranged(column: int, low: Number, low_kind: Bound, high: Number, high_kind: Bound) -> Expression:
    if low > high or (low == high and (low_kind is Bound.GT or high_kind is Bound.LT)):
        return Nothing()
    return Ranged(column, low, high, low_kind | high_kind)


def _pair(bound: float | None, absent: float) -> Number:
    if bound is None:
        return absent, 0
    try:
        value, rest = number(bound)
    except OverflowError:  # an int beyond the doubles is beyond every number of a payload
        return (_INFINITY if bound > 0 else -_INFINITY), 0
    return value, max(-_MAX_REST, min(_MAX_REST, rest))
