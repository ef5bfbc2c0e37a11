"""
Pages: the next points after a position, by id or by the value at a key, each page of one state.

A position is a value and an id, not a count, so that writes between two pages neither repeat nor skip a point they do not touch. No page
reads more payloads than it must: by id either the matching ids are sorted or all ids walked in order, whichever is less; by value a
sample of the values bounds how far to look. Functions without state.
"""

from __future__ import annotations

import heapq
import sys
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vecdb._cursor import NUMBERS, TIMES, Order, Position, SortKey
from vecdb._ordering import id_order
from vecdb._query import Queries
from vecdb._state import CollectionState
from vecdb.filters import F, Filter, Node, keys
from vecdb.storage.codec import decode_payload
from vecdb.types import Point, PointId

_CHUNK = 1024
_SAMPLE = 1024
_FEW = 4096  # candidates that are sorted without looking for a bound

# The first and the last of all values of a kind.
_ENDS: dict[int, tuple[Any, Any]] = {
    NUMBERS: (-sys.float_info.max, sys.float_info.max),
    TIMES: ("0001-01-01T00:00:00+23:59", "9999-12-31T23:59:60-23:59"),
}

Reader = Callable[[list[PointId], list[int]], list[Point | None]]


class _Found(NamedTuple):
    """
    A candidate of a page.
    """

    value: SortKey
    id: PointId
    offset: int


def page_by_id(state: CollectionState, queries: Queries, node: Node, after: PointId | None, limit: int, read: Reader) -> list[Point]:
    """
    Return the first limit points that match, beyond the id `after`.
    """

    def page() -> list[Point | None]:
        if node == Filter():
            ids: list[PointId] = list(islice(state.store.iterate_ids(after=after), limit))
            return read(ids, _known(state.store.offsets_of(ids)))
        matching = queries.select(node)
        places = _walk(state, matching, after, limit)
        if places is None:
            ascending = (
                (one, offset)
                for one, offset in zip(state.core.get_ids(matching), matching.tolist(), strict=True)
                if after is None or id_order(one) > id_order(after)
            )
            places = heapq.nsmallest(limit, ascending, key=lambda place: id_order(place[0]))
        return read([one for one, _ in places], [offset for _, offset in places])

    return _whole(queries.in_one_state(keys(node), page))


def _walk(state: CollectionState, matching: NDArray[np.uint32], after: PointId | None, limit: int) -> list[tuple[PointId, int]] | None:
    """
    Return the places of the first limit matches among the ids in order; None when that takes longer than sorting the matches would.
    """
    count = len(matching)
    if count <= _CHUNK or count * count <= limit * state.store.live_count:
        return None
    wanted = np.zeros(int(matching[-1]) + 1, dtype=bool)
    wanted[matching] = True
    found: list[tuple[PointId, int]] = []
    ids = state.store.iterate_ids(after=after)
    for _ in range(0, count, _CHUNK):
        some = list(islice(ids, _CHUNK))
        offsets = state.store.offsets_of(some)
        found.extend(
            (one, offset)
            for one, offset in zip(some, offsets, strict=True)
            if offset is not None and offset < len(wanted) and wanted[offset]
        )
        if len(found) >= limit or len(some) < _CHUNK:
            return found[:limit]
    return None


def page_by_value(
    state: CollectionState, queries: Queries, node: Node, order: Order, after: Position | None, limit: int, read: Reader
) -> list[tuple[Point, SortKey]]:
    """
    Return the first limit points that match, with the values they are sorted by, beyond a position.
    """
    kinds = (TIMES, NUMBERS) if order.descending else (NUMBERS, TIMES)
    start = after.value[0] if after is not None and after.value is not None else kinds[0]
    finder = _ByValue(state, queries, node, order, after)

    def page() -> tuple[list[_Found], list[Point | None]]:
        found: list[_Found] = []
        for kind in kinds[kinds.index(start) :]:
            if len(found) < limit:
                found += finder.first(kind, limit - len(found))
        return found, read([one.id for one in found], [one.offset for one in found])

    found, points = queries.in_one_state(finder.wanted, page)
    return list(zip(_whole(points), (one.value for one in found), strict=True))


