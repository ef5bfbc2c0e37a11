"""
Checks of single values in a filter: each returns the value as the Python kind the tree holds, or raises InvalidFilter
with the path to it.

numpy scalars, UUIDs and enums of str or int are taken as their kind; nothing else is coerced. Functions without state.
"""

from __future__ import annotations

import difflib
import math
import reprlib
from collections.abc import Collection, Iterable, Mapping
from datetime import date, datetime, timezone
from typing import Any
from uuid import UUID

import numpy as np

from vecdb.errors import InvalidArgument, InvalidFilter
from vecdb.filters.conditions import PointId
from vecdb.filters.geo import GeoPoint
from vecdb.filters.paths import KeyPath
from vecdb.filters.terms import Term
from vecdb.filters.times import Time, parse_time
from vecdb.filters.tree import Node

MAX_ID = 2**64 - 1
MAX_ID_BYTES = 480
MAX_INT_BITS = 1024


class _Shortened(reprlib.Repr):
    def repr_int(self, x: int, level: int) -> str:
        return repr(x) if x.bit_length() <= 256 else f"an int of {x.bit_length()} bits"


_shortened = _Shortened()
_shortened.maxstring = _shortened.maxother = 60


def wrong(path: str, expected: str, got: object, hint: str = "") -> InvalidFilter:
    """
    Return the error for a value that is not what was expected.
    """
    if not hint and hasattr(type(got), "model_dump"):
        hint = "pass its model_dump(by_alias=True)"
    return InvalidFilter(f"{path or 'filter'}: expected {expected}, got {_shortened.repr(got)}{f': {hint}' if hint else ''}")


def unknown(path: str, name: object, expected: Collection[str]) -> InvalidFilter:
    """
    Return the error for a key that the grammar does not have at a place.
    """
    close = difflib.get_close_matches(name, expected, n=1) if isinstance(name, str) and len(name) < 40 else []
    guess = f"did you mean {close[0]!r}? " if close else ""
    shown = name if isinstance(name, str) and name.isidentifier() and len(name) < 40 else _shortened.repr(name)
    return InvalidFilter(f"{inside(path, str(shown))}: unknown key: {guess}expected {', '.join(sorted(expected))}")


def inside(path: str, name: str) -> str:
    """
    Return the path of a part by its name.
    """
    return f"{path}.{name}" if path else name


def parts(value: object, path: str, expected: str, names: Collection[str]) -> dict[str, Any]:
    """
    Return the parts of a dict that are not None; every key must be one of names.
    """
    if not isinstance(value, Mapping):
        raise wrong(path, expected, value)
    for name in value:
        if not isinstance(name, str) or name not in names:
            raise unknown(path, name, names)
    return {str.__str__(name): part for name, part in value.items() if part is not None}


def items(value: object, path: str, expected: str) -> list[Any]:
    """
    Return the items of a list, tuple, set, array, Series or other iterable that is not a str or a dict.
    """
    if isinstance(value, (str, bytes, bytearray, Mapping, Node)) or not isinstance(value, Iterable):
        raise wrong(path, expected, value)
    if getattr(value, "ndim", 1) > 1:  # a table would give the names of its columns
        raise wrong(path, expected, value)
    try:
        return list(value)
    except TypeError:  # an array without dimensions is iterable by its type only
        raise wrong(path, expected, value) from None


def key_path(value: object, path: str) -> KeyPath:
    """
    Return a key path.
    """
    text = string(value, path, "a key path")
    try:
        return KeyPath.parse(text)
    except InvalidArgument as error:
        raise InvalidFilter(f"{path}: {error}") from None


def string(value: object, path: str, expected: str = "a str") -> str:
    """
    Return a str.
    """
    if not isinstance(value, str):
        raise wrong(path, expected, value)
    return str.__str__(value)


def boolean(value: object, path: str) -> bool:
    """
    Return a bool.
    """
    if not isinstance(value, (bool, np.bool_)):
        raise wrong(path, "true or false", value)
    return bool(value)


def is_integer(value: object) -> bool:
    """
    Return whether a value is an int; a bool is not.
    """
    return isinstance(value, (int, np.integer)) and not isinstance(value, (bool, np.timedelta64))


