"""
Facets: how many matching points have each value at a key.

A value counts once a point, however often an array holds it; 1, 1.0, True and "1" are four values. Counted by the tags of the key's index
where there are many matches for each known value, else by reading payloads; the answer is the same. Functions without state.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vecdb._ordering import RANKS, value_order
from vecdb._query import Queries
from vecdb._state import CollectionState
from vecdb.filters import FLOATS, Filter, KeyPath, Node, elements, keys, with_tag
from vecdb.storage.codec import decode_payload
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
    if queries.count(node) <= _FEW:
        counts = queries.in_one_state(keys(node), lambda: _read(state, key, queries.select(node)))
    else:
        counts = queries.in_one_state(keys(node) | {(key, "tags")}, lambda: _count(state, queries, key, node))
    ordered = sorted(counts.items(), key=lambda item: (-item[1], value_order(item[0][1])))
    return [FacetHit(value, count) for (_, value), count in ordered[:limit]]


def _count(state: CollectionState, queries: Queries, key: KeyPath, node: Node) -> Mapping[_Value, int]:
    tags = state.indexes.tags(key)
    matching = queries.select(node)
    if len(matching) <= _READS_PER_TAG * len(tags):
        return _read(state, key, matching)
    counts: dict[_Value, int] = {}
    words = queries.program(node).words
    wanted = np.zeros(int(matching[-1]) + 1, dtype=bool)
    wanted[matching] = True
    for term, tag in tags.items():
        if len(term) == 1:
            continue  # a marker
        if node == Filter():
            count = state.core.count(with_tag(words, tag))[0]
        else:
            having = state.core.select(with_tag(words[:0], tag))[0]
            count = int(np.count_nonzero(wanted[having[having < len(wanted)]]))
        if count:
            counts[type(term[1]), term[1]] = count
    if FLOATS in tags:
        floats = _read(state, key, state.core.select(with_tag(words, tags[FLOATS]))[0])
        counts.update((value, count) for value, count in floats.items() if value[0] is float)
    return counts


def _read(state: CollectionState, key: KeyPath, offsets: NDArray[np.uint32]) -> Mapping[_Value, int]:
    counts: Counter[_Value] = Counter()
    for begin in range(0, len(offsets), _CHUNK):
        for raw in state.store.payloads_of(offsets[begin : begin + _CHUNK].tolist()):
            if raw is not None:
                counts.update(_distinct(elements(decode_payload(raw), key)))
    return counts


def _distinct(found: Iterable[Any]) -> set[_Value]:
    return {(type(element), element) for element in found if type(element) in RANKS}
