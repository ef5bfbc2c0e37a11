"""
Terms: what a payload gives to the index of a key.
"""

import random
from types import SimpleNamespace

import pytest

from vecdb.filters import KeyPath, terms
from vecdb.filters.geo import GeoPoint
from vecdb.filters.terms import FILLED, NULL, TEXTS, number

A = KeyPath.parse("a")
KINDS = ["tags", "numbers", "times", "points", "words", "presence", "counts"]


def given(payload, key, kinds=KINDS):
    return SimpleNamespace(**terms(payload, key, kinds))


def of(value):
    return given({"a": value}, A)


def test_a_missing_key_gives_nothing():
    assert dict.fromkeys(KINDS, ()) == terms({}, A, KINDS) == terms({"b": 1}, A, KINDS)


@pytest.mark.parametrize("value", [None, [], [None]])
def test_nothing_but_presence_and_counts_comes_from_nulls(value):
    assert not any(vars(given({"a": value}, A, set(KINDS) - {"presence", "counts"})).values())


def test_only_the_kinds_that_are_asked_for_are_given():
    assert {"numbers": ((1.0, 0),)} == terms({"a": [1, "x", "2024-01-01"]}, A, ["numbers"])


@pytest.mark.parametrize(
    ("value", "presence", "counts"),
    [
        (None, {NULL}, ()),
        ([], set(), ()),
        ([None], {FILLED, NULL}, (1.0,)),
        ("x", {FILLED}, (1.0,)),
        ({}, {FILLED}, (1.0,)),
        ([1, None, 3], {FILLED, NULL}, (3.0,)),
        ([[]], {FILLED}, (1.0,)),
    ],
)
def test_presence_and_counts_are_those_of_the_values(value, presence, counts):
    assert presence == of(value).presence
    assert tuple((count, 0) for count in counts) == of(value).counts


def test_several_values_are_counted_one_by_one():
    payload = {"a": [{"b": [1, 2]}, {"b": None}, {"b": "x"}, {}]}
    found = given(payload, KeyPath.parse("a[].b"))
    assert ((0.0, 0), (1.0, 0), (2.0, 0)) == found.counts
    assert {FILLED, NULL} == found.presence


def test_words_are_the_tokens_of_strings_and_several_texts_are_marked():
    assert {("word", "one"), ("word", "two")} == of("One, two; one").words == of(["one TWO", "-", 3]).words
    assert {("word", "one"), ("word", "two"), TEXTS} == of(["one", "two"]).words
    assert frozenset() == of(["", "-", 1]).words


def test_points_are_objects_with_two_numbers():
    assert (GeoPoint(1.0, 2.5),) == of({"lat": 1, "lon": 2.5}).points == of([{"lat": 1.0, "lon": 2.5, "x": 1}, {"lat": 1}, "x"]).points


def test_times_of_one_instant_are_one_pair():
    assert 1 == len(of(["2024-01-01", "2024-01-01T01:00:00.0+01:00", "2023-12-31T23:59:60Z", "new year"]).times)


def test_terms_keep_their_exact_type():
    assert {("str", "1"), ("one",)} == of("1").tags
    assert {("bool", True), ("one",)} == of(True).tags
    assert {("int", 1), ("one",)} == of(1).tags
    assert {("one",), ("floats",)} == of(1.0).tags
    assert 3 == len(of([1, True, "1"]).tags - {("many",)})


def test_numbers_are_ints_and_floats_but_not_bools():
    assert () == of(True).numbers == of("1").numbers
    assert ((1.0, 0),) == of(1).numbers == of(1.0).numbers == of([1, 1.0]).numbers
    assert {(0.1, 0), (-3.0, 0)} == set(of([0.1, -3, "x"]).numbers)
    assert "0.0" == str(of(-0.0).numbers[0][0])


@pytest.mark.parametrize("value", ["x", ["x", "x", None], 1.5, [1.5, 1.5], {"k": 1}, [[1, 2]]])
def test_one_distinct_element_is_marked_as_one(value):
    assert ("one",) in of(value).tags
    assert ("many",) not in of(value).tags


@pytest.mark.parametrize("value", [["x", "y"], [1, 1.0], [1, True], ["1", 1], [{"k": 1}, "x"], [[1], [2]], ["x", 1.5]])
def test_several_distinct_elements_are_marked_as_many(value):
    assert ("many",) in of(value).tags
    assert ("one",) not in of(value).tags


def test_paths_with_brackets_give_the_terms_of_all_their_values():
    payload = {"a": [{"b": ["x", "y"]}, {"b": 3}, {"c": "z"}]}
    assert {("str", "x"), ("str", "y"), ("int", 3), ("many",)} == given(payload, KeyPath.parse("a[].b")).tags


def test_a_nan_of_a_forged_payload_is_no_number():
    assert () == terms({"a": [float("nan")]}, KeyPath.parse("a"), ["numbers"])["numbers"]


def test_pairs_order_like_the_numbers_they_stand_for():
    rng = random.Random(seed := 2)
    print(f"seed {seed}")
    numbers = [rng.choice([-1, 1]) * (2 ** rng.randrange(50, 64) + rng.randrange(-3, 4)) for _ in range(300)]
    numbers += [float(n) for n in numbers[:100]] + [rng.uniform(-1e19, 1e19) for _ in range(100)]
    for a in numbers:
        for b in rng.sample(numbers, 20):
            assert (a < b) is (number(a) < number(b))
            assert (a == b) is (number(a) == number(b))
    assert all(abs(number(n)[1]) <= 1024 for n in numbers)
