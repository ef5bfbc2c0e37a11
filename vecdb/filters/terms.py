"""
Terms: what the values at a key give to the index of that key.

A term is a value with its exact type, so that 1, 1.0, True and "1" are four things; two marker terms count the values,
which `except` needs. Numbers are pairs (value rounded to a double, what the rounding lost), which order like the
numbers themselves. Functions without state.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from vecdb.filters.paths import KeyPath, elements

Term = tuple[str] | tuple[str, str | int | bool]
"""
("str", s), ("int", i), ("bool", b), or one of the markers.
"""

Number = tuple[float, int]
"""
(v, rest): the number rounded to a double, and number - v. Compared in this order, pairs order like the numbers.
"""

ONE: Term = ("one",)
"""
Exactly one distinct non-null element is at the path.
"""

MANY: Term = ("many",)
"""
More than one distinct non-null element is at the path; arrays and objects count as distinct from everything.
"""


class Terms(NamedTuple):
    """
    The tags and the numbers of one payload at one key.
    """

    tags: frozenset[Term]
    numbers: tuple[Number, ...]


def term(value: object) -> Term | None:
    """
    Return the term of a value, None when it has none (a float, an array, an object, null).

    >>> term(True), term(1), term("1"), term(1.0)
    (('bool', True), ('int', 1), ('str', '1'), None)
    """
    if isinstance(value, bool):
        return ("bool", value)
    if isinstance(value, str):
        return ("str", value)
    return ("int", value) if isinstance(value, int) else None


def number(value: int | float) -> Number:
    """
    Return the pair of a number.

    >>> number(2**53 + 1)
    (9007199254740992.0, 1)
    """
    # Adding 0.0 turns -0.0 into 0.0: one number, one pair.
    rounded = float(value) + 0.0
    return (rounded, value - int(rounded)) if isinstance(value, int) else (rounded, 0)


def terms(payload: Mapping[str, Any], key: KeyPath) -> Terms:
    """
    Return what a payload gives to the index of a key.

    >>> terms({"a": ["x", 2.5]}, KeyPath.parse("a")) == Terms(frozenset({("str", "x"), ("many",)}), ((2.5, 0),))
    True
    """
    tags: set[Term] = set()
    numbers: dict[Number, None] = {}
    others: set[float] = set()
    containers = 0
    for element in elements(payload, key):
        found = term(element)
        if found is not None:
            tags.add(found)
        elif isinstance(element, float):
            others.add(element)
        else:
            containers += 1
        if isinstance(element, (int, float)) and not isinstance(element, bool):
            numbers[number(element)] = None
    distinct = len(tags) + len(others) + containers
    if distinct:
        tags.add(ONE if distinct == 1 else MANY)
    return Terms(frozenset(tags), tuple(numbers))
