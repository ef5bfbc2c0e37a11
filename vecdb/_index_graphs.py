"""
The calls of the core's index about its graphs: background work, links of tags, derived files, reachability.

A part of `vecdb.index.CoreIndex`, which names the extension; like there, arrays are checked by assertions and any thread may call.
"""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray

from vecdb._index_calls import CoreCalls
from vecdb._index_types import GraphReport

_UUID_BYTES = 16
# A graph that background threads work on may have grown between the question for its size and the copy.
_SAVE_SLACK_BYTES = 1 << 16


class GraphCalls(CoreCalls):
    """
    What `CoreIndex` can do with graphs.
    """

    def help(self, max_points: int) -> int:
        """
        Index at most max_points points in this thread while a tail is longer than its bound; return how many.
        """
        return self._number("uint32_t *", self._lib.vecdb_index_help, max_points)

    def wait_indexed(self, timeout_ms: int) -> bool:
        """
        Wait until no tail needs a graph; False when that took longer.
        """
        return bool(self._number("uint32_t *", self._lib.vecdb_index_wait_indexed, timeout_ms))

    def link_tags(self, field: int, tags: NDArray[np.uint64], *, m: int = 0) -> None:
        """
        Have the points of each of these tags linked among themselves, m links each (0: the usual number), once and while that pays.
        """
        self._check(self._lib.vecdb_index_link_tags(self._open(), field, self._to.u64(tags), len(tags), m))

    def unlink_tags(self, field: int, tags: NDArray[np.uint64]) -> None:
        """
        Forget the links of these tags, and the wish for them.
        """
        self._check(self._lib.vecdb_index_unlink_tags(self._open(), field, self._to.u64(tags), len(tags)))

    def link_column(self, field: int, column: int, *, m: int = 0) -> None:
        """
        Have points of this column linked, m links each (0: the usual number): those in a window of values, or a cell of the globe, as soon
        as a search would gain by it.
        """
        self._check(self._lib.vecdb_index_link_column(self._open(), field, column, m))

    def unlink_column(self, field: int, column: int) -> None:
        """
        Forget the links of this column, and the wish for them.
        """
        self._check(self._lib.vecdb_index_unlink_column(self._open(), field, column))

    def save_graph(
        self, field: int, uuid: bytes, generation: int, lsn: int, *, kept_rows: NDArray[np.bool_] | None = None
    ) -> memoryview | None:
        """
        Return the field's graph as the bytes of a derived file, or None when it has none. It covers rows that were applied when this was
        called or since.

        With kept_rows, one bool a row, it is the graph after compaction: of the kept rows, numbered anew in their order. Then no other
        thread may call apply meanwhile.
        """
        assert len(uuid) == _UUID_BYTES, "a uuid has 16 bytes"
        handle = self._open()
        size = self._ffi.new("uint64_t *")
        save = partial(self._lib.vecdb_index_save_graph, handle, field, uuid, generation, lsn)
        if kept_rows is not None:
            words = np.zeros((len(kept_rows) + 63) // 64, dtype=np.uint64)
            words.view(np.uint8)[: (len(kept_rows) + 7) // 8] = np.packbits(kept_rows, bitorder="little")
            save = partial(
                self._lib.vecdb_index_save_compacted_graph, handle, field, uuid, generation, lsn, self._to.u64(words), len(kept_rows)
            )
        status = save(self._ffi.NULL, 0, size)
        if status == self._lib.VECDB_NOT_FOUND:
            return None
        self._check(status)
        while True:
            buffer = np.empty(int(size[0]) + int(size[0]) // 64 + _SAVE_SLACK_BYTES, dtype=np.uint8)
            status = save(self._to.u8(buffer), len(buffer), size)
            if status != self._lib.VECDB_CAPACITY:
                self._check(status)
                return buffer.data[: int(size[0])]

    def load_graph(self, field: int, uuid: bytes, generation: int, data: bytes | memoryview) -> tuple[int, int]:
        """
        Take over a saved graph, after checking all of it, and return its LSN and how many rows the field's graph covers now.
        """
        assert len(uuid) == _UUID_BYTES, "a uuid has 16 bytes"
        lsn, rows = self._ffi.new("uint64_t *"), self._ffi.new("uint64_t *")
        buffer = self._ffi.from_buffer("uint8_t[]", data)
        self._check(self._lib.vecdb_index_load_graph(self._open(), field, uuid, generation, buffer, len(buffer), lsn, rows))
        return int(lsn[0]), int(rows[0])

    def check_graph(self, field: int) -> GraphReport:
        """
        Look at every link of the field's graph and return what was found; exact while nothing is indexed.
        """
        out = self._ffi.new("vecdb_graph_report *")
        self._check(self._lib.vecdb_index_check_graph(self._open(), field, out))
        return GraphReport(*(int(getattr(out, name)) for name in GraphReport._fields))
