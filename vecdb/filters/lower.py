"""
Lowering: from the tree of a filter to a program over tags, columns and offsets.

What the indexes know becomes sets (leaves.py). Everything else is decided by the reference evaluator, once, over those
candidates alone for which the rest of the filter has not decided yet. The indexes of `keys` must be complete before `lower` is
called, and stay so until it returns. Functions without state.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

from vecdb.filters.conditions import HasId, Keyed
from vecdb.filters.leaves import Resolver, indexes_of, leaf
from vecdb.filters.lifted import is_lifted_whole, lifted
from vecdb.filters.program import (
    All,
    AtLeast,
    Both,
    Either,
    Expression,
    Negated,
    Nothing,
    Program,
    Undecided,
    assemble,
    at_least,
    chosen,
    conjunction,
    disjunction,
    negation,
)
from vecdb.filters.terms import IndexKey
from vecdb.filters.tree import Filter, Nested, Node


@lru_cache(maxsize=512)
def keys(node: Node) -> frozenset[IndexKey]:
    """
    Return the indexes that a filter uses: build those that can be built before `lower` is called.
    """
    return frozenset(index for one in _leaves(node) for index in indexes_of(one))


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
    elif isinstance(node, Nested):
        yield from lifted(node)
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
        if isinstance(node, Keyed):
            return leaf(node, self._resolver)
        if isinstance(node, Nested):
            needed = conjunction(leaf(condition, self._resolver) for condition in lifted(node))
            return needed if is_lifted_whole(node) else conjunction([needed, Undecided(node)])
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
