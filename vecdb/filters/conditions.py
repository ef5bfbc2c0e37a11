"""
The conditions: the leaves of a filter's tree, one class for each kind.

They hold checked values only; parse.py makes them, evaluate.py says what they mean, lower.py which index decides them.
Immutable, compared by what they mean. A class says here only how it is printed: `_argument` gives the predicate of the
dict, `_built` the expression over F.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from vecdb.filters.geo import GeoPoint
from vecdb.filters.paths import KeyPath
from vecdb.filters.terms import Term
from vecdb.filters.text import TextKind
from vecdb.filters.times import Time
from vecdb.filters.tree import Node

Value = TypeVar("Value", int, float, Time)
PointId = int | str

_SIGNS = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}


@dataclass(frozen=True, slots=True)
class Bounds(Generic[Value]):
    """
    Up to four bounds that a value must keep, all of them; an absent one is None. Numbers may be int or float, and are compared exactly.
    """

    gt: Value | None = None
    gte: Value | None = None
    lt: Value | None = None
    lte: Value | None = None

    def contain(self, value: Value) -> bool:
        """
        Return whether a value keeps every bound.
        """
        return (
            (self.gt is None or value > self.gt)
            and (self.gte is None or value >= self.gte)
            and (self.lt is None or value < self.lt)
            and (self.lte is None or value <= self.lte)
        )

    def given(self) -> dict[str, Any]:
        """
        Return the bounds that are not absent, as a filter spells them.
        """
        found = {name: getattr(self, name) for name in _SIGNS}
        return {name: bound.text if isinstance(bound, Time) else bound for name, bound in found.items() if bound is not None}

    def compare(self, what: str) -> str:
        """
        Return the expression that compares something with these bounds.
        """
        given = self.given()
        if len(given) == 1:
            return next(f"{what} {_SIGNS[name]} {bound!r}" for name, bound in given.items())
        return f"{what}.range({', '.join(f'{name}={bound!r}' for name, bound in given.items())})"


@dataclass(frozen=True, slots=True, repr=False)
class Keyed(Node):
    """
    The base of the conditions on the values at a key.
    """

    key: KeyPath

    def to_dict(self) -> dict[str, Any]:
        """
        Return the condition in the grammar of dicts.
        """
        predicate, argument = self._argument()
        return {"key": str(self.key), predicate: argument}

    def operand(self) -> str:
        """
        Return the repr, in parentheses when it is a comparison.
        """
        shown = repr(self)
        return shown if shown.endswith(")") else f"({shown})"

    def _argument(self) -> tuple[str, object]:
        raise NotImplementedError

    def _built(self) -> str:
        raise NotImplementedError

    def __repr__(self) -> str:
        """
        Return the expression over F that builds this condition.
        """
        return f"F({str(self.key)!r}){self._built()}"


@dataclass(frozen=True, slots=True, repr=False)
class Equal(Keyed):
    """
    Some element is this value; the term keeps its type, so that 1 and True are different conditions.
    """

    term: Term

    def _argument(self) -> tuple[str, object]:
        return "match", {"value": self.term[-1]}

    def _built(self) -> str:
        return f" == {self.term[-1]!r}"

    def operand(self) -> str:
        """
        Return the repr in parentheses.
        """
        return f"({self!r})"


@dataclass(frozen=True, slots=True, repr=False)
class Listed(Keyed):
    """
    The base of the conditions with a list of values, all str or all int.
    """

    values: tuple[str, ...] | tuple[int, ...]
    members: frozenset[str | int] = field(init=False, compare=False)

    def __post_init__(self) -> None:
        """
        Make the list searchable.
        """
        object.__setattr__(self, "members", frozenset(self.values))

    def has(self, element: object) -> bool:
        """
        Return whether an element is listed.
        """
        return isinstance(element, (str, int)) and not isinstance(element, bool) and element in self.members


@dataclass(frozen=True, slots=True, repr=False)
class AnyOf(Listed):
    """
    Some element is listed.
    """

    def _argument(self) -> tuple[str, object]:
        return "match", {"any": list(self.values)}

    def _built(self) -> str:
        return f".any_of({_listed(self.values)})"


@dataclass(frozen=True, slots=True, repr=False)
class Except(Listed):
    """
    Some non-null element is not listed.
    """

    def _argument(self) -> tuple[str, object]:
        return "match", {"except": list(self.values)}

    def _built(self) -> str:
        return f".except_({_listed(self.values)})"


@dataclass(frozen=True, slots=True, repr=False)
class TextMatch(Keyed):
    """
    Some str element satisfies a text predicate.
    """

    kind: TextKind
    query: str

    def _argument(self) -> tuple[str, object]:
        return "match", {self.kind: self.query}

    def _built(self) -> str:
        return f".{self.kind}({self.query!r})"


@dataclass(frozen=True, slots=True, repr=False)
class NumberRange(Keyed):
    """
    Some element is a number within the bounds.
    """

    bounds: Bounds[float]

    def _argument(self) -> tuple[str, object]:
        return "range", self.bounds.given()

    def _built(self) -> str:
        return self.bounds.compare("")


@dataclass(frozen=True, slots=True, repr=False)
class TimeRange(Keyed):
    """
    Some element is a str that spells a time within the bounds.
    """

    bounds: Bounds[Time]

    def _argument(self) -> tuple[str, object]:
        return "range", self.bounds.given()

    def _built(self) -> str:
        return self.bounds.compare("")


@dataclass(frozen=True, slots=True, repr=False)
class ValuesCount(Keyed):
    """
    The number of values at the key is within the bounds.
    """

    bounds: Bounds[int]

    def _argument(self) -> tuple[str, object]:
        return "values_count", self.bounds.given()

    def _built(self) -> str:
        return self.bounds.compare(".count")


@dataclass(frozen=True, slots=True, repr=False)
class GeoRadius(Keyed):
    """
    Some element is a point nearer to the center than the radius in metres.
    """

    center: GeoPoint
    radius: float

    def _argument(self) -> tuple[str, object]:
        return "geo_radius", {"center": self.center._asdict(), "radius": self.radius}

    def _built(self) -> str:
        return f".geo_radius({self.center.lat}, {self.center.lon}, {self.radius})"


@dataclass(frozen=True, slots=True, repr=False)
class GeoBox(Keyed):
    """
    Some element is a point strictly inside the box.
    """

    top_left: GeoPoint
    bottom_right: GeoPoint

    def _argument(self) -> tuple[str, object]:
        return "geo_bounding_box", {"top_left": self.top_left._asdict(), "bottom_right": self.bottom_right._asdict()}

    def _built(self) -> str:
        return f".geo_box({tuple(self.top_left)}, {tuple(self.bottom_right)})"


@dataclass(frozen=True, slots=True, repr=False)
class GeoPolygon(Keyed):
    """
    Some element is a point strictly inside the exterior ring and strictly outside the interior ones.
    """

    exterior: tuple[GeoPoint, ...]
    interiors: tuple[tuple[GeoPoint, ...], ...] = ()

    def _argument(self) -> tuple[str, object]:
        rings = [{"points": [point._asdict() for point in ring]} for ring in (self.exterior, *self.interiors)]
        return "geo_polygon", {"exterior": rings[0], "interiors": rings[1:]}

    def _built(self) -> str:
        rings = [f"[{', '.join(str(tuple(point)) for point in ring)}]" for ring in (self.exterior, *self.interiors)]
        interiors = f", [{', '.join(rings[1:])}]" if self.interiors else ""
        return f".geo_polygon({rings[0]}{interiors})"


@dataclass(frozen=True, slots=True, repr=False)
class IsEmpty(Keyed):
    """
    Every value at the key is null or [], or there is none; the opposite when expected is False.
    """

    expected: bool = True

    def to_dict(self) -> dict[str, Any]:
        """
        Return the condition in the grammar of dicts.
        """
        return {"is_empty": {"key": str(self.key)}} if self.expected else {"key": str(self.key), "is_empty": False}

    def __repr__(self) -> str:
        """
        Return the expression over F that builds this condition.
        """
        return f"{'' if self.expected else '~'}F({str(self.key)!r}).is_empty()"


@dataclass(frozen=True, slots=True, repr=False)
class IsNull(Keyed):
    """
    Some value at the key is null, or an array that contains null; the opposite when expected is False.
    """

    expected: bool = True

    def to_dict(self) -> dict[str, Any]:
        """
        Return the condition in the grammar of dicts.
        """
        return {"is_null": {"key": str(self.key)}} if self.expected else {"key": str(self.key), "is_null": False}

    def __repr__(self) -> str:
        """
        Return the expression over F that builds this condition.
        """
        return f"{'' if self.expected else '~'}F({str(self.key)!r}).is_null()"


@dataclass(frozen=True, slots=True, repr=False)
class HasId(Node):
    """
    The point's id is listed.
    """

    ids: tuple[PointId, ...]
    members: frozenset[PointId] = field(init=False, compare=False)

    def __post_init__(self) -> None:
        """
        Make the list searchable.
        """
        object.__setattr__(self, "members", frozenset(self.ids))

    def to_dict(self) -> dict[str, Any]:
        """
        Return the condition in the grammar of dicts.
        """
        return {"has_id": list(self.ids)}

    def __repr__(self) -> str:
        """
        Return the expression over F that builds this condition.
        """
        return f"F.has_id([{_listed(self.ids)}])"


@dataclass(frozen=True, slots=True, repr=False)
class HasVector(Node):
    """
    The point has a vector of this name.
    """

    name: str

    def to_dict(self) -> dict[str, Any]:
        """
        Return the condition in the grammar of dicts.
        """
        return {"has_vector": self.name}

    def __repr__(self) -> str:
        """
        Return the expression over F that builds this condition.
        """
        return f"F.has_vector({self.name!r})"


def _listed(values: Iterable[object]) -> str:
    return ", ".join(map(repr, values))
