"""
Tags of terms are those of a dict, in its order, and nothing that the garbage collector would look through.
"""

from __future__ import annotations

import gc
import random
import sys
from itertools import islice

import pytest

from vecdb._term_tags import PIECE, TermTags
from vecdb.filters import FLOATS, ONE, Term


def _seeded() -> random.Random:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    return random.Random(seed)


def _terms(rng: random.Random) -> list[Term]:
    numbers = rng.sample(range(10 * PIECE), 2 * PIECE)
    found: list[Term] = [ONE, FLOATS, ("bool", True), ("bool", False), ("int", 1), ("int", 0), ("str", "1"), ("str", ""), ("word", "1")]
    found += [("int", 2 + number) for number in numbers] + [("str", f"text {number}") for number in numbers]
    return found


def _pieces(tags: TermTags, count: int) -> list[Term]:
    return [term for low in range(0, count, PIECE) for term in tags.piece(low, count)]


@pytest.mark.parametrize("order", ["sorted", "mixed"])
def test_tags_of_terms_are_those_of_a_dict(order: str) -> None:
    rng = _seeded()
    terms = _terms(rng)
    if order == "mixed":
        rng.shuffle(terms)
    given: dict[Term, int] = {}
    tags = TermTags()
    assert not tags
    while len(given) < len(terms):
        some = terms[len(given) : len(given) + rng.choice((1, 1, 1, 5, PIECE - 1, PIECE, PIECE + 1))]
        numbers = [7 + 3 * (len(given) + i) for i in range(len(some))]
        if len(some) == 1:
            tags.add(some[0], numbers[0])
        else:
            tags.add_all(some, numbers)
        given.update(zip(some, numbers, strict=True))
        assert len(given) == len(tags)
    assert list(given) == list(tags)
    assert given == dict(tags.items())
    assert sorted(given.values()) == sorted(tags.numbers())
    assert {value: tag for (name, *_), tag, value in ((t, n, t[-1]) for t, n in given.items()) if name == "str"} == tags.of_name("str")
    assert {} == tags.of_name("none")
    for count in (0, 1, PIECE, PIECE + 1, len(terms)):
        assert list(islice(given, count)) == _pieces(tags, count)
        listed = [number for low in range(0, count, PIECE) for number in tags.numbers_of_piece(low, count).tolist()]
        assert list(islice(given.values(), count)) == listed
    for term in terms:
        assert term in tags
        assert given[term] == tags[term] == tags.get(term)
    for absent in (("int", -1), ("str", "no"), ("none",), ("word", "text")):
        assert absent not in tags
        assert tags.get(absent) is None
        with pytest.raises(KeyError):
            tags[absent]


def test_an_iteration_ends_with_what_was_there_at_its_start() -> None:
    terms = _terms(_seeded())
    tags = TermTags()
    tags.add_all(terms[:PIECE], range(PIECE))
    seen = []
    for number, term in enumerate(tags):
        seen.append(term)
        tags.add(terms[PIECE + number], PIECE + number)
    assert terms[:PIECE] == seen
    assert terms[: 2 * PIECE] == list(tags)


@pytest.mark.skipif(sys.version_info >= (3, 14) or sys.implementation.name != "cpython", reason="what is tracked is CPython's affair")
def test_the_garbage_collector_looks_into_none_of_many_terms() -> None:
    terms = _terms(_seeded())
    tags = TermTags()
    tags.add_all(terms, range(len(terms)))
    gc.collect()
    tracked = [part for pair in tags._pieces[:-1] for part in pair if gc.is_tracked(part)]
    assert [] == tracked
    assert [] == [name for name, of_name in tags._tags.items() if gc.is_tracked(of_name)]
