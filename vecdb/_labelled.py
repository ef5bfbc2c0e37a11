"""
The core's labelled index, seen from Python: numpy arrays in, numpy arrays out.

It holds no policy; `vecdb.hnsw` gives it hnswlib's. Every call releases the GIL and may be made from any thread. Failures are raised as
classes that are also RuntimeError, because that is what programs written for hnswlib catch.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vecdb.errors import Corruption, InvalidArgument, NotFound, VecdbError
from vecdb.index import check, ffi, lib

Labels = NDArray[np.uint64]
Rows = NDArray[np.float32]
Bytes = NDArray[np.uint8]


class LabelNotFound(NotFound, RuntimeError):
    """
    No point has the label, or the tag.
    """


class DamagedIndex(Corruption, RuntimeError):
    """
    The bytes of a saved index are not what was written.
    """


class InvalidUse(InvalidArgument, RuntimeError):
    """
    A call does not fit the index: a wrong shape, a wrong state, a wrong value.
    """


_ALSO_RUNTIME_ERROR: dict[type[VecdbError], type[VecdbError]] = {
    NotFound: LabelNotFound,
    Corruption: DamagedIndex,
    InvalidArgument: InvalidUse,
}


def _check(status: int) -> None:
    try:
        check(status)
    except VecdbError as error:
        kind = _ALSO_RUNTIME_ERROR.get(type(error))
        if kind is None:
            raise
        raise kind(str(error)) from None


@dataclass(frozen=True)
class Options:
    """
    What an index is made with; m = 0 means no graph, so that every search is exact.
    """

    dim: int
    inner_product: bool
    max_elements: int
    m: int = 0
    ef_construction: int = 0
    seed: int = 100
    allow_replace_deleted: bool = False

    def to_c(self) -> Any:
        """
        Return the options as the core's struct.
        """
        return ffi.new(
            "vecdb_labelled_options *",
            {
                "dim": self.dim,
                "metric": lib.VECDB_DOT if self.inner_product else lib.VECDB_L2,
                "m": self.m,
                "ef_construction": self.ef_construction,
                "seed": self.seed,
                "max_elements": self.max_elements,
                "allow_replace_deleted": int(self.allow_replace_deleted),
            },
        )


class Labelled:
    """
    One index of the core; the memory goes when the last reference to it does, running calls included.
    """

    def __init__(self, handle: Any) -> None:
        self._handle = ffi.gc(handle, lib.vecdb_labelled_destroy)

    @classmethod
    def create(cls, options: Options) -> Labelled:
        """
        Return an empty index.
        """
        out = ffi.new("vecdb_labelled **")
        _check(lib.vecdb_labelled_create(options.to_c(), out))
        return cls(out[0])

    @classmethod
    def load(cls, options: Options, main: bytes | memoryview, tags: bytes | memoryview | None) -> Labelled:
        """
        Return the index that the bytes of a main file and of a tag file describe; every byte that is used is checked.
        """
        out = ffi.new("vecdb_labelled **")
        main_pointer = ffi.from_buffer("uint8_t[]", main)
        tags_pointer = ffi.NULL if tags is None else ffi.from_buffer("uint8_t[]", tags)
        _check(lib.vecdb_labelled_load(options.to_c(), main_pointer, len(main), tags_pointer, 0 if tags is None else len(tags), out))
        return cls(out[0])

    def stats(self) -> Any:
        """
        Return the core's counts and options.
        """
        out = ffi.new("vecdb_labelled_stats *")
        _check(lib.vecdb_labelled_get_stats(self._handle, out))
        return out

    def add(self, rows: Rows, labels: Labels, *, threads: int, replace_deleted: bool) -> None:
        """
        Insert rows (n, dim) under n labels; a label that exists is updated.
        """
        _check(
            lib.vecdb_labelled_add(
                self._handle, _pointer("float *", rows), _pointer("uint64_t *", labels), len(labels), threads, int(replace_deleted)
            )
        )

    def search(
        self,
        queries: Rows,
        *,
        k: int,
        ef: int,
        threads: int,
        program: NDArray[np.uint64],
        allowed: Labels | None = None,
        exact: bool = False,
    ) -> tuple[Labels, Rows, NDArray[np.uint32]]:
        """
        Return labels (n, k), distances (n, k) and how many of each row are valid.
        """
        count = len(queries)
        labels = np.zeros((count, k), np.uint64)
        distances = np.full((count, k), np.inf, np.float32)
        counts = np.zeros(count, np.uint32)
        _check(
            lib.vecdb_labelled_search(
                self._handle,
                _pointer("float *", queries),
                count,
                k,
                ef,
                threads,
                _pointer("uint64_t *", program),
                len(program),
                ffi.NULL if allowed is None else ffi.from_buffer("uint64_t[]", allowed),
                0 if allowed is None else len(allowed),
                int(exact),
                _pointer("uint64_t *", labels),
                _pointer("float *", distances),
                _pointer("uint32_t *", counts),
            )
        )
        return labels, distances, counts

    def rows(self, labels: Labels, dim: int) -> Rows:
        """
        Return the vectors (n, dim) of n labels.
        """
        out = np.zeros((len(labels), dim), np.float32)
        _check(lib.vecdb_labelled_get_rows(self._handle, _pointer("uint64_t *", labels), len(labels), _pointer("float *", out)))
        return out

    def labels(self) -> tuple[Labels, NDArray[np.bool_]]:
        """
        Return all labels in insertion order, and which of them are deleted.
        """
        capacity = int(self.stats().count)
        out = np.zeros(capacity, np.uint64)
        deleted = np.zeros(capacity, np.uint8)
        count = ffi.new("uint64_t *")
        _check(lib.vecdb_labelled_get_labels(self._handle, _pointer("uint64_t *", out), _pointer("uint8_t *", deleted), capacity, count))
        written = min(capacity, int(count[0]))
        return out[:written], deleted[:written].astype(np.bool_)

    def mark_deleted(self, label: int) -> None:
        """
        Hide a point from searches.
        """
        _check(lib.vecdb_labelled_mark_deleted(self._handle, label))

    def unmark_deleted(self, label: int) -> None:
        """
        Show a hidden point again.
        """
        _check(lib.vecdb_labelled_unmark_deleted(self._handle, label))

    def resize(self, max_elements: int) -> None:
        """
        Change how many points there is room for.
        """
        _check(lib.vecdb_labelled_resize(self._handle, max_elements))

    def add_tags(self, labels: Labels, tag: int) -> None:
        """
        Give a tag to all of the labels, or to none.
        """
        _check(lib.vecdb_labelled_add_tags(self._handle, _pointer("uint64_t *", labels), len(labels), tag))

    def remove_tags(self, labels: Labels, tag: int) -> None:
        """
        Take a tag from all of the labels, or from none.
        """
        _check(lib.vecdb_labelled_remove_tags(self._handle, _pointer("uint64_t *", labels), len(labels), tag))

    def tags(self, label: int) -> set[int]:
        """
        Return the tags of a label.
        """
        capacity = 16
        count = ffi.new("uint64_t *")
        while True:
            out = np.zeros(capacity, np.uint64)
            _check(lib.vecdb_labelled_get_tags(self._handle, label, _pointer("uint64_t *", out), capacity, count))
            if count[0] <= capacity:
                return set(out[: count[0]].tolist())
            capacity = int(count[0])

    def reset_tags(self) -> None:
        """
        Forget all tags and their links.
        """
        _check(lib.vecdb_labelled_reset_tags(self._handle))

    def link_tags(self, tags: Labels, *, m: int, threads: int) -> None:
        """
        Build links among the points that have any of the tags.
        """
        _check(lib.vecdb_labelled_link_tags(self._handle, _pointer("uint64_t *", tags), len(tags), m, threads))

    def main_size(self) -> int:
        """
        Return the size of the main file in bytes.
        """
        size = ffi.new("uint64_t *")
        _check(lib.vecdb_labelled_save(self._handle, ffi.NULL, 0, size))
        return int(size[0])

    def main_bytes(self) -> Bytes:
        """
        Return the main file. REQUIRES: nothing changes the index meanwhile.
        """
        out = np.empty(self.main_size(), np.uint8)
        size = ffi.new("uint64_t *")
        _check(lib.vecdb_labelled_save(self._handle, _pointer("uint8_t *", out), len(out), size))
        return out

    def tag_bytes(self, main_crc: int) -> Bytes | None:
        """
        Return the tag file that belongs to a main file, None when there are no tags. REQUIRES: nothing changes the index meanwhile.
        """
        size = ffi.new("uint64_t *")
        _check(lib.vecdb_labelled_save_tags(self._handle, main_crc, ffi.NULL, 0, size))
        if size[0] == 0:
            return None
        out = np.empty(int(size[0]), np.uint8)
        _check(lib.vecdb_labelled_save_tags(self._handle, main_crc, _pointer("uint8_t *", out), len(out), size))
        return out


def program_of(conditions: Iterable[Iterable[tuple[bool, int]]]) -> NDArray[np.uint64]:
    """
    Return the filter program of a conjunction of disjunctions of (negated, tag).

    No clause at all is no condition, an empty clause matches nothing.

    >>> program_of([[(False, 42)]]).tolist() == [lib.VECDB_OP_TAG, 42]
    True
    """
    words: list[int] = []
    clauses = 0
    for clause in conditions:
        literals = [(negated, tag) for negated, tag in clause]
        wanted = [tag for negated, tag in literals if not negated]
        unwanted = [tag for negated, tag in literals if negated]
        parts = len(unwanted)
        if len(wanted) == 1:
            words += [lib.VECDB_OP_TAG, wanted[0]]
            parts += 1
        elif wanted:
            words += [lib.VECDB_OP_ANY_TAG, len(wanted), *wanted]
            parts += 1
        for tag in unwanted:
            words += [lib.VECDB_OP_TAG, tag, lib.VECDB_OP_NOT]
        if parts == 0:
            words.append(lib.VECDB_OP_NONE)
        elif parts > 1:
            words += [lib.VECDB_OP_OR, parts]
        clauses += 1
    if clauses > 1:
        words += [lib.VECDB_OP_AND, clauses]
    return np.array(words, np.uint64)


def _pointer(kind: str, array: NDArray[Any]) -> Any:
    return ffi.cast(kind, array.ctypes.data)
