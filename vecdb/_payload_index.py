"""
The payload indexes of a collection: built or restored when they are wanted, kept while there is memory, copied to be saved.

An index is built by the first filter that needs it. From the moment it is registered every applied write feeds it; then a snapshot is
scanned, skipping what was written since; it is used when complete. One that was saved is registered before the log is replayed, and filled
from its file; only what the file cannot know is scanned. An index never changes an answer, only its cost. Those that were declared
are kept; the others share a memory budget and leave least recently used first, and words that would pass it alone are not indexed.

Threads: each block of a build holds the collection's apply lock; `use`, and what saves, may be called from any thread.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import groupby
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vecdb._index_copying import copied
from vecdb._index_entries import Entries, changes_of
from vecdb._index_image import read_column, read_points, read_tags
from vecdb._index_kinds import LINKED_PARTS
from vecdb._index_table import IndexTable
from vecdb._one_index import COLUMNS, PayloadIndex, file_name, index_key, names_of
from vecdb._payload_parts import PayloadParts
from vecdb.errors import Closed, Corruption
from vecdb.filters import IndexKey, KeyPath
from vecdb.index import CoreIndex
from vecdb.storage.index_file import IndexName, Sections
from vecdb.storage.saved_indexes import SavedIndex, SavedIndexes, Then

BUDGET_BYTES = 256 << 20
BLOCK = 4096


class Payloads(Protocol):
    """
    Where the payloads of live offsets are read from.
    """

    def between(self, first: int, last: int, names: tuple[str, ...]) -> PayloadParts:
        """
        Return what the payloads of the live offsets in [first, last) have at some keys.
        """
        ...

    def of(self, offsets: Sequence[int], names: tuple[str, ...]) -> PayloadParts:
        """
        Return what the payloads of those of the offsets that live have at some keys.
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
            missing = self._indexes._pin(self._wanted, self._pinned)
            if missing:
                self._indexes._pin_built(missing, self._pinned)
        except BaseException:
            self._indexes._unpin(self._pinned)
            raise

    def __exit__(self, *_: object) -> None:
        self._indexes._unpin(self._pinned)


