"""
The grammar: from a dict, or from what F built, to the tree of a filter.

Everything is checked here, once, before a filter is used; an error names the path to what is wrong. A part that is None
counts as absent. The trees of recent dicts are kept, by content. Any thread may parse.
"""

from __future__ import annotations

import marshal
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

from vecdb.errors import InvalidFilter
from vecdb.filters.check import (
    boolean,
    geo_point,
    inside,
    integer,
    items,
    key_path,
    match_list,
    match_term,
    number,
    parts,
    point_id,
    string,
    time_or_number,
    wrong,
)
from vecdb.filters.conditions import (
    AnyOf,
    Bounds,
    Equal,
    Except,
    GeoBox,
    GeoPolygon,
    GeoRadius,
    HasId,
    HasVector,
    IsEmpty,
    IsNull,
    NumberRange,
    TextMatch,
    TimeRange,
    ValuesCount,
)
from vecdb.filters.geo import GeoPoint
from vecdb.filters.paths import KeyPath
from vecdb.filters.text import PREDICATES
from vecdb.filters.times import Time
from vecdb.filters.tree import MAX_DEPTH, Filter, MinShould, Nested, Node

_CLAUSES = ("must", "should", "must_not", "min_should")
_BOUNDS = ("gt", "gte", "lt", "lte")
_MATCHES = ("value", "any", "except", *PREDICATES)
_LEGACY = ("key", "keyword", "integer")
# Searches repeat their filters: to write out a dict takes a tenth of the time that checking it takes.
_KEPT = 512
_KEPT_BYTES = 4096
_kept: dict[bytes, Filter] = {}
# Few, as a condition may hold a long list; by identity, and with the condition itself, so that no other gets its identity.
_KEPT_CONDITIONS = 64
_kept_conditions: dict[int, tuple[Node, Filter]] = {}
_EVERYTHING = Filter()


def parse(filter: Mapping[str, Any] | Node | None) -> Filter:
    """
    Return the tree of a filter; InvalidFilter names the path to what is wrong. None and {} match everything.

    >>> parse({"must": [{"key": "price", "range": {"lt": 100}}]})
    F('price') < 100
    >>> parse({"must": [{"key": "price", "range": {"lt": "cheap"}}]})
    Traceback (most recent call last):
    vecdb.errors.InvalidFilter: must[0].range.lt: expected a number or an RFC 3339 time, got 'cheap'
    """
    if filter is None:
        return _EVERYTHING
    if isinstance(filter, Node):
        return filter if isinstance(filter, Filter) else _of_condition(filter)
    content = _content(filter) if type(filter) is dict else None
    if content is None:
        return _parsed(filter)
    known = _kept.get(content)
    if known is None:
        known = _parsed(filter)
        # numpy's numbers and bytes are written alike: of what is not plain, the content does not say what it is.
        if _is_plain(filter):
            if len(_kept) >= _KEPT:
                _kept.clear()
            _kept[content] = known
    return known


def _of_condition(node: Node) -> Filter:
    """
    Return the filter of one condition: of the same object, which is kept, the same one.
    """
    known = _kept_conditions.get(id(node))
    if known is not None and known[0] is node:
        return known[1]
    whole = _parsed(node)
    if len(_kept_conditions) >= _KEPT_CONDITIONS:
        _kept_conditions.clear()
    _kept_conditions[id(node)] = node, whole
    return whole


def _content(filter: dict[str, Any]) -> bytes | None:
    """
    Return bytes that no two dicts of plain values share unless they are equal, to the types of their values, and that no other dict shares
    with a plain one; None for what is large, or cannot be written.
    """
    try:
        content = marshal.dumps(filter)  # what is in it twice is written once: an endless filter has an end
    except ValueError:
        return None
    return content if len(content) <= _KEPT_BYTES else None


def _is_plain(value: object) -> bool:
    if type(value) is dict:
        return all(map(_is_plain, value)) and all(map(_is_plain, value.values()))
    if type(value) in (list, tuple):
        return all(map(_is_plain, cast(Iterable[object], value)))
    return value is None or type(value) in (str, int, float, bool)


def _parsed(filter: Mapping[str, Any] | Node) -> Filter:
    node = condition(filter, "", 0)
    return node if isinstance(node, Filter) else _wrapped({"must": (node,)}, "")


