"""
Lowering: from the tree of a filter to a program over tags, columns and offsets.

Equality, lists of values, ranges of numbers and ids become sets the core knows. Everything else is decided by the
reference evaluator, once, over those candidates alone for which the rest of the filter has not decided yet. The indexes
of `keys` must be complete before `lower` is called, and stay so until it returns. Functions without state.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from vecdb.filters.conditions import AnyOf, Bounds, Equal, Except, HasId, Listed, NumberRange
from vecdb.filters.paths import KeyPath
from vecdb.filters.program import (
    All,
    AtLeast,
    Both,
    Bound,
    Either,
    Expression,
    Negated,
    Nothing,
    Program,
    Ranged,
    Undecided,
    assemble,
    at_least,
    chosen,
    conjunction,
    disjunction,
    negation,
    tagged,
)
from vecdb.filters.terms import MANY, ONE, Number, Term, number
from vecdb.filters.tree import Filter, Node

# What a 64-bit integer loses by rounding is at most 1024, so that a bound may be cut off here without changing a comparison.
_MAX_REST = 2**31 - 1
_INFINITY = float("inf")


class Resolver(Protocol):
    """
    What a collection knows: its indexes, its ids, its payloads.
    """

    def tag(self, key: KeyPath, term: Term) -> int | None:
        """
        Return the tag of a term at a key, None when no point ever had it.
        """
        ...

    def column(self, key: KeyPath) -> int:
        """
        Return the column of a key's numbers.
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


def keys(node: Node) -> tuple[frozenset[KeyPath], frozenset[KeyPath]]:
    """
    Return the keys whose terms, and those whose numbers, must be indexed before `lower` is called.
    """
    tags: set[KeyPath] = set()
    numbers: set[KeyPath] = set()
    for leaf in _leaves(node):
        if isinstance(leaf, (Equal, Listed)):
            tags.add(leaf.key)
        elif isinstance(leaf, NumberRange):
            numbers.add(leaf.key)
    return frozenset(tags), frozenset(numbers)


def lower(node: Node, resolver: Resolver) -> Program:
    """
    Return the program whose offsets are exactly those of the points that satisfy the node.

    A term that no point ever had lowers to nothing: make the program again once the dictionary has grown.
    """
    lowering = _Lowering(resolver)
    return assemble(lowering.decide(lowering.expression(node), All()), state_bound=lowering.state_bound)


def _leaves(node: Node) -> Iterator[Node]:
    if isinstance(node, Filter):
        for child in node.children():
            yield from _leaves(child)
    else:
        yield node


class _Lowering:
    """
    One call of `lower`.
    """

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver
        self.state_bound = False

    def expression(self, node: Node) -> Expression:
        """
        Return the set of a node, with undecided parts for what no index decides.
        """
        if isinstance(node, Filter):
            return self._filter(node)
        if isinstance(node, Equal):
            return tagged([self._resolver.tag(node.key, node.term)])
        if isinstance(node, AnyOf):
            return self._listed(node)
        if isinstance(node, Except):
            return self._except(node)
        if isinstance(node, NumberRange):
            return self._range(node)
        if isinstance(node, HasId):
            self.state_bound = True
            return chosen(self._resolver.offsets(node.ids))
        return Undecided(node)

    def _filter(self, node: Filter) -> Expression:
        parts = [self.expression(child) for child in node.must]
        if node.should:
            parts.append(disjunction(self.expression(child) for child in node.should))
        parts.extend(negation(self.expression(child)) for child in node.must_not)
        if node.min_should is not None:
            parts.append(at_least([self.expression(child) for child in node.min_should.conditions], node.min_should.min_count))
        return conjunction(parts)

    def _listed(self, node: Listed) -> Expression:
        terms: Iterator[Term] = (("str" if isinstance(value, str) else "int", value) for value in node.values)
        return tagged(self._resolver.tag(node.key, term) for term in terms)

    def _except(self, node: Except) -> Expression:
        one, many = (tagged([self._resolver.tag(node.key, marker)]) for marker in (ONE, MANY))
        listed = self._listed(node)
        # With a listed element among several, another may not be listed: only the payload tells.
        unlisted = conjunction([disjunction([one, many]), negation(listed)])
        return disjunction([unlisted, conjunction([many, listed, Undecided(node)])])

    def _range(self, node: NumberRange) -> Expression:
        low, has_low = _tightest(node.bounds, "low")
        high, has_high = _tightest(node.bounds, "high")
        if low > high or (low == high and (has_low is Bound.GT or has_high is Bound.LT)):
            return Nothing()
        return Ranged(self._resolver.column(node.key), low, high, has_low | has_high)

    def decide(self, expression: Expression, context: Expression) -> Expression:
        """
        Return a set that agrees with the expression on every offset of the context, without undecided parts.

        What it is outside of the context does not matter, which is why the same holds below a negation.
        """
        if not _is_undecided(expression):
            return expression
        if isinstance(expression, Undecided):
            self.state_bound = True
            if isinstance(context, Nothing):
                return Nothing()
            return chosen(self._resolver.evaluate(expression.node, assemble(context, state_bound=self.state_bound)))
        if isinstance(expression, Negated):
            return negation(self.decide(expression.part, context))
        if isinstance(expression, AtLeast):
            return at_least([self.decide(part, context) for part in expression.parts], expression.count)
        assert isinstance(expression, (Both, Either))
        decided = [part for part in expression.parts if not _is_undecided(part)]
        join = conjunction if isinstance(expression, Both) else disjunction
        for part in expression.parts:
            if _is_undecided(part):
                open_yet = join(decided) if isinstance(expression, Both) else negation(join(decided))
                decided.append(self.decide(part, conjunction([context, open_yet])))
        return join(decided)


def _is_undecided(expression: Expression) -> bool:
    if isinstance(expression, (Both, Either, AtLeast)):
        return any(_is_undecided(part) for part in expression.parts)
    return _is_undecided(expression.part) if isinstance(expression, Negated) else isinstance(expression, Undecided)


def _tightest(bounds: Bounds[float], side: str) -> tuple[Number, Bound]:
    """
    Return the bound of a side that implies the others; an absent one is infinity, part of the range.
    """
    if side == "low":
        found = [(_pair(bound), kind) for bound, kind in ((bounds.gt, Bound.GT), (bounds.gte, Bound.GTE)) if bound is not None]
        return max(found, key=lambda one: (one[0], one[1] is Bound.GT), default=((-_INFINITY, 0), Bound.GTE))
    found = [(_pair(bound), kind) for bound, kind in ((bounds.lt, Bound.LT), (bounds.lte, Bound.LTE)) if bound is not None]
    return min(found, key=lambda one: (one[0], one[1] is not Bound.LT), default=((_INFINITY, 0), Bound.LTE))


def _pair(bound: float) -> Number:
    try:
        value, rest = number(bound)
    except OverflowError:  # an int beyond the doubles is beyond every number of a payload
        return (_INFINITY if bound > 0 else -_INFINITY), 0
    return value, max(-_MAX_REST, min(_MAX_REST, rest))
