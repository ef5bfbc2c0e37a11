"""
Facets: how many matching points have each value at a key.

A value counts once a point, however often an array holds it; 1, 1.0, True and "1" are four values. Counted by the tags of the key's index
where there are many matches for each known value, else by reading payloads; the answer is the same. Functions without state.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import closing
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vecdb._ordering import RANKS, value_order
from vecdb._query import Queries
from vecdb._state import CollectionState
from vecdb.filters import FLOATS, Filter, IndexKey, KeyPath, Node, elements, is_value, keys, with_tag
from vecdb.storage.codec import decode_payload
from vecdb.storage.view import View
from vecdb.types import FacetHit

_CHUNK = 1024
# So many matches are read without making an index for that; reading one costs about a tenth of counting one tag.
_FEW = 10_000
_READS_PER_TAG = 10

_Value = tuple[type, Any]


def facet(state: CollectionState, queries: Queries, key: KeyPath, node: Node, limit: int | None) -> list[FacetHit]:
    """
    Return the values at a key and how many matching points have each, most first, ties by value (bools, numbers, strs).
    """
    by_tags = queries.count(node) > _FEW
    tags: IndexKey = (key, "tags")
    wanted = keys(node) | {tags} if by_tags else keys(node)

    def read() -> _Counted:
        matching = queries.select(node)
        counted = _by_tags(state, queries, key, node, matching) if by_tags else _Counted({}, matching)
        # Payloads are read after this, of the same state, while writes go on.
        return counted._replace(view=state.store.view()) if len(counted.unread) else counted

    counts, unread, view = queries.in_one_state(wanted, read)
    if view is not None:
        with closing(view):
            # What tags have counted is not counted again; floats have none.
            counts.update(_read(view, key, unread, floats_only=bool(counts)))
    ordered = sorted(counts.items(), key=lambda item: (-item[1], value_order(item[0][1])))
    return [FacetHit(value, count) for (_, value), count in ordered[:limit]]


class _Counted(NamedTuple):
    """
    Counts of values, the offsets whose payloads have others, and the state to read these from.
    """

    counts: dict[_Value, int]
    unread: NDArray[np.uint32]
    view: View | None = None


def _by_tags(state: CollectionState, queries: Queries, key: KeyPath, node: Node, matching: NDArray[np.uint32]) -> _Counted:
    """
    Count strs, ints and bools by their tags, which leaves the points with floats; or nothing, where reading all is less work.
    """
    tags = state.indexes.tags(key)
    if len(matching) <= _READS_PER_TAG * len(tags):
        return _Counted({}, matching)
    counts: dict[_Value, int] = {}
    words = queries.program(node).words
    wanted = np.zeros(int(matching[-1]) + 1, dtype=bool)
    wanted[matching] = True
    for term, tag in tags.items():
        if not is_value(term):
            continue
        if node == Filter():
            count = state.core.count(with_tag(words, tag))[0]
        else:
            having = state.core.select(with_tag(words[:0], tag))[0]
            count = int(np.count_nonzero(wanted[having[having < len(wanted)]]))
        if count:
            counts[type(term[-1]), term[-1]] = count
    floats = state.core.select(with_tag(words, tags[FLOATS]))[0] if FLOATS in tags else matching[:0]
    return _Counted(counts, floats)


def _read(view: View, key: KeyPath, offsets: NDArray[np.uint32], *, floats_only: bool) -> Mapping[_Value, int]:
    counts: Counter[_Value] = Counter()
    for begin in range(0, len(offsets), _CHUNK):
        for raw in view.payloads_of(offsets[begin : begin + _CHUNK].tolist()):
            counts.update(one for one in _distinct(elements(decode_payload(raw), key)) if one[0] is float or not floats_only)
    return counts


def _distinct(found: Iterable[Any]) -> set[_Value]:
    return {(type(element), element) for element in found if type(element) in RANKS}