class PayloadIndexes(IndexTable):
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
        super().__init__(core, next_offset, fields)
        self._payloads = payloads
        self._apply_lock = apply_lock
        self._saved: SavedIndexes | None = None
        self._refused: set[IndexKey] = set()
        self._kept: set[IndexKey] = set()
        self._doomed: set[IndexKey] = set()  # to be dropped when no filter uses them any more
        self._stopped = False
        self._build_lock = threading.Lock()
        self._pin_lock = threading.Lock()
        self._clock = 0

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
            names = [(key, kind) for kind in kinds]
            self._doomed.update(names)
            self._drop_doomed()
        if self._saved is not None:
            for name in names:
                self._saved.forget(file_name(name))

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

    def _pin_built(self, missing: Iterable[IndexKey], pinned: list[PayloadIndex]) -> None:
        with self._build_lock:
            wanted = self._pin(missing, pinned)
            if wanted:
                self._build(wanted)
                refused = self._pin(wanted, pinned)
                assert not refused  # only a build makes room, and one runs at a time
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
        self._restore([index for name in wanted if (index := self._indexes.get(name)) is not None])
        with self._apply_lock:
            end = self._next_offset()
            fresh = [name for name in wanted if name not in self._indexes and name not in self._refused]
            building = [self._register(name, end) for name in fresh]
        with self._making(building):
            self._scan_range(building, 0, end)

    @contextmanager
    def _making(self, building: list[PayloadIndex]) -> Iterator[None]:
        """
        Have these indexes complete at the end of a with block, or gone when it fails; when the collection is being closed they stay as
        they are, and with them their files.
        """
        try:
            yield
        except BaseException:
            if self._stopped:
                raise
            with self._apply_lock:
                for index in building:
                    self._drop(index)
            raise
        with self._apply_lock:
            for index in building:
                index.touched.clear()
                index.complete = True

    def _scan_range(self, building: list[PayloadIndex], first: int, end: int) -> None:
        for low in range(first, end, BLOCK) if building else ():
            last = min(low + BLOCK, end)
            self._check_going()
            rows = self._payloads.between(low, last, names_of(building))
            with self._apply_lock:
                self._scan(building, rows, last)
                self._refuse(building)

    def _check_going(self) -> None:
        if self._stopped:
            raise Closed("the collection was closed while an index was built: open the database again")

    def _scan(self, building: Sequence[PayloadIndex], rows: PayloadParts, last: int) -> None:
        added = Entries()
        self._add_parts(building, rows, added)
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
                free = [index for index in others if not index.pins and index.complete]
                if not free or sum(index.bytes for index in others) <= BUDGET_BYTES:
                    return
                self._drop(min(free, key=lambda index: index.used))

    def _drop(self, index: PayloadIndex) -> None:
        self._doomed.discard((index.key, index.kind))
        self._remove_index(index)

    # ---- what is saved ----

    def expect(self, saved: SavedIndexes | None) -> None:
        """
        Have writes feed the indexes that are saved; `use`, or `restore`, fills them. Comes before any write and any filter.
        """
        self._saved = saved
        if saved is None:
            return
        for name, found in saved.found.items():
            key = index_key(name)
            if key is None:
                saved.discard(name, reason=f"it holds an index of key {name.key!r}, kind {name.kind!r}, which means nothing")
            else:
                self._register(key, self._next_offset()).saved = found

    def restore(self) -> None:
        """
        Fill all indexes whose files have not been read yet, a key at a time; those whose file is no good go.
        """
        for key in list(dict.fromkeys(index.key for index in self.all() if index.saved is not None)):
            with self._build_lock:
                self._restore([index for index in self.all() if index.key == key])
                self._make_room()

    def _restore(self, indexes: list[PayloadIndex]) -> None:
        """
        Fill those of the indexes that are to be filled from files.
        """
        saved = self._saved
        pending = [(index, index.saved) for index in indexes if index.saved is not None]
        if saved is None or not pending:
            return
        # Files that are exact for the same LSN are stale in the same offsets, and their payloads are read once.
        for _, group in groupby(pending, key=lambda one: (one[1].lsn, one[1].header.offsets)):
            self._restore_group(saved, list(group))

    def _restore_group(self, saved: SavedIndexes, group: list[tuple[PayloadIndex, SavedIndex]]) -> None:
        building = [index for index, _ in group]
        offsets, stale = group[0][1].header.offsets, group[0][1].stale
        with self._making(building):
            for index, file in group:
                self._check_going()
                index.saved = None
                fill = self._read(saved, index, file)
                with self._apply_lock:
                    if fill is None:
                        building.remove(index)
                        self._drop(index)
                        continue
                    skipped = np.zeros(offsets, bool)
                    skipped[stale] = True
                    skipped[[offset for offset in index.touched if offset < offsets]] = True
                    fill(skipped)
                    index.scanned, index.stale = offsets, set(stale.tolist())
                    self._refuse(building)
            for low in range(0, len(stale), BLOCK) if building else ():
                self._check_going()
                block = stale[low : low + BLOCK].tolist()
                rows = self._payloads.of(block, names_of(building))
                with self._apply_lock:
                    self._scan(building, rows, offsets)
                    for index in building:
                        index.stale.difference_update(block)
            if building:
                self._scan_range(building, offsets, building[0].end)

    def _read(self, saved: SavedIndexes, index: PayloadIndex, file: SavedIndex) -> Callable[[NDArray[np.bool_]], None] | None:
        """
        Return what fills an index with what its file holds, but for some offsets; None when the file is no good.
        """
        sections = saved.read(file)
        if sections is None:
            return None
        offsets = file.header.offsets
        try:
            if index.kind == "points":
                return partial(self._fill_column, index, read_points(sections, offsets))
            if index.kind in COLUMNS:
                return partial(self._fill_column, index, read_column(sections, offsets))
            return partial(self._fill_tags, index, *read_tags(sections, index.kind, offsets))
        except Corruption as error:
            saved.discard(file.header.name, reason=str(error))
            return None

    def index_entries(self) -> dict[IndexName, int | None]:
        """
        Return how many entries each index has; None of one that is in the making.
        """
        with self._apply_lock:
            return {file_name(name): index.entries if index.complete else None for name, index in self._indexes.items()}

    def copy_index(self, name: IndexName, then: Then) -> Sections | None:
        """
        Return what a complete index held at a checkpoint; see `storage.saved_indexes.IndexSource`.
        """
        with self._apply_lock:
            found = [index for known, index in self._indexes.items() if index.complete and file_name(known) == name]
        if not found:
            return None
        sections = copied(self._core, found[0], then)
        with self._apply_lock:
            return sections if self._indexes.get((found[0].key, found[0].kind)) is found[0] else None
