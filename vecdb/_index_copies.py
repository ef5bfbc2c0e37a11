"""
The calls of the core's index that copy out what payload indexes hold, so that it can be saved.

A part of `vecdb.index.CoreIndex`; like there, arrays are checked by assertions and any thread may call.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vecdb._index_calls import CoreCalls
from vecdb._index_types import ColumnCopy, PointsCopy, TagCopy


class CopyCalls(CoreCalls):
    """
    What `CoreIndex` can tell of tags and columns. `expected` is about how many entries there are: a good guess saves a second call. No
    other thread may call apply or drop what is copied meanwhile.
    """

    def copy_tags(self, tags: NDArray[np.uint64], *, expected: int = 0) -> TagCopy:
        """
        Return the offsets of each tag.
        """
        counts = np.empty(len(tags), dtype=np.uint32)
        capacity = expected
        while True:
            offsets = np.empty(capacity, dtype=np.uint32)
            total = self._number(
                "uint64_t *",
                self._lib.vecdb_index_copy_tags,
                self._to.u64(tags),
                len(tags),
                self._to.u32(counts),
                self._to.u32(offsets),
                capacity,
            )
            if total <= capacity:
                return TagCopy(counts, offsets[:total])
            capacity = total

    def copy_column(self, column: int, *, expected: int = 0) -> ColumnCopy:
        """
        Return the entries of a column of numbers, in their order.
        """
        capacity = expected
        while True:
            offsets = np.empty(capacity, dtype=np.uint32)
            values = np.empty(capacity, dtype=np.float64)
            rests = np.empty(capacity, dtype=np.int32)
            out = (self._to.u32(offsets), self._to.f64(values), self._to.i32(rests))
            total = self._number("uint64_t *", self._lib.vecdb_index_copy_column, column, *out, capacity)
            if total <= capacity:
                return ColumnCopy(offsets[:total], values[:total], rests[:total])
            capacity = total

    def copy_points(self, column: int, *, expected: int = 0) -> PointsCopy:
        """
        Return the entries of a column of points.
        """
        capacity = expected
        while True:
            offsets = np.empty(capacity, dtype=np.uint32)
            lats, lons = (np.empty(capacity, dtype=np.float64) for _ in range(2))
            out = (self._to.u32(offsets), self._to.f64(lats), self._to.f64(lons))
            total = self._number("uint64_t *", self._lib.vecdb_index_copy_points, column, *out, capacity)
            if total <= capacity:
                return PointsCopy(offsets[:total], lats[:total], lons[:total])
            capacity = total
