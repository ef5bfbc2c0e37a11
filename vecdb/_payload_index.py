"""
The payload indexes of a collection: which keys are indexed, and the exact dictionary of their tags.

An index is built by the first filter that needs it. From the moment it is registered every applied write feeds it; then a snapshot is
scanned, skipping what was written since; it is used when complete. It never changes an answer, only its cost. The indexes share a memory
budget and leave least recently used first.

Threads: `changes` and `touched` are called inside an apply, under the collection's apply lock, as are registration and each block of a
build; `use` may be called from any thread.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Literal, NamedTuple, Protocol

import numpy as np

from vecdb.filters import KeyPath, Term, terms
from vecdb.index import ColumnEntries, CoreIndex, TagEntries
from vecdb.types import Payload

BUDGET_BYTES = 256 << 20
BLOCK = 4096
_BYTES_PER_TERM = 160  # a dictionary entry and an empty posting
_BYTES_PER_ENTRY = 24

Kind = Literal["tags", "numbers"]
IndexKey = tuple[KeyPath, Kind]


class Payloads(Protocol):
    """
    Where the payloads of live offsets are read from.
    """

    def iterate(self, first: int, last: int) -> Iterator[tuple[int, Payload]]:
        """
        Yield (offset, payload) of the live offsets in [first, last).
        """
        ...


class IndexChanges(NamedTuple):
    """
    What a write changes in the indexes, as the core takes it.
    """

    tags_added: TagEntries | None
    tags_removed: TagEntries | None
    column_added: ColumnEntries | None
    column_removed: ColumnEntries | None


class PayloadIndex:
    """
    The index of one key: a tag for each term of the key, or one column of its numbers.
    """

    __slots__ = ("column", "complete", "entries", "key", "kind", "m", "pins", "tags", "touched", "used")

    def __init__(self, key: KeyPath, kind: Kind, column: int) -> None:
        self.key = key
        self.kind = kind
        self.column = column
        self.tags: dict[Term, int] = {}
        self.entries = 0
        self.complete = False
        self.touched: set[int] = set()
        self.pins = 0
        self.used = 0
        self.m: int | None = None  # the points of each term are to be linked among themselves, with so many links (0: the usual number)

    @property
    def bytes(self) -> int:
        """
        About how much memory the index takes.
        """
        return self.entries * _BYTES_PER_ENTRY + len(self.tags) * _BYTES_PER_TERM


class _Collector:
    """
    Gathers entries for one change of the core.
    """

    def __init__(self) -> None:
        self.offsets: list[int] = []
        self.tags: list[int] = []
        self.columns: list[int] = []
        self.column_offsets: list[int] = []
        self.values: list[float] = []
        self.rests: list[int] = []

    def tag_entries(self) -> TagEntries | None:
        if not self.offsets:
            return None
        return np.asarray(self.offsets, dtype=np.uint32), np.asarray(self.tags, dtype=np.uint64)

    def column_entries(self) -> ColumnEntries | None:
        if not self.columns:
            return None
        return (
            np.asarray(self.columns, dtype=np.uint32),
            np.asarray(self.column_offsets, dtype=np.uint32),
            np.asarray(self.values, dtype=np.float64),
            np.asarray(self.rests, dtype=np.int32),
        )


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

    def changes(self, puts: Iterable[tuple[int, Payload]], patches: Iterable[tuple[int, Payload, Payload]]) -> IndexChanges:
        """
        Return what new points (offset, payload) and payload changes (offset, old, new) change in the indexes.
        """
        added, removed = _Collector(), _Collector()
        for offset, payload in puts:
            for index in self._indexes.values():
                self._collect(index, offset, payload, added, new=True)
        for offset, old, new in patches:
            for index in self._indexes.values():
                self._collect(index, offset, old, removed, new=False)
                self._collect(index, offset, new, added, new=True)
                if not index.complete:
                    index.touched.add(offset)
        return IndexChanges(added.tag_entries(), removed.tag_entries(), added.column_entries(), removed.column_entries())

    def _collect(self, index: PayloadIndex, offset: int, payload: Payload, into: _Collector, *, new: bool) -> None:
        found = terms(payload, index.key)
        sign = 1 if new else -1
        if index.kind == "numbers":
            for value, rest in found.numbers:
                into.columns.append(index.column)
                into.column_offsets.append(offset)
                into.values.append(value)
                into.rests.append(rest)
            index.entries += sign * len(found.numbers)
            return
        for term in found.tags:
            tag = index.tags.get(term)
            if tag is None:
                if not new:
                    continue
                tag = index.tags[term] = self._next_tag
                self._next_tag += 1
                self.generation += 1
                if index.m is not None:
                    self._link([tag], index.m)
            into.offsets.append(offset)
            into.tags.append(tag)
        index.entries += sign * len(found.tags)

    # ---- links among the points of a term ----

    def link(self, key: KeyPath, *, m: int = 0) -> None:
        """
        Keep the index of this key's terms from now on, and have the points of each term linked among themselves, with m links each (0: the
        usual number), once there are enough of them.
        """
        index = self._pin((key, "tags"))  # for ever: what was asked for does not leave when memory is short
        with self._apply_lock, self._pin_lock:
            if index.m is not None:
                index.pins -= 1
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
        Keep the indexes of these keys complete and in place for the time of a with block, building those that are missing.
        """
        pinned: list[PayloadIndex] = []
        try:
            for key, kind in wanted:
                pinned.append(self._pin((key, kind)))
            yield
        finally:
            with self._pin_lock:
                for index in pinned:
                    index.pins -= 1

    def _pin(self, wanted: IndexKey) -> PayloadIndex:
        index = self._pin_complete(wanted)
        if index is None:
            with self._build_lock:
                index = self._pin_complete(wanted)
                if index is None:
                    self._build(*wanted)
                    index = self._pin_complete(wanted)
                    assert index is not None  # only a build makes room, and one runs at a time
                    self._make_room()
        return index

    def _pin_complete(self, wanted: IndexKey) -> PayloadIndex | None:
        with self._pin_lock:
            index = self._indexes.get(wanted)
            if index is None or not index.complete:
                return None
            self._clock += 1
            index.used = self._clock
            index.pins += 1
            return index

    def _build(self, key: KeyPath, kind: Kind) -> None:
        index = PayloadIndex(key, kind, self._next_column)
        with self._apply_lock:
            self._next_column += kind == "numbers"
            end = self._next_offset()
            self._indexes[key, kind] = index
        try:
            for first in range(0, end, BLOCK):
                rows = list(self._payloads.iterate(first, min(first + BLOCK, end)))
                with self._apply_lock:
                    added = _Collector()
                    for offset, payload in rows:
                        if offset not in index.touched:
                            self._collect(index, offset, payload, added, new=True)
                    tags, columns = added.tag_entries(), added.column_entries()
                    if tags is not None or columns is not None:
                        self._core.apply(first_offset=self._next_offset(), tags_added=tags, column_added=columns)
        except BaseException:
            with self._apply_lock:
                self._drop(index)
            raise
        with self._apply_lock:
            index.touched.clear()
            index.complete = True

    def _make_room(self) -> None:
        while self.bytes > BUDGET_BYTES:
            with self._apply_lock, self._pin_lock:
                free = [index for index in self._indexes.values() if not index.pins]
                if not free:
                    return
                self._drop(min(free, key=lambda index: index.used))

    def _drop(self, index: PayloadIndex) -> None:
        self._indexes.pop((index.key, index.kind), None)
        self.generation += 1
        if index.kind == "numbers":
            self._core.drop_column(index.column)
        elif index.tags:
            self._core.drop_tags(np.fromiter(index.tags.values(), dtype=np.uint64, count=len(index.tags)))

    def tag(self, key: KeyPath, term: Term) -> int | None:
        """
        Return the tag of a term, None when no point ever had it. The index must be in use.
        """
        return self._indexes[key, "tags"].tags.get(term)

    def column(self, key: KeyPath) -> int:
        """
        Return the column of a key's numbers. The index must be in use.
        """
        return self._indexes[key, "numbers"].column


NO_INDEX_CHANGES = IndexChanges(None, None, None, None)
