"""
The payload indexes of a collection: which keys are indexed in which kinds, and the exact dictionary of their tags.

An index is built by the first filter that needs it. From the moment it is registered every applied write feeds it; then a snapshot is
scanned, skipping what was written since; it is used when complete. It never changes an answer, only its cost. Indexes that were declared
are kept; the others share a memory budget and leave least recently used first, and words that would pass it alone are not indexed.

Threads: `changes` is called inside an apply, under the collection's apply lock, as are registration and each block of a build; `use` may
be called from any thread.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any, Protocol

from vecdb._index_entries import Entries, IndexChanges, changes_of
from vecdb._index_kinds import LINKED_PARTS
from vecdb._index_links import IndexLinks, array_of
from vecdb._one_index import COLUMNS, PayloadIndex
from vecdb.errors import Closed
from vecdb.filters import IndexKey, KeyPath, Kind, Term, terms
from vecdb.index import CoreIndex
from vecdb.types import Payload

BUDGET_BYTES = 256 << 20
BLOCK = 4096


class Payloads(Protocol):
    """
    Where the payloads of live offsets are read from.
    """

    def iterate(self, first: int, last: int) -> Iterator[tuple[int, Payload]]:
        """
        Yield (offset, payload) of the live offsets in [first, last).
        """
        ...


class _InUse:
    """
    A with block in which indexes are complete and stay; every search makes one, for which a generator would be slow.
    """

    def __init__(self, indexes: PayloadIndexes, wanted: Iterable[IndexKey]) -> None:
        self._indexes = indexes
        self._wanted = wanted
        self._pinned: list[PayloadIndex] = []

    def __enter__(self) -> None:
        try:
            self._indexes._pin_complete(self._wanted, self._pinned)
        except BaseException:
            self._indexes._unpin(self._pinned)
            raise

    def __exit__(self, *_: object) -> None:
        self._indexes._unpin(self._pinned)


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
        self._links_of = IndexLinks(core, fields)
        self._payloads = payloads
        self._apply_lock = apply_lock
        self._next_offset = next_offset
        self._indexes: dict[IndexKey, PayloadIndex] = {}
        self._by_key: dict[KeyPath, dict[Kind, PayloadIndex]] = {}
        self._refused: set[IndexKey] = set()
        self._kept: set[IndexKey] = set()
        self._doomed: set[IndexKey] = set()  # to be dropped when no filter uses them any more
        self._links: dict[KeyPath, int] = {}
        self._stopped = False
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
        return tuple(sorted({str(index.key) for index in self.all() if index.complete}))

    @property
    def bytes(self) -> int:
        """
        About how much memory the indexes take, the dictionary included.
        """
        return sum(index.bytes for index in self.all())

    def all(self) -> list[PayloadIndex]:
        """
        Return the indexes there are, those that are being built included.
        """
        return list(self._indexes.values())

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
        if index.kind in COLUMNS:
            added.column(index.column, offset, given, are_points=index.kind == "points")
            return
        for term in given:
            tag = index.tags.get(term)
            if tag is None:
                tag = index.tags[term] = self._next_tag
                self._next_tag += 1
                self.generation += 1
                self._links_of.ask_for_term(index, term, tag)
            added.tags.append((offset, tag))

    @staticmethod
    def _remove(index: PayloadIndex, offset: int, given: Collection[Any], removed: Entries) -> None:
        if index.covers(offset):
            index.entries -= len(given)
            if index.kind in COLUMNS:
                removed.column(index.column, offset, given, are_points=index.kind == "points")
            else:
                # What is in the index has its terms in the dictionary.
                removed.tags.extend((offset, index.tags[term]) for term in given)
        if not index.complete:
            index.touched.add(offset)

    # ---- what was declared ----

    def keep(self, names: Iterable[IndexKey]) -> None:
        """
        From now on never refuse these indexes, nor drop them when memory is short, once they are built.
        """
        with self._pin_lock:
            self._kept.update(names)
            self._refused.difference_update(names)
            self._doomed.difference_update(names)

    def unkeep(self, names: Iterable[IndexKey]) -> None:
        """
        Let these indexes be what filters have built: there while there is memory.
        """
        with self._pin_lock:
            self._kept.difference_update(names)

    def link(self, key: KeyPath, m: int) -> None:
        """
        Have points of a key linked among themselves, m links each: those of a value, and those of the windows and cells that filters use.
        """
        with self._apply_lock:
            if self._links.get(key) == m:
                return
            for kind, index in self._by_key.get(key, {}).items():
                if kind in LINKED_PARTS:
                    self._links_of.withdraw(index)  # links with another m would stay
                    self._links_of.ask(index, m)
            self._links[key] = m

    def drop(self, key: KeyPath) -> None:
        """
        Drop all indexes and links of a key, as soon as no filter uses them.
        """
        with self._build_lock, self._apply_lock, self._pin_lock:
            kinds = self._by_key.get(key, {})
            if self._links.pop(key, None) is not None:
                for index in (index for index in kinds.values() if index.m is not None):
                    self._links_of.withdraw(index)
            self._doomed.update((key, kind) for kind in kinds)
            self._drop_doomed()

    def _drop_doomed(self) -> None:
        for index in [index for name in self._doomed if not (index := self._indexes[name]).pins]:
            self._drop(index)

    def stop(self) -> None:
        """
        Cut short what is being built, and build nothing more: the collection is closed.
        """
        self._stopped = True

    # ---- what a filter uses ----

    def use(self, wanted: Iterable[IndexKey]) -> _InUse:
        """
        Keep these indexes complete and in place for the time of a with block, building those that are missing and can be built.
        """
        return _InUse(self, wanted)

    def _pin_complete(self, wanted: Iterable[IndexKey], pinned: list[PayloadIndex]) -> None:
        missing = self._pin(wanted, pinned)
        if missing:
            with self._build_lock:
                missing = self._pin(missing, pinned)
                if missing:
                    self._build(missing)
                    missing = self._pin(missing, pinned)
                    assert not missing  # only a build makes room, and one runs at a time
                    self._make_room()

    def _unpin(self, pinned: list[PayloadIndex]) -> None:
        with self._pin_lock:
            for index in pinned:
                index.pins -= 1
        if self._doomed:
            with self._apply_lock, self._pin_lock:
                self._drop_doomed()

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
                self._next_column += kind in COLUMNS
                if key in self._links and kind in LINKED_PARTS:
                    self._links_of.ask(index, self._links[key])
                self._indexes[key, kind] = self._by_key.setdefault(key, {})[kind] = index
                building.append(index)
        try:
            for first in range(0, end, BLOCK):
                last = min(first + BLOCK, end)
                if self._stopped:
                    raise Closed("the collection was closed while an index was built: open the database again")
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
            with self._pin_lock:
                if (index.key, index.kind) in self._kept:
                    continue
                self._refused.add((index.key, index.kind))
            self._drop(index)
            building.remove(index)

    def _make_room(self) -> None:
        while True:
            with self._apply_lock, self._pin_lock:
                others = [index for name, index in self._indexes.items() if name not in self._kept]
                free = [index for index in others if not index.pins]
                if not free or sum(index.bytes for index in others) <= BUDGET_BYTES:
                    return
                self._drop(min(free, key=lambda index: index.used))

    def _drop(self, index: PayloadIndex) -> None:
        self._indexes.pop((index.key, index.kind), None)
        self._doomed.discard((index.key, index.kind))
        kinds = self._by_key.get(index.key, {})
        kinds.pop(index.kind, None)
        if not kinds:
            self._by_key.pop(index.key, None)
        self.generation += 1
        if index.kind in COLUMNS:
            self._core.drop_column(index.column)
        elif index.tags:
            self._core.drop_tags(array_of(index.tags.values()))

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

    def tags(self, key: KeyPath) -> dict[Term, int]:
        """
        Return the tag of each term of a key's values that some point has or had.
        """
        return dict(self._indexes[key, "tags"].tags)

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
