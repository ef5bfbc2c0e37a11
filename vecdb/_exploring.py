"""
What is made of several searches: recommendations from examples, and hits in groups.

Arguments are checked here; `_recommend` and `_groups` do the work. Nothing here changes state; any thread may call.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vecdb._arguments import is_one_of
from vecdb._convert import as_queries, flag, number, whole
from vecdb._groups import keys_of_groups, search_groups
from vecdb._indexing import as_key
from vecdb._payload_choice import WithPayload, payload_choice
from vecdb._query import FilterLike
from vecdb._recommend import Examples, as_examples, average_query, best_score, gather
from vecdb._results import keep_by_threshold, ranked_hits
from vecdb._searching import MAX_K, Searching, beam
from vecdb.errors import InvalidArgument, NotFound
from vecdb.filters import F, Node, parse
from vecdb.storage.framing import FieldSpec
from vecdb.types import Group, Hits, PointId

Strategy = Literal["average_vector", "best_score"]


class Exploring(Searching):
    """
    The part of `Collection` that searches by example and in groups.
    """

    def recommend(
        self,
        positive: object,
        k: int = 10,
        *,
        negative: object = (),
        strategy: Strategy = "average_vector",
        filter: FilterLike = None,
        ef: int | None = None,
        exact: bool = False,
        score_threshold: float | None = None,
        offset: int = 0,
        with_payload: WithPayload = True,
        with_vectors: bool = False,
        using: str | None = None,
    ) -> Hits:
        """
        Return what is near to the positive examples and far from the negative ones; examples are ids and vectors, mixed as you like.

        The points given by id are left out of the hits. "average_vector" searches for avg(positive) + (avg(positive) - avg(negative)), of
        the vectors as they were given. "best_score" ranks a point by its best similarity p to a positive and n to a negative example, as
        p when p > n, else -(n * n); larger is better, also for l2, whose similarity is 1 / (1 + distance). The other arguments are those
        of `search`. Raises NotFound for an id that does not exist, InvalidArgument for one without a vector.

        >>> import vecdb
        >>> points = vecdb.Collection(dim=2)
        >>> points.upsert(["a", "b", "c"], [[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]])
        >>> points.recommend("a", k=1).ids, points.recommend(["a", [1.0, 0.2]], negative="c", k=5, strategy="best_score").ids
        (['b'], ['b'])
        """
        spec = self._spec(using)
        if not is_one_of(strategy, ("average_vector", "best_score")):
            raise InvalidArgument(f"strategy is {strategy!r}, expected 'average_vector' or 'best_score'")
        examples = self._examples(positive, negative, spec)
        node = parse(filter)
        if examples.ids:
            node = node & ~F.has_id(examples.ids)
        if strategy == "average_vector":
            return self._recommended_by_average(
                average_query(examples),
                k,
                filter=node,
                ef=ef,
                exact=exact,
                score_threshold=score_threshold,
                offset=offset,
                with_payload=with_payload,
                with_vectors=with_vectors,
                using=using,
            )
        if not len(examples.positive) + len(examples.negative):
            raise InvalidArgument("positive and negative are empty: expected at least one example")
        skipped = whole(offset, "offset", 0, MAX_K)
        chosen = payload_choice(with_payload)
        threshold = None if score_threshold is None else number(score_threshold, "score_threshold")
        ranked = best_score(
            self._state,
            self._queries,
            examples,
            whole(k, "k", 1, MAX_K) + skipped,
            node=node,
            spec=spec,
            ef=beam(ef),
            exact=flag(exact, "exact"),
        )
        rows = self._fields.read(ranked.core, ranked.offsets) if flag(with_vectors, "with_vectors") else None
        hits = ranked_hits(ranked.ids, ranked.scores, ranked.payloads, chosen, rows)
        return keep_by_threshold(Hits(hits[skipped:]), threshold, "dot")

    def _recommended_by_average(self, query: NDArray[np.float32], k: int, **options: Any) -> Hits:
        try:
            hits: Hits = self.search(query, k, **options)
        except InvalidArgument as error:
            if np.any(query):
                raise
            raise InvalidArgument(f"the examples cancel each other out, their query is the zero vector: {error}") from None
        return hits

    def _examples(self, positive: object, negative: object, spec: FieldSpec) -> Examples:
        vectors_of = partial(self._example_vectors, spec)
        positives, ids = gather(as_examples(positive, "positive"), "positive", spec, vectors_of)
        negatives, others = gather(as_examples(negative, "negative"), "negative", spec, vectors_of)
        return Examples(positives, negatives, [*ids, *others])

    def _example_vectors(self, spec: FieldSpec, ids: list[PointId]) -> list[NDArray[np.float32]]:
        found: list[NDArray[np.float32]] = []
        for one, point in zip(ids, self._queries.points(ids, with_vectors=True), strict=True):
            if point is None:
                raise NotFound(f"no point with id {one!r} in collection {self._state.name!r}: examples must exist")
            vector = self._fields.of(point.vector, spec)
            if vector is None:
                raise InvalidArgument(
                    f"the point with id {one!r} has no vector{f' {spec.name!r}' if spec.name else ''}: it cannot be an example"
                )
            found.append(vector)
        return found

    def search_groups(
        self,
        query: ArrayLike,
        group_by: str,
        *,
        groups: int = 10,
        group_size: int = 3,
        filter: FilterLike = None,
        ef: int | None = None,
        exact: bool = False,
        score_threshold: float | None = None,
        offset: int = 0,
        with_payload: WithPayload = True,
        with_vectors: bool = False,
        using: str | None = None,
    ) -> list[Group]:
        """
        Return the best hits of each value at a payload key, best group first: at most `groups`, with at most `group_size` hits each.

        A group is the points with one str, int or bool at `group_by`; a point with an array belongs to the group of each of its values, one
        without such a value to none. `offset` skips groups. All groups are of one state. The other arguments are those of `search`, for one
        query.

        >>> import vecdb
        >>> points = vecdb.Collection(dim=2)
        >>> points.upsert([1, 2, 3], [[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]], [{"shop": "x"}, {"shop": "x"}, {"shop": "y"}])
        >>> [(group.key, group.hits.ids) for group in points.search_groups([1.0, 0.0], "shop", group_size=1)]
        [('x', [1]), ('y', [3])]
        """
        spec = self._spec(using)
        rows, single = as_queries(query, dim=spec.dim, metric=spec.metric)
        if not single:
            raise InvalidArgument(f"the query has shape {rows.shape}, expected one query of {spec.dim} numbers: group one at a time")
        if isinstance(filter, (list, tuple)):
            raise InvalidArgument("filter is a list, expected one filter: there is one query")
        skipped = whole(offset, "offset", 0, MAX_K)
        key, node = as_key(group_by), parse(filter)

        def found(node: Node, k: int, *, payload: WithPayload, vectors: bool) -> Hits:
            hits: Hits = self.search(
                rows[0],
                k,
                filter=node,
                ef=ef,
                exact=exact,
                score_threshold=score_threshold,
                with_payload=payload,
                with_vectors=vectors,
                using=using,
            )
            return hits

        # Checked here too: without a group nothing is searched.
        payload_choice(with_payload)
        _ = beam(ef), flag(exact, "exact"), flag(with_vectors, "with_vectors")
        if score_threshold is not None:
            number(score_threshold, "score_threshold")
        wanted, size = whole(groups, "groups", 1, MAX_K) + skipped, whole(group_size, "group_size", 1, MAX_K)

        def read() -> list[Group]:
            return search_groups(
                lambda node, k: found(node, k, payload=with_payload, vectors=with_vectors),
                lambda node, k, name: found(node, k, payload=[name], vectors=False),
                key,
                node,
                self._queries.terms_at(key),
                wanted,
                size,
                smaller=spec.metric == "l2",
            )

        # Several searches: a write between two of them could take a group away from both.
        return self._queries.in_one_state(keys_of_groups(key, node), read)[skipped:]
