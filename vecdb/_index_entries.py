"""
What writes change in the payload indexes, gathered into the arrays that the core takes.

Not thread-safe: one change is gathered by one thread.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vecdb._index_types import ColumnEntries, GeoEntries, TagEntries


class IndexChanges(NamedTuple):
    """
    What a write changes in the indexes, as `CoreIndex.apply` takes it.
    """

    tags_added: TagEntries | None = None
    tags_removed: TagEntries | None = None
    column_added: ColumnEntries | None = None
    column_removed: ColumnEntries | None = None
    geo_added: GeoEntries | None = None
    geo_removed: GeoEntries | None = None

    def __bool__(self) -> bool:
        """
        Return whether anything changes.
        """
        return any(entries is not None for entries in self)


_Form = tuple[type[np.generic], ...]
# Element types of the arrays of each form of entries, as `CoreIndex.apply` takes them.
_TAGS: _Form = (np.uint32, np.uint64)
_NUMBERS: _Form = (np.uint32, np.uint32, np.float64, np.int32)
_POINTS: _Form = (np.uint32, np.uint32, np.float64, np.float64)

ColumnPart = tuple[NDArray[np.uint32], NDArray[np.float64], NDArray[Any]]


class Entries:
    """
    Entries that are all added, or all removed.
    """

    def __init__(self) -> None:
        self.tags: list[tuple[int, int]] = []
        """
        (offset, tag)
        """
        self._values: list[tuple[int, int, float, int]] = []
        self._points: list[tuple[int, int, float, float]] = []
        self._parts: dict[_Form, list[tuple[NDArray[Any], ...]]] = {_TAGS: [], _NUMBERS: [], _POINTS: []}

    def column(self, column: int, offset: int, given: Collection[Any], *, are_points: bool) -> None:
        """
        Take what an offset has in a column: points, or pairs of numbers.
        """
        into: list[Any] = self._points if are_points else self._values
        into.extend((column, offset, *one) for one in given)

    def column_part(self, column: int, entries: ColumnPart, *, are_points: bool) -> int:
        """
        Take what many offsets have in a column, and return how many entries that are.
        """
        offsets, first, second = entries
        if len(offsets):
            self._parts[_POINTS if are_points else _NUMBERS].append((np.full(len(offsets), column, np.uint32), offsets, first, second))
        return len(offsets)

    def tag_part(self, offsets: NDArray[np.uint32], tags: NDArray[np.uint64]) -> int:
        """
        Take the tags of many offsets, and return how many that are.
        """
        if len(offsets):
            self._parts[_TAGS].append((offsets, tags))
        return len(offsets)

    def tag_entries(self) -> TagEntries | None:
        """
        Return the tags as arrays.
        """
        entries: TagEntries | None = self._arrays(_TAGS, self.tags)
        return entries

    def column_entries(self) -> ColumnEntries | None:
        """
        Return the numbers as arrays.
        """
        entries: ColumnEntries | None = self._arrays(_NUMBERS, self._values)
        return entries

    def geo_entries(self) -> GeoEntries | None:
        """
        Return the points as arrays.
        """
        entries: GeoEntries | None = self._arrays(_POINTS, self._points)
        return entries

    def _arrays(self, form: _Form, single: list[Any]) -> Any:
        parts = self._parts[form]
        if single:
            parts = [*parts, tuple(map(np.array, zip(*single, strict=True), form))]
        return tuple(map(np.concatenate, zip(*parts, strict=True))) if parts else None


def changes_of(added: Entries, removed: Entries) -> IndexChanges:
    """
    Return the arrays of both.
    """
    return IndexChanges(
        added.tag_entries(),
        removed.tag_entries(),
        added.column_entries(),
        removed.column_entries(),
        added.geo_entries(),
        removed.geo_entries(),
    )
