"""
The payload indexes of a collection: which keys are indexed in which kinds, and the exact dictionary of their tags.

An index is built by the first filter that needs it. From the moment it is registered every applied write feeds it; then a snapshot is
scanned, skipping what was written since; it is used when complete. It never changes an answer, only its cost. The indexes share a memory
budget and leave least recently used first; words that would pass it alone are not indexed.

Threads: `changes` is called inside an apply, under the collection's apply lock, as are registration and each block of a build; `use` may
be called from any thread.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np

from vecdb._index_entries import Entries, IndexChanges, changes_of
from vecdb.filters import IndexKey, KeyPath, Kind, Term, terms
from vecdb.index import CoreIndex
from vecdb.types import Payload

BUDGET_BYTES = 256 << 20
BLOCK = 4096
_BYTES_PER_TERM = 160  # a dictionary entry and an empty posting
# In the core: a place in a posting, which grows by doubling; an entry of a column.
_BYTES_PER_ENTRY: Mapping[Kind, int] = {"tags": 8, "words": 8, "presence": 8, "numbers": 16, "times": 16, "counts": 16, "points": 32}
_COLUMNS: frozenset[Kind] = frozenset(("numbers", "times", "points", "counts"))


class Payloads(Protocol):
    """
    Where the payloads of live offsets are read from.
    """

    def iterate(self, first: int, last: int) -> Iterator[tuple[int, Payload]]:
        """
        Yield (offset, payload) of the live offsets in [first, last).
        """
        ...


class PayloadIndex:
    """
    The index of one kind of one key: a tag for each term, or one column.
    """

    __slots__ = ("column", "complete", "end", "entries", "key", "kind", "m", "pins", "scanned", "tags", "touched", "used")

    def __init__(self, key: KeyPath, kind: Kind, column: int, end: int) -> None:
        self.key = key
        self.kind = kind
        self.column = column
        self.tags: dict[Term, int] = {}
        self.entries = 0
        self.complete = False
        # While it is built: the offsets below `scanned` and from `end` on are in it, and those that writes touched.
        self.scanned = 0
        self.end = end
        self.touched: set[int] = set()
        self.pins = 0
        self.used = 0
        self.m: int | None = None  # the points of each term are to be linked among themselves, with so many links (0: the usual number)

    @property
    def bytes(self) -> int:
        """
        About how much memory the index takes.
        """
        return self.entries * _BYTES_PER_ENTRY[self.kind] + len(self.tags) * _BYTES_PER_TERM

    def covers(self, offset: int) -> bool:
        """
        Return whether what the payload of an offset gives is in the index.
        """
        return self.complete or offset < self.scanned or offset >= self.end or offset in self.touched


class PayloadIndexes:
    """
    All payload indexes of a collection.
    """

    def __init__(
        self,
        core: CoreIndex,
        payloads: Payloads,
        apply_lock: threading.Lock,
        next_offset: Callable[[], int],
        *,
        fields: Sequence[int] = (0,),
    ) -> None:
        self._core = core
        self._fields = fields
        self._payloads = payloads
        self._apply_lock = apply_lock
        self._next_offset = next_offset
        self._indexes: dict[IndexKey, PayloadIndex] = {}
        self._by_key: dict[KeyPath, dict[Kind, PayloadIndex]] = {}
        self._refused: set[IndexKey] = set()
        self._build_lock = threading.Lock()
        self._pin_lock = threading.Lock()
        self._next_tag = 1
        self._next_column = 0
        self._clock = 0
        self.generation = 0
        """
        Raised when a term becomes known or an index goes: programs made before are made again.
        """

    @property
    def keys(self) -> tuple[str, ...]:
        """
        The indexed keys, in order.
        """
        return tuple(sorted({str(index.key) for index in list(self._indexes.values()) if index.complete}))

    @property
    def bytes(self) -> int:
        """
        About how much memory the indexes take, the dictionary included.
        """
        return sum(index.bytes for index in list(self._indexes.values()))

    # ---- what an apply feeds ----

    def __bool__(self) -> bool:
        """
        Return whether there is an index to feed.
        """
        return bool(self._indexes)

    def changes(
        self,
        puts: Iterable[tuple[int, Payload]],
        patches: Iterable[tuple[int, Payload, Payload]],
        deaths: Iterable[tuple[int, Payload]],
    ) -> IndexChanges:
        """
        Return what new points (offset, payload), payload changes (offset, old, new) and dying points (offset, old) change in the indexes.
        """
        added, removed = Entries(), Entries()
        for offset, payload in puts:
            for key, kinds in self._by_key.items():
                found = terms(payload, key, kinds)
                for kind, index in kinds.items():
                    self._add(index, offset, found[kind], added)
        for offset, old, new in patches:
            for key, kinds in self._by_key.items():
                before, after = terms(old, key, kinds), terms(new, key, kinds)
                for kind, index in kinds.items():
                    if before[kind] != after[kind] or not index.complete:
                        self._remove(index, offset, before[kind], removed)
                        self._add(index, offset, after[kind], added)
        for offset, old in deaths:
            for key, kinds in self._by_key.items():
                before = terms(old, key, kinds)
                for kind, index in kinds.items():
                    self._remove(index, offset, before[kind], removed)
        return changes_of(added, removed)

    def _add(self, index: PayloadIndex, offset: int, given: Collection[Any], added: Entries) -> None:
        index.entries += len(given)
        if index.kind in _COLUMNS:
            added.column(index.column, offset, given, are_points=index.kind == "points")
            return
        for term in given:
            tag = index.tags.get(term)
            if tag is None:
                tag = index.tags[term] = self._next_tag
                self._next_tag += 1
                self.generation += 1
                if index.m is not None:
                    self._link([tag], index.m)
            added.tags.append((offset, tag))

    @staticmethod
    def _remove(index: PayloadIndex, offset: int, given: Collection[Any], removed: Entries) -> None:
        if index.covers(offset):
            index.entries -= len(given)
            if index.kind in _COLUMNS:
                removed.column(index.column, offset, given, are_points=index.kind == "points")
            else:
                # What is in the index has its terms in the dictionary.
                removed.tags.extend((offset, index.tags[term]) for term in given)
        if not index.complete:
            index.touched.add(offset)

    # ---- links among the points of a term ----

    def link(self, key: KeyPath, *, m: int = 0) -> None:
        """
        Keep the index of this key's terms from now on, and have the points of each term linked among themselves, with m links each (0: the
        usual number), once there are enough of them.
        """
        name: IndexKey = (key, "tags")
        with self.use([name]), self._apply_lock, self._pin_lock:
            index = self._indexes[name]
            if index.m is None:
                index.pins += 1  # for ever: what was asked for does not leave when memory is short
            index.m = m
            self._link(index.tags.values(), m)

    def _link(self, tags: Collection[int], m: int) -> None:
        wanted = np.fromiter(tags, dtype=np.uint64, count=len(tags))
        for field in self._fields:
            self._core.link_tags(field, wanted, m=m)

    # ---- what a filter uses ----

    @contextmanager
    def use(self, wanted: Iterable[IndexKey]) -> Iterator[None]:
        """
        Keep these indexes complete and in place for the time of a with block, building those that are missing and can be built.
        """
        pinned: list[PayloadIndex] = []
        try:
            missing = self._pin(wanted, pinned)
            if missing:
                with self._build_lock:
                    missing = self._pin(missing, pinned)
                    if missing:
                        self._build(missing)
                        missing = self._pin(missing, pinned)
                        assert not missing  # only a build makes room, and one runs at a time
                        self._make_room()
            yield
        finally:
            with self._pin_lock:
                for index in pinned:
                    index.pins -= 1

    def _pin(self, wanted: Iterable[IndexKey], pinned: list[PayloadIndex]) -> list[IndexKey]:
        """
        Pin the complete ones and return those that are missing.
        """
        missing: list[IndexKey] = []
        with self._pin_lock:
            for name in wanted:
                index = self._indexes.get(name)
                if index is not None and index.complete:
                    self._clock += 1
                    index.used = self._clock
                    index.pins += 1
                    pinned.append(index)
                elif name not in self._refused:
                    missing.append(name)
        return missing

    def _build(self, wanted: Sequence[IndexKey]) -> None:
        """
        Build several indexes by one scan of the payloads.
        """
        building: list[PayloadIndex] = []
        with self._apply_lock:
            end = self._next_offset()
            for key, kind in wanted:
                index = PayloadIndex(key, kind, self._next_column, end)
                self._next_column += kind in _COLUMNS
                self._indexes[key, kind] = self._by_key.setdefault(key, {})[kind] = index
                building.append(index)
        try:
            for first in range(0, end, BLOCK):
                last = min(first + BLOCK, end)
                rows = list(self._payloads.iterate(first, last))
                with self._apply_lock:
                    self._scan(building, rows, last)
                    self._refuse(building)
        except BaseException:
            with self._apply_lock:
                for index in building:
                    self._drop(index)
            raise
        with self._apply_lock:
            for index in building:
                index.touched.clear()
                index.complete = True

    def _scan(self, building: Sequence[PayloadIndex], rows: Sequence[tuple[int, Payload]], last: int) -> None:
        added = Entries()
        by_key: dict[KeyPath, list[PayloadIndex]] = {}
        for index in building:
            by_key.setdefault(index.key, []).append(index)
        for key, indexes in by_key.items():
            kinds = [index.kind for index in indexes]
            for offset, payload in rows:
                found = terms(payload, key, kinds)
                for index in indexes:
                    if offset not in index.touched:
                        self._add(index, offset, found[index.kind], added)
        changes = changes_of(added, Entries())
        if changes:
            self._core.apply(first_offset=self._next_offset(), **changes._asdict())
        for index in building:
            index.scanned = last

    def _refuse(self, building: list[PayloadIndex]) -> None:
        # Words may be many times as large as all else, and the evaluator decides them as well.
        for index in [index for index in building if index.kind == "words" and index.bytes > BUDGET_BYTES]:
            self._drop(index)
            building.remove(index)
            self._refused.add((index.key, index.kind))

    def _make_room(self) -> None:
        while self.bytes > BUDGET_BYTES:
            with self._apply_lock, self._pin_lock:
                free = [index for index in self._indexes.values() if not index.pins]
                if not free:
                    return
                self._drop(min(free, key=lambda index: index.used))

    def _drop(self, index: PayloadIndex) -> None:
        self._indexes.pop((index.key, index.kind), None)
        kinds = self._by_key.get(index.key, {})
        kinds.pop(index.kind, None)
        if not kinds:
            self._by_key.pop(index.key, None)
        self.generation += 1
        if index.kind in _COLUMNS:
            self._core.drop_column(index.column)
        elif index.tags:
            self._core.drop_tags(np.fromiter(index.tags.values(), dtype=np.uint64, count=len(index.tags)))

    # ---- what lowering asks; the indexes must be in use ----

    def has(self, key: KeyPath, kind: Kind) -> bool:
        """
        Return whether there is such an index.
        """
        return (key, kind) in self._indexes

    def tag(self, key: KeyPath, kind: Kind, term: Term) -> int | None:
        """
        Return the tag of a term, None when no point ever had it.
        """
        return self._indexes[key, kind].tags.get(term)

    def prefixed(self, key: KeyPath, prefix: str, most: int) -> list[int] | None:
        """
        Return the tags of the strings that begin with a prefix, None when they are more than `most`.
        """
        found: list[int] = []
        # A copy, since writes may add terms meanwhile.
        for term, tag in list(self._indexes[key, "tags"].tags.items()):
            if term[0] == "str" and str(term[-1]).startswith(prefix):
                found.append(tag)
                if len(found) > most:
                    return None
        return found

    def column(self, key: KeyPath, kind: Kind) -> int:
        """
        Return the column of an index.
        """
        return self._indexes[key, kind].column
