"""
Collection: the points a user holds, searches and changes.

It joins writing (`_writing`, `_upload`), reading (`_reading`), searching (`_searching`, `_exploring`), payload indexes (`_indexing`) and
care (`_caring`); it holds no algorithm. Any thread may use a collection.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any

from vecdb import _convert as convert
from vecdb._assemble import all_field_options, memory_state
from vecdb._caring import Caring
from vecdb._exploring import Exploring
from vecdb._handle import Handle, OwnHandle
from vecdb._indexing import Indexing
from vecdb._progress import check_progress, progress_bar
from vecdb._query import Queries
from vecdb._reading import Reading
from vecdb._state import CollectionState
from vecdb._upload import Uploading
from vecdb.types import CollectionInfo, MetricName, VectorConfig

_LOOK_SECONDS = 0.25  # between two steps of a progress bar


class Collection(Uploading, Reading, Exploring, Indexing, Caring):
    """
    A set of points of one dimension and metric, searched by vector and filter.

    `vecdb.Collection(dim=3)` is kept in memory only; collections on disk come from a `Database`. Options: `metric` is "cosine", "dot" or
    "l2"; `m` (links a point) and `ef_construction` (beam width while linking) trade memory and indexing time for recall; `seed` makes the
    graph reproducible; `metadata` is a small JSON object of yours; `vectors` makes several named vectors a point, each with a
    `VectorConfig` of its own, instead of `dim`. `quantization` "auto" ("sq8") keeps 8-bit codes by which graphs and
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
        dim: int | None = None,
        *,
        metric: MetricName = "cosine",
        m: int = 16,
        ef_construction: int = 200,
        quantization: str | None = "auto",
        metadata: Mapping[str, Any] | None = None,
        vectors: Mapping[str, VectorConfig] | None = None,
        seed: int = 100,
        threads: int | None = None,
    ) -> None:
        fields = all_field_options(dim, vectors, metric=metric, m=m, ef_construction=ef_construction, quantization=quantization, seed=seed)
        state = memory_state("memory", fields, convert.as_payload(metadata, "metadata"), threads=threads)
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
        The number of components of a vector; InvalidArgument where vectors are named.
        """
        return self._fields.only.dim

    @property
    def metric(self) -> str:
        """
        How vectors are compared: cosine, dot or l2; InvalidArgument where vectors are named.
        """
        return self._fields.only.metric

    @property
    def vectors(self) -> dict[str, VectorConfig]:
        """
        The options of each vector by its name, which is "" for the one of a collection made with `dim`.
        """
        return self._fields.configs()

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
        shapes = (f"{spec.name!r} dim {spec.dim}, {spec.metric}".removeprefix("'' ") for spec in self._fields.specs)
        return f"<vecdb.Collection {self.name!r}: {self._state.store.live_count:,} points, {'; '.join(shapes)}>"

    def __bool__(self) -> bool:
        """
        Return True: an empty collection is still a collection.
        """
        return True

    # ---- care ----

    def checkpoint(self) -> None:
        """
        Make everything written so far part of the base on disk, so that the log before it can go; does nothing in memory.

        >>> import vecdb
        >>> vecdb.Collection(dim=2).checkpoint()
        """
        self._handle.check_writable()
        self._state.store.checkpoint()

    def wait_indexed(self, timeout: float | None = None, *, progress: bool = False) -> bool:
        """
        Wait until the graph covers every vector it should and declared indexes are built; False when timeout seconds passed before.

        Never needed for a right answer: what the graph does not cover is scanned, and a filter waits for the indexes it needs.
        `progress=True` shows a bar (needs tqdm).

        >>> import vecdb
        >>> vecdb.Collection(dim=2).wait_indexed()
        True
        """
        self._handle.check()
        limit = None if timeout is None else convert.number(timeout, "timeout")
        if not check_progress(progress):
            return self._state.wait_indexed(limit)
        deadline = math.inf if limit is None else time.monotonic() + limit
        with progress_bar(left := self._state.info().tail, "index", shown=True) as advance:
            while not self._state.wait_indexed(min(_LOOK_SECONDS, max(0.0, deadline - time.monotonic()))):
                now = self._state.info().tail
                advance(left - now)
                left = now
                if time.monotonic() >= deadline:
                    return False
            advance(left)
        return True

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
