"""
What a payload index holds comes back from its file as it was, and a file that was not written so is refused, whatever its checksums say.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import chain
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from vecdb._index_image import column_sections, point_sections, read_column, read_points, read_tags, tag_sections
from vecdb._index_types import ColumnCopy, PointsCopy, TagCopy
from vecdb.errors import Corruption
from vecdb.filters import Term
from vecdb.filters.terms import FILLED, FLOATS, MANY, NULL, ONE, TEXTS
from vecdb.storage.index_file import MAX_HEADER_BYTES, IndexHeader, IndexName, decode, decode_header, encode

OFFSETS = 300


@pytest.fixture
def rng() -> random.Random:
    seed = 4
    print(f"seed {seed}")
    return random.Random(seed)


TERMS: list[Term] = [
    ("str", "x"),
    ONE,
    ("int", 5),
    ("int", -(2**63)),
    ("int", 2**64 - 1),
    ("int", 2**63 - 1),
    ("int", 2**63),
    ("bool", True),
    ("bool", False),
    ("str", ""),
    ("str", "\u00e4\U0001f600"),
    ("str", "5"),
    FLOATS,
    MANY,
    ("str", "nobody has it any more"),
]


def copy_of(rng: random.Random, terms: int) -> TagCopy:
    counts = [*(rng.choice([1, 2, 9, 10, 100, OFFSETS]) for _ in range(terms - 1)), 0]
    offsets = [sorted(rng.sample(range(OFFSETS), count)) for count in counts]
    return TagCopy(np.array(counts, np.uint32), np.array(list(chain.from_iterable(offsets)), np.uint32))


def held(terms: list[Term], copy: TagCopy) -> dict[Term, list[int]]:
    ends = np.cumsum(copy.counts).tolist()
    return {term: copy.offsets[end - count : end].tolist() for term, end, count in zip(terms, ends, copy.counts, strict=True) if count}


def through_bytes(sections: Any) -> dict[int, memoryview]:
    header = IndexHeader(IndexName("a.b", "tags"), OFFSETS)
    seen, found = decode(encode(header, sections))
    assert header == seen
    return dict(found)


def changed(sections: Any, number: int, content: NDArray[Any]) -> dict[int, memoryview]:
    return through_bytes([(one, content if one == number else old) for one, old in sections])


def test_tags_come_back(rng: random.Random) -> None:
    for _ in range(20):
        terms = [*rng.sample(TERMS[:-1], rng.randrange(len(TERMS))), TERMS[-1]]
        copy = copy_of(rng, len(terms))
        found = held(*read_tags(through_bytes(tag_sections([terms[:3], [], terms[3:]], copy, OFFSETS)), "tags", OFFSETS))
        assert held(terms, copy) == found
        assert {type(term[-1]) for term in found} == {type(term[-1]) for term in held(terms, copy)}


@pytest.mark.parametrize(("kind", "terms"), [("words", [("word", "one"), TEXTS]), ("presence", [FILLED, NULL]), ("presence", [])])
def test_words_and_presence_come_back(kind: Any, terms: list[Term]) -> None:
    copy = TagCopy(np.ones(len(terms), np.uint32), np.arange(len(terms), dtype=np.uint32))
    assert held(terms, copy) == held(*read_tags(through_bytes(tag_sections([terms[:3], [], terms[3:]], copy, OFFSETS)), kind, OFFSETS))


def test_columns_come_back() -> None:
    numbers = ColumnCopy(np.array([3, 1, 2, 0], np.uint32), np.array([-np.inf, 0.5, 2.0**63, 2.0**63]), np.array([0, 0, -1, 0], np.int32))
    for copy in (numbers, ColumnCopy(*(part[:2] for part in numbers)), ColumnCopy(*(part[:0] for part in numbers))):
        for expected, found in zip(copy, read_column(through_bytes(column_sections(copy)), OFFSETS), strict=True):
            assert (expected.dtype, expected.tolist()) == (found.dtype, found.tolist())
    points = PointsCopy(np.array([7, 7], np.uint32), np.array([1.5, -90]), np.array([180.0, 1e300]))
    for expected, found in zip(points, read_points(through_bytes(point_sections(points)), OFFSETS), strict=True):
        assert (expected.dtype, expected.tolist()) == (found.dtype, found.tolist())


def u4(*numbers: int) -> NDArray[np.uint32]:
    return np.array(numbers, "<u4")


# Of an index of 16 offsets with the terms ONE, 5, "ab", "c", of 16, 1, 1, and 0 points: what a section is changed to, and what is said.
HOSTILE: list[tuple[int, NDArray[Any], str]] = [
    (1, np.array([200], np.uint8), "cannot have"),
    (1, np.array([4], np.uint8), "cannot have"),  # FILLED is not of this kind
    (1, np.array([0, 0], np.uint8), "value twice"),
    (1, np.array([0, 1], np.uint8), "counts the points of 4 values, expected 5"),
    (2, np.array([2], np.uint8), "cannot have"),
    (3, np.array([5, 5], "<i8"), "value twice"),
    (3, np.array([1, 2, 3], np.uint8), "multiple of 8"),
    (4, np.array([5], "<u8"), "value twice"),
    (5, u4(2, 2), "sum of their lengths"),
    (5, u4(2**32 - 1, 2**32 - 1), "sum of their lengths"),
    (6, np.frombuffer(b"a\xffc", np.uint8), "not UTF-8"),
    (7, u4(16, 1, 0, 1), "each with 1 to 16"),
    (7, u4(17, 1, 1, 1), "each with 1 to 16"),
    (7, u4(2**32 - 1, 1, 1, 1), "each with 1 to 16"),
    (7, u4(16, 1, 1), "counts the points of 3 values"),
    (7, u4(15, 1, 1, 1), "bitmap has 16 offsets, expected 15"),
    (8, np.full(8, 255, np.uint8), "bitmap has 16 offsets, expected 1"),
    (8, np.full(9, 255, np.uint8), "bytes of bitmaps"),
    (8, np.zeros(0, np.uint8), "bytes of bitmaps"),
]


def hostile_sections() -> Any:
    terms: list[Term] = [ONE, ("int", 5), ("str", "ab"), ("str", "c")]
    copy = TagCopy(u4(16, 1, 1, 1), u4(*range(16), 3, 4, 5))
    return tag_sections([terms], copy, 16)


@pytest.mark.parametrize(("number", "content", "what"), HOSTILE)
def test_numbers_that_do_not_fit_are_refused(number: int, content: NDArray[Any], what: str) -> None:
    sections = hostile_sections()
    with pytest.raises(Corruption, match=what):
        read_tags(changed(sections, number, content), "tags", 16)


def test_lists_that_do_not_rise_or_pass_the_end_are_refused() -> None:
    terms: list[Term] = [("str", "a"), ("str", "b")]
    sections = tag_sections([terms], TagCopy(u4(3, 2), u4(1, 5, 9, 2, 3)), OFFSETS)
    assert read_tags(through_bytes(sections), "tags", OFFSETS)[1].offsets.tolist() == [1, 5, 9, 2, 3]
    for lists in ([5, 1, 9, 2, 3], [1, 5, 5, 2, 3], [1, 5, 9, 2, 2], [1, 5, 9, 2, OFFSETS], [1, 5, 9, 2], [1, 5, 9, 2, 3, 4]):
        with pytest.raises(Corruption, match=r"does not rise|listed offsets"):
            read_tags(changed(sections, 9, u4(*lists)), "tags", OFFSETS)


@pytest.mark.parametrize("section", range(1, 15))
def test_a_section_too_many_or_too_few_is_refused(section: int) -> None:
    columns = column_sections(ColumnCopy(u4(1), np.array([2.0]), np.array([0], np.int32)))
    points = point_sections(PointsCopy(u4(1), np.array([2.0]), np.array([0.0])))
    readers: list[tuple[Any, Callable[[Any], Any]]] = [
        (hostile_sections(), lambda found: read_tags(found, "tags", 16)),
        (columns, lambda found: read_column(found, 16)),
        (points, lambda found: read_points(found, 16)),
    ]
    for sections, read in readers:
        found = through_bytes(sections)
        read(found)
        if section in found:
            del found[section]
        else:
            found[section] = memoryview(b"")
        with pytest.raises(Corruption, match="expected \\["):
            read(found)


def test_columns_that_do_not_fit_are_refused() -> None:
    sections = column_sections(ColumnCopy(u4(1, 2), np.array([2.0, 3.0]), np.array([0, 1], np.int32)))
    changes: list[tuple[int, NDArray[Any]]] = [
        (10, np.array([2.0, np.nan])),
        (10, np.array([3.0, 2.0])),
        (10, np.array([2.0])),
        (11, np.array([1], np.int32)),
        (12, u4(1, 16)),
        (12, u4(1)),
        (12, u4(1, 2, 3)),
    ]
    for number, content in changes:
        with pytest.raises(Corruption):
            read_column(changed(sections, number, content), 16)
    with pytest.raises(Corruption, match="not in order"):
        read_column(through_bytes(column_sections(ColumnCopy(u4(2, 2), np.array([2.0, 2.0]), np.zeros(2, np.int32)))), 16)
    places = point_sections(PointsCopy(u4(1, 2), np.array([2.0, 3.0]), np.array([0.0, 1.0])))
    for number, content in [(13, np.array([2.0, np.inf])), (14, np.array([np.nan, 1])), (14, np.array([1.0])), (12, u4(1, 16))]:
        with pytest.raises(Corruption):
            read_points(changed(places, number, content), 16)


def test_every_changed_byte_and_every_cut_of_a_file_is_noticed(rng: random.Random) -> None:
    whole = bytes(encode(IndexHeader(IndexName("k\u00e4y", "tags"), 16), hostile_sections()))
    for at in range(len(whole)):
        for damaged in (whole[:at] + bytes([whole[at] ^ 1 << rng.randrange(8)]) + whole[at + 1 :], whole[:at]):
            with pytest.raises(Corruption):
                decode(memoryview(damaged))
    with pytest.raises(Corruption, match="expected"):
        decode(memoryview(whole + b"\0"))
    assert decode_header(memoryview(whole)[:MAX_HEADER_BYTES]) == decode(memoryview(whole))[0]
