"""
What writes change in the payload indexes, gathered into the arrays that the core takes.

Not thread-safe: one change is gathered by one thread.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, NamedTuple

import numpy as np

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

    def column(self, column: int, offset: int, given: Collection[Any], *, are_points: bool) -> None:
        """
        Take what an offset has in a column: points, or pairs of numbers.
        """
        into: list[Any] = self._points if are_points else self._values
        into.extend((column, offset, *one) for one in given)

    def tag_entries(self) -> TagEntries | None:
        """
        Return the tags as arrays.
        """
        if not self.tags:
            return None
        offsets, tags = zip(*self.tags, strict=True)
        return np.array(offsets, dtype=np.uint32), np.array(tags, dtype=np.uint64)

    def column_entries(self) -> ColumnEntries | None:
        """
        Return the numbers as arrays.
        """
        if not self._values:
            return None
        columns, offsets, values, rests = zip(*self._values, strict=True)
        return (
            np.array(columns, dtype=np.uint32),
            np.array(offsets, dtype=np.uint32),
            np.array(values, dtype=np.float64),
            np.array(rests, dtype=np.int32),
        )

    def geo_entries(self) -> GeoEntries | None:
        """
        Return the points as arrays.
        """
        if not self._points:
            return None
        columns, offsets, lats, lons = zip(*self._points, strict=True)
        return (
            np.array(columns, dtype=np.uint32),
            np.array(offsets, dtype=np.uint32),
            np.array(lats, dtype=np.float64),
            np.array(lons, dtype=np.float64),
        )


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
