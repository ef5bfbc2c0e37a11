"""
The payload indexes that are saved as derived files: which there are, which of their offsets are stale, when one is saved again.

Invariant: a file that is listed is exact for its LSN, and the table `changed` of points.lmdb tells every offset that changed since, or the
file is dropped; what it holds is checked when it is read. Thread rule: `open` while opening; `note`, `due` and `save` by the checkpoint;
`read`, `discard` and `forget` by any thread, for indexes that are not complete, or are no more.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vecdb.errors import Corruption, StorageError
from vecdb.storage.base_state import BaseState
from vecdb.storage.derived import DerivedFiles
from vecdb.storage.index_file import MAX_HEADER_BYTES, IndexHeader, IndexName, Sections, can_save, decode, decode_header, encode
from vecdb.storage.points_read import Snapshot
from vecdb.storage.points_write import CHANGED_LIMIT

logger = logging.getLogger("vecdb.storage")

# A smaller index is built as fast as it is read.
LEAST_ENTRIES = 1024
# Saved again when this share of its offsets changed or came after it, at close this one: what is stale is derived anew by the next opening.
_CHANGED_SHARE = 0.25
_CHANGED_SHARE_AT_CLOSE = 0.01
PREFIX = "index-"


class Then(Protocol):
    """
    The points as of a checkpoint, until the next one is made.
    """

    @property
    def offsets(self) -> int:
        """
        How many offsets there were.
        """

    def changed(self) -> NDArray[np.uint32]:
        """
        Return those of them whose payload or liveness calls have changed since that are applied by now, or in part; ascending.
        """

    def payloads_of(self, offsets: Sequence[int]) -> Mapping[int, bytes]:
        """
        Return the payloads that those of the offsets had that lived.
        """


class IndexSource(Protocol):
    """
    The payload indexes, when they are saved. Writes go on meanwhile.
    """

    def index_entries(self) -> Mapping[IndexName, int | None]:
        """
        Return how many entries each index has; None of one that is in the making.
        """

    def copy_index(self, name: IndexName, then: Then) -> Sections | None:
        """
        Return the sections of the file of a complete index as it was at a checkpoint; None when the index has gone.
        """


@dataclass(frozen=True, slots=True)
class SavedIndex:
    """
    A file that was there when the collection was opened: exact for `offsets` offsets, but for the stale ones.
    """

    header: IndexHeader
    lsn: int
    stale: NDArray[np.uint32]


@dataclass(slots=True)
class _File:
    """
    What a file is exact for: its LSN, [0, offsets) then, and how many offsets came or changed since.
    """

    lsn: int
    offsets: int
    changes: int


class SavedIndexes:
    """
    The saved payload indexes of one generation; `found` are those that were there when it was opened.
    """

    def __init__(self, derived: DerivedFiles) -> None:
        self.found: dict[IndexName, SavedIndex] = {}
        self._derived = derived
        self._files: dict[IndexName, _File] = {}

    @classmethod
    def open(cls, derived: DerivedFiles, snapshot: Snapshot, state: BaseState) -> SavedIndexes:
        """
        Look at the files that are there, and drop those of which it cannot be told what is stale.
        """
        saved = cls(derived)
        changed: dict[int, NDArray[np.uint32] | None] = {}
        for file in derived.names(PREFIX):
            found = derived.peek(file, MAX_HEADER_BYTES)
            if found is None:
                continue
            try:
                header = decode_header(found.body)
                if file_name(header.name) != file:
                    raise Corruption(f"it holds the index of key {header.name.key!r}, kind {header.name.kind!r}, which has another file")
                if found.lsn > state.applied_lsn or header.offsets > state.next_offset:
                    raise Corruption(
                        f"it is exact for LSN {found.lsn} and {header.offsets} offsets, beyond the checkpoint at {state.applied_lsn} "
                        f"with {state.next_offset}"
                    )
                if found.lsn not in changed:
                    changed[found.lsn] = snapshot.changed_since(found.lsn)
                if (stale := changed[found.lsn]) is None:
                    raise Corruption(f"more was changed since LSN {found.lsn}, for which it is exact, than is kept account of")
            except Corruption as error:
                derived.discard(file, reason=str(error))
                continue
            stale = stale[: np.searchsorted(stale, header.offsets)]
            saved.found[header.name] = SavedIndex(header, found.lsn, stale)
            saved._files[header.name] = _File(found.lsn, header.offsets, state.next_offset - header.offsets + len(stale))
        return saved

    def oldest(self) -> int | None:
        """
        Return the smallest LSN of all files, since which changes have to be known; None when there is no file.
        """
        return min((file.lsn for file in tuple(self._files.values())), default=None)

    def read(self, saved: SavedIndex) -> Mapping[int, memoryview] | None:
        """
        Return the sections of a file that was found, verified; None when they are damaged, and the file is dropped.
        """
        name = file_name(saved.header.name)
        found = self._derived.load(name)
        if found is None:
            self._files.pop(saved.header.name, None)
            return None
        try:
            header, sections = decode(found.body)
            if header != saved.header or found.lsn != saved.lsn:
                raise Corruption("it was exchanged for another one")
        except Corruption as error:
            self.discard(saved.header.name, reason=str(error))
            return None
        return sections

    def discard(self, name: IndexName, *, reason: str) -> None:
        """
        Drop a file whose content is wrong.
        """
        self._files.pop(name, None)
        self._derived.discard(file_name(name), reason=reason)

    def forget(self, name: IndexName) -> None:
        """
        Remove the file of an index that is no more, if there is one; one that cannot be removed costs only its space.
        """
        if self._files.pop(name, None) is None:
            return
        try:
            self._derived.forget(file_name(name))
        except StorageError as error:
            logger.warning("the file of the dropped index of key %r, kind %r, stays: %s", name.key, name.kind, error)

    # ---- what a checkpoint does ----

    def note(self, changes: int) -> None:
        """
        Count offsets that came or changed.
        """
        for file in tuple(self._files.values()):
            file.changes += changes

    def due(self, source: IndexSource, *, lsn: int, closing: bool) -> list[IndexName]:
        """
        Return the complete indexes that are to be saved as of the checkpoint at `lsn`.
        """
        there = source.index_entries()
        return [
            name
            for name, entries in there.items()
            if entries is not None and entries >= LEAST_ENTRIES and can_save(name) and self._is_due(name, lsn, closing=closing)
        ]

    def _is_due(self, name: IndexName, lsn: int, *, closing: bool) -> bool:
        file = self._files.get(name)
        if file is None:
            return True
        share = _CHANGED_SHARE_AT_CLOSE if closing else _CHANGED_SHARE
        return file.lsn < lsn and file.changes > min(share * file.offsets, CHANGED_LIMIT // 2)

    def save(self, source: IndexSource, name: IndexName, then: Then, *, lsn: int) -> None:
        """
        Write a file that is exact for the checkpoint at `lsn`. A failure costs only time at the next opening; the older
        file, if any, stays.
        """
        try:
            sections = source.copy_index(name, then)
            if sections is None:
                return
            self._derived.save(file_name(name), lsn=lsn, body=encode(IndexHeader(name, then.offsets), sections))
        except (StorageError, Corruption) as error:
            logger.warning("the index of key %r, kind %r, is not saved, so it will be built again: %s", name.key, name.kind, error)
            return
        self._files[name] = _File(lsn, then.offsets, 0)

    def remove_others(self, source: IndexSource) -> None:
        """
        Remove the files of indexes that are no more, or too small by now.
        """
        there = source.index_entries()
        for name in tuple(self._files):
            entries = there.get(name, 0)
            if entries is not None and entries < LEAST_ENTRIES:
                self.forget(name)


def file_name(name: IndexName) -> str:
    """
    Return the name of the derived file of an index: keys are never parts of names.
    """
    return PREFIX + hashlib.sha256(f"{name.kind}\0{name.key}".encode()).hexdigest()[:16]
