"""
What many payloads give to the indexes of a key, made of all values of one type at once instead of point by point.

Invariant: a group gives what `filters.terms` gives of each of its values; what is not a plain value (arrays, nulls, paths into arrays) is
left to that function. Functions without state.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import compress
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vecdb.filters import FILLED, FLOATS, ONE, KeyPath, Kind, Term, time_pair, values
from vecdb.storage.codec import UNSET

TERM_NAMES: Mapping[type, str] = {str: "str", int: "int", bool: "bool"}
"""
What terms of values of a type begin with.
"""
_GROUPED = frozenset((str, int, float, bool, dict))
_EXACT = 2.0**53  # ints below are what they are when they are rounded to a double

_Columns = tuple[NDArray[np.uint32], NDArray[np.float64], NDArray[Any]]


class PayloadParts(NamedTuple):
    """
    Offsets, and of the payload of each what it has at some keys, by key; UNSET where it has none.
    """

    offsets: list[int]
    values: Mapping[str, list[Any]]


class Group(NamedTuple):
    """
    Offsets whose payloads have values of one type at a key, one each; where kind is None, `values` holds lists of all that they have.
    """

    kind: type | None
    offsets: NDArray[np.uint32]
    values: Sequence[Any]

    def without(self, offsets: set[int]) -> Group:
        """
        Return the group of the others.
        """
        return self.where([offset not in offsets for offset in self.offsets.tolist()])

    def where(self, kept: Sequence[bool]) -> Group:
        """
        Return the group of some.
        """
        return Group(self.kind, self.offsets[np.array(kept, bool)], list(compress(self.values, kept)))

    def one_by_one(self) -> Iterator[tuple[int, Sequence[Any]]]:
        """
        Yield each offset and all that its payload has at the key.
        """
        found = self.values if self.kind is None else ((value,) for value in self.values)
        return zip(self.offsets.tolist(), found, strict=True)


def groups_of(parts: PayloadParts, key: KeyPath) -> list[Group]:
    """
    Return what payloads have at a path; those that have nothing there are in no group.
    """
    offsets = np.array(parts.offsets, np.uint32)
    found = parts.values[str(key.steps[0])]
    for done, step in enumerate(key.steps[1:], 1):
        if not isinstance(step, str):
            rest = KeyPath(("", *key.steps[done:]))
            given = [[] if value is UNSET else values({"": value}, rest) for value in found]
            return [Group(None, offsets, given).where([bool(one) for one in given])]
        found = [value.get(step, UNSET) if type(value) is dict else UNSET for value in found]
    types = list(map(type, found))
    kinds = set(types)
    if len(kinds) == 1 and kinds <= _GROUPED:
        return [Group(types[0], offsets, found)]
    groups = [Group(kind, offsets, found).where([one is kind for one in types]) for kind in kinds & _GROUPED]
    others = kinds - _GROUPED - {type(UNSET)}
    if others:
        groups.append(Group(None, offsets, [(value,) for value in found]).where([one in others for one in types]))
    return groups


def markers_of(group: Group, kind: Kind) -> tuple[Term, ...]:
    """
    Return the markers that each value of a group of plain values gives to an index of tags or presence.
    """
    if kind == "presence":
        return (FILLED,)
    return (FLOATS, ONE) if group.kind is float else (ONE,)


def column_of(group: Group, kind: Kind) -> _Columns:
    """
    Return the entries, offsets and pairs of numbers or degrees, that a group of plain values gives to a column.
    """
    if kind == "counts":
        return _column(group, np.ones(len(group.offsets)))
    if kind == "numbers" and group.kind in (int, float):
        return _numbers(group)
    if kind == "times" and group.kind is str:
        pairs = list(map(time_pair, group.values))
        group = group.where([pair is not None for pair in pairs])
        times = np.array([pair for pair in pairs if pair is not None], np.float64).reshape(-1, 2)
        return group.offsets, np.ascontiguousarray(times[:, 0]), times[:, 1].astype(np.int32)
    if kind == "points" and group.kind is dict:
        return _points(group)
    return _column(group.where([False] * len(group.offsets)), np.empty(0))


def _column(group: Group, first: NDArray[np.float64]) -> _Columns:
    return group.offsets, first, np.zeros(len(first), np.int32)


def _numbers(group: Group) -> _Columns:
    # Adding 0.0 turns -0.0 into 0.0, as `filters.terms.number` does.
    rounded = np.array(group.values, np.float64) + 0.0
    if group.kind is int and np.abs(rounded).max(initial=0.0) >= _EXACT:
        rests = [value - int(near) for value, near in zip(group.values, rounded.tolist(), strict=True)]
        return group.offsets, rounded, np.array(rests, np.int32)
    numbers = rounded == rounded  # a NaN is in no range
    return (group.offsets[numbers], *_column(group, rounded[numbers])[1:])


def _points(group: Group) -> _Columns:
    lats, lons = ([value.get(name) for value in group.values] for name in ("lat", "lon"))
    if not {float, int}.issuperset({*map(type, lats), *map(type, lons)}):
        good = [type(lat) in (int, float) and type(lon) in (int, float) for lat, lon in zip(lats, lons, strict=True)]
        group, lats, lons = group.where(good), list(compress(lats, good)), list(compress(lons, good))
    return group.offsets, np.array(lats, np.float64), np.array(lons, np.float64)
