"""
The reference evaluator: whether one payload satisfies a filter, as the rules say it.

Plain on purpose: the indexes must agree with this, and what they can't decide is decided here. Functions without state.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from vecdb.filters import conditions as c
from vecdb.filters.geo import distance, in_box, in_polygon, point_of
from vecdb.filters.paths import elements, values
from vecdb.filters.terms import count, has_null, is_empty, term
from vecdb.filters.text import PREDICATES
from vecdb.filters.times import parse_time
from vecdb.filters.tree import Filter, Nested, Node


@dataclass(frozen=True, slots=True)
class _Subject:
    """
    What is tested: a payload with its point, or an object inside one, which has no id and no vectors.
    """

    payload: Mapping[str, Any]
    id: int | str | None
    has_vector: Callable[[str], bool] | None


def matches(node: Node, payload: Mapping[str, Any], *, id: int | str, has_vector: Callable[[str], bool]) -> bool:
    """
    Return whether a point satisfies a filter or a condition.

    >>> from vecdb.filters import F
    >>> matches(F("tags").any_of("new"), {"tags": ["old", "new"]}, id=1, has_vector=lambda name: False)
    True
    """
    return _satisfied(node, _Subject(payload, id, has_vector))


def _satisfied(node: Node, subject: _Subject) -> bool:
    if isinstance(node, Filter):
        return _filter(node, subject)
    if isinstance(node, c.HasId):
        return subject.id is not None and subject.id in node.members
    if isinstance(node, c.HasVector):
        return subject.has_vector is not None and subject.has_vector(node.name)
    if isinstance(node, Nested):
        return any(
            isinstance(element, (dict, Mapping)) and _filter(node.filter, _Subject(element, None, None))
            for element in values(subject.payload, node.key.each())
        )
    if isinstance(node, c.IsEmpty):
        return all(is_empty(value) for value in values(subject.payload, node.key)) == node.expected
    if isinstance(node, c.IsNull):
        return any(has_null(value) for value in values(subject.payload, node.key)) == node.expected
    if isinstance(node, c.ValuesCount):
        return any(node.bounds.contain(count(value)) for value in values(subject.payload, node.key) or [None])
    if isinstance(node, c.Keyed):
        return any(_element_satisfies(node, element) for element in elements(subject.payload, node.key))
    raise AssertionError(f"no rule for {type(node).__name__}")


def _filter(node: Filter, subject: _Subject) -> bool:
    if not all(_satisfied(child, subject) for child in node.must):
        return False
    if node.should and not any(_satisfied(child, subject) for child in node.should):
        return False
    if any(_satisfied(child, subject) for child in node.must_not):
        return False
    at_least = node.min_should
    return at_least is None or sum(_satisfied(child, subject) for child in at_least.conditions) >= at_least.min_count


def _element_satisfies(node: c.Keyed, element: Any) -> bool:
    """
    Return whether one non-null element satisfies a value predicate.
    """
    if isinstance(node, c.Equal):
        return term(element) == node.term
    if isinstance(node, c.AnyOf):
        return node.has(element)
    if isinstance(node, c.Except):
        return not node.has(element)
    if isinstance(node, c.TextMatch):
        return isinstance(element, str) and PREDICATES[node.kind](element, node.query)
    if isinstance(node, c.NumberRange):
        return isinstance(element, (int, float)) and not isinstance(element, bool) and node.bounds.contain(element)
    if isinstance(node, c.TimeRange):
        time = parse_time(element) if isinstance(element, str) else None
        return time is not None and node.bounds.contain(time)
    point = point_of(element)
    if point is None:
        return False
    if isinstance(node, c.GeoRadius):
        return distance(node.center, point) < node.radius
    if isinstance(node, c.GeoBox):
        return in_box(point, node.top_left, node.bottom_right)
    if isinstance(node, c.GeoPolygon):
        return in_polygon(point, node.exterior, node.interiors)
    raise AssertionError(f"no rule for {type(node).__name__}")
