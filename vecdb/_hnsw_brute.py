"""
`BFIndex` of `vecdb.hnsw`: the exact neighbours, by looking at every vector. It is the labelled index without a graph.

Its file is hnswlib's: max_elements, the size of an element and the count as u64, then max_elements elements of dim float32 and a u64 label.
"""

from __future__ import annotations

import operator
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vecdb import _hnsw_common as common
from vecdb._atomic import read_whole, replace_all
from vecdb._labelled import DamagedIndex, InvalidUse, Labelled, Options, Rows

_NO_CONDITION = np.zeros(0, np.uint64)
_HEADER = np.dtype([("max_elements", "<u8"), ("element_size", "<u8"), ("count", "<u8")])


class BFIndex:
    """
    Find the exact nearest neighbours among labelled vectors; spaces as for `Index`.

    >>> index = BFIndex(space="ip", dim=2)
    >>> index.init_index(max_elements=2)
    >>> index.add_items([[1, 0], [0, 2]])
    >>> index.knn_query([1, 1])
    (array([[1]], dtype=uint64), array([[-1.]], dtype=float32))
    """

    def __init__(self, space: str, dim: int) -> None:
        self._space = common.Space(space, operator.index(dim))
        self._core: Labelled | None = None
        self._next_label = 0
        self.num_threads: int = os.cpu_count() or 1

    def init_index(self, max_elements: int) -> None:
        """
        Make room for max_elements points; RuntimeError when that was done before.
        """
        if self._core is not None:
            raise InvalidUse("The index is already initiated.")
        self._core = self._created(common.natural(max_elements, "max_elements"))
        self._next_label = 0

    def _created(self, max_elements: int) -> Labelled:
        return Labelled.create(
            Options(self._space.dim, inner_product=self._space.inner_product, max_elements=max_elements, allow_replace_deleted=True)
        )

    def add_items(self, data: ArrayLike, ids: ArrayLike | None = None) -> None:
        """
        Insert vectors (n, dim), or one vector (dim,), under the labels ids; a label that exists gets the new vector.

        RuntimeError for a wrong shape and when there is no room (the rows before are inserted then).
        """
        core = self._initiated()
        rows = self._space.rows(data)
        first = self._next_label
        labels = np.arange(first, first + len(rows), dtype=np.uint64) if ids is None else common.labels_for(ids, len(rows))
        core.add(rows, labels, threads=1, replace_deleted=True)
        self._next_label = first + len(rows)

    def delete_vector(self, label: int) -> None:
        """
        Remove a point; an absent label is no error.
        """
        core = self._initiated()
        labels, deleted = core.labels()
        wanted = common.natural(label, "label")
        if bool(np.any((labels == np.uint64(wanted)) & ~deleted)):
            core.mark_deleted(wanted)

    def set_num_threads(self, num_threads: int) -> None:
        """
        Set how many threads a search uses that does not say so; 0 means all.
        """
        self.num_threads = operator.index(num_threads)

    def knn_query(
        self, data: ArrayLike, k: int = 1, num_threads: int = -1, filter: Callable[[int], bool] | None = None
    ) -> tuple[NDArray[np.uint64], NDArray[np.float32]]:
        """
        Return labels (n, k) and distances (n, k) of the nearest points to n vectors, nearest first.

        RuntimeError when there are fewer than k. filter is asked once for each label, and the points it accepts are searched.
        """
        core = self._initiated()
        queries = self._space.rows(data)
        count = common.natural(k, "k")
        if count == 0:
            return np.zeros((len(queries), 0), np.uint64), np.zeros((len(queries), 0), np.float32)
        return common.full_rows(
            *core.search(
                queries,
                k=count,
                ef=0,
                threads=common.threads_for(num_threads, self.num_threads, len(queries)),
                program=_NO_CONDITION,
                allowed=None if filter is None else common.allowed_labels(core, filter),
                exact=True,
            )
        )

    def save_index(self, path_to_index: str | os.PathLike[str]) -> None:
        """
        Write the index in hnswlib's format; the file is complete on disk before it replaces an older one.
        """
        core = self._initiated()
        labels, deleted = core.labels()
        labels = labels[~deleted]
        element = self._element()
        header = np.array([(self.get_max_elements(), element.itemsize, len(labels))], _HEADER)
        elements = np.zeros(self.get_max_elements(), element)
        elements["vector"][: len(labels)] = core.rows(labels, self._space.dim)
        elements["label"][: len(labels)] = labels
        replace_all([(Path(path_to_index), header.tobytes() + elements.tobytes())])

    def load_index(self, path_to_index: str | os.PathLike[str], max_elements: int = 0) -> None:
        """
        Replace the content by a saved index; max_elements below the saved one means the saved one.

        RuntimeError when the file is missing, damaged or of another dimension; the index is unchanged then.
        """
        path = Path(path_to_index)
        wanted = common.natural(max_elements, "max_elements")
        data = read_whole(path, missing_ok=False)
        capacity, rows, labels = self._checked(path, data)
        core = self._created(max(capacity, wanted))
        core.add(rows, labels, threads=1, replace_deleted=False)
        self._core = core
        self._next_label = len(labels)

    def get_max_elements(self) -> int:
        """
        Return how many points there is room for.
        """
        return int(self._initiated().stats().max_elements)

    def get_current_count(self) -> int:
        """
        Return how many points there are.
        """
        stats = self._initiated().stats()
        return int(stats.count - stats.deleted)

    def __repr__(self) -> str:
        """
        Return space and dim.
        """
        return f"<vecdb.hnsw.BFIndex(space={self._space.name!r}, dim={self._space.dim})>"

    def _element(self) -> np.dtype[np.void]:
        return np.dtype([("vector", "<f4", (self._space.dim,)), ("label", "<u8")])

    def _checked(self, path: Path, data: bytes | None) -> tuple[int, Rows, NDArray[np.uint64]]:
        element = self._element()
        if data is None or len(data) < _HEADER.itemsize:
            raise DamagedIndex(f"{path}: has {len(data or b'')} bytes, expected a header of {_HEADER.itemsize}; it is no saved BFIndex")
        capacity, size, count = np.frombuffer(data, _HEADER, 1)[0].tolist()
        if size != element.itemsize:
            raise DamagedIndex(
                f"{path}: an element has {size} bytes, expected {element.itemsize} for dim {self._space.dim}; load it with its own dim"
            )
        if count > capacity or capacity * size != len(data) - _HEADER.itemsize:
            raise DamagedIndex(
                f"{path}: {count} of {capacity} elements of {size} bytes do not fit {len(data)} bytes; it was cut or is no saved BFIndex"
            )
        elements = np.frombuffer(data, element, count, _HEADER.itemsize)
        labels = elements["label"].astype(np.uint64)
        rows = np.ascontiguousarray(elements["vector"], np.float32).reshape(count, self._space.dim)
        if len(np.unique(labels)) != count:
            raise DamagedIndex(f"{path}: a label occurs twice; restore the file from a backup")
        if not np.all(np.isfinite(rows)):
            raise DamagedIndex(f"{path}: a vector is not finite; restore the file from a backup")
        return capacity, rows, labels

    def _initiated(self) -> Labelled:
        if self._core is None:
            raise InvalidUse("The index is not initiated: call init_index or load_index first")
        return self._core