class _ByValue:
    """
    Finds candidates in the order of their values.
    """

    def __init__(self, state: CollectionState, queries: Queries, node: Node, order: Order, after: Position | None) -> None:
        self._state = state
        self._queries = queries
        self._node = node
        self._order = order
        self._after = after
        self.wanted = frozenset().union(*(keys(self._within(kind, None)) for kind in (NUMBERS, TIMES)))

    def first(self, kind: int, count: int) -> list[_Found]:
        """
        Return the first count candidates of a kind of values.
        """
        candidates = self._queries.select(self._within(kind, None))
        if len(candidates) > max(_FEW, 8 * count):
            for bound in self._bounds(kind, candidates, count):
                found = self._sorted(kind, self._queries.select(self._within(kind, bound)), bound)
                if len(found) >= count:
                    return found[:count]
        return self._sorted(kind, candidates, None)[:count]

    def _within(self, kind: int, bound: SortKey | None) -> Node:
        """
        Return the filter whose points have a value of a kind from the position on, up to a bound.
        """
        low, high = _ENDS[kind]
        first = self._after.value if self._after is not None else None
        if self._order.descending:
            low = low if bound is None else _shown(bound)
            high = _shown(first) if first is not None and first[0] == kind else high
        else:
            low = _shown(first) if first is not None and first[0] == kind else low
            high = high if bound is None else _shown(bound)
        return self._node & F(str(self._order.key)).range(gte=low, lte=high)

    def _bounds(self, kind: int, candidates: NDArray[np.uint32], count: int) -> Iterator[SortKey]:
        """
        Yield values, each farther than the one before, of which the first has probably twice as many candidates before it as are needed.
        """
        places = np.linspace(0, len(candidates) - 1, _SAMPLE).astype(np.int64)
        values = [one.value for one in self._sorted(kind, candidates[np.unique(places)], None)]
        place = 3 + 2 * count * len(values) // len(candidates)
        while place < len(values) // 2:
            yield values[place]
            place *= 4

    def _sorted(self, kind: int, candidates: NDArray[np.uint32], bound: SortKey | None) -> list[_Found]:
        """
        Return the candidates in order: those sorted by a value of the kind, beyond the position, not beyond the bound.
        """
        found: list[_Found] = []
        descending = self._order.descending
        for begin in range(0, len(candidates), _CHUNK):
            block = candidates[begin : begin + _CHUNK]
            raws = self._state.store.payloads_of(block.tolist())
            for one, offset, raw in zip(self._state.core.get_ids(block), block.tolist(), raws, strict=True):
                value = None if raw is None else self._order.value_of(decode_payload(raw))
                if value is None or value[0] != kind or not self._is_beyond(value, one):
                    continue
                if bound is None or (value >= bound if descending else value <= bound):
                    found.append(_Found(value, one, offset))
        found.sort(key=lambda one: id_order(one.id))
        found.sort(key=lambda one: one.value, reverse=descending)
        return found

    def _is_beyond(self, value: SortKey, one: PointId) -> bool:
        after = self._after
        if after is None or after.value is None:
            return True
        if value == after.value:
            return id_order(one) > id_order(after.id)
        return value < after.value if self._order.descending else value > after.value


def _shown(value: SortKey) -> object:
    return value[1].text if value[0] == TIMES else value[1]


def _known(offsets: list[int | None]) -> list[int]:
    """
    Return offsets of ids that were just read; one that is gone means that a write crossed the read, which is repeated.
    """
    return [0 if offset is None else offset for offset in offsets]


def _whole(points: list[Point | None]) -> list[Point]:
    """
    Return the points: of one state, none is missing.
    """
    return [point for point in points if point is not None]
