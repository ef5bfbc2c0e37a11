"""
The low-level index: a drop-in for hnswlib 0.8's `Index` and `BFIndex`, with tags.

Points have an integer label, live in memory, and are saved in hnswlib's own file format. Failures are RuntimeError where hnswlib raises
it (and a `VecdbError` too), TypeError and ValueError where it raises those. Adding, deleting, tagging and searching may run in several
threads at once; saving and pickling wait until no change is running.
"""

from __future__ import annotations

import operator
import os
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vecdb import _hnsw_common as common
from vecdb._hnsw_brute import BFIndex
from vecdb._hnsw_kept import KeptIndex
from vecdb._labelled import InvalidUse, program_of

__all__ = ["BFIndex", "Index"]

_NO_CONDITION = np.zeros(0, np.uint64)


class Index(KeptIndex):
    """
    Find approximate nearest neighbours among labelled vectors, optionally only among those whose tags fit.

    The graph is that of Malkov and Yashunin, "Efficient and robust approximate nearest neighbor search using Hierarchical Navigable Small
    World graphs".
    space is "l2" (squared Euclidean distance), "ip" (1 - inner product) or "cosine" (1 - cosine; vectors are stored normalised).
    `Index(other)` is a copy of another index, `Index(params)` one made from the dict that pickling uses.

    >>> import numpy as np
    >>> index = Index(space="l2", dim=2)
    >>> index.init_index(max_elements=3)
    >>> index.add_items(np.array([[0, 0], [1, 0], [5, 5]]), ids=[7, 8, 9])
    >>> labels, distances = index.knn_query([0.9, 0], k=2)
    >>> labels
    array([[8, 7]], dtype=uint64)
    """

    def add_items(
        self,
        data: ArrayLike,
        ids: ArrayLike | None = None,
        num_threads: int = -1,
        replace_deleted: bool = False,  # noqa: FBT001, FBT002 - hnswlib's signature
    ) -> None:
        """
        Insert vectors (n, dim), or one vector (dim,), under the labels ids; a label that exists gets the new vector.

        Without ids the labels go on from the number of vectors added so far. With replace_deleted deleted points make room first.
        RuntimeError for a wrong shape, for a vector that is not finite, and when there is no room (the rows before are inserted then).

        >>> index = Index("l2", 2)
        >>> index.init_index(max_elements=2)
        >>> index.add_items([[0, 1], [1, 0]])
        >>> index.get_ids_list()
        [0, 1]
        """
        core = self._initiated()
        rows = self._space.rows(data)
        if replace_deleted and not self._allow_replace_deleted:
            raise InvalidUse("Replacement of deleted elements is disabled in constructor: use init_index(..., allow_replace_deleted=True)")
        given = None if ids is None else common.labels_for(ids, len(rows))
        with self._changing():
            with self._quiet:
                first = self._next_label
                self._next_label = first + len(rows)
            labels = np.arange(first, first + len(rows), dtype=np.uint64) if given is None else given
            try:
                core.add(
                    rows,
                    labels,
                    threads=common.threads_for(num_threads, self.num_threads, len(rows)),
                    replace_deleted=bool(replace_deleted),
                )
            except BaseException:
                with self._quiet:  # the same call, made again after resize_index, shall use the same labels
                    if self._next_label == first + len(rows):
                        self._next_label = first
                raise

    def knn_query(
        self,
        data: ArrayLike,
        k: int = 1,
        num_threads: int = -1,
        filter: Callable[[int], bool] | None = None,
        conditions: Iterable[Iterable[tuple[bool, int]]] = (),
    ) -> tuple[NDArray[Any], NDArray[np.float32]]:
        """
        Return labels (n, k) and distances (n, k) of the nearest points to n vectors, nearest first.

        filter is asked once for each label, and the points it accepts are searched. conditions is a conjunction of disjunctions of
        (negated, tag): [[(False, 42), (True, 7)], [(False, 3)]] is (42 or not 7) and 3; [] is no condition, [[]] matches nothing. A point
        without tags satisfies every (True, tag). Labels are uint64, and RuntimeError says that there are fewer than k; under conditions
        labels are int64 and a row with fewer matches ends in -1 and infinity.

        >>> index = Index("l2", 1)
        >>> index.init_index(max_elements=3)
        >>> index.add_items([[0], [1], [2]])
        >>> index.add_tags([1], 5)
        >>> index.knn_query([0], k=2, conditions=[[(True, 5)]])[0]
        array([[0, 2]])
        """
        core = self._initiated()
        queries = self._space.rows(data)
        count = common.natural(k, "k")
        clauses = common.checked_conditions(conditions)
        if count == 0:
            return np.zeros((len(queries), 0), np.int64 if clauses else np.uint64), np.zeros((len(queries), 0), np.float32)
        labels, distances, counts = core.search(
            queries,
            k=count,
            ef=min(self._ef, 2**32 - 1),
            threads=common.threads_for(num_threads, self.num_threads, len(queries)),
            program=program_of(clauses) if clauses else _NO_CONDITION,
            allowed=None if filter is None else common.allowed_labels(core, filter),
        )
        if clauses:
            return common.padded_rows(labels, distances, counts)
        return common.full_rows(labels, distances, counts)

    def set_ef(self, ef: int) -> None:
        """
        Set the width of the search beam.
        """
        self.ef = ef

    def set_num_threads(self, num_threads: int) -> None:
        """
        Set how many threads a call uses that does not say so; 0 means all.
        """
        self.num_threads = operator.index(num_threads)

    def get_items(self, ids: ArrayLike | None = None, return_type: str = "numpy") -> NDArray[np.float32] | list[list[float]]:
        """
        Return the vectors of the labels ids, as an array (n, dim) or as lists; under cosine they are normalised.

        ValueError for a bare label, RuntimeError for one that is absent or deleted.

        >>> index = Index("l2", 2)
        >>> index.init_index(max_elements=1)
        >>> index.add_items([1, 2], ids=4)
        >>> index.get_items([4], return_type="list")
        [[1.0, 2.0]]
        """
        if return_type not in ("numpy", "list"):
            raise ValueError(f'return_type should be "numpy" or "list", not {return_type!r}')
        core = self._initiated()
        if ids is None:
            return np.zeros(0, np.float32) if return_type == "numpy" else []
        labels = common.labels_of(ids, "ids")
        if labels.ndim == 0:
            raise ValueError("get_items accepts a list of indices and returns a list of vectors")
        if labels.size != len(labels):
            raise ValueError(f"ids have the shape {labels.shape}, expected a list of labels")
        rows = core.rows(labels.ravel(), self.dim)
        return rows if return_type == "numpy" else rows.tolist()

    def get_ids_list(self) -> list[int]:
        """
        Return all labels, deleted ones included, in the order of their insertion.
        """
        labels: list[int] = self._initiated().labels()[0].tolist()
        return labels

    def mark_deleted(self, label: int) -> None:
        """
        Hide a point from searches; RuntimeError when it is absent or hidden already.

        >>> index = Index("l2", 1)
        >>> index.init_index(max_elements=2)
        >>> index.add_items([[0], [1]])
        >>> index.mark_deleted(0)
        >>> int(index.knn_query([0])[0][0, 0])
        1
        """
        with self._changing():
            self._initiated().mark_deleted(common.natural(label, "label"))

    def unmark_deleted(self, label: int) -> None:
        """
        Show a hidden point again; RuntimeError when it is absent or not hidden.
        """
        with self._changing():
            self._initiated().unmark_deleted(common.natural(label, "label"))

    def resize_index(self, new_size: int) -> None:
        """
        Change max_elements; RuntimeError when there are more points than that.
        """
        with self._changing():
            self._initiated().resize(common.natural(new_size, "new_size"))

    def get_max_elements(self) -> int:
        """
        Return how many points there is room for.
        """
        return int(self._initiated().stats().max_elements)

    def get_current_count(self) -> int:
        """
        Return how many points there are, deleted ones included.
        """
        return int(self._initiated().stats().count)

    def add_tags(self, labels: ArrayLike, tag: int) -> None:
        """
        Give a tag, an integer in [0, 2**64), to all of the labels; RuntimeError, and none has it, when one is absent.

        >>> index = Index("l2", 1)
        >>> index.init_index(max_elements=1)
        >>> index.add_items([0.5], ids=3)
        >>> index.add_tags([3], 42)
        >>> index.get_tags(3)
        {42}
        """
        with self._changing():
            self._initiated().add_tags(common.labels_of(labels).ravel(), common.natural(tag, "tag"))

    def remove_tags(self, labels: ArrayLike, tag: int) -> None:
        """
        Take a tag from all of the labels; RuntimeError, and nothing is changed, when one is absent.
        """
        with self._changing():
            self._initiated().remove_tags(common.labels_of(labels).ravel(), common.natural(tag, "tag"))

    def get_tags(self, label: int) -> set[int]:
        """
        Return the tags of a label.
        """
        return self._initiated().tags(common.natural(label, "label"))

    def reset_tags(self) -> None:
        """
        Forget all tags and their links.
        """
        with self._changing():
            self._initiated().reset_tags()

    def index_tagged(self, tag: int, m: int = 0) -> None:
        """
        Build links among the points of a tag, so that searches for it stay fast and precise however rare it is.

        m is the number of links, 0 means M. Points that get the tag later join. RuntimeError when no point has the tag.

        >>> index = Index("l2", 1)
        >>> index.init_index(max_elements=2)
        >>> index.add_items([[0], [1]])
        >>> index.add_tags([1], 42)
        >>> index.index_tagged(42)
        """
        self.index_cross_tagged([tag], m)

    def index_cross_tagged(self, tags: Iterable[int], m: int = 0) -> None:
        """
        Build links among the points that have any of the tags, as `index_tagged` does for one.
        """
        wanted = np.array([common.natural(tag, "tag") for tag in tags], np.uint64)
        with self._changing():
            self._initiated().link_tags(
                wanted, m=common.links(m, "m"), threads=self.num_threads if self.num_threads > 0 else os.cpu_count() or 1
            )

    def __repr__(self) -> str:
        """
        Return space and dim.
        """
        return f"<vecdb.hnsw.Index(space={self.space!r}, dim={self.dim})>"
