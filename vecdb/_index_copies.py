"""
The calls of the core's index that copy out what payload indexes hold, so that it can be saved.

A part of `vecdb.index.CoreIndex`; like there, arrays are checked by assertions and any thread may call.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vecdb._index_calls import CoreCalls
from vecdb._index_types import ColumnCopy, ColumnEntry, PointsCopy, TagCopy


class CopyCalls(CoreCalls):
    """
    What `CoreIndex` can tell of tags and columns, in pieces: each is of one moment, and what stays from one to the next is in exactly one.
    """

    def copy_tags(self, tags: NDArray[np.uint64], *, first: int, last: int, capacity: int) -> TagCopy | None:
        """
        Return the offsets in [first, last) of each tag; None when they are more than the capacity.
        """
        counts = np.empty(len(tags), dtype=np.uint32)
        offsets = np.empty(capacity, dtype=np.uint32)
        out = (self._to.u32(counts), self._to.u32(offsets))
        call = self._lib.vecdb_index_copy_tags
        total = self._number("uint64_t *", call, self._to.u64(tags), len(tags), first, last, *out, capacity)
        return TagCopy(counts, offsets[:total]) if total <= capacity else None

    def copy_column(self, column: int, *, after: ColumnEntry | None, capacity: int) -> ColumnCopy:
        """
        Return the entries of a column of numbers beyond one, None for all, in their order; no more than the capacity.
        """
        offsets = np.empty(capacity, dtype=np.uint32)
        values = np.empty(capacity, dtype=np.float64)
        rests = np.empty(capacity, dtype=np.int32)
        entry = self._ffi.NULL if after is None else self._ffi.new("vecdb_column_entry *", after._asdict())
        out = (self._to.u32(offsets), self._to.f64(values), self._to.i32(rests))
        total = self._number("uint64_t *", self._lib.vecdb_index_copy_column, column, entry, *out, capacity)
        return ColumnCopy(offsets[:total], values[:total], rests[:total])

    def copy_points(self, column: int, *, after: ColumnEntry | None, capacity: int) -> PointsCopy:
        """
        Return the entries of a column of points beyond one, None for all, in the core's order; no more than the capacity.
        """
        offsets = np.empty(capacity, dtype=np.uint32)
        lats, lons = (np.empty(capacity, dtype=np.float64) for _ in range(2))
        entry = self._ffi.NULL if after is None else self._ffi.new("vecdb_column_entry *", after._asdict())
        out = (self._to.u32(offsets), self._to.f64(lats), self._to.f64(lons))
        total = self._number("uint64_t *", self._lib.vecdb_index_copy_points, column, entry, *out, capacity)
        return PointsCopy(offsets[:total], lats[:total], lons[:total])
