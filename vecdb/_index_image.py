"""
What a payload index holds as the sections of a file, and back; docs/file_format.md, "Payload index files", has the bytes.

Invariant: what is read has been checked against the sizes of the sections, the number of offsets, and itself; an index that was not
written like this is Corruption, before anything is allocated by its numbers. Functions without state.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, pairwise, repeat
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vecdb._index_types import ColumnCopy, PointsCopy, TagCopy
from vecdb.errors import Corruption
from vecdb.filters import Kind, Term
from vecdb.filters.terms import FILLED, FLOATS, MANY, NULL, ONE, TEXTS
from vecdb.storage.index_file import Sections

# Sections by number.
_MARKERS, _BOOLS, _INTS, _LARGE_INTS, _LENGTHS, _TEXT, _COUNTS, _BITS, _LISTS = range(1, 10)
_VALUES, _RESTS, _OFFSETS, _LATS, _LONS = range(10, 15)

# A marker is stored as its place in this list.
_MARKER_TERMS: Sequence[Term] = (ONE, MANY, FLOATS, TEXTS, FILLED, NULL)
_MARKERS_OF: Mapping[Kind, frozenset[Term]] = {
    "tags": frozenset((ONE, MANY, FLOATS)),
    "words": frozenset((TEXTS,)),
    "presence": frozenset((FILLED, NULL)),
}
# Terms stand in this order.
_CODES = {**{term[0]: 0 for term in _MARKER_TERMS}, "bool": 1, "int": 2, "large": 3, "str": 4, "word": 4}
_TERM_TYPES = ("u1", "u1", "<i8", "<u8", "u1")  # of what is stored of them, by code
_INT64_END = 2**63
_DENSE_SHARE = 32  # a bit costs 1/32 of a listed offset


# ---- tags ----


def tag_sections(terms: Iterable[Sequence[Term]], copy: TagCopy, offsets: int) -> Sections:
    """
    Return the sections of an index of tags: `copy` holds the offsets of each term, below `offsets`. Terms without any are left out. The
    terms come in pieces, of which each is finished before the next one is asked for.
    """
    codes: list[NDArray[np.uint8]] = [np.empty(0, np.uint8)]
    parts: list[list[NDArray[Any]]] = [[np.empty(0, dtype)] for dtype in _TERM_TYPES]
    lengths: list[NDArray[Any]] = [np.empty(0, "<u4")]
    seen = 0
    for piece in terms:
        code = np.fromiter(map(_CODES.__getitem__, map(itemgetter(0), piece)), np.uint8, len(piece))
        values: list[Any] = list(map(itemgetter(-1), piece))
        for place in np.flatnonzero(code == _CODES["int"]).tolist():
            if values[place] >= _INT64_END:
                code[place] = _CODES["large"]
        filled = copy.counts[seen : seen + len(piece)] > 0
        seen += len(piece)
        codes.append(code)
        for one, (dtype, done) in enumerate(zip(_TERM_TYPES, parts, strict=True)):
            here = [values[place] for place in np.flatnonzero(filled & (code == one)).tolist()]
            if one == _CODES["str"]:
                text = "".join(here)
                lengths.append(np.fromiter(map(len, here) if text.isascii() else map(len, map(str.encode, here)), "<u4", len(here)))
                done.append(np.frombuffer(text.encode(), np.uint8))
            elif here:
                done.append(np.array([_MARKER_TERMS.index((name,)) for name in here] if one == 0 else here, dtype))
    order = np.argsort(np.concatenate(codes), kind="stable")
    order = order[copy.counts[order] > 0]
    counts = copy.counts[order]
    listed = _gathered(copy, order)
    dense = _is_dense(counts, offsets)
    markers, bools, ints, large, texts = map(np.concatenate, parts)
    return [
        (_MARKERS, markers),
        (_BOOLS, bools),
        (_INTS, ints),
        (_LARGE_INTS, large),
        (_LENGTHS, np.concatenate(lengths)),
        (_TEXT, texts),
        (_COUNTS, counts.astype("<u4")),
        (_BITS, _bit_rows(listed, counts, dense, offsets)),
        (_LISTS, listed[np.repeat(~dense, counts)].astype("<u4")),
    ]


def _is_dense(counts: NDArray[np.uint32], offsets: int) -> NDArray[np.bool_]:
    dense: NDArray[np.bool_] = counts.astype(np.uint64) * _DENSE_SHARE >= offsets
    return dense


def _gathered(copy: TagCopy, order: NDArray[np.intp]) -> NDArray[np.uint32]:
    """
    Return the offsets of the terms in another order.
    """
    starts = _starts(copy.counts)[order]
    counts = copy.counts[order]
    moved = np.repeat(starts - _starts(counts), counts)
    return copy.offsets[moved + np.arange(len(moved))]


def _starts(counts: NDArray[np.uint32]) -> NDArray[np.int64]:
    starts = np.zeros(len(counts), np.int64)
    np.cumsum(counts[:-1], dtype=np.int64, out=starts[1:])
    return starts


def _bit_rows(listed: NDArray[np.uint32], counts: NDArray[np.uint32], dense: NDArray[np.bool_], offsets: int) -> NDArray[np.uint8]:
    places, starts = np.flatnonzero(dense), _starts(counts)
    rows = np.zeros((len(places), (offsets + 7) // 8), np.uint8)
    for row, place in zip(rows, places.tolist(), strict=True):
        bits = np.zeros(offsets, np.uint8)
        bits[listed[starts[place] : starts[place] + int(counts[place])]] = 1
        row[:] = np.packbits(bits, bitorder="little")
    return rows


def read_tags(sections: Mapping[int, memoryview], kind: Kind, offsets: int) -> tuple[list[Term], TagCopy]:
    """
    Return the terms of an index of tags, and the offsets of each.
    """
    _expect_sections(sections, range(_MARKERS, _LISTS + 1))
    terms = _read_terms(sections, kind)
    counts = _array(sections, _COUNTS, np.dtype("<u4"))
    if len(counts) != len(terms) or (counts == 0).any() or (counts > offsets).any():
        raise Corruption(f"it counts the points of {len(counts)} values, expected {len(terms)}, each with 1 to {offsets}")
    dense = _is_dense(counts, offsets)
    rows = _array(sections, _BITS, np.dtype(np.uint8))
    lists = _array(sections, _LISTS, np.dtype("<u4"))
    row_bytes = (offsets + 7) // 8
    seen = (len(rows), len(lists))
    wanted = (int(dense.sum()) * row_bytes, int(counts[~dense].sum(dtype=np.uint64)))
    if seen != wanted:
        raise Corruption(f"it has {seen[0]} bytes of bitmaps and {seen[1]} listed offsets, expected {wanted[0]} and {wanted[1]}")
    _check_lists(lists, counts[~dense], offsets)
    found = np.empty(int(counts.sum(dtype=np.uint64)), np.uint32)
    found[np.repeat(~dense, counts)] = lists
    starts = _starts(counts)
    for row, place in enumerate(np.flatnonzero(dense).tolist()):
        packed = rows[row * row_bytes : (row + 1) * row_bytes]
        ones = np.flatnonzero(np.unpackbits(packed, bitorder="little"))
        if len(ones) != counts[place] or ones[-1] >= offsets:
            raise Corruption(f"a bitmap has {len(ones)} offsets, expected {counts[place]} below {offsets}")
        found[starts[place] : starts[place] + len(ones)] = ones
    return terms, TagCopy(counts.astype(np.uint32), found)


def _check_lists(lists: NDArray[np.uint32], counts: NDArray[np.uint32], offsets: int) -> None:
    rises = np.ones(len(lists), bool)
    rises[1:] = lists[1:] > lists[:-1]
    rises[_starts(counts)] = True
    if not rises.all() or (len(lists) and lists.max() >= offsets):
        raise Corruption(f"a list of offsets does not rise, or goes beyond the {offsets} that there are")


def _read_terms(sections: Mapping[int, memoryview], kind: Kind) -> list[Term]:
    codes = _array(sections, _MARKERS, np.dtype(np.uint8)).tolist()
    markers = [_MARKER_TERMS[code] for code in codes if code < len(_MARKER_TERMS)]
    bools = _array(sections, _BOOLS, np.dtype(np.uint8)).tolist()
    ints = _array(sections, _INTS, np.dtype("<i8")).tolist()
    large = _array(sections, _LARGE_INTS, np.dtype("<u8")).tolist()
    texts = _read_texts(sections)
    values = kind == "tags"
    wrong = (
        len(markers) != len(codes)
        or not _MARKERS_OF[kind].issuperset(markers)
        or any(one > 1 for one in bools)
        or (not values and bool(bools or ints or large))
        or (kind == "presence" and bool(texts))
    )
    if wrong:
        raise Corruption(f"it has values that an index of kind {kind!r} cannot have")
    found: list[Term] = list(
        chain(
            markers,
            (("bool", bool(one)) for one in bools),
            zip(repeat("int"), chain(ints, large)),
            zip(repeat("str" if values else "word"), texts),
        )
    )
    if len(set(found)) != len(found):
        raise Corruption("it has a value twice")
    return found


def _read_texts(sections: Mapping[int, memoryview]) -> list[str]:
    lengths = _array(sections, _LENGTHS, np.dtype("<u4"))
    encoded = bytes(sections[_TEXT])
    ends = np.cumsum(lengths, dtype=np.uint64)
    if (int(ends[-1]) if len(ends) else 0) != len(encoded):
        raise Corruption(f"its texts have {len(encoded)} bytes, which is not the sum of their lengths")
    borders = pairwise([0, *ends.tolist()])
    try:
        if encoded.isascii():
            text = encoded.decode("ascii")
            return [text[first:last] for first, last in borders]
        return [encoded[first:last].decode() for first, last in borders]
    except UnicodeDecodeError:
        raise Corruption("a text is not UTF-8") from None


# ---- columns ----


def column_sections(copy: ColumnCopy) -> Sections:
    """
    Return the sections of an index of numbers: most need no rests.
    """
    rests = copy.rests if copy.rests.any() else copy.rests[:0]
    return [(_VALUES, copy.values.astype("<f8")), (_RESTS, rests.astype("<i4")), (_OFFSETS, copy.offsets.astype("<u4"))]


def read_column(sections: Mapping[int, memoryview], offsets: int) -> ColumnCopy:
    """
    Return the entries of an index of numbers.
    """
    _expect_sections(sections, (_VALUES, _RESTS, _OFFSETS))
    values = _array(sections, _VALUES, np.dtype("<f8"))
    rests = _array(sections, _RESTS, np.dtype("<i4"))
    places = _places(sections, len(values), offsets)
    if len(rests) not in (0, len(values)):
        raise Corruption(f"it has the rests of {len(rests)} numbers, expected {len(values)}")
    if len(rests) == 0:
        rests = np.zeros(len(values), "<i4")
    if np.isnan(values).any():
        raise Corruption("a number is NaN, which no number is")
    for one in (values, rests):
        assert len(one) == len(places)
    below = values[:-1] < values[1:]
    equal = values[:-1] == values[1:]
    rises = (rests[:-1] < rests[1:]) | ((rests[:-1] == rests[1:]) & (places[:-1] < places[1:]))
    if not (below | (equal & rises)).all():
        raise Corruption("its numbers are not in order")
    return ColumnCopy(places, values.astype(np.float64), rests.astype(np.int32))


def point_sections(copy: PointsCopy) -> Sections:
    """
    Return the sections of an index of points.
    """
    return [(_OFFSETS, copy.offsets.astype("<u4")), (_LATS, copy.lats.astype("<f8")), (_LONS, copy.lons.astype("<f8"))]


def read_points(sections: Mapping[int, memoryview], offsets: int) -> PointsCopy:
    """
    Return the entries of an index of points.
    """
    _expect_sections(sections, (_OFFSETS, _LATS, _LONS))
    lats, lons = _array(sections, _LATS, np.dtype("<f8")), _array(sections, _LONS, np.dtype("<f8"))
    places = _places(sections, len(lats), offsets)
    if len(lats) != len(lons) or not (np.isfinite(lats).all() and np.isfinite(lons).all()):
        raise Corruption(f"it has {len(lats)} latitudes and {len(lons)} longitudes, expected as many, and finite ones")
    return PointsCopy(places, lats.astype(np.float64), lons.astype(np.float64))


def _places(sections: Mapping[int, memoryview], count: int, offsets: int) -> NDArray[np.uint32]:
    places = _array(sections, _OFFSETS, np.dtype("<u4"))
    if len(places) != count or (count and places.max() >= offsets):
        raise Corruption(f"it has {len(places)} offsets, expected {count}, each below {offsets}")
    return places.astype(np.uint32)


# ---- sections ----


def _expect_sections(sections: Mapping[int, memoryview], numbers: Sequence[int]) -> None:
    if sorted(sections) != sorted(numbers):
        raise Corruption(f"it has the sections {sorted(sections)}, expected {sorted(numbers)}")


def _array(sections: Mapping[int, memoryview], number: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    data = sections[number]
    if len(data) % dtype.itemsize:
        raise Corruption(f"its section {number} has {len(data)} bytes, expected a multiple of {dtype.itemsize}")
    return np.frombuffer(data, dtype)
