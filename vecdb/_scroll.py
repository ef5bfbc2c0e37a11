"""
Pages: the next points after a position, by id or by the value at a key, each page of one state.

A position is a value and an id, not a count, so that writes between two pages neither repeat nor skip a point they do not touch. No page
reads more payloads than it must: by id either the matching ids are sorted or all ids walked in order, whichever is less; by value a
sample of the values bounds how far to look. Functions without state.
"""

from __future__ import annotations

import heapq
import sys
from collections.abc import Callable
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


class _Start(NamedTuple):
    """
    Where to look from: beyond this value (None: from the first one), or beyond this id among those with the value.
    """

    value: SortKey | None = None
    id: PointId | None = None


class _ByValue:
    """
    Finds candidates in the order of their values.
    """

    def __init__(self, state: CollectionState, queries: Queries, node: Node, order: Order, after: Position | None) -> None:
        self._state = state
        self._queries = queries
        self._node = node
        self._order = order
        self._after = _Start() if after is None else _Start(after.value, after.id)
        self.wanted = frozenset().union(*(keys(self._within(kind, None, None)) for kind in (NUMBERS, TIMES)))

    def first(self, kind: int, count: int) -> list[_Found]:
        """
        Return the first count candidates of a kind of values.
        """
        start = self._after if self._after.value is not None and self._after.value[0] == kind else _Start()
        found: list[_Found] = []
        while True:
            want = count - len(found)
            candidates = self._queries.select(self._within(kind, start.value, None))
            if len(candidates) <= max(_FEW, 8 * want):
                return (found + self._sorted(kind, candidates, start, None))[:count]
            places = np.unique(np.linspace(0, len(candidates) - 1, _SAMPLE).astype(np.int64))
            values = [one.value for one in self._sorted(kind, candidates[places], start, None)]
            place = 3 + 2 * want * len(values) // len(candidates)
            if place >= len(values) or values[place] != values[0]:
                return (found + self._up_to_bound(kind, candidates, start, values, want))[:count]
            # Many have the first value: what comes before it is sorted, those that have it are taken by their ids.
            level = values[0]
            nearer = self._queries.select(self._within(kind, start.value, level, level_too=False))
            before = self._sorted(kind, nearer, start, level, level_too=False)
            found += before + self._level(kind, start, level, want - len(before))
            if len(found) >= count:
                return found[:count]
            start = _Start(level)

    def _up_to_bound(self, kind: int, candidates: NDArray[np.uint32], start: _Start, values: list[SortKey], want: int) -> list[_Found]:
        """
        Return at least `want` candidates if there are as many: those up to a bound that a sample gives, which is tried farther and farther.
        """
        place = 3 + 2 * want * len(values) // len(candidates)
        while place < len(values) // 2:
            bound = values[place]
            found = self._sorted(kind, self._queries.select(self._within(kind, start.value, bound)), start, bound)
            if len(found) >= want:
                return found
            place *= 4
        return self._sorted(kind, candidates, start, None)

    def _level(self, kind: int, start: _Start, level: SortKey, want: int) -> list[_Found]:
        """
        Return the first `want` candidates with this very value.
        """
        having = self._queries.select(self._node & F(str(self._order.key)).range(gte=_shown(level), lte=_shown(level)))
        ids = self._state.core.get_ids(having)
        beyond = start.id if start.value == level else None
        taken = max(want, 0)
        while taken:
            nearest = having[_first_ids(ids, beyond, taken)]
            found = [one for one in self._sorted(kind, nearest, start, None) if one.value == level]
            # Some may have the value among others by which they come earlier or later.
            if len(found) >= want or len(nearest) < taken:
                return found[:want]
            taken *= 4
        return []

    def _within(self, kind: int, start: SortKey | None, bound: SortKey | None, *, level_too: bool = True) -> Node:
        """
        Return the filter whose points have a value of a kind from a start on, up to a bound, or before it.
        """
        first, last = (_shown(value) if value is not None else end for value, end in zip((start, bound), self._ends(kind), strict=True))
        names = ("lte", "gte" if level_too else "gt") if self._order.descending else ("gte", "lte" if level_too else "lt")
        return self._node & F(str(self._order.key)).range(**dict(zip(names, (first, last), strict=True)))

    def _ends(self, kind: int) -> tuple[Any, Any]:
        low, high = _ENDS[kind]
        return (high, low) if self._order.descending else (low, high)

    def _sorted(
        self, kind: int, candidates: NDArray[np.uint32], start: _Start, bound: SortKey | None, *, level_too: bool = True
    ) -> list[_Found]:
        """
        Return the candidates in order: those sorted by a value of the kind, beyond the start, not beyond the bound, or before it.
        """
        found: list[_Found] = []
        for begin in range(0, len(candidates), _CHUNK):
            block = candidates[begin : begin + _CHUNK]
            raws = self._state.store.payloads_of(block.tolist())
            for one, offset, raw in zip(self._state.core.get_ids(block), block.tolist(), raws, strict=True):
                value = None if raw is None else self._order.value_of(decode_payload(raw))
                if value is None or value[0] != kind or not self._is_beyond(value, one, start):
                    continue
                if bound is None or self._is_before(value, bound) or (level_too and value == bound):
                    found.append(_Found(value, one, offset))
        found.sort(key=lambda one: id_order(one.id))
        found.sort(key=lambda one: one.value, reverse=self._order.descending)
        return found

    def _is_before(self, value: SortKey, other: SortKey) -> bool:
        return value > other if self._order.descending else value < other

    def _is_beyond(self, value: SortKey, one: PointId, start: _Start) -> bool:
        if start.value is None:
            return True
        if value == start.value:
            return start.id is not None and id_order(one) > id_order(start.id)
        return self._is_before(start.value, value)


def _first_ids(ids: list[PointId], beyond: PointId | None, count: int) -> NDArray[np.int64]:
    """
    Return the places of the first count ids, of those beyond one.
    """
    if not isinstance(beyond, str) and set(map(type, ids)) == {int}:
        numbers = np.array(ids, dtype=np.uint64)
        places = np.arange(len(ids)) if beyond is None else np.flatnonzero(numbers > beyond)
        return places[np.argpartition(numbers[places], count - 1)[:count]] if len(places) > count else places
    known = (place for place, one in enumerate(ids) if beyond is None or id_order(one) > id_order(beyond))
    return np.array(heapq.nsmallest(count, known, key=lambda place: id_order(ids[place])), dtype=np.int64)


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
