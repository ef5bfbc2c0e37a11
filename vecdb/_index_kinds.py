"""
The kinds of payload indexes that a caller may declare: what each is made of, and which fits the values that are there.

Functions without state.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from vecdb.filters import IndexKey, KeyPath, Kind
from vecdb.filters.geo import point_of
from vecdb.filters.times import parse_time

KINDS: Mapping[str, tuple[Kind, ...]] = {
    "keyword": ("tags", "presence"),
    "integer": ("tags", "presence", "numbers"),
    "float": ("numbers",),
    "bool": ("tags", "presence"),
    "datetime": ("times",),
    "geo": ("points",),
    "text": ("words",),
}
LINKED_PARTS: frozenset[Kind] = frozenset(("tags", "numbers", "times", "points"))
"""
The parts whose points can be linked: those of a tag, of a window of values, of a cell of the globe.
"""
LINKED_KINDS = frozenset(kind for kind, parts in KINDS.items() if not LINKED_PARTS.isdisjoint(parts))
MIN_M, MAX_M = 2, 10_000
"""
Links a point, as the core takes them.
"""
_TEXT_WORDS = 8


def parts_of(key: KeyPath, kind: str) -> list[IndexKey]:
    """
    Return the indexes that a declared kind of a key is made of.
    """
    return [(key, part) for part in KINDS[kind]]


def kind_of(elements: Iterable[object]) -> str:
    """
    Return the kind that most of these values are of, "keyword" when they are of none.

    A str is a datetime when it spells one, text when it has more than 8 words, else a keyword; an object with lat and lon is geo. Ints
    count as floats where there are floats. Of kinds with as many values, the one that stands first in KINDS.

    >>> kind_of([1, 2.5]), kind_of(["red", "2024-02-29", "blue"]), kind_of([])
    ('float', 'keyword', 'keyword')
    """
    votes = Counter(kind for element in elements if (kind := _kind_of_one(element)) is not None)
    if votes["float"]:
        votes["float"] += votes.pop("integer", 0)
    return max(KINDS, key=lambda kind: votes[kind])


def _kind_of_one(element: object) -> str | None:
    if isinstance(element, bool):
        return "bool"
    if isinstance(element, (int, float)):
        return "float" if isinstance(element, float) else "integer"
    if isinstance(element, str):
        if parse_time(element) is not None:
            return "datetime"
        return "text" if len(element.split(maxsplit=_TEXT_WORDS)) > _TEXT_WORDS else "keyword"
    return "geo" if point_of(element) is not None else None
