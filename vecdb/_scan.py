"""
Scans: all points that match in one state, ascending by id, read piece by piece while writes go on.

Vectors need no copy ahead: an offset's row never changes, and stays readable when the point is gone. Threads: a scan belongs to one
thread at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from vecdb._fields import Fields
from vecdb._ordering import id_order
from vecdb._query import FilterLike, Queries
from vecdb._state import CollectionState
from vecdb.filters import Filter, keys, parse
from vecdb.index import CoreIndex
from vecdb.storage.codec import decode_payload
from vecdb.storage.view import View
from vecdb.types import Point, PointId

# With fewer matches than one in so many points, sorting them beats walking all ids in order.
_SPARSE = 8


class Scan:
    """
    One state, and which of its points match.
    """

    def __init__(self, core: CoreIndex, fields: Fields, view: View, matching: NDArray[np.uint32] | None, live: int) -> None:
        self._core = core
        self._fields = fields
        self._view = view
        self._matching = matching
        self._live = live

    @classmethod
    def begin(cls, state: CollectionState, queries: Queries, filter: FilterLike) -> Scan:
        """
        Return a scan of the state of now.
        """
        node = parse(filter)
        everything = node == Filter()

        def read() -> Scan:
            view = state.store.view()
            try:
                return cls(state.core, queries.fields, view, None if everything else queries.select(node), state.store.live_count)
            except BaseException:
                view.close()
                raise

        return queries.in_one_state(keys(node), read)

    def batches(self, size: int, *, with_vectors: bool) -> Iterator[list[Point]]:
        """
        Yield the points, size at a time.
        """
        try:
            places = self._places()
            while some := list(islice(places, size)):
                offsets = [offset for _, offset in some]
                vectors = self._fields.read(self._core, offsets) if with_vectors else [None] * len(some)
                payloads = self._view.payloads_of(offsets)
                yield [
                    Point(one, vector, decode_payload(raw), with_vectors)
                    for (one, _), vector, raw in zip(some, vectors, payloads, strict=True)
                ]
        finally:
            self.close()

    def close(self) -> None:
        """
        Let the state go.
        """
        self._view.close()

    def _places(self) -> Iterator[tuple[PointId, int]]:
        matching = self._matching
        if matching is None:
            yield from self._view.points()
        elif len(matching) * _SPARSE < self._live:
            yield from sorted(zip(self._core.get_ids(matching), matching.tolist(), strict=True), key=lambda place: id_order(place[0]))
        elif len(matching):
            wanted = np.zeros(int(matching[-1]) + 1, dtype=bool)
            wanted[matching] = True
            yield from (place for place in self._view.points() if place[1] < len(wanted) and wanted[place[1]])
