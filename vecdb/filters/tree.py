"""
The tree of a filter: nodes, how they are combined, and the Filter that holds them.

Nodes are immutable, hashable and compared by what they mean (1 and True differ), so that they can be shared between
threads and be keys of a cache. Depth and size are bounded when a node is made, so that every walk over a tree may
recurse. The leaves are in conditions.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NoReturn

from vecdb.errors import InvalidFilter
from vecdb.filters.paths import KeyPath

MAX_DEPTH = 64
MAX_CONDITIONS = 100_000


class Node:
    """
    A condition or a filter; `&`, `|` and `~` combine them.
    """

    __slots__ = ()

    @property
    def depth(self) -> int:
        """
        How many levels of filters are below and including this one.
        """
        return 0

    @property
    def size(self) -> int:
        """
        How many nodes are below and including this one.
        """
        return 1

    def to_dict(self) -> dict[str, Any]:
        """
        Return the dict that `parse` reads as this node.
        """
        raise NotImplementedError

    def operand(self) -> str:
        """
        Return the repr, fit to stand beside `&`, `|` and `~`.
        """
        return repr(self)

    def __and__(self, other: object) -> Filter:
        """
        Return the filter that both must satisfy.
        """
        both = [_conjuncts(part) for part in (self, _checked(other, "&"))]
        return Filter(must=(*both[0].must, *both[1].must), must_not=(*both[0].must_not, *both[1].must_not))

    def __or__(self, other: object) -> Filter:
        """
        Return the filter of which at least one must be satisfied.
        """
        return Filter(should=tuple(alternative for part in (self, _checked(other, "|")) for alternative in _disjuncts(part)))

    def __invert__(self) -> Filter:
        """
        Return the filter that is satisfied when this one is not.
        """
        denied = _only(self, "must_not")
        return Filter(should=denied) if denied else Filter(must_not=_disjuncts(self))

    def __bool__(self) -> NoReturn:
        """
        Refuse `and`, `or`, `not`, `in` and chained comparison, which Python does not let a filter mean.
        """
        raise TypeError(HOW_TO_COMBINE)

    def __contains__(self, item: object) -> NoReturn:
        """
        Refuse `in`.
        """
        raise TypeError(HOW_TO_COMBINE)

    def __iter__(self) -> NoReturn:
        """
        Refuse to be taken for a list.
        """
        raise TypeError("a filter is not a list of conditions: pass it as it is")


HOW_TO_COMBINE = (
    "a filter is neither true nor false before it meets a point: write (a) & (b) for a and b, (a) | (b) for a or b, ~(a) for not a, "
    '(F("k") >= 1) & (F("k") < 5) for 1 <= F("k") < 5, F("k").any_of(...) for in; each comparison in parentheses'
)


@dataclass(frozen=True, slots=True)
class MinShould:
    """
    At least min_count of the conditions, each counted by itself.
    """

    conditions: tuple[Node, ...]
    min_count: int


@dataclass(frozen=True, slots=True, repr=False)
class Filter(Node):
    """
    All of must, at least one of should (if there are any), none of must_not, and min_should. Without any of them it matches everything.
    """

    must: tuple[Node, ...] = ()
    should: tuple[Node, ...] = ()
    must_not: tuple[Node, ...] = ()
    min_should: MinShould | None = None
    levels: int = field(init=False, compare=False, default=0)
    nodes: int = field(init=False, compare=False, default=0)
    hashed: int = field(init=False, compare=False, default=0)

    def __post_init__(self) -> None:
        """
        Measure the tree and refuse one that is out of bounds.
        """
        depth, size = measure(self.children())
        object.__setattr__(self, "levels", depth)
        object.__setattr__(self, "nodes", size)
        object.__setattr__(self, "hashed", hash((self.must, self.should, self.must_not, self.min_should)))

    def __hash__(self) -> int:
        """
        Return what was reckoned once: each search looks a filter up several times.
        """
        return self.hashed

    def __reduce__(self) -> tuple[Any, ...]:
        """
        Pickle without the hash, which is another one in each process.
        """
        return Filter, (self.must, self.should, self.must_not, self.min_should)

    @property
    def depth(self) -> int:
        """
        How many levels of filters are below and including this one.
        """
        return self.levels

    @property
    def size(self) -> int:
        """
        How many nodes are below and including this one.
        """
        return self.nodes

    def children(self) -> Iterator[Node]:
        """
        Yield the conditions of all clauses.
        """
        yield from self.must
        yield from self.should
        yield from self.must_not
        if self.min_should is not None:
            yield from self.min_should.conditions

    def to_dict(self) -> dict[str, Any]:
        """
        Return the filter in the grammar of dicts.
        """
        clauses = {"must": self.must, "should": self.should, "must_not": self.must_not}
        printed: dict[str, Any] = {name: [node.to_dict() for node in clause] for name, clause in clauses.items() if clause}
        if self.min_should is not None:
            conditions = [node.to_dict() for node in self.min_should.conditions]
            printed["min_should"] = {"conditions": conditions, "min_count": self.min_should.min_count}
        return printed

    def _parts(self) -> list[str]:
        parts = [node.operand() for node in self.must]
        if self.should:
            either = " | ".join(node.operand() for node in self.should)
            parts.append(f"({either})" if len(self.should) > 1 else either)
        parts.extend(f"~{node.operand()}" for node in self.must_not)
        if self.min_should is not None:
            parts.append(f"F.min_should({', '.join([str(self.min_should.min_count), *map(repr, self.min_should.conditions)])})")
        return parts

    def _sole(self) -> Node | None:
        """
        Return the only condition, when the filter means just that.
        """
        alone = _only(self, "must") or _only(self, "should")
        return alone[0] if len(alone) == 1 else None

    def operand(self) -> str:
        """
        Return the repr, in parentheses when it is a conjunction.
        """
        sole = self._sole()
        parts = self._parts()
        return sole.operand() if sole is not None else f"({' & '.join(parts)})" if len(parts) > 1 else repr(self)

    def __repr__(self) -> str:
        """
        Return the expression over F that builds this filter.
        """
        sole = self._sole()
        if sole is not None:
            return repr(sole)
        return " & ".join(self._parts()) or "Filter()"


@dataclass(frozen=True, slots=True, repr=False)
class Nested(Node):
    """
    Some object in the array at the key satisfies the whole filter, by itself.
    """

    key: KeyPath
    filter: Filter

    @property
    def depth(self) -> int:
        """
        How many levels of filters are below and including this one.
        """
        return self.filter.depth

    @property
    def size(self) -> int:
        """
        How many nodes are below and including this one.
        """
        return self.filter.size + 1

    def to_dict(self) -> dict[str, Any]:
        """
        Return the condition in the grammar of dicts.
        """
        return {"nested": {"key": str(self.key), "filter": self.filter.to_dict()}}

    def __repr__(self) -> str:
        """
        Return the expression over F that builds this condition.
        """
        return f"F({str(self.key)!r}).nested({self.filter!r})"


def measure(children: Iterator[Node] | tuple[Node, ...]) -> tuple[int, int]:
    """
    Return depth and size of a node with these children; InvalidFilter when they are out of bounds.
    """
    depth, size = 0, 0
    for child in children:
        depth, size = max(depth, child.depth), size + child.size
    if depth >= MAX_DEPTH:
        raise InvalidFilter(f"filters are nested more than {MAX_DEPTH} deep: flatten them")
    if size >= MAX_CONDITIONS:
        raise InvalidFilter(f"the filter has more than {MAX_CONDITIONS:,} conditions: use any_of or has_id for long lists")
    return depth + 1, size + 1


def _checked(other: object, operator: str) -> Node:
    if isinstance(other, Node):
        return other
    raise TypeError(f"{operator} combines filters built with F, got {type(other).__name__} on the right: {HOW_TO_COMBINE}")


def _only(node: Node, clause: str) -> tuple[Node, ...]:
    """
    Return the conditions of a clause when the node is a filter of nothing else, else none.
    """
    if not isinstance(node, Filter) or node.min_should is not None:
        return ()
    clauses = {"must": node.must, "should": node.should, "must_not": node.must_not}
    return clauses[clause] if all(bool(conditions) == (name == clause) for name, conditions in clauses.items()) else ()


def _conjuncts(node: Node) -> Filter:
    """
    Return a filter of must and must_not only that means the same.
    """
    if isinstance(node, Filter) and not node.should and node.min_should is None:
        return node
    alone = _only(node, "should")
    return Filter(must=alone if len(alone) == 1 else (node,))


def _disjuncts(node: Node) -> tuple[Node, ...]:
    """
    Return conditions of which one is satisfied exactly when the node is.
    """
    alone = _only(node, "must")
    return _only(node, "should") or (alone if len(alone) == 1 else (node,))
