"""
Set expressions over the offsets of a collection, simplified as they are made, and the words the core runs
(csrc/vecdb.h, "filter programs").

Expressions are immutable. `Undecided` stands for a condition that no index decides; it must be gone before `assemble`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vecdb.filters.terms import Number
from vecdb.filters.tree import Filter, Node

# The core keeps a set for each operand, so that long unions and intersections are folded in groups of this many.
_FOLD = 16
_WORD = 2**64 - 1


class Op(IntEnum):
    """
    The operations, as vecdb_op declares them.
    """

    ALL = 1
    NONE = 2
    TAG = 3
    ANY_TAG = 4
    RANGE = 5
    OFFSETS = 6
    AND = 7
    OR = 8
    AT_LEAST = 9
    NOT = 10
    GEO = 11


class Bound(IntEnum):
    """
    The kinds of bounds, as vecdb_bound declares them.
    """

    GT = 1
    GTE = 2
    LT = 4
    LTE = 8


class Shape(IntEnum):
    """
    The shapes of areas, as vecdb_geo_shape declares them.
    """

    RADIUS = 1
    BOX = 2
    POLYGON = 3


class Program(NamedTuple):
    """
    What the core runs. No words mean everything; a state-bound program contains offsets and is valid for the state it was made for only.
    """

    words: NDArray[np.uint64]
    state_bound: bool


class Expression:
    """
    A set of live offsets.
    """

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class All(Expression):
    """
    Every live offset.
    """


@dataclass(frozen=True, slots=True)
class Nothing(Expression):
    """
    The empty set.
    """


@dataclass(frozen=True, slots=True)
class Tagged(Expression):
    """
    The offsets with one of these tags, ascending and not empty.
    """

    tags: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Ranged(Expression):
    """
    The offsets with a number in a column between two bounds; `bounds` is an OR of `Bound`.
    """

    column: int
    low: Number
    high: Number
    bounds: int


@dataclass(frozen=True, slots=True)
class Located(Expression):
    """
    The offsets with a point of a column inside an area: degrees and metres as the shape has them, one tuple for each ring of a polygon.
    """

    column: int
    shape: Shape
    parts: tuple[tuple[float, ...], ...]


@dataclass(frozen=True, slots=True)
class Chosen(Expression):
    """
    These offsets, ascending and not empty.
    """

    offsets: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Both(Expression):
    """
    The intersection of two or more sets.
    """

    parts: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Either(Expression):
    """
    The union of two or more sets.
    """

    parts: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class AtLeast(Expression):
    """
    The offsets in at least `count` of the sets.
    """

    parts: tuple[Expression, ...]
    count: int


@dataclass(frozen=True, slots=True)
class Negated(Expression):
    """
    The live offsets that are not in a set.
    """

    part: Expression


@dataclass(frozen=True, slots=True)
class Undecided(Expression):
    """
    The offsets whose payload satisfies a node, to be found out by the reference evaluator.
    """

    node: Node


def tagged(tags: Iterable[int | None]) -> Expression:
    """
    Return the offsets with one of the tags; None is a tag nothing has.
    """
    known = sorted({tag for tag in tags if tag is not None})
    return Tagged(tuple(known)) if known else Nothing()


def chosen(offsets: Iterable[int]) -> Expression:
    """
    Return the set of these offsets.
    """
    known = sorted(set(offsets))
    return Chosen(tuple(known)) if known else Nothing()


def negation(part: Expression) -> Expression:
    """
    Return the complement of a set.
    """
    if isinstance(part, All):
        return Nothing()
    if isinstance(part, Nothing):
        return All()
    return part.part if isinstance(part, Negated) else Negated(part)


def conjunction(parts: Iterable[Expression]) -> Expression:
    """
    Return the intersection of sets; of none it is everything.
    """
    flat = dict.fromkeys(inner for part in parts for inner in (part.parts if isinstance(part, Both) else (part,)))
    must = tuple(part.node for part in flat if isinstance(part, Undecided))
    must_not = tuple(part.part.node for part in flat if isinstance(part, Negated) and isinstance(part.part, Undecided))
    excluded = [part.part for part in flat if isinstance(part, Negated) and not isinstance(part.part, Undecided)]
    kept = [part for part in flat if not isinstance(part, (All, Undecided, Negated))]
    if any(isinstance(part, Nothing) or part in excluded for part in kept):
        return Nothing()
    lists = [part for part in kept if isinstance(part, Chosen)]
    if len(lists) > 1:
        common = chosen(set(lists[0].offsets).intersection(*(part.offsets for part in lists[1:])))
        return conjunction([common, *(part for part in flat if not isinstance(part, Chosen))])
    if excluded:
        denied = negation(disjunction(excluded))
        if isinstance(denied, Nothing):
            return denied
        kept.append(denied)
    if must or must_not:
        kept.append(_merged(Filter(must=must, must_not=must_not)))
    return _group(kept, All(), Both)


def disjunction(parts: Iterable[Expression]) -> Expression:
    """
    Return the union of sets; of none it is empty.
    """
    flat = dict.fromkeys(inner for part in parts for inner in (part.parts if isinstance(part, Either) else (part,)))
    if any(isinstance(part, All) or negation(part) in flat for part in flat):
        return All()
    kept = [part for part in flat if not isinstance(part, (Nothing, Undecided, Tagged, Chosen))]
    tags = tagged(tag for part in flat if isinstance(part, Tagged) for tag in part.tags)
    offsets = chosen(offset for part in flat if isinstance(part, Chosen) for offset in part.offsets)
    kept.extend(part for part in (tags, offsets) if not isinstance(part, Nothing))
    should = tuple(part.node for part in flat if isinstance(part, Undecided))
    if should:
        kept.append(_merged(Filter(should=should)))
    return _group(kept, Nothing(), Either)


def at_least(parts: Sequence[Expression], count: int) -> Expression:
    """
    Return the offsets in at least count of the sets, each counted by itself.
    """
    count -= sum(isinstance(part, All) for part in parts)
    kept = tuple(part for part in parts if not isinstance(part, (All, Nothing)))
    if count <= 0:
        return All()
    if count > len(kept):
        return Nothing()
    if count == 1:
        return disjunction(kept)
    return conjunction(kept) if count == len(kept) else AtLeast(kept, count)


def _merged(node: Filter) -> Expression:
    """
    Return one undecided set for several, so that each payload is read once.
    """
    alone = (*node.must, *node.should)
    return Undecided(alone[0] if node.size == 1 + sum(part.size for part in alone) and len(alone) == 1 else node)


def _group(parts: list[Expression], empty: Expression, kind: type[Both] | type[Either]) -> Expression:
    if not parts:
        return empty
    return parts[0] if len(parts) == 1 else kind(tuple(parts))


def assemble(expression: Expression, *, state_bound: bool) -> Program:
    """
    Return the words of an expression without undecided parts.
    """
    words: list[int] = []
    if not isinstance(expression, All):
        _emit(expression, words)
    array = np.array(words, dtype=np.uint64)
    array.flags.writeable = False
    return Program(array, state_bound)


def with_tag(program: NDArray[np.uint64], tag: int) -> NDArray[np.uint64]:
    """
    Return the words for those offsets of a program's that have a tag.
    """
    tagged = np.array([Op.TAG, tag], dtype=np.uint64)
    return np.concatenate([program, tagged, np.array([Op.AND, 2], dtype=np.uint64)]) if len(program) else tagged


def offsets_program(offsets: NDArray[np.uint32]) -> NDArray[np.uint64]:
    """
    Return the words for these offsets, ascending.
    """
    head = [Op.OFFSETS, len(offsets)] if len(offsets) else [Op.NONE]
    return np.concatenate([np.array(head, dtype=np.uint64), offsets.astype(np.uint64)])


def _emit(expression: Expression, words: list[int]) -> None:
    if isinstance(expression, All):
        words.append(Op.ALL)
    elif isinstance(expression, Nothing):
        words.append(Op.NONE)
    elif isinstance(expression, Tagged):
        head = (Op.TAG,) if len(expression.tags) == 1 else (Op.ANY_TAG, len(expression.tags))
        words.extend((*head, *expression.tags))
    elif isinstance(expression, Ranged):
        words.extend((Op.RANGE, expression.column, expression.bounds))
        for value, rest in (expression.low, expression.high):
            words.extend((_bits(value), rest & _WORD))
    elif isinstance(expression, Located):
        operands: list[int] = []
        for degrees in expression.parts:
            if expression.shape is Shape.POLYGON:
                operands.append(len(degrees) // 2)
            operands.extend(map(_bits, degrees))
        words.extend((Op.GEO, expression.column, expression.shape, len(operands), *operands))
    elif isinstance(expression, Chosen):
        words.extend((Op.OFFSETS, len(expression.offsets), *expression.offsets))
    elif isinstance(expression, Negated):
        _emit(expression.part, words)
        words.append(Op.NOT)
    elif isinstance(expression, AtLeast):
        for part in expression.parts:
            _emit(part, words)
        words.extend((Op.AT_LEAST, len(expression.parts), expression.count))
    elif isinstance(expression, (Both, Either)):
        _fold(expression, words)
    else:
        raise AssertionError(f"{type(expression).__name__} has no words")


def _bits(value: float) -> int:
    bits: int = struct.unpack("<Q", struct.pack("<d", value))[0]
    return bits


def _fold(expression: Both | Either, words: list[int]) -> None:
    op = Op.AND if isinstance(expression, Both) else Op.OR
    pending = 0
    for position, part in enumerate(expression.parts, 1):
        _emit(part, words)
        pending += 1
        if pending == _FOLD or (position == len(expression.parts) and pending > 1):
            words.extend((op, pending))
            pending = 1
