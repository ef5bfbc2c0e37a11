"""
Copying a payload index while writes go on, so that it can be saved as it was at a checkpoint.

Invariant: a copy holds what the payloads as of the checkpoint give. It is read from the core in pieces, each of one moment. An offset
that no call has changed since has the same entries in all of these moments, so that each of them is in exactly one piece; what the pieces
hold of the others is left out, and derived again from their payloads as of the checkpoint. Thread rule: one thread, which holds no
lock; writes wait for a piece at most.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from vecdb._index_image import column_sections, point_sections, tag_sections
from vecdb._index_types import ColumnCopy, ColumnEntry, PointsCopy, TagCopy
from vecdb._one_index import COLUMNS, PayloadIndex
from vecdb._term_tags import PIECE
from vecdb.filters import Term, terms
from vecdb.index import CoreIndex
from vecdb.storage.codec import decode_payload
from vecdb.storage.index_file import Sections
from vecdb.storage.saved_indexes import Then

Columns = TypeVar("Columns", ColumnCopy, PointsCopy)

# Of a piece: about a third of a millisecond in the core.
_TAGS = 4096
_ENTRIES = 1 << 16
_PAYLOADS = 256
# Between two pieces, so that a thread that waits for the interpreter gets it now, and not in five milliseconds.
_BREATH_SECONDS = 0.0001


def copied(core: CoreIndex, index: PayloadIndex, then: Then) -> Sections:
    """
    Return the sections of the file of an index as of a checkpoint. REQUIRES: the index is complete; of one that is dropped meanwhile the
    result means nothing.
    """
    if index.kind == "points":
        return point_sections(_amended_column(index, _points(core, index.column), then))
    if index.kind in COLUMNS:
        numbers = _numbers(core, index.column)
        amended = _amended_column(index, numbers, then)
        if amended is not numbers:
            order = np.lexsort((amended.offsets, amended.rests, amended.values))
            amended = ColumnCopy(amended.offsets[order], amended.values[order], amended.rests[order])
        return column_sections(amended)
    known = len(index.tags)  # those that are given later belong to later calls
    numbered = np.concatenate(list(_breathing(index.tags.numbers_of_piece(low, known) for low in range(0, known, PIECE))) or [_array(())])
    pieces = list(_breathing(piece for low in range(0, known, _TAGS) for piece in _tags(core, numbered[low : low + _TAGS], then.offsets)))
    copy = TagCopy(_joined([one.counts for one in pieces], np.uint32), _joined([one.offsets for one in pieces], np.uint32))
    copy = _amended_tags(index, numbered, copy, then)
    return tag_sections(_terms(index, known), copy, then.offsets)


# ---- pieces ----


def _breathing(pieces: Iterable[Any]) -> Iterator[Any]:
    for piece in pieces:
        yield piece
        time.sleep(_BREATH_SECONDS)


def _terms(index: PayloadIndex, end: int) -> Iterator[Sequence[Term]]:
    yield from _breathing(index.tags.piece(low, end) for low in range(0, end, PIECE))


def _tags(core: CoreIndex, tags: NDArray[np.uint64], end: int) -> Iterator[TagCopy]:
    """
    Yield the offsets below `end` of some tags.
    """
    piece = core.copy_tags(tags, first=0, last=end, capacity=_ENTRIES)
    if piece is not None:
        yield piece
    elif len(tags) > 1:
        half = len(tags) // 2
        yield from _tags(core, tags[:half], end)
        yield from _tags(core, tags[half:], end)
    else:
        parts = []
        for low in range(0, end, _ENTRIES):
            piece = core.copy_tags(tags, first=low, last=min(low + _ENTRIES, end), capacity=_ENTRIES)
            assert piece is not None
            parts.append(piece.offsets)
        offsets = np.concatenate(parts)
        yield TagCopy(np.array([len(offsets)], np.uint32), offsets)


def _numbers(core: CoreIndex, column: int) -> ColumnCopy:
    pieces = list(_column(lambda last: core.copy_column(column, after=last, capacity=_ENTRIES)))
    return ColumnCopy(*map(np.concatenate, zip(*pieces, strict=True)))


def _points(core: CoreIndex, column: int) -> PointsCopy:
    pieces = list(_column(lambda last: core.copy_points(column, after=last, capacity=_ENTRIES)))
    return PointsCopy(*map(np.concatenate, zip(*pieces, strict=True)))


def _column(copy: Callable[[ColumnEntry | None], Columns]) -> Iterator[Columns]:
    last: ColumnEntry | None = None
    while True:
        piece = copy(last)
        yield piece
        if len(piece.offsets) < _ENTRIES:
            return
        offset, first, second = (part[-1] for part in piece)
        last = ColumnEntry(float(first), float(second), int(offset))
        time.sleep(_BREATH_SECONDS)


# ---- as of the checkpoint ----


def _given_then(index: PayloadIndex, changed: NDArray[np.uint32], then: Then) -> list[tuple[Any, ...]]:
    """
    Return what the payloads as of the checkpoint of offsets that have changed since give to an index: of a column entries, else pairs of
    offset and tag.
    """
    found: list[tuple[Any, ...]] = []
    for low in range(0, len(changed), _PAYLOADS):
        payloads = then.payloads_of(changed[low : low + _PAYLOADS].tolist())
        for offset, raw in payloads.items():
            given = terms(decode_payload(raw), index.key, (index.kind,))[index.kind]
            if index.kind in COLUMNS:
                found += [(offset, *entry) for entry in given]
            else:
                found += [(offset, index.tags[term]) for term in given]
        time.sleep(_BREATH_SECONDS)
    return found


def _kept(offsets: NDArray[np.uint32], changed: NDArray[np.uint32], end: int) -> NDArray[np.bool_]:
    left_out = np.zeros(end, bool)
    left_out[changed] = True
    kept = offsets < end
    kept[kept] = ~left_out[offsets[kept]]
    return kept


def _amended_column(index: PayloadIndex, copy: Columns, then: Then) -> Columns:
    # Comes after the last piece, and so names all that some piece may show otherwise.
    changed = then.changed()
    kept = _kept(copy.offsets, changed, then.offsets)
    if not len(changed) and kept.all():
        return copy
    again = _given_then(index, changed, then)
    added: Iterable[Sequence[Any]] = zip(*again, strict=True) if again else ([], [], [])
    columns: tuple[NDArray[Any], ...] = copy
    parts: Any = (np.append(part[kept], np.array(more, part.dtype)) for part, more in zip(columns, added, strict=True))
    return type(copy)(*parts)


def _amended_tags(index: PayloadIndex, numbered: NDArray[np.uint64], copy: TagCopy, then: Then) -> TagCopy:
    changed = then.changed()  # after the last piece, as above
    if not len(changed):
        return copy
    again = _given_then(index, changed, then)
    offsets, tags = (_array(part) for part in zip(*again, strict=True)) if again else (_array(()), _array(()))
    order = np.argsort(numbered)
    places = order[np.searchsorted(numbered, tags, sorter=order)].astype(np.uint64)
    # One number for the place of a term and an offset, in the order of the copy.
    kept = _kept(copy.offsets, changed, then.offsets)
    entries = np.repeat(np.arange(len(numbered), dtype=np.uint64), copy.counts)[kept] << np.uint64(32) | copy.offsets[kept]
    more = np.sort(places << np.uint64(32) | offsets)
    entries = np.insert(entries, np.searchsorted(entries, more), more)
    counts = np.bincount((entries >> np.uint64(32)).astype(np.int64), minlength=len(numbered))
    return TagCopy(counts.astype(np.uint32), entries.astype(np.uint32))


def _array(numbers: Iterable[int]) -> NDArray[np.uint64]:
    return np.fromiter(numbers, np.uint64)


def _joined(parts: list[NDArray[Any]], dtype: type[np.generic]) -> NDArray[Any]:
    return np.concatenate(parts) if parts else np.empty(0, dtype)