def integer(value: Any, path: str, expected: str = "an int") -> int:
    """
    Return an int; one of unreasonable length is refused.
    """
    if not is_integer(value):
        raise wrong(path, expected, value)
    found = int(value)
    if found.bit_length() > MAX_INT_BITS:
        raise wrong(path, f"{expected} of at most {MAX_INT_BITS} bits", found)
    return found


def number(value: Any, path: str, expected: str = "a number") -> int | float:
    """
    Return a number that is not NaN.
    """
    if is_integer(value):
        return integer(value, path, expected)
    if not isinstance(value, (float, np.floating)) or math.isnan(value):
        raise wrong(path, expected, value)
    return float(value)


def match_term(value: Any, path: str) -> Term:
    """
    Return the term of a value that `match` can be equal to.
    """
    if isinstance(value, (bool, np.bool_)):
        return ("bool", bool(value))
    if is_integer(value):
        return ("int", integer(value, path))
    if isinstance(value, UUID):
        return ("str", str(value))
    hint = "match never takes floats, use range with gte and lte" if isinstance(value, (float, np.floating)) else ""
    if isinstance(value, (list, tuple, set, frozenset, np.ndarray)):
        hint = "use any for a list"
    if not isinstance(value, str):
        raise wrong(path, "a str, int or bool", value, hint)
    return ("str", str.__str__(value))


def match_list(value: object, path: str) -> tuple[str, ...] | tuple[int, ...]:
    """
    Return a list of values, all str or all int.
    """
    expected = "a list, all str or all int"
    found = items(value, path, expected)
    strs: list[str] = []
    ints: list[int] = []
    for position, item in enumerate(found):
        if is_integer(item) and not strs:
            ints.append(integer(item, f"{path}[{position}]"))
        elif isinstance(item, (str, UUID)) and not ints:
            strs.append(str(item) if isinstance(item, UUID) else str.__str__(item))
        else:
            raise wrong(f"{path}[{position}]", "a str or an int, of the same kind in the whole list", item)
    return tuple(strs) if strs else tuple(ints)


def time_or_number(value: Any, path: str) -> Time | int | float:
    """
    Return a bound of a range.
    """
    expected = "a number or an RFC 3339 time"
    if isinstance(value, datetime) and value != value:  # pandas.NaT
        raise wrong(path, expected, value)
    if isinstance(value, datetime) and value.utcoffset() is not None:
        try:
            text = value.astimezone(timezone.utc).isoformat()
        except (OverflowError, ValueError):
            raise wrong(path, expected, value) from None
    elif isinstance(value, date):
        text = value.isoformat()
    elif isinstance(value, np.datetime64):
        coarse = np.datetime_data(value.dtype)[0] in ("Y", "M", "W", "h")  # whose text is no RFC 3339
        text = str(value.astype("datetime64[s]") if coarse else value)
    elif isinstance(value, str):
        text = str.__str__(value)
    else:
        return number(value, path, expected)
    found = parse_time(text)
    if found is None:
        raise wrong(path, expected, value)
    return found


def point_id(value: Any, path: str) -> PointId:
    """
    Return an id.
    """
    expected = f"an id, an int in [0, 2**64) or a str of 1 to {MAX_ID_BYTES} bytes"
    if is_integer(value) and 0 <= value <= MAX_ID:
        return int(value)
    if isinstance(value, UUID):
        return str(value)
    if not isinstance(value, str) or not value:
        raise wrong(path, expected, value)
    try:
        if len(value.encode()) > MAX_ID_BYTES:
            raise wrong(path, expected, value)
    except UnicodeEncodeError:
        raise wrong(path, expected, value, "it is not Unicode text") from None
    return str.__str__(value)


def geo_point(value: object, path: str) -> GeoPoint:
    """
    Return a point, of a dict with lat and lon.
    """
    given = parts(value, path, 'a point {"lat": degrees, "lon": degrees}', ("lat", "lon"))
    degrees: dict[str, float] = {}
    for name, limit in (("lat", 90), ("lon", 180)):
        expected = f"degrees in [-{limit}, {limit}]"
        found = number(given.get(name), inside(path, name), expected)
        if not -limit <= found <= limit:
            raise wrong(inside(path, name), expected, found)
        degrees[name] = float(found)
    return GeoPoint(**degrees)
