"""
What a nested condition asks of the whole payload: an object that satisfies the inner filter has the values that the conditions of its
`must` ask for, and the payload has them at the longer path.

So these conditions, which indexes decide, hold wherever the nested one does; a single one means the same. Functions without state.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from vecdb.filters import conditions as c
from vecdb.filters.paths import KeyPath
from vecdb.filters.tree import Filter, Nested, Node

# Satisfied by one value or element, whatever the others are.
_EXISTENTIAL = (c.Equal, c.AnyOf, c.Except, c.TextMatch, c.NumberRange, c.TimeRange, c.GeoRadius, c.GeoBox, c.GeoPolygon)


def lifted(node: Nested) -> list[c.Keyed]:
    """
    Return conditions on the whole payload that hold wherever the nested condition does.
    """
    return list(_conditions(node.filter, node.key.each()))


def is_lifted_whole(node: Nested) -> bool:
    """
    Return whether the nested condition holds wherever those do.
    """
    inner = node.filter
    if inner.should or inner.must_not or inner.min_should is not None or len(inner.must) != 1:
        return False
    (only,) = inner.must
    return _is_existential(only) or (isinstance(only, Nested) and is_lifted_whole(only))


def _conditions(node: Filter, outer: KeyPath) -> Iterator[c.Keyed]:
    for child in node.must:
        if isinstance(child, c.Keyed) and _is_existential(child):
            yield replace(child, key=_joined(outer, child.key))
        elif isinstance(child, Nested):
            yield from _conditions(child.filter, _joined(outer, child.key.each()))
        elif isinstance(child, Filter):
            yield from _conditions(child, outer)


def _is_existential(node: Node) -> bool:
    return (
        isinstance(node, _EXISTENTIAL)
        or (isinstance(node, c.IsNull) and node.expected)
        or (isinstance(node, c.IsEmpty) and not node.expected)
    )


def _joined(outer: KeyPath, inner: KeyPath) -> KeyPath:
    return KeyPath((*outer.steps, *inner.steps))