def condition(value: object, path: str, depth: int) -> Node:
    """
    Return the node of one condition, which may be a filter.
    """
    if isinstance(value, Node):
        return value
    if depth >= MAX_DEPTH:
        raise InvalidFilter(f"{path[:60]}...: filters are nested more than {MAX_DEPTH} deep: flatten them")
    with_key = isinstance(value, Mapping) and value.get("key") is not None
    given = parts(value, path, "a filter: a dict, or conditions built with F", _WITH_KEY if with_key else _ANYWHERE)
    if "key" in given:
        return _field_condition(given, path)
    if "match" in given:
        return _legacy(given, path)
    alone = [name for name in given if name in _ALONE]
    if not alone:
        if not given and isinstance(value, Mapping) and not all(name in _CLAUSES for name in value):
            raise wrong(path, "a condition", value, "everything in it is None")
        if any(name in _PREDICATES for name in given):
            raise wrong(path, f"'key' beside {next(name for name in given if name in _PREDICATES)!r}", value)
        return _filter(given, path, depth)
    if len(given) > 1:
        raise wrong(path, f"{alone[0]!r} alone", value, "put each condition into a dict of its own, in the list of 'must'")
    return _ALONE[alone[0]](given[alone[0]], inside(path, alone[0]), depth)


def _filter(given: Mapping[str, Any], path: str, depth: int) -> Filter:
    clauses = {name: _clause(given[name], inside(path, name), depth) for name in _CLAUSES[:3] if name in given}
    at_least = _min_should(given["min_should"], inside(path, "min_should"), depth) if "min_should" in given else None
    return _wrapped(clauses, path, at_least)


def _wrapped(clauses: Mapping[str, tuple[Node, ...]], path: str, at_least: MinShould | None = None) -> Filter:
    """
    Return the filter of some clauses; the error for one that is out of bounds gets the path.
    """
    try:
        return Filter(**clauses, min_should=at_least)
    except InvalidFilter as error:
        raise InvalidFilter(f"{path or 'filter'}: {error}") from None


def _clause(value: object, path: str, depth: int) -> tuple[Node, ...]:
    if isinstance(value, (Mapping, Node)):
        return (condition(value, path, depth + 1),)
    return _conditions(value, path, depth, "a condition or a list of conditions")


def _conditions(value: object, path: str, depth: int, expected: str) -> tuple[Node, ...]:
    return tuple(condition(item, f"{path}[{position}]", depth + 1) for position, item in enumerate(items(value, path, expected)))


def _min_should(value: object, path: str, depth: int) -> MinShould:
    given = parts(value, path, "{conditions, min_count}", ("conditions", "min_count"))
    conditions = _conditions(given.get("conditions"), inside(path, "conditions"), depth, "a list of conditions")
    min_count = integer(given.get("min_count"), inside(path, "min_count"))
    if min_count < 1:
        raise wrong(inside(path, "min_count"), "an int of at least 1", min_count)
    return MinShould(conditions, min_count)


# ---- conditions without a key beside them ----


def _has_id(value: object, path: str, depth: int) -> Node:
    return HasId(tuple(point_id(item, f"{path}[{position}]") for position, item in enumerate(items(value, path, "a list of ids"))))


def _has_vector(value: object, path: str, depth: int) -> Node:
    return HasVector(string(value, path, "the name of a vector"))


def _is_empty(value: object, path: str, depth: int) -> Node:
    return IsEmpty(_inner_key(value, path))


def _is_null(value: object, path: str, depth: int) -> Node:
    return IsNull(_inner_key(value, path))


def _inner_key(value: object, path: str) -> KeyPath:
    given = parts(value, path, "{key}, or 'key' beside it", ("key",))
    return key_path(given.get("key"), inside(path, "key"))


def _nested(value: object, path: str, depth: int) -> Node:
    given = parts(value, path, "{key, filter}", ("key", "filter"))
    key = key_path(given.get("key"), inside(path, "key"))
    inner_path = inside(path, "filter")
    if "filter" not in given:
        raise wrong(inner_path, "a filter", None)
    inner = condition(given["filter"], inner_path, depth + 1)
    return Nested(key, inner if isinstance(inner, Filter) else _wrapped({"must": (inner,)}, inner_path))


_ALONE: Mapping[str, Callable[[object, str, int], Node]] = {
    "has_id": _has_id,
    "has_vector": _has_vector,
    "is_empty": _is_empty,
    "is_null": _is_null,
    "nested": _nested,
}


# ---- conditions on the values at a key ----


def _field_condition(given: Mapping[str, Any], path: str) -> Node:
    key = key_path(given["key"], inside(path, "key"))
    predicates = [name for name in given if name != "key"]
    if not predicates:
        raise InvalidFilter(f"{path or 'filter'}: 'key' without a predicate: expected one of {', '.join(_PREDICATES)}")
    if len(predicates) > 1:
        raise InvalidFilter(
            f"{path or 'filter'}: expected one predicate beside 'key', got {' and '.join(predicates)}: "
            "give each a condition of its own, in the list of 'must'"
        )
    return _PREDICATES[predicates[0]](key, given[predicates[0]], inside(path, predicates[0]))


