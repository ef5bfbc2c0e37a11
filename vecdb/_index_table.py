"""
The table of a collection's payload indexes: which there are, the exact dictionary of their tags, and what writes change in them.

Invariant: the core holds, of each index, what the payloads of the offsets that it covers give. Threads: `changes`, and whatever registers,
fills or removes an index, under the collection's apply lock; what lowering asks from any thread, of indexes that are in use.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vecdb._index_entries import Entries, IndexChanges, changes_of
from vecdb._index_kinds import LINKED_PARTS
from vecdb._index_links import IndexLinks, array_of
from vecdb._index_types import ColumnCopy, PointsCopy, TagCopy
from vecdb._one_index import COLUMNS, PayloadIndex
from vecdb._payload_parts import TERM_NAMES, Group, PayloadParts, column_of, groups_of, markers_of
from vecdb._term_tags import TermTags
from vecdb.filters import IndexKey, KeyPath, Kind, Term, given_by, terms
from vecdb.index import CoreIndex
from vecdb.types import Payload


class IndexTable:
    """
    The indexes of a collection, those that are in the making included.
    """

    def __init__(self, core: CoreIndex, next_offset: Callable[[], int], fields: Sequence[int]) -> None:
        self._core = core
        self._next_offset = next_offset
        self._links_of = IndexLinks(core, fields)
        self._indexes: dict[IndexKey, PayloadIndex] = {}
        self._by_key: dict[KeyPath, dict[Kind, PayloadIndex]] = {}
        self._links: dict[KeyPath, int] = {}
        self._next_tag = 1
        self._next_column = 0
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

    # ---- coming and going ----

    def _register(self, name: IndexKey, end: int) -> PayloadIndex:
        """
        Have writes feed a new index from now on, of which offsets below `end` are still to come.
        """
        key, kind = name
        index = PayloadIndex(key, kind, self._next_column, end)
        self._next_column += kind in COLUMNS
        if key in self._links and kind in LINKED_PARTS:
            self._links_of.ask(index, self._links[key])
        self._indexes[name] = self._by_key.setdefault(key, {})[kind] = index
        return index

    def _remove_index(self, index: PayloadIndex) -> None:
        self._indexes.pop((index.key, index.kind), None)
        kinds = self._by_key.get(index.key, {})
        kinds.pop(index.kind, None)
        if not kinds:
            self._by_key.pop(index.key, None)
        self.generation += 1
        if index.kind in COLUMNS:
            self._core.drop_column(index.column)
        elif index.tags:
            self._core.drop_tags(array_of(index.tags.numbers()))

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

    def _add_parts(self, indexes: Iterable[PayloadIndex], parts: PayloadParts, added: Entries) -> None:
        """
        Put what payloads give into indexes, but for the offsets that writes have touched.
        """
        groups: dict[KeyPath, list[Group]] = {}
        for index in indexes:
            if index.key not in groups:
                groups[index.key] = groups_of(parts, index.key)
            for group in groups[index.key]:
                self._add_group(index, group.without(index.touched) if index.touched else group, added)

    def _add_group(self, index: PayloadIndex, group: Group, added: Entries) -> None:
        if group.kind is None or index.kind == "words":
            for offset, found in group.one_by_one():
                self._add(index, offset, given_by(found, (index.kind,))[index.kind], added)
        elif index.kind in COLUMNS:
            index.entries += added.column_part(index.column, column_of(group, index.kind), are_points=index.kind == "points")
        else:
            for marker in markers_of(group, index.kind):
                tag = np.uint64(self._tag_of(index, marker))
                index.entries += added.tag_part(group.offsets, np.full(len(group.offsets), tag))
            if index.kind == "tags" and group.kind in TERM_NAMES:
                name = TERM_NAMES[group.kind]
                tags = {value: self._tag_of(index, (name, value)) for value in dict.fromkeys(group.values)}
                index.entries += added.tag_part(group.offsets, np.array([tags[value] for value in group.values], np.uint64))

    def _tag_of(self, index: PayloadIndex, term: Term) -> int:
        tag = index.tags.get(term)
        if tag is None:
            tag = self._next_tag
            index.tags.add(term, tag)
            self._next_tag += 1
            self.generation += 1
            self._links_of.ask_for_term(index, term, tag)
        return tag

    def _add(self, index: PayloadIndex, offset: int, given: Collection[Any], added: Entries) -> None:
        index.entries += len(given)
        if index.kind in COLUMNS:
            added.column(index.column, offset, given, are_points=index.kind == "points")
            return
        added.tags.extend((offset, self._tag_of(index, term)) for term in given)

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

    # ---- saved ----

    def _fill_tags(self, index: PayloadIndex, given: Sequence[Term], copy: TagCopy, skipped: NDArray[np.bool_]) -> None:
        """
        Put the offsets of terms into an index, but those that are skipped.
        """
        # Writes may have given tags to some of the terms already.
        numbers = np.arange(self._next_tag, self._next_tag + len(given), dtype=np.uint64)
        places = {term: place for place, term in enumerate(given) if term in index.tags} if index.tags else {}
        for term, place in places.items():
            numbers[place] = index.tags[term]
        self._next_tag += len(given)
        new = [place for place, term in enumerate(given) if term not in places] if places else range(len(given))
        index.tags.add_all([given[place] for place in new], numbers[new].tolist())
        self.generation += 1
        kept = ~skipped[copy.offsets]
        offsets, tags = copy.offsets[kept], np.repeat(numbers, copy.counts)[kept]
        index.entries += len(offsets)
        self._core.apply(first_offset=self._next_offset(), tags_added=(offsets, tags))
        if index.m is not None:
            self._links_of.ask(index, index.m)

    def _fill_column(self, index: PayloadIndex, copy: ColumnCopy | PointsCopy, skipped: NDArray[np.bool_]) -> None:
        """
        Put the entries of a column into an index, but those that are skipped.
        """
        offsets, first, second = (part[~skipped[copy.offsets]] for part in copy)
        columns = np.full(len(offsets), index.column, np.uint32)
        index.entries += len(offsets)
        given: Any = {"geo_added" if index.kind == "points" else "column_added": (columns, offsets, first, second)}
        self._core.apply(first_offset=self._next_offset(), **given)

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

    def tags(self, key: KeyPath) -> TermTags:
        """
        Return the tag of each term of a key's values that some point has or had.
        """
        return self._indexes[key, "tags"].tags

    def prefixed(self, key: KeyPath, prefix: str, most: int) -> list[int] | None:
        """
        Return the tags of the strings that begin with a prefix, None when they are more than `most`.
        """
        found: list[int] = []
        for value, tag in self._indexes[key, "tags"].tags.of_name("str").items():
            if str(value).startswith(prefix):
                found.append(tag)
                if len(found) > most:
                    return None
        return found

    def column(self, key: KeyPath, kind: Kind) -> int:
        """
        Return the column of an index.
        """
        return self._indexes[key, kind].column
