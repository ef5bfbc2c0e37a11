"""
Recommendations: what is near to positive examples and far from negative ones.

`average_vector` makes one query of the examples; `best_score` ranks each candidate by its best similarity to an example of either kind
(Qdrant's documentation, "Explore the data": score p when p > n, else -(n * n)). Functions without state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vecdb._convert import as_id, as_queries, is_one_id
from vecdb._ordering import id_order
from vecdb._query import Queries
from vecdb._state import CollectionState
from vecdb.errors import InvalidArgument
from vecdb.filters import Node, offsets_program
from vecdb.index import CoreIndex
from vecdb.storage.framing import FieldSpec
from vecdb.types import PointId

Rows = NDArray[np.float32]

_BLOCK = 16_384  # candidates that are scored at once
_FIRST_DEPTH = 64
_DEEPER = 4


class Examples(NamedTuple):
    """
    Checked examples: the vectors of each kind, and the ids among them.
    """

    positive: Rows
    negative: Rows
    ids: list[PointId]


class Ranked(NamedTuple):
    """
    The best candidates, best first, with their encoded payloads, and the core that knows their offsets.
    """

    core: CoreIndex

    ids: list[PointId]
    offsets: NDArray[np.uint32]
    scores: list[float]
    payloads: list[bytes | None]


def as_examples(given: object, name: str) -> list[Any]:
    """
    Return one example or several, each an id or a vector, as a list.

    >>> as_examples([1, "a", [0.5, 0.5]], "positive"), len(as_examples([0.5, 0.5], "positive"))
    ([1, 'a', [0.5, 0.5]], 1)
    """
    if is_one_id(given):
        return [given]
    if isinstance(given, (Mapping, Node, bytes)) or not isinstance(given, Iterable):
        raise InvalidArgument(f"{name} is a {type(given).__name__}, expected ids and vectors")
    if hasattr(given, "__array__"):
        array = np.asarray(given)
        if array.ndim == 0:
            return [array.item()]
        return [array] if array.ndim == 1 and array.dtype.kind == "f" else list(array)
    examples = list(given)
    # Numbers with a fraction among them are one vector: no float is an id.
    if examples and all(np.ndim(one) == 0 and isinstance(one, (int, float, np.number)) for one in examples):
        return [examples] if any(isinstance(one, (float, np.floating)) for one in examples) else examples
    return examples


def gather(
    examples: Sequence[Any], name: str, spec: FieldSpec, vectors_of: Callable[[list[PointId]], list[Rows]]
) -> tuple[Rows, list[PointId]]:
    """
    Return the vectors of examples, and the ids among them.
    """
    rows: list[Rows | None] = []
    ids: list[PointId] = []
    for place, one in enumerate(examples):
        if is_one_id(one):
            ids.append(as_id(one, f"{name}[{place}]"))
            rows.append(None)
            continue
        try:
            matrix, single = as_queries(one, dim=spec.dim, metric=spec.metric)
        except InvalidArgument as error:
            raise InvalidArgument(f"{name}[{place}]: {error}") from None
        if not single:
            raise InvalidArgument(f"{name}[{place}] has shape {matrix.shape}, expected an id or {spec.dim} numbers")
        rows.append(matrix[0])
    found = iter(vectors_of(ids))
    known = [next(found) if row is None else row for row in rows]
    return np.asarray(known, dtype=np.float32).reshape(len(known), spec.dim), ids


def average_query(examples: Examples) -> Rows:
    """
    Return avg(positive) + (avg(positive) - avg(negative)), computed from the vectors as they were given.
    """
    if not len(examples.positive):
        raise InvalidArgument("positive is empty: strategy 'average_vector' needs a positive example, 'best_score' can do without")
    query: NDArray[np.float64] = examples.positive.mean(axis=0, dtype=np.float64)
    if len(examples.negative):
        query += query - examples.negative.mean(axis=0, dtype=np.float64)
    return query.astype(np.float32)


def best_score(
    state: CollectionState, queries: Queries, examples: Examples, k: int, *, node: Node, spec: FieldSpec, ef: int, exact: bool
) -> Ranked:
    """
    Return the k best candidates by best_score. Without `exact`, those near some positive example are looked at, as long as that decides.
    """

    def read(program: NDArray[np.uint64]) -> Ranked:
        ranking = _BestScore(state, examples, spec)
        found = None if exact else ranking.near(program, k, ef)
        offsets, scores = ranking.all(program) if found is None else found
        return _ranked(state, offsets, scores, k)

    return queries.with_program(node, read, lambda found: found.offsets.tolist())


class _BestScore:
    """
    Scores of candidates to a set of examples.
    """

    def __init__(self, state: CollectionState, examples: Examples, spec: FieldSpec) -> None:
        self._state = state
        self._core = state.core
        self._positives = examples.positive
        self._all = np.concatenate([examples.positive, examples.negative])
        self._spec = spec

    def all(self, program: NDArray[np.uint64]) -> tuple[NDArray[np.uint32], Rows]:
        """
        Return every candidate that has the vector, and its score.
        """
        matching = self._core.select(program)[0]
        parts = [self._scored(matching[begin : begin + _BLOCK]) for begin in range(0, len(matching), _BLOCK)]
        if not parts:
            return matching, np.empty(0, dtype=np.float32)
        return np.concatenate([offsets for offsets, _ in parts]), np.concatenate([scores for _, scores in parts])

    def near(self, program: NDArray[np.uint64], k: int, ef: int) -> tuple[NDArray[np.uint32], Rows] | None:
        """
        Return candidates, and their scores, among which are the k best; None when looking at all of them is no more work.

        Who is not among the `depth` nearest of any positive example has a p of at most `bound`, and a score of at most that or 0.
        """
        if not len(self._positives):
            return None
        depth = max(_FIRST_DEPTH, _DEEPER * k)
        cardinality = self._core.count(program)[0]
        while depth * len(self._positives) * _DEEPER < cardinality:
            result = self._core.search(self._positives, depth, field=self._spec.number, ef=ef, threads=self._state.threads, program=program)
            if int(result.counts.min()) < depth:
                return None
            bound = float(self._similarity(result.scores[:, -1]).max())
            offsets, scores = self._scored(np.unique(result.offsets))
            if len(scores) >= k and float(np.partition(scores, -k)[-k]) >= max(bound, 0.0):
                return offsets, scores
            depth *= _DEEPER
        return None

    def _scored(self, candidates: NDArray[np.uint32]) -> tuple[NDArray[np.uint32], Rows]:
        """
        Return those of the ascending candidates that have the vector, and their scores.
        """
        result = self._core.search(
            self._all,
            max(1, len(candidates)),
            field=self._spec.number,
            exact=True,
            threads=self._state.threads,
            program=offsets_program(candidates),
        )
        count = int(result.counts.min(initial=len(candidates)))
        ascending = np.argsort(result.offsets[:, :count], axis=1)
        offsets = np.take_along_axis(result.offsets[:, :count], ascending, axis=1)
        similarities = self._similarity(np.take_along_axis(result.scores[:, :count], ascending, axis=1))
        split = len(self._positives)
        best = similarities[:split].max(axis=0, initial=-np.inf)
        worst = similarities[split:].max(axis=0, initial=-np.inf)
        with np.errstate(over="ignore"):
            return offsets[0], np.where(best > worst, best, -(worst * worst)).astype(np.float32)

    def _similarity(self, scores: Rows) -> Rows:
        """
        Return what is larger the nearer: the score itself, for l2 1 / (1 + distance).
        """
        return (1 / (1 + scores)).astype(np.float32) if self._spec.metric == "l2" else scores


def _ranked(state: CollectionState, offsets: NDArray[np.uint32], scores: Rows, k: int) -> Ranked:
    if len(scores) > k:
        kept = scores >= np.partition(scores, -k)[-k]  # with all that tie at the cut: ids decide among these
        offsets, scores = offsets[kept], scores[kept]
    ids = state.core.get_ids(offsets)
    order = sorted(range(len(ids)), key=lambda row: (-float(scores[row]), id_order(ids[row])))[:k]
    best = np.ascontiguousarray(offsets[order])
    return Ranked(state.core, [ids[row] for row in order], best, scores[order].tolist(), state.store.payloads_of(best.tolist()))
