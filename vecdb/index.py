"""
The core, seen from Python: numpy arrays and filter programs in, numpy arrays out.

Only this module (and `_crc`) imports the extension `_core`; it holds no policy. Every call releases the GIL and may be made from any
thread, with the exceptions that `csrc/vecdb.h` names. Arrays are checked for type and layout by assertions: what users give is checked
before it comes here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vecdb import _core
from vecdb._index_arrays import Changes, Pointers
from vecdb._index_copies import CopyCalls
from vecdb._index_graphs import GraphCalls
from vecdb._index_types import (
    ALL,
    ColumnEntries,
    Field,
    FieldStats,
    GeoEntries,
    GraphReport,
    Offsets,
    Plan,
    Rows,
    SearchResult,
    Stats,
    TagEntries,
    Words,
)
from vecdb.errors import Closed, InternalError, error_for_status

__all__ = [
    "ALL",
    "ColumnEntries",
    "CoreIndex",
    "Field",
    "FieldStats",
    "GraphReport",
    "Plan",
    "SearchResult",
    "Stats",
    "TagEntries",
    "check",
    "ffi",
    "lib",
]

ffi: Any = _core.ffi
lib: Any = _core.lib
_to = Pointers(ffi)

ABI_VERSION = 7
if lib.vecdb_abi_version() != ABI_VERSION:
    raise ImportError(f"vecdb._core has ABI version {lib.vecdb_abi_version()}, expected {ABI_VERSION}: build or install vecdb again")

_METRICS = {"cosine": lib.VECDB_COSINE, "dot": lib.VECDB_DOT, "l2": lib.VECDB_L2}
_STRATEGIES = {getattr(lib, f"VECDB_PLAN_{name.upper()}"): name for name in ("empty", "exact", "graph", "tag", "sweep")}


def check(status: int) -> None:
    """
    Raise the exception that belongs to a status of the core, with the core's own message.
    """
    if status != lib.VECDB_OK:
        raise error_for_status(status, ffi.string(lib.vecdb_last_error()).decode("utf-8", "replace"))


class CoreIndex(GraphCalls, CopyCalls):
    """
    The index of one collection in the core.

    Calls that run when it is closed go on to their end; the memory goes with the last of them.

    >>> from vecdb.storage.framing import FieldSpec
    >>> field = FieldSpec(number=0, name="", dim=2, metric="l2", m=16, ef_construction=200, quantization=None, seed=1)
    >>> core = CoreIndex([field], threads=0)
    >>> core.append_rows(0, np.array([[0, 0], [3, 4]], dtype=np.float32))
    >>> core.apply(first_offset=0, ids=np.array([7, 8], dtype=np.uint64), kinds=np.zeros(2, np.uint8), present=np.ones((1, 2), np.uint8))
    1
    >>> result = core.search(np.zeros((1, 2), dtype=np.float32), 2)
    >>> result.ids.tolist(), result.scores.tolist()
    ([[7, 8]], [[0.0, 5.0]])
    >>> core.close()
    """

    _ffi, _lib, _to, _check = ffi, lib, _to, staticmethod(check)

    def __init__(self, fields: Sequence[Field], *, threads: int) -> None:
        described = ffi.new("vecdb_field[]", len(fields))
        for place, field in zip(described, fields, strict=True):
            place.dim = field.dim
            place.metric = _METRICS[field.metric]
            place.m = field.m
            place.ef_construction = field.ef_construction
            place.seed = field.seed
            place.coding = lib.VECDB_NO_CODES if field.quantization is None else lib.VECDB_EIGHT_BITS
        out = ffi.new("vecdb_index **")
        check(lib.vecdb_index_create(described, len(fields), threads, out))
        self._handle: Any = ffi.gc(out[0], lib.vecdb_index_destroy)
        self._dims = tuple(field.dim for field in fields)

    def _open(self) -> Any:
        handle = self._handle
        if handle is None:
            raise Closed("this collection is closed; open its database again")
        return handle

    def close(self) -> None:
        """
        Release the memory and stop the background threads; idempotent.
        """
        self._handle = None

    def set_threads(self, threads: int) -> None:
        """
        Set how many threads may index in the background.
        """
        check(lib.vecdb_index_set_threads(self._open(), threads))

    # ---- rows and changes ----

    def append_rows(self, field: int, rows: Rows) -> None:
        """
        Store rows (n, dim) in memory, before the change that uses them.
        """
        assert rows.ndim == 2, "rows must be two-dimensional"
        assert rows.shape[1] == self._dims[field], f"rows have {rows.shape[1]} columns, expected {self._dims[field]}"
        check(lib.vecdb_index_append_rows(self._open(), field, _to.f32(rows), len(rows)))

    def map_rows(self, field: int, fd: int, rows: int) -> None:
        """
        Show rows [0, rows) of a file, before the change that uses them.
        """
        check(lib.vecdb_index_map_rows(self._open(), field, fd, rows))

    def expect_checksums(self, field: int, crcs: NDArray[np.uint32]) -> None:
        """
        Have blocks [0, len(crcs)) compared with these CRC32C before their first use.
        """
        check(lib.vecdb_index_expect_checksums(self._open(), field, _to.u32(crcs), len(crcs)))

    def apply(
        self,
        *,
        first_offset: int,
        ids: NDArray[np.uint64] | None = None,
        kinds: NDArray[np.uint8] | None = None,
        id_bytes: bytes = b"",
        present: NDArray[np.uint8] | None = None,
        tombstones: Offsets | None = None,
        tags_added: TagEntries | None = None,
        tags_removed: TagEntries | None = None,
        column_added: ColumnEntries | None = None,
        column_removed: ColumnEntries | None = None,
        geo_added: GeoEntries | None = None,
        geo_removed: GeoEntries | None = None,
    ) -> int:
        """
        Apply one change, which searches see whole or not at all, and return the version after it.

        ids, kinds (n) and present (fields, n) describe offsets [first_offset, first_offset + n). Tag entries are (offsets, tags), column
        entries (columns, offsets, values, rests), geo entries (columns, offsets, lats, lons). Removals are done before additions.
        """
        changes = Changes(ffi, _to, first_offset)
        if ids is not None:
            assert kinds is not None, "ids need kinds"
            assert present is not None, "ids need present"
            assert kinds.shape == ids.shape, "kinds must be as many as ids"
            assert present.shape == (len(self._dims), len(ids)), f"present is {present.shape}, expected {(len(self._dims), len(ids))}"
            changes.put(ids, kinds, id_bytes, present)
        if tombstones is not None:
            changes.struct.tombstone_count = changes.point("tombstones", _to.u32(tombstones))
        changes.tags("tag_added", tags_added)
        changes.tags("tag_removed", tags_removed)
        changes.columns("column_added", column_added)
        changes.columns("column_removed", column_removed)
        changes.points("geo_added", geo_added)
        changes.points("geo_removed", geo_removed)
        return self._number("uint64_t *", lib.vecdb_index_apply, changes.struct)

    def drop_tags(self, tags: NDArray[np.uint64]) -> None:
        """
        Drop all entries of these tags.
        """
        check(lib.vecdb_index_drop_tags(self._open(), _to.u64(tags), len(tags)))

    def drop_column(self, column: int) -> None:
        """
        Drop all entries of a column.
        """
        check(lib.vecdb_index_drop_column(self._open(), column))

    # ---- search ----

    def search(
        self, queries: Rows, k: int, *, field: int = 0, ef: int = 0, exact: bool = False, threads: int = 1, program: Words = ALL
    ) -> SearchResult:
        """
        Return the k nearest live points that satisfy the program, for each of queries (q, dim); ef=0 chooses it.
        """
        assert queries.ndim == 2, "queries must be two-dimensional"
        assert queries.shape[1] == self._dims[field], f"queries have {queries.shape[1]} columns, expected {self._dims[field]}"
        count = len(queries)
        asked = self._asked(k, field, ef, threads, program, exact=exact)
        rows = _to.f32(queries)
        asked.queries = rows
        asked.query_count = count
        offsets = np.empty((count, k), dtype=np.uint32)
        ids = np.empty((count, k), dtype=np.uint64)
        kinds = np.empty((count, k), dtype=np.uint8)
        scores = np.empty((count, k), dtype=np.float32)
        counts = np.empty(count, dtype=np.uint32)
        plan = ffi.new("vecdb_plan *")
        pointer = ffi.from_buffer  # what was made here needs no look at its type
        check(
            lib.vecdb_index_search(
                self._open(),
                asked,
                pointer("uint32_t[]", offsets),
                pointer("uint64_t[]", ids),
                pointer("uint8_t[]", kinds),
                pointer("float[]", scores),
                pointer("uint32_t[]", counts),
                plan,
            )
        )
        return SearchResult(offsets, ids, kinds, scores, counts, plan, self)

    def plan(self, k: int, *, field: int = 0, ef: int = 0, exact: bool = False, program: Words = ALL) -> Plan:
        """
        Return what search would do, without doing it.
        """
        plan = ffi.new("vecdb_plan *")
        check(lib.vecdb_index_plan(self._open(), self._asked(k, field, ef, 1, program, exact=exact), plan))
        return self.plan_of(plan)

    @staticmethod
    def plan_of(plan: Any) -> Plan:
        """
        Return a vecdb_plan as Python has it.
        """
        strategy = _STRATEGIES.get(plan.strategy)
        if strategy is None:
            raise InternalError(f"the core's plan is number {plan.strategy}, expected one of {sorted(_STRATEGIES)}")
        return Plan(plan.version, plan.cardinality, plan.total, plan.tail, strategy, plan.ef, plan.cost_exact_ns, plan.cost_graph_ns)

    @staticmethod
    def _asked(k: int, field: int, ef: int, threads: int, program: Words, *, exact: bool) -> Any:
        asked = ffi.new("vecdb_search *")
        asked.k = k
        asked.field = field
        asked.ef = ef
        asked.exact = exact
        asked.threads = threads
        # The caller's `program` outlives the call, and with it this pointer.
        words = len(program)
        if words:
            asked.program = _to.u64(program)
            asked.program_size = words
        return asked

    def count(self, program: Words = ALL) -> tuple[int, int]:
        """
        Return how many live points satisfy the program, and the version this is true for.
        """
        count, version = ffi.new("uint64_t *"), ffi.new("uint64_t *")
        check(lib.vecdb_index_count(self._open(), _to.u64(program), len(program), count, version))
        return int(count[0]), int(version[0])

    def select(self, program: Words = ALL) -> tuple[Offsets, int]:
        """
        Return the ascending offsets of the live points that satisfy the program, and the version this is true for.
        """
        count, version = ffi.new("uint64_t *"), ffi.new("uint64_t *")
        handle = self._open()
        words = _to.u64(program)
        # Room for all that live costs address space only, and saves evaluating the program for its count.
        capacity = self.count()[0]
        while True:
            offsets = np.empty(capacity, dtype=np.uint32)
            check(lib.vecdb_index_select(handle, words, len(program), _to.u32(offsets), capacity, count, version))
            found = int(count[0])
            if found <= capacity:
                return offsets if found == capacity else offsets[:found].copy(), int(version[0])
            capacity = found

    # ---- points ----

    def get_rows(self, field: int, offsets: Offsets) -> tuple[Rows, NDArray[np.uint8]]:
        """
        Return the rows (n, dim) of n offsets, and which of them have one (the others are zeros).
        """
        rows = np.empty((len(offsets), self._dims[field]), dtype=np.float32)
        present = np.empty(len(offsets), dtype=np.uint8)
        check(
            lib.vecdb_index_get_rows(
                self._open(),
                field,
                _to.u32(offsets),
                len(offsets),
                _to.f32(rows),
                _to.u8(present),
            )
        )
        return rows, present

    def get_ids(self, offsets: Offsets) -> list[int | str]:
        """
        Return the ids of offsets.
        """
        ids = np.empty(len(offsets), dtype=np.uint64)
        kinds = np.empty(len(offsets), dtype=np.uint8)
        handle = self._open()
        check(lib.vecdb_index_get_ids(handle, _to.u32(offsets), len(offsets), _to.u64(ids), _to.u8(kinds)))
        return self._decode(handle, ids, kinds)

    def decode_ids(self, ids: NDArray[np.uint64], kinds: NDArray[np.uint8], counts: Iterable[int]) -> list[list[int | str]]:
        """
        Return the ids of each query of a SearchResult, its first counts[i] ones.
        """
        handle = self._open()
        if not kinds.tobytes().strip(b"\0"):  # faster than any() for some ten of them
            rows: list[list[int | str]] = ids.tolist()
            return [row[:count] for row, count in zip(rows, counts, strict=True)]
        return [self._decode(handle, row[:count], row_kinds[:count]) for row, row_kinds, count in zip(ids, kinds, counts, strict=True)]

    @staticmethod
    def _decode(handle: Any, ids: NDArray[np.uint64], kinds: NDArray[np.uint8]) -> list[int | str]:
        decoded: list[int | str] = ids.tolist()
        if kinds.tobytes().strip(b"\0"):
            text, size = ffi.new("char **"), ffi.new("uint32_t *")
            for place in np.flatnonzero(kinds).tolist():
                check(lib.vecdb_index_id_text(handle, decoded[place], text, size))
                decoded[place] = bytes(ffi.buffer(text[0], size[0])).decode("utf-8")
        return decoded

    # ---- derived files, figures ----

    def stats(self) -> Stats:
        """
        Return the figures of the index.
        """
        out = ffi.new("vecdb_index_stats *")
        check(lib.vecdb_index_get_stats(self._open(), out))
        return Stats(*(int(getattr(out, name)) for name in Stats._fields))

    def field_stats(self, field: int) -> FieldStats:
        """
        Return the figures of one field.
        """
        out = ffi.new("vecdb_field_stats *")
        check(lib.vecdb_index_get_field_stats(self._open(), field, out))
        return FieldStats(*(int(getattr(out, name)) for name in FieldStats._fields))

    def verify(self) -> None:
        """
        Compare every block of rows with its checksum; raises Corruption.
        """
        check(lib.vecdb_index_verify(self._open()))
