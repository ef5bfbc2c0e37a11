"""
From a filter to a program, and from a program to points: the read side of a collection.

Every function here reads one state: a result that a write crossed is repeated (`CollectionState.consistent`). Programs that name no
offsets are kept by filter, since they hold for every state.

Threads: any thread; a lock guards the programs that are kept.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from vecdb._contents import Contents, Lowered
from vecdb._fields import Fields
from vecdb._state import CollectionState
from vecdb.errors import VecdbError
from vecdb.filters import IndexKey, KeyPath, Node, Program, Term, is_value, keys, lower, matches, parse
from vecdb.index import SearchResult
from vecdb.storage.codec import decode_payload
from vecdb.storage.framing import FieldSpec
from vecdb.types import Plan, Point, PointId

T = TypeVar("T")

EVERYTHING: NDArray[np.uint64] = np.empty(0, dtype=np.uint64)
_CACHED_PROGRAMS = 256
_BLOCK = 1024
_FEW_HITS = 4096  # room that is cheaper than a look at how many points there are

FilterLike = Any  # a dict in the grammar, what F builds, or None


class _Compacted(VecdbError):
    """
    A compaction has numbered the points anew: begin again.
    """


def _moved() -> _Compacted:
    return _Compacted("the indexes in use are those of before a compaction")


class _Resolver:
    """
    Answers what lowering asks of a collection.
    """

    def __init__(self, fields: Sequence[FieldSpec], contents: Contents) -> None:
        self._fields = fields
        self._contents = contents
        self.has = contents.indexes.has
        self.tag = contents.indexes.tag
        self.prefixed = contents.indexes.prefixed
        self.column = contents.indexes.column

    def offsets(self, ids: Sequence[PointId]) -> list[int]:
        return [offset for offset in self._contents.points.offsets_of(ids) if offset is not None]

    def evaluate(self, node: Node, candidates: Program) -> list[int]:
        offsets, _ = self._contents.core.select(candidates.words)
        found: list[int] = []
        for start in range(0, len(offsets), _BLOCK):
            block = offsets[start : start + _BLOCK]
            ids = self._contents.core.get_ids(block)
            present = self._presence(block)
            payloads = self._contents.points.payloads_of(block.tolist())
            for row, (one, raw) in enumerate(zip(ids, payloads, strict=True)):
                if raw is not None and matches(node, decode_payload(raw), id=one, has_vector=partial(present, row)):
                    found.append(int(block[row]))
        return found

    def _presence(self, offsets: NDArray[np.uint32]) -> Callable[[int, str], bool]:
        known: dict[str, NDArray[np.uint8]] = {}

        def present(row: int, name: str) -> bool:
            if name not in known:
                field = next((field.number for field in self._fields if field.name == name), None)
                known[name] = np.zeros(len(offsets), dtype=np.uint8) if field is None else self._contents.core.get_rows(field, offsets)[1]
            return bool(known[name][row])

        return present


class Queries:
    """
    The reads of one collection.
    """

    def __init__(self, state: CollectionState) -> None:
        self.fields = Fields(state.fields)
        self._state = state
        self._lock = threading.Lock()

    def with_program(self, node: Node, read: Callable[[NDArray[np.uint64]], T], changed: Callable[[T], Iterable[int] | None]) -> T:
        """
        Return read(program) for one state; `changed` names the offsets that the result rests on (None: all).
        """
        while True:
            contents = self._state.contents
            latest = contents.latest
            wanted = latest.wanted if latest is not None and latest.node is node else keys(node)
            try:
                if not wanted:
                    return self._of_one_state(contents, node, read, changed)
                with contents.indexes.use(wanted):
                    return self._of_one_state(contents, node, read, changed)
            except _Compacted:
                continue

    def _read_of(self, contents: Contents, read: Callable[[], T]) -> T:
        """
        Return what read gives; raise _Compacted where other contents than those whose indexes are in use are read, or have got in the
        way: an error may come of it.
        """
        if self._state.contents is not contents:
            raise _moved()
        try:
            return read()
        except Exception:
            if self._state.contents is not contents:
                raise _moved() from None
            raise

    def _of_one_state(
        self, contents: Contents, node: Node, read: Callable[[NDArray[np.uint64]], T], changed: Callable[[T], Iterable[int] | None]
    ) -> T:
        bound = False

        def unguarded() -> T:
            nonlocal bound
            generation = contents.indexes.generation
            program = self._program(contents, node)
            result = read(program.words)
            # A term that became known meanwhile is missing in the program: to a state that has it, the program does not apply.
            bound = program.state_bound or contents.indexes.generation != generation
            return result

        return self._state.consistent(partial(self._read_of, contents, unguarded), lambda result: None if bound else changed(result))

    def in_one_state(self, wanted: Iterable[IndexKey], read: Callable[[], T]) -> T:
        """
        Return what read gives of one state, with these indexes complete; it is repeated when any write crossed it.
        """
        names = frozenset(wanted)
        while True:
            contents = self._state.contents
            with suppress(_Compacted), contents.indexes.use(names):
                return self._state.consistent(partial(self._read_of, contents, read), lambda _: None)

    def select(self, node: Node) -> NDArray[np.uint32]:
        """
        Return the ascending offsets of the points that match. For use in `in_one_state`, with the indexes of the node.
        """
        return self._state.core.select(self.program(node).words)[0]

    def program(self, node: Node) -> Program:
        """
        Return the program of a node, whose indexes are complete. For use in `in_one_state`.
        """
        return self._program(self._state.contents, node)

    def _program(self, contents: Contents, node: Node) -> Program:
        generation = contents.indexes.generation
        latest = contents.latest
        if latest is not None and latest.node is node and latest.generation == generation:
            return latest.program
        programs = contents.programs
        with self._lock:
            found = programs.get(node)
            if found is not None and found.generation == generation:
                programs.move_to_end(node)
                contents.latest = found._replace(node=node)
                return found.program
        program = lower(node, _Resolver(self._state.fields, contents))
        if not program.state_bound:
            with self._lock:
                contents.latest = programs[node] = Lowered(node, keys(node), generation, program)
                programs.move_to_end(node)
                if len(programs) > _CACHED_PROGRAMS:
                    programs.popitem(last=False)
        return program

    def explain(self, filter: FilterLike, k: int, *, field: int, ef: int) -> Plan:
        """
        Return the plan of one query under a filter.
        """
        plan = self.with_program(parse(filter), lambda program: self._state.core.plan(k, field=field, ef=ef, program=program), lambda _: ())
        share = plan.cardinality / plan.total if plan.total else 0.0
        return Plan(plan.strategy, plan.cardinality, share, plan.ef, plan.tail, plan.cost_exact_ns, plan.cost_graph_ns)

    # ---- sets ----

    def count(self, filter: FilterLike) -> int:
        """
        Return how many points match.
        """
        return self.with_program(parse(filter), lambda program: self._state.core.count(program)[0], lambda _: ())

    def matching_ids(self, node: Node) -> list[PointId]:
        """
        Return the ids of the points that match. The caller holds the write lock and has settled the queue.
        """

        def read(program: NDArray[np.uint64]) -> list[PointId]:
            return self._state.core.get_ids(self._state.core.select(program)[0])

        return self.with_program(node, read, lambda _: ())

    def terms_at(self, key: KeyPath) -> list[Term]:
        """
        Return the terms of the strs, ints and bools that some point has, or had, at a key.
        """
        indexes = self._state.indexes
        with indexes.use([(key, "tags")]):
            return [term for term in indexes.tags(key) if is_value(term)]

    # ---- points ----

    def points(self, ids: Sequence[PointId], *, with_vectors: bool) -> list[Point | None]:
        """
        Return the points with these ids, in their order, None where there is none.
        """
        return self._state.whole(lambda: self._points(ids, with_vectors=with_vectors))

    def _points(self, ids: Sequence[PointId], *, with_vectors: bool) -> list[Point | None]:
        found = self._state.store.offsets_of(ids)
        rows = [row for row, offset in enumerate(found) if offset is not None]
        offsets = [offset for offset in found if offset is not None]
        points: list[Point | None] = [None] * len(ids)
        for row, point in zip(rows, self.points_at([ids[row] for row in rows], offsets, with_vectors=with_vectors), strict=True):
            points[row] = point
        return points

    def points_at(self, ids: Sequence[PointId], offsets: Sequence[int], *, with_vectors: bool) -> list[Point | None]:
        """
        Return the points at these offsets of theirs; None for one that is a tombstone by now, so that the read is to be repeated.
        """
        raws = self._state.store.payloads_of(offsets)
        vectors = self.fields.read(self._state.core, offsets) if with_vectors else [None] * len(ids)
        return [
            None if raw is None else Point(one, vector, decode_payload(raw), with_vectors)
            for one, vector, raw in zip(ids, vectors, raws, strict=True)
        ]

    # ---- nearest neighbours ----

    def nearest(
        self,
        queries: NDArray[np.float32],
        k: int,
        *,
        node: Node,
        field: int,
        ef: int,
        exact: bool,
        threads: int,
        with_payload: bool,
    ) -> tuple[SearchResult, list[int], list[bytes | None]]:
        """
        Return the hits of every query under one filter, and, when asked for, their offsets, each once, with the encoded payloads.
        """

        def read(program: NDArray[np.uint64]) -> tuple[SearchResult, list[int], list[bytes | None]]:
            contents = self._state.contents
            while True:
                # No more hits than offsets can come back: a huge k costs no memory, unless points arrive in between.
                bounded = k if k * len(queries) <= _FEW_HITS else min(k, max(1, contents.points.next_offset))
                result = contents.core.search(queries, bounded, field=field, ef=ef, exact=exact, threads=threads, program=program)
                if bounded == k or result.plan.cardinality <= bounded:
                    break
            offsets = hit_offsets(result) if with_payload else []
            return result, offsets, contents.points.payloads_of(offsets) if offsets else []

        # Ids and scores come with the search itself, so that without payloads nothing can have changed in between.
        # A tombstone among the hits (a payload that is None) means that a write crossed the read, which is then repeated.
        return self.with_program(node, read, lambda found: found[1])


def hit_offsets(result: SearchResult) -> list[int]:
    """
    Return the offsets of all hits of a batch, each once; of one query in the order of its hits.
    """
    if len(result.counts) == 1:
        found = result.offsets[0, : int(result.counts[0])]
    else:
        found = np.unique(result.offsets[np.arange(result.offsets.shape[1])[None, :] < result.counts[:, None]])
    offsets: list[int] = found.tolist()
    return offsets