def _legacy(given: Mapping[str, Any], path: str) -> Node:
    """
    Return the condition of the first form of the grammar: {"match": {"key": k, "keyword" or "integer": v}}.
    """
    match, inner = given["match"], inside(path, "match")
    if len(given) > 1 or (isinstance(match, Mapping) and match.get("key") is None):
        raise wrong(path, "'key' beside 'match'", dict(given))
    names = parts(match, inner, "'key' beside it", _LEGACY)
    key = key_path(names.pop("key"), inside(inner, "key"))
    if len(names) != 1:
        raise wrong(inner, "'keyword' or 'integer' beside 'key'", match)
    if "keyword" in names:
        return Equal(key, ("str", string(names["keyword"], inside(inner, "keyword"))))
    return Equal(key, ("int", integer(names["integer"], inside(inner, "integer"))))


def _match(key: KeyPath, value: object, path: str) -> Node:
    given = parts(value, path, "{value}, {any}, {except}, {text}, {text_any}, {phrase} or {prefix}", _MATCHES)
    if len(given) != 1:
        raise wrong(path, f"one of {', '.join(_MATCHES)}", value)
    if "value" in given:
        return Equal(key, match_term(given["value"], inside(path, "value")))
    if "any" in given:
        return AnyOf(key, match_list(given["any"], inside(path, "any")))
    if "except" in given:
        return Except(key, match_list(given["except"], inside(path, "except")))
    kind = next(kind for kind in PREDICATES if kind in given)
    return TextMatch(key, kind, string(given[kind], inside(path, kind)))


def _range(key: KeyPath, value: object, path: str) -> Node:
    given = parts(value, path, "{gt, gte, lt, lte}", _BOUNDS)
    numbers: dict[str, float] = {}
    times: dict[str, Time] = {}
    for name, bound in given.items():
        found = time_or_number(bound, inside(path, name))
        if isinstance(found, Time):
            times[name] = found
        else:
            numbers[name] = found
    if times and numbers:
        raise wrong(path, "bounds that are all numbers or all times", value)
    return TimeRange(key, Bounds(**times)) if times else NumberRange(key, Bounds(**numbers))


def _values_count(key: KeyPath, value: object, path: str) -> Node:
    given = parts(value, path, "{gt, gte, lt, lte}", _BOUNDS)
    return ValuesCount(key, Bounds(**{name: integer(bound, inside(path, name)) for name, bound in given.items()}))


def _geo_radius(key: KeyPath, value: object, path: str) -> Node:
    given = parts(value, path, "{center, radius}", ("center", "radius"))
    center = geo_point(given.get("center"), inside(path, "center"))
    radius = number(given.get("radius"), inside(path, "radius"), "metres")
    if not 0 <= radius < math.inf:
        raise wrong(inside(path, "radius"), "metres, 0 or more", radius)
    return GeoRadius(key, center, radius)


def _geo_box(key: KeyPath, value: object, path: str) -> Node:
    given = parts(value, path, "{top_left, bottom_right}", ("top_left", "bottom_right"))
    return GeoBox(key, *(geo_point(given.get(name), inside(path, name)) for name in ("top_left", "bottom_right")))


def _geo_polygon(key: KeyPath, value: object, path: str) -> Node:
    given = parts(value, path, "{exterior, interiors}", ("exterior", "interiors"))
    exterior = _ring(given.get("exterior"), inside(path, "exterior"))
    where = inside(path, "interiors")
    interiors = items(given.get("interiors", []), where, "a list of rings")
    return GeoPolygon(key, exterior, tuple(_ring(ring, f"{where}[{position}]") for position, ring in enumerate(interiors)))


def _ring(value: object, path: str) -> tuple[GeoPoint, ...]:
    given = parts(value, path, "{points}", ("points",))
    where = inside(path, "points")
    listed = items(given.get("points"), where, "a list of points")
    points = [geo_point(item, f"{where}[{position}]") for position, item in enumerate(listed)]
    if len(points) < 4 or points[0] != points[-1]:
        raise InvalidFilter(f"{where}: expected a ring of at least 4 points, the last the same as the first, got {len(points)} points")
    return tuple(points)


def _field_is_empty(key: KeyPath, value: object, path: str) -> Node:
    return IsEmpty(key, boolean(value, path))


def _field_is_null(key: KeyPath, value: object, path: str) -> Node:
    return IsNull(key, boolean(value, path))


_PREDICATES: Mapping[str, Callable[[KeyPath, object, str], Node]] = {
    "match": _match,
    "range": _range,
    "geo_radius": _geo_radius,
    "geo_bounding_box": _geo_box,
    "geo_polygon": _geo_polygon,
    "values_count": _values_count,
    "is_empty": _field_is_empty,
    "is_null": _field_is_null,
}

_WITH_KEY = frozenset(("key", *_PREDICATES))
_ANYWHERE = frozenset((*_WITH_KEY, *_CLAUSES, *_ALONE))
