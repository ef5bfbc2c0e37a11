"""
Results: what the core found becomes Hits, or arrays. Pure functions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vecdb._payload_choice import EVERYTHING, PayloadChoice
from vecdb.index import SearchResult
from vecdb.storage.codec import EMPTY_PAYLOAD, decode_payload, decode_payloads
from vecdb.types import Hit, Hits, Payload, PointId


def as_hits(
    result: SearchResult,
    offsets: Sequence[int],
    raws: Sequence[bytes | None],
    chosen: PayloadChoice,
    vectors: Sequence[Sequence[Any]] | None,
) -> list[Hits]:
    """
    Return the hits of each query; each hit gets a payload of its own. `raws` are the encoded payloads of `offsets`, of one query those of
    its hits in order; without any, hits have none.
    """
    counts: list[int] = result.counts.tolist()
    most = max(counts, default=0)
    scores, ids, kinds = result.scores, result.ids, result.kinds
    if most < ids.shape[1]:
        scores, ids, kinds = scores[:, :most], ids[:, :most], kinds[:, :most]
    found = zip(result.core.decode_ids(ids, kinds, counts), scores.tolist(), strict=True)
    if not raws and vectors is None:
        return [Hits(map(Hit, some, values)) for some, values in found]
    encoded = _by_query(result, counts, offsets, raws) if raws else []
    hits = []
    for query, (some, values) in enumerate(found):
        payloads: list[Payload] | list[None] = [None] * len(some)
        if raws:
            payloads = decode_payloads(encoded[query])
            if chosen is not EVERYTHING:
                payloads = [chosen.of(payload) for payload in payloads]
        if vectors is None:
            hits.append(Hits(map(Hit, some, values, payloads)))
        else:
            hits.append(Hits(map(Hit, some, values, payloads, vectors[query])))
    return hits


def _by_query(result: SearchResult, counts: Sequence[int], offsets: Sequence[int], raws: Sequence[bytes | None]) -> list[Sequence[bytes]]:
    given: Any = raws  # of hits, which live
    if len(counts) == 1:
        return [given]
    by_offset = dict(zip(offsets, given, strict=True))
    return [[by_offset[offset] for offset in places[:count]] for places, count in zip(result.offsets.tolist(), counts, strict=True)]


def ranked_hits(
    ids: Sequence[PointId],
    scores: Sequence[float],
    raws: Sequence[bytes | None],
    chosen: PayloadChoice | None,
    vectors: Sequence[Any] | None,
) -> Hits:
    """
    Return the hits of a ranking that was made outside of the core.
    """
    return Hits(
        Hit(
            one,
            scores[row],
            None if chosen is None else chosen.of(decode_payload(raws[row] or EMPTY_PAYLOAD)),
            None if vectors is None else vectors[row],
        )
        for row, one in enumerate(ids)
    )


def keep_by_threshold(hits: Hits, threshold: float | None, metric: str) -> Hits:
    """
    Return the hits whose score is at least as good as the threshold.
    """
    if threshold is None:
        return hits
    if metric == "l2":
        return Hits(hit for hit in hits if hit.score <= threshold)
    return Hits(hit for hit in hits if hit.score >= threshold)


def as_arrays(result: SearchResult, k: int, ids: Sequence[Sequence[PointId]] | None) -> tuple[NDArray[Any], NDArray[np.float32]]:
    """
    Return (ids, scores) of shape (n, k), short rows padded; ids (given as objects, or None when all fit int64) decide the dtype.
    """
    queries, found = result.offsets.shape
    fewest = result.counts[0] if queries == 1 else result.counts.min(initial=k)
    if ids is None and found == k and fewest == k:
        return result.ids.view(np.int64), result.scores
    missing = np.arange(k)[None, :] >= result.counts[:, None]
    scores = np.full((queries, k), np.nan, dtype=np.float32)
    scores[:, :found] = result.scores
    scores[missing] = np.nan
    if ids is None:
        numbers = np.full((queries, k), -1, dtype=np.int64)
        numbers[:, :found] = result.ids.view(np.int64)
        numbers[missing] = -1
        return numbers, scores
    objects = np.full((queries, k), None, dtype=object)
    for row, some in enumerate(ids):
        objects[row, : len(some)] = some
    return objects, scores
