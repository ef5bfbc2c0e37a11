"""
F: filters written as Python expressions.

Everything that is built goes through the checks of parse.py, so that both ways of writing a filter accept and refuse
the same. Objects are immutable.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NoReturn

from vecdb.errors import InvalidFilter
from vecdb.filters.check import integer, items, key_path
from vecdb.filters.parse import condition, parse
from vecdb.filters.tree import HOW_TO_COMBINE, Node

Point = Mapping[str, float] | tuple[float, float]
"""
A position: {"lat", "lon"}, or the pair (lat, lon), in degrees.
"""


class _Comparable:
    """
    What may be compared with a value, but not be combined or asked whether it is true.
    """

    __slots__ = ()
    __hash__ = None  # type: ignore[assignment]
    # numpy scalars on the left then leave a comparison to this class.
    __array_ufunc__ = None

    def _bounded(self, bounds: dict[str, Any]) -> Node:
        raise NotImplementedError

    def range(self, *, gt: Any = None, gte: Any = None, lt: Any = None, lte: Any = None) -> Node:
        """
        Return the condition that one and the same value keeps all bounds.

        Comparisons joined by `&` may be met by different values of an array.
        """
        return self._bounded({"gt": gt, "gte": gte, "lt": lt, "lte": lte})

    def __lt__(self, bound: object) -> Node:
        """
        Return the condition that a value is less than bound.
        """
        return self._compared("lt", bound)

    def __le__(self, bound: object) -> Node:
        """
        Return the condition that a value is bound or less.
        """
        return self._compared("lte", bound)

    def __gt__(self, bound: object) -> Node:
        """
        Return the condition that a value is greater than bound.
        """
        return self._compared("gt", bound)

    def __ge__(self, bound: object) -> Node:
        """
        Return the condition that a value is bound or greater.
        """
        return self._compared("gte", bound)

    def _compared(self, name: str, bound: object) -> Node:
        if bound is None:
            raise InvalidFilter(f"{self!r}: expected a number or a time to compare with, got None: use .is_null() or .is_empty()")
        return self._bounded({name: bound})

    def _refuse(self, other: object = None) -> NoReturn:
        raise TypeError(f"{self!r} is a key, not a condition: compare it first, and put each comparison in parentheses. {HOW_TO_COMBINE}")

    __and__ = __rand__ = __or__ = __ror__ = __invert__ = __contains__ = _refuse

    def __bool__(self) -> bool:
        """
        Refuse `and`, `or`, `not`.
        """
        self._refuse()


class Count(_Comparable):
    """
    The number of values at a key, to be compared with an int.
    """

    __slots__ = ("_key",)

    def __init__(self, key: str) -> None:
        self._key = key

    def _bounded(self, bounds: dict[str, Any]) -> Node:
        return condition({"key": self._key, "values_count": bounds}, "", 0)

    def __eq__(self, count: object) -> Node:  # type: ignore[override]
        """
        Return the condition that the number is count.
        """
        if count is None:
            raise InvalidFilter(f"{self!r}: expected an int to compare with, got None: use .is_empty()")
        return self._bounded({"gte": count, "lte": count})

    def __ne__(self, count: object) -> Node:  # type: ignore[override]
        """
        Return the condition that the number is not count.
        """
        return ~(self == count)

    def __repr__(self) -> str:
        """
        Return the expression that makes this object.
        """
        return f"F({self._key!r}).count"


class F(_Comparable):
    """
    A key of the payload, from which conditions are built.

    Combine conditions by `&`, `|` and `~`, each in parentheses. A bad value raises InvalidFilter; `and`, `or`, `not`, `in` and chained
    comparison raise TypeError.

    >>> cheap = (F("city") == "London") & (F("price") < 100) & ~F("tags").any_of("sold", "reserved")
    >>> cheap
    (F('city') == 'London') & (F('price') < 100) & ~F('tags').any_of('sold', 'reserved')
    >>> (F("city") == "London").to_dict()
    {'key': 'city', 'match': {'value': 'London'}}
    """

    __slots__ = ("_key",)

    def __init__(self, key: str) -> None:
        self._key = str(key_path(key, "F"))

    def __repr__(self) -> str:
        """
        Return the expression that makes this object.
        """
        return f"F({self._key!r})"

    def _condition(self, predicate: str, argument: object) -> Node:
        return condition({"key": self._key, predicate: argument}, "", 0)

    def _bounded(self, bounds: dict[str, Any]) -> Node:
        return self._condition("range", bounds)

    def __eq__(self, value: object) -> Node:  # type: ignore[override]
        """
        Return the condition that some value at the key is this str, int or bool.
        """
        if value is None:
            raise InvalidFilter(f"{self!r} == None: use .is_null() for null, .is_empty() for missing, null or []")
        return self._condition("match", {"value": value})

    def __ne__(self, value: object) -> Node:  # type: ignore[override]
        """
        Return the condition that no value at the key is this one.
        """
        return ~(self == value)

    def any_of(self, *values: object) -> Node:
        """
        Return the condition that some value at the key is one of these, all str or all int; one list of them is taken too.

        >>> F("size").any_of(38, 40)
        F('size').any_of(38, 40)
        """
        return self._condition("match", {"any": _spread(values)})

    def except_(self, *values: object) -> Node:
        """
        Return the condition that some non-null value at the key is none of these.
        """
        return self._condition("match", {"except": _spread(values)})

    def text(self, query: str) -> Node:
        """
        Return the condition that all words of the query occur in one text.
        """
        return self._condition("match", {"text": _given(query)})

    def text_any(self, query: str) -> Node:
        """
        Return the condition that some word of the query occurs in a text.
        """
        return self._condition("match", {"text_any": _given(query)})

    def phrase(self, query: str) -> Node:
        """
        Return the condition that the words of the query occur in one text, in this order and adjacent.
        """
        return self._condition("match", {"phrase": _given(query)})

    def prefix(self, start: str) -> Node:
        """
        Return the condition that a str begins with this one.
        """
        return self._condition("match", {"prefix": _given(start)})

    def geo_radius(self, lat: float, lon: float, radius: float) -> Node:
        """
        Return the condition that a point is nearer than radius metres to the position in degrees.
        """
        return self._condition("geo_radius", {"center": {"lat": lat, "lon": lon}, "radius": radius})

    def geo_box(self, top_left: Point, bottom_right: Point) -> Node:
        """
        Return the condition that a point is strictly inside the box; one whose left is east of its right crosses the antimeridian.
        """
        return self._condition("geo_bounding_box", {"top_left": _point(top_left), "bottom_right": _point(bottom_right)})

    def geo_polygon(self, exterior: Sequence[Point], interiors: Iterable[Sequence[Point]] = ()) -> Node:
        """
        Return the condition that a point is strictly inside the exterior ring and outside the interior ones.

        Rings are closed: the last point is the first.
        """
        rings = [_ring(ring) for ring in items(interiors, "geo_polygon.interiors", "a list of rings")]
        return self._condition("geo_polygon", {"exterior": _ring(exterior), "interiors": rings})

    @property
    def count(self) -> Count:
        """
        The number of values at the key, to be compared with an int.

        >>> F("tags").count >= 2
        F('tags').count >= 2
        """
        return Count(self._key)

    def is_empty(self) -> Node:
        """
        Return the condition that the key is missing, null or [].
        """
        return condition({"is_empty": {"key": self._key}}, "", 0)

    def is_null(self) -> Node:
        """
        Return the condition that the value is null or an array that contains null.
        """
        return condition({"is_null": {"key": self._key}}, "", 0)

    def nested(self, filter: Node | Mapping[str, Any]) -> Node:
        """
        Return the condition that one object in the array at the key satisfies the whole filter.

        >>> F("offers").nested((F("shop") == "A") & (F("price") < 10))
        F('offers').nested((F('shop') == 'A') & (F('price') < 10))
        """
        return condition({"nested": {"key": self._key, "filter": _given(filter)}}, "", 0)

    @staticmethod
    def has_id(ids: int | str | Iterable[int | str]) -> Node:
        """
        Return the condition that the point's id is one of these; one id is taken as one.

        >>> F.has_id("a")
        F.has_id(['a'])
        """
        return condition({"has_id": [ids] if _is_single(ids) else items(ids, "has_id", "ids")}, "", 0)

    @staticmethod
    def has_vector(name: str) -> Node:
        """
        Return the condition that the point has a vector of this name.
        """
        return condition({"has_vector": _given(name)}, "", 0)

    @staticmethod
    def min_should(min_count: int, *filters: Node | Mapping[str, Any]) -> Node:
        """
        Return the condition that at least min_count of the filters are satisfied.

        >>> F.min_should(2, F("a") == 1, F("b") == 1, F("c") == 1).to_dict()["min_should"]["min_count"]
        2
        """
        return parse({"min_should": {"conditions": list(filters), "min_count": integer(min_count, "min_should.min_count")}})


def _given(value: Any) -> Any:
    """
    Return an argument as it is; None, which a dict takes as absent, is refused.
    """
    if value is None:
        raise InvalidFilter("filter: expected a value, got None")
    return value


def _spread(values: tuple[object, ...]) -> list[object]:
    return list(values) if len(values) != 1 or _is_single(values[0]) else items(values[0], "filter", "values")


def _is_single(value: object) -> bool:
    return isinstance(value, (str, bytes, Mapping, Node)) or not isinstance(value, Iterable)


def _point(point: object) -> object:
    return {"lat": point[0], "lon": point[1]} if isinstance(point, (tuple, list)) and len(point) == 2 else point


def _ring(ring: object) -> dict[str, list[object]]:
    return {"points": [_point(point) for point in items(ring, "geo_polygon", "a list of points")]}
