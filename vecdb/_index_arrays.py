"""
numpy arrays as pointers that the core can read, checked for type and layout; nothing is copied.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vecdb._index_types import ColumnEntries, GeoEntries, TagEntries


class Pointers:
    """
    One function for each element type: array -> pointer, which keeps the array alive.
    """

    def __init__(self, ffi: Any) -> None:
        self.f32 = partial(self._pointer, ffi, "float[]", np.dtype(np.float32))
        self.f64 = partial(self._pointer, ffi, "double[]", np.dtype(np.float64))
        self.u8 = partial(self._pointer, ffi, "uint8_t[]", np.dtype(np.uint8))
        self.i32 = partial(self._pointer, ffi, "int32_t[]", np.dtype(np.int32))
        self.u32 = partial(self._pointer, ffi, "uint32_t[]", np.dtype(np.uint32))
        self.u64 = partial(self._pointer, ffi, "uint64_t[]", np.dtype(np.uint64))

    @staticmethod
    def _pointer(ffi: Any, c_type: str, dtype: np.dtype[Any], array: NDArray[Any]) -> Any:
        assert array.dtype == dtype, f"an array is {array.dtype}, expected {dtype}"
        assert array.flags.c_contiguous, "an array is not C-contiguous"
        return ffi.from_buffer(c_type, array)


class Changes:
    """
    A vecdb_changes that keeps alive what it points to.
    """

    def __init__(self, ffi: Any, to: Pointers, first_offset: int) -> None:
        self._ffi = ffi
        self._to = to
        self.struct = ffi.new("vecdb_changes *")
        self.struct.first_offset = first_offset
        self._kept: list[Any] = []

    def point(self, member: str, pointer: Any) -> int:
        """
        Set a pointer and return the length of what it points to.
        """
        self._kept.append(pointer)
        setattr(self.struct, member, pointer)
        return len(pointer)

    def put(self, ids: NDArray[np.uint64], kinds: NDArray[np.uint8], id_bytes: bytes, present: NDArray[np.uint8]) -> None:
        """
        Set the new offsets.
        """
        struct, to_u8 = self.struct, self._to.u8
        struct.count = len(ids)
        struct.ids, struct.id_kinds, struct.present = kept = self._to.u64(ids), to_u8(kinds), to_u8(present)
        self._kept += kept
        if id_bytes:
            struct.id_bytes_size = self.point("id_bytes", self._ffi.from_buffer("char[]", id_bytes))

    def tags(self, name: str, entries: TagEntries | None) -> None:
        """
        Set tag_added or tag_removed, unless there are none.
        """
        if entries is None:
            return
        offsets, tags = entries
        assert len(offsets) == len(tags), "tag entries must be as many offsets as tags"
        self.point(f"{name}_offsets", self._to.u32(offsets))
        setattr(self.struct, f"{name}_count", self.point(name, self._to.u64(tags)))

    def columns(self, name: str, entries: ColumnEntries | None) -> None:
        """
        Set column_added or column_removed, unless there are none.
        """
        if entries is None:
            return
        columns, offsets, values, rests = entries
        assert len(columns) == len(offsets) == len(values) == len(rests), "column entries must be four arrays of one length"
        self.point(f"{name}_offsets", self._to.u32(offsets))
        self.point(f"{name}_values", self._to.f64(values))
        self.point(f"{name}_rests", self._to.i32(rests))
        setattr(self.struct, f"{name}_count", self.point(name, self._to.u32(columns)))

    def points(self, name: str, entries: GeoEntries | None) -> None:
        """
        Set geo_added or geo_removed, unless there are none.
        """
        if entries is None:
            return
        columns, offsets, lats, lons = entries
        assert len(columns) == len(offsets) == len(lats) == len(lons), "geo entries must be four arrays of one length"
        self.point(f"{name}_offsets", self._to.u32(offsets))
        self.point(f"{name}_lats", self._to.f64(lats))
        self.point(f"{name}_lons", self._to.f64(lons))
        setattr(self.struct, f"{name}_count", self.point(name, self._to.u32(columns)))
