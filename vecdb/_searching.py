"""
The searches of a collection: queries checked at the edge, answered by the core under a filter, made into hits or arrays.

Nothing here changes state. Any thread may search.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vecdb import _convert as convert
from vecdb._convert import flag, number, whole
from vecdb._handle import Held
from vecdb._payload_choice import EVERYTHING, WithPayload, payload_choice
from vecdb._query import FilterLike
from vecdb._results import as_arrays, as_hits, keep_by_threshold
from vecdb.errors import InvalidArgument
from vecdb.filters import Node, parse
from vecdb.index import SearchResult
from vecdb.storage.framing import FieldSpec
from vecdb.types import Hits, Plan

MAX_K = 2**31 - 1


class Searching(Held):
    """
    The part of `Collection` that searches.
    """

    @overload
    def search(
        self,
        query: Sequence[float],
        k: int = ...,
        *,
        filter: FilterLike = ...,
        ef: int | None = ...,
        exact: bool = ...,
        score_threshold: float | None = ...,
        offset: int = ...,
        with_payload: WithPayload = ...,
        with_vectors: bool = ...,
        using: str | None = ...,
    ) -> Hits: ...

    @overload
    def search(
        self,
        query: Sequence[Sequence[float]] | Sequence[NDArray[Any]],
        k: int = ...,
        *,
        filter: FilterLike | Sequence[FilterLike] = ...,
        ef: int | None = ...,
        exact: bool = ...,
        score_threshold: float | None = ...,
        offset: int = ...,
        with_payload: WithPayload = ...,
        with_vectors: bool = ...,
        using: str | None = ...,
    ) -> list[Hits]: ...

    @overload
    def search(
        self,
        query: ArrayLike,
        k: int = ...,
        *,
        filter: FilterLike | Sequence[FilterLike] = ...,
        ef: int | None = ...,
        exact: bool = ...,
        score_threshold: float | None = ...,
        offset: int = ...,
        with_payload: WithPayload = ...,
        with_vectors: bool = ...,
        using: str | None = ...,
    ) -> Any: ...

    def search(
        self,
        query: ArrayLike,
        k: int = 10,
        *,
        filter: FilterLike | Sequence[FilterLike] = None,
        ef: int | None = None,
        exact: bool = False,
        score_threshold: float | None = None,
        offset: int = 0,
        with_payload: WithPayload = True,
        with_vectors: bool = False,
        using: str | None = None,
    ) -> Any:
        """
        Return the k nearest points that match: Hits for a 1-D query, a list of Hits for 2-D queries.

        Without threshold and offset there are exactly min(k, points that match and have a vector) hits, best first; equal scores by
        ascending id. `filter`: a dict in the grammar or what `F` builds; with 2-D queries also a list, one a query. `ef`: beam width,
        chosen for recall >= 0.95 when None. `exact=True`: the true nearest. `score_threshold` keeps scores at least as good. `offset`
        skips that many after ranking. `with_payload`: True, False, a list of keys, or {"exclude": keys} for all others. Raises
        InvalidArgument, InvalidFilter.

        >>> import vecdb
        >>> from vecdb import F
        >>> points = vecdb.Collection(dim=2)
        >>> points.upsert(["a", "b"], [[1.0, 0.0], [0.0, 1.0]], [{"n": 1}, {"n": 2}])
        >>> [(hit.id, round(hit.score, 2)) for hit in points.search([1.0, 0.0], filter=F("n") == 2)]
        [('b', 0.0)]
        """
        spec = self._spec(using)
        rows, single = convert.as_queries(query, dim=spec.dim, metric=spec.metric)
        wanted = whole(k, "k", 1, MAX_K)
        skipped = whole(offset, "offset", 0, MAX_K)
        chosen = payload_choice(with_payload)
        threshold = None if score_threshold is None else number(score_threshold, "score_threshold")
        with_rows = flag(with_vectors, "with_vectors")
        answers: dict[int, Hits] = {}
        for places, node in self._by_filter(len(rows), filter):
            result, offsets, raws = self._nearest(
                spec,
                picked(rows, places),
                wanted + skipped,
                node,
                ef,
                exact=exact,
                with_payload=chosen is not None,
            )
            vectors = self._vectors_of(result) if with_rows else None
            found = as_hits(result, offsets, raws, chosen or EVERYTHING, vectors)
            for place, hits in zip(places, found, strict=True):
                answers[place] = keep_by_threshold(Hits(hits[skipped:]) if skipped else hits, threshold, spec.metric)
        return answers[0] if single else [answers[place] for place in range(len(rows))]

    def knn(
        self,
        queries: ArrayLike,
        k: int = 10,
        *,
        filter: FilterLike | Sequence[FilterLike] = None,
        ef: int | None = None,
        exact: bool = False,
        using: str | None = None,
    ) -> tuple[NDArray[Any], NDArray[np.float32]]:
        """
        Return arrays (ids, scores) of shape (n, k) for n queries: the fast path without payloads.

        `ids` is int64, or object where the collection has str ids or ids >= 2**63; rows with fewer than k hits are padded with -1 (None)
        and NaN.

        >>> import vecdb
        >>> points = vecdb.Collection(dim=2, metric="l2")
        >>> points.upsert([7, 8], [[1.0, 0.0], [0.0, 1.0]])
        >>> ids, scores = points.knn([[1.0, 0.0]], k=2)
        >>> ids.tolist(), scores.round(2).tolist()
        ([[7, 8]], [[0.0, 1.409999966621399]])
        """
        spec = self._spec(using)
        rows, _ = convert.as_queries(queries, dim=spec.dim, metric=spec.metric)
        wanted = whole(k, "k", 1, MAX_K)
        results = [
            (places, self._nearest(spec, picked(rows, places), wanted, node, ef, exact=exact, with_payload=False)[0])
            for places, node in self._by_filter(len(rows), filter)
        ]
        wide = self._state.wide_ids  # asked once, and last: it may become true between two parts
        parts = [
            as_arrays(result, wanted, result.core.decode_ids(result.ids, result.kinds, result.counts) if wide else None)
            for _, result in results
        ]
        if len(parts) == 1:
            return parts[0]
        ids = np.empty((len(rows), wanted), dtype=object if wide else np.int64)
        scores = np.empty((len(rows), wanted), dtype=np.float32)
        for (places, _), (some_ids, some_scores) in zip(results, parts, strict=True):
            ids[places], scores[places] = some_ids, some_scores
        return ids, scores

    def _spec(self, using: object) -> FieldSpec:
        """
        Return the field to search, once it is clear that the collection may be read.
        """
        self._handle.check()
        return self._fields.using(using)

    def _by_filter(self, count: int, filter: Any) -> Iterable[tuple[list[int], Node]]:
        """
        Return the places of the queries that share a filter: of all of them, or of those with equal filters in a list.
        """
        if not isinstance(filter, (list, tuple)):
            node = parse(filter)
            return [(list(range(count)), node)] if count else []
        if len(filter) != count:
            raise InvalidArgument(f"{count} queries but {len(filter)} filters: expected one filter for all, or one a query")
        places: dict[Node, list[int]] = {}
        for place, node in enumerate([parse(one) for one in filter]):
            places.setdefault(node, []).append(place)
        return [(some, shared) for shared, some in places.items()]

    def _nearest(
        self, spec: FieldSpec, rows: NDArray[np.float32], k: int, node: Node, ef: int | None, *, exact: bool, with_payload: bool
    ) -> Any:
        return self._queries.nearest(
            rows,
            k,
            node=node,
            field=spec.number,
            ef=beam(ef),
            exact=flag(exact, "exact"),
            threads=self._state.threads,
            with_payload=with_payload,
        )

    def _vectors_of(self, result: SearchResult) -> list[list[Any]]:
        return [self._fields.read(result.core, row[: int(count)]) for row, count in zip(result.offsets, result.counts, strict=True)]

    def explain(self, filter: FilterLike = None, *, k: int = 10, ef: int | None = None, using: str | None = None) -> Plan:
        """
        Return how a search with this filter would run, and the figures behind it.

        >>> import vecdb
        >>> vecdb.Collection(dim=2).explain({}).strategy
        'empty'
        """
        self._handle.check()
        return self._queries.explain(filter, whole(k, "k", 1, MAX_K), field=self._spec(using).number, ef=beam(ef))


def picked(rows: NDArray[np.float32], places: Sequence[int]) -> NDArray[np.float32]:
    """
    Return the queries at some places, which ascend.
    """
    return rows if len(places) == len(rows) else rows[places]


def beam(ef: object) -> int:
    """
    Return a beam width as the core takes it, 0 for None.
    """
    return 0 if ef is None else whole(ef, "ef", 1, MAX_K)
