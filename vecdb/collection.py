"""
Collection: the points a user holds, searches and changes.

It joins writing (`_writing`), searching (`_searching`), payload indexes (`_indexing`), care (`_caring`) and reading; it holds no
algorithm. Any thread may use a collection.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from vecdb import _convert as convert
from vecdb._assemble import field_options, memory_state
from vecdb._caring import Caring
from vecdb._handle import Handle, OwnHandle
from vecdb._indexing import Indexing
from vecdb._query import FilterLike, Queries
from vecdb._searching import Searching
from vecdb._state import CollectionState
from vecdb._writing import Writing
from vecdb.errors import NotFound
from vecdb.types import CollectionInfo, MetricName, Point, PointId


class Collection(Writing, Searching, Indexing, Caring):
    """
    A set of points of one dimension and metric, searched by vector and filter.

    `vecdb.Collection(dim=3)` is kept in memory only; collections on disk come from a `Database`. Options: `metric` is "cosine", "dot" or
    "l2"; `m` (links a point) and `ef_construction` (beam width while linking) trade memory and indexing time for recall; `seed` makes the
    graph reproducible; `metadata` is a small JSON object of yours. `quantization` "auto" ("sq8") keeps 8-bit codes by which graphs and
    scans rank, beside the float32 rows that give every score; None does without. Raises InvalidArgument for options out of range.

    Vectors are finite float32 with a norm of at most 1e18 (under cosine at least 1e-18), so that no score over- or underflows.

    >>> import vecdb
    >>> points = vecdb.Collection(dim=2)
    >>> points.upsert(["a", "b"], [[1.0, 0.0], [0.0, 1.0]], [{"n": 1}, {"n": 2}])
    >>> points.search([0.9, 0.1], k=1)[0].id
    'a'
    """

    def __init__(
        self,
        dim: int,
        *,
        metric: MetricName = "cosine",
        m: int = 16,
        ef_construction: int = 200,
        quantization: str | None = "auto",
        metadata: Mapping[str, Any] | None = None,
        seed: int = 100,
        threads: int | None = None,
    ) -> None:
        options = field_options(dim, metric=metric, m=m, ef_construction=ef_construction, quantization=quantization, seed=seed)
        state = memory_state("memory", [options], convert.as_payload(metadata, "metadata"), threads=threads)
        self._attach(state, Queries(state), OwnHandle(state))

    @classmethod
    def _of(cls, state: CollectionState, queries: Queries, handle: Handle) -> Collection:
        """
        Return a collection on a state that others hold too.
        """
        made = cls.__new__(cls)
        made._attach(state, queries, handle)
        return made

    # ---- what it is ----

    @property
    def name(self) -> str:
        """
        The name in its database ("memory" without one).
        """
        return self._state.name

    @property
    def dim(self) -> int:
        """
        The number of components of a vector.
        """
        return self._field.dim

    @property
    def metric(self) -> str:
        """
        How vectors are compared: cosine, dot or l2.
        """
        return self._field.metric

    @property
    def metadata(self) -> dict[str, Any]:
        """
        The JSON object given at creation (a copy).
        """
        return convert.as_payload(self._state.metadata)

    def __repr__(self) -> str:
        """
        Return name, size and shape.
        """
        return f"<vecdb.Collection {self.name!r}: {self._state.store.live_count:,} points, dim {self.dim}, {self.metric}>"

    def __len__(self) -> int:
        """
        Return the number of points, those without a vector included.
        """
        self._handle.check()
        return self._state.whole(lambda: self._state.store.live_count)

    def __bool__(self) -> bool:
        """
        Return True: an empty collection is still a collection.
        """
        return True

    def __contains__(self, id: object) -> bool:
        """
        Return whether a point has this id.
        """
        self._handle.check()
        if not convert.is_one_id(id):
            return False
        one = convert.as_id(id)
        return self._state.whole(lambda: self._state.store.offsets_of([one])[0] is not None)

    def __iter__(self) -> Iterator[PointId]:
        """
        Iterate over the ids of one state, ascending: ints, then strs by their UTF-8.
        """
        self._handle.check()
        return self._checked(self._state.whole(self._state.store.iterate_ids))

    def _checked(self, ids: Iterator[PointId]) -> Iterator[PointId]:
        """
        Yield ids while the handle is open; this generator keeps the collection alive, and with it its database.
        """
        self._handle.check()
        for one in ids:
            yield one
            self._handle.check()

    # ---- reading ----

    def get(self, id: object) -> Point | None:
        """
        Return the point with this id, or None.

        >>> import vecdb
        >>> vecdb.Collection(dim=2).get("nobody") is None
        True
        """
        self._handle.check()
        return self._queries.points([convert.as_id(id)], field=self._field.number, with_vectors=True)[0]

    def get_many(self, ids: object, *, with_vectors: bool = True) -> list[Point | None]:
        """
        Return the points with these ids, in their order; None where there is none.

        >>> import vecdb
        >>> points = vecdb.Collection(dim=2)
        >>> points.upsert(1, [0.0, 1.0])
        >>> [point and point.id for point in points.get_many([2, 1])]
        [None, 1]
        """
        self._handle.check()
        return self._queries.points(convert.as_ids(ids), field=self._field.number, with_vectors=with_vectors)

    def __getitem__(self, id: object) -> Point:
        """
        Return the point with this id; raise NotFound when it does not exist.
        """
        found = self.get(id)
        if found is None:
            raise NotFound(f"no point with id {id!r} in collection {self.name!r}: get(id) gives None instead of an error")
        return found

    def count(self, filter: FilterLike = None) -> int:
        """
        Return how many points match a filter, exactly; without one, all points.

        >>> import vecdb
        >>> from vecdb import F
        >>> points = vecdb.Collection(dim=2)
        >>> points.upsert([1, 2, 3], None, [{"n": 1}, {"n": 2}, {"n": 3}])
        >>> points.count(F("n") >= 2)
        2
        """
        self._handle.check()
        return self._queries.count(filter)

    # ---- care ----

    def checkpoint(self) -> None:
        """
        Make everything written so far part of the base on disk, so that the log before it can go; does nothing in memory.

        >>> import vecdb
        >>> vecdb.Collection(dim=2).checkpoint()
        """
        self._handle.check_writable()
        self._state.store.checkpoint()

    def wait_indexed(self, timeout: float | None = None) -> bool:
        """
        Wait until the graph covers every vector it should and declared indexes are built; False when timeout seconds passed before.

        Never needed for a right answer: what the graph does not cover is scanned, and a filter waits for the indexes it needs.

        >>> import vecdb
        >>> vecdb.Collection(dim=2).wait_indexed()
        True
        """
        self._handle.check()
        return self._state.wait_indexed(None if timeout is None else convert.number(timeout, "timeout"))

    def info(self) -> CollectionInfo:
        """
        Return what the collection holds and what it costs, in points and bytes.

        >>> import vecdb
        >>> vecdb.Collection(dim=2).info().points
        0
        """
        self._handle.check()
        return self._state.info()

    def close(self) -> None:
        """
        Release the memory of a collection without a database; one of a database is closed with it.

        >>> import vecdb
        >>> points = vecdb.Collection(dim=2)
        >>> points.close()
        >>> len(points)
        Traceback (most recent call last):
        vecdb.errors.Closed: collection 'memory' is closed: open the database again
        """
        self._handle.close()

    def __reduce__(self) -> tuple[Any, ...]:
        """
        Pickle path and name; the copy is read-only. A collection in memory refuses.
        """
        return self._handle.reduce()
