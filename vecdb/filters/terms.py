"""
Terms: what the values at a key give to the indexes of that key, by the kind of index.

A term is a value with its exact type, so that 1, 1.0, True and "1" are four things, a word of a text, or a marker that says
what kind of values there are. Numbers and times are pairs (value rounded to a double, what the rounding lost), which order
like the numbers themselves. Functions without state.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Literal

from vecdb.filters.geo import GeoPoint, point_of
from vecdb.filters.paths import KeyPath, unwrapped, values
from vecdb.filters.text import tokens
from vecdb.filters.times import time_pair

Kind = Literal["tags", "numbers", "times", "points", "words", "presence", "counts"]
"""
The kinds of indexes that a key may have.
"""

IndexKey = tuple[KeyPath, Kind]
"""
What names an index.
"""

Term = tuple[str] | tuple[str, str | int | bool]
"""
("str", s), ("int", i), ("bool", b), ("word", w), or one of the markers.
"""

Number = tuple[float, int]
"""
(v, rest): the number rounded to a double, and number - v; of a time see `Time.pair`. Compared in this order, pairs order like the
numbers.
"""

ONE: Term = ("one",)
"""
Of tags: exactly one distinct non-null element is at the path.
"""

MANY: Term = ("many",)
"""
Of tags: more than one distinct non-null element is at the path; arrays and objects count as distinct from everything.
"""

FLOATS: Term = ("floats",)
"""
Of tags: some element is a float, which has no term of its own.
"""

TEXTS: Term = ("texts",)
"""
Of words: more than one element has words, so that two words may stand in different ones.
"""

FILLED: Term = ("filled",)
"""
Of presence: some value is neither null nor [].
"""

NULL: Term = ("null",)
"""
Of presence: some value is null, or an array that contains null.
"""


Terms = Mapping[Kind, Collection[Any]]
"""
What one payload gives to the indexes of one key, by kind: a set of terms for tags, words and presence, a tuple of pairs for numbers,
times and counts, of points for points.
"""


def is_value(term: Term) -> bool:
    """
    Return whether a term stands for a value or a word; otherwise it is a marker.
    """
    return len(term) == 2


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


def is_empty(value: object) -> bool:
    """
    Return whether a value is null or [].
    """
    return value is None or (isinstance(value, (list, tuple)) and not value)


def has_null(value: object) -> bool:
    """
    Return whether a value is null or an array that contains null.
    """
    return value is None or (isinstance(value, (list, tuple)) and any(element is None for element in value))


def count(value: object) -> int:
    """
    Return how many values a value is: the length of an array, 0 for null, else 1.
    """
    if isinstance(value, (list, tuple)):
        return len(value)
    return 0 if value is None else 1


def terms(payload: Mapping[str, Any], key: KeyPath, kinds: Iterable[Kind]) -> Terms:
    """
    Return what a payload gives to these kinds of indexes of a key.

    >>> terms({"a": ["x", 2.5]}, KeyPath.parse("a"), ["numbers"])
    {'numbers': ((2.5, 0),)}
    >>> terms({"a": "new York"}, KeyPath.parse("a"), ["words"])["words"] == {("word", "new"), ("word", "york")}
    True
    """
    return given_by(values(payload, key), kinds)


def given_by(found: Sequence[Any], kinds: Iterable[Kind]) -> Terms:
    """
    Return what the values at a key, all of one payload, give to these kinds of indexes of it.
    """
    if not found:
        return dict.fromkeys(kinds, ())
    # Most keys have one plain value, which is its own element.
    elements = found if len(found) == 1 and isinstance(found[0], (str, int, float)) else list(unwrapped(found))
    return {kind: _GATHERED[kind](found, elements) for kind in kinds}


def _tags(found: Sequence[Any], elements: Sequence[Any]) -> frozenset[Term]:
    if len(elements) == 1 and (single := term(elements[0])) is not None:
        return frozenset((single, ONE))
    tags: set[Term] = set()
    others: set[float] = set()
    containers = 0
    for element in elements:
        one = term(element)
        if one is not None:
            tags.add(one)
        elif isinstance(element, float):
            others.add(element)
        else:
            containers += 1
    distinct = len(tags) + len(others) + containers
    if others:
        tags.add(FLOATS)
    if distinct:
        tags.add(ONE if distinct == 1 else MANY)
    return frozenset(tags)


def _numbers(found: Sequence[Any], elements: Sequence[Any]) -> tuple[Number, ...]:
    # A NaN, which only bytes that somebody else wrote can hold, is in no range.
    return tuple(dict.fromkeys(number(e) for e in elements if isinstance(e, (int, float)) and not isinstance(e, bool) and e == e))


def _times(found: Sequence[Any], elements: Sequence[Any]) -> tuple[Number, ...]:
    pairs = (time_pair(element) for element in elements if isinstance(element, str))
    return tuple(dict.fromkeys(pair for pair in pairs if pair is not None))


def _points(found: Sequence[Any], elements: Sequence[Any]) -> tuple[GeoPoint, ...]:
    points = (point_of(element) for element in elements)
    return tuple(dict.fromkeys(point for point in points if point is not None))


def _words(found: Sequence[Any], elements: Sequence[Any]) -> frozenset[Term]:
    texts = [words for element in elements if isinstance(element, str) and (words := set(tokens(element)))]
    terms: set[Term] = {("word", word) for words in texts for word in words}
    if len(texts) > 1:
        terms.add(TEXTS)
    return frozenset(terms)


def _presence(found: Sequence[Any], elements: Sequence[Any]) -> frozenset[Term]:
    filled = {FILLED} if not all(map(is_empty, found)) else set()
    return frozenset(filled | {NULL} if any(map(has_null, found)) else filled)


def _counts(found: Sequence[Any], elements: Sequence[Any]) -> tuple[Number, ...]:
    # Where every count is 0 there is no entry: presence tells these points, together with those that have no value at all.
    counts = {count(value) for value in found}
    return tuple((float(one), 0) for one in sorted(counts)) if counts != {0} else ()


_GATHERED: Mapping[Kind, Callable[[Sequence[Any], Sequence[Any]], Any]] = {
    "tags": _tags,
    "numbers": _numbers,
    "times": _times,
    "points": _points,
    "words": _words,
    "presence": _presence,
    "counts": _counts,
}
