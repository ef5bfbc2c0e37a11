"""
The grammar: what is accepted, what is refused, and how the error says where.
"""

import enum
import random
import re
from collections import OrderedDict
from types import MappingProxyType

import numpy as np
import pytest

from vecdb.errors import InvalidArgument, InvalidFilter
from vecdb.filters import F, Filter, parse, tree

CITY = {"key": "city", "match": {"value": "London"}}


def test_none_and_the_empty_dict_match_everything():
    assert Filter() == parse(None) == parse({}) == parse({"must": None, "should": None, "must_not": None, "min_should": None})


def test_a_bare_condition_stands_for_a_list_of_one():
    for clause in ("must", "should", "must_not"):
        assert parse({clause: [CITY]}) == parse({clause: CITY}) == parse({clause: F("city") == "London"})
    assert parse({"must": [CITY]}) == parse(CITY)


def test_built_conditions_may_stand_in_a_dict():
    assert parse({"must": [CITY, {"should": [CITY]}]}) == parse({"must": [F("city") == "London", {"should": (F("city") == "London")}]})


def test_parts_that_are_none_are_absent():
    field = dict.fromkeys(["range", "geo_radius", "geo_bounding_box", "geo_polygon", "values_count", "is_empty", "is_null"])
    bounds = {"gt": None, "gte": 1, "lt": None, "lte": None}
    dumped = {
        "must": [{**CITY, **field}, {"key": "a", "range": bounds, "match": None}],
        "should": None,
        "must_not": None,
        "min_should": None,
    }
    assert parse({"must": [CITY, {"key": "a", "range": {"gte": 1}}]}) == parse(dumped)


def test_any_mapping_and_any_sequence_will_do():
    wanted = parse({"must": [{"key": "a", "match": {"any": [1, 2]}}]})
    assert wanted == parse(MappingProxyType({"must": ({"key": "a", "match": OrderedDict(any=(1, 2))},)}))
    assert wanted == parse({"must": [{"key": "a", "match": {"any": np.array([1, 2])}}]})


def test_enums_of_str_and_int_are_their_value():
    class Color(str, enum.Enum):
        RED = "red"

    class Size(enum.IntEnum):
        SMALL = 3

    assert {"key": "a", "match": {"value": "red"}} == parse({"key": "a", "match": {"value": Color.RED}}).must[0].to_dict()
    assert "F('a') == 3" == repr(parse({"key": "a", "match": {"value": Size.SMALL}}))


@pytest.mark.parametrize(
    ("filter", "message"),
    [
        (
            {"must": [CITY, {"key": "price", "range": {"lt": "cheap"}}]},
            "must[1].range.lt: expected a number or an RFC 3339 time, got 'cheap'",
        ),
        ({"must": [{"key": "a", "rnge": {}}]}, "must[0].rnge: unknown key: did you mean 'range'? expected geo_bounding_box"),
        ({"musst": []}, "musst: unknown key: did you mean 'must'?"),
        ({1: 2}, "unknown key: expected"),
        ({"should": {"must_not": [{"must": 5}]}}, "should.must_not[0].must: expected a condition or a list of conditions, got 5"),
        ({"must": ["x"]}, "must[0]: expected a filter: a dict, or conditions built with F, got 'x'"),
        ({"must": [None]}, "must[0]: expected a filter"),
        ({"must": [{"key": "a"}]}, "must[0]: 'key' without a predicate: expected one of match, range"),
        ({"must": [{**CITY, "range": {"gt": 1}}]}, "must[0]: expected one predicate beside 'key', got match and range"),
        ({"must": [{"range": {"gt": 1}}]}, "must[0]: expected 'key' beside 'range'"),
        ({"must": [{"match": {"value": 1}}]}, "must[0]: expected 'key' beside 'match'"),
        ({"must": [{"has_id": [1], "must": []}]}, "must[0]: expected 'has_id' alone"),
        ({"must": [{"has_id": [1], "key": "a"}]}, "must[0].has_id: unknown key"),
        ({"must": [{"has_id": None}]}, "must[0]: expected a condition, got {'has_id': None}: everything in it is None"),
        ({"must": [{"key": "a..b", "match": {"value": 1}}]}, "must[0].key: key 'a..b': expected a name"),
        ({"must": [{"key": 5, "match": {"value": 1}}]}, "must[0].key: expected a key path, got 5"),
        ({"key": "a", "match": {}}, "match: expected one of value, any"),
        ({"key": "a", "match": {"value": 1, "any": [1]}}, "match: expected one of value, any"),
        ({"key": "a", "match": "x"}, "match: expected {value}, {any}"),
        ({"key": "a", "match": {"value": 1.0}}, "match.value: expected a str, int or bool, got 1.0: match never takes floats"),
        ({"key": "a", "match": {"any": "abc"}}, "match.any: expected a list, all str or all int, got 'abc'"),
        ({"key": "a", "match": {"any": ["x", 1]}}, "match.any[1]: expected a str or an int, of the same kind in the whole list, got 1"),
        (
            {"key": "a", "match": {"except": [1, True]}},
            "match.except[1]: expected a str or an int, of the same kind in the whole list, got True",
        ),
        ({"key": "a", "match": {"text": 1}}, "match.text: expected a str, got 1"),
        ({"key": "a", "match": {"key": "b", "keyword": "x"}}, "match.key: unknown key"),
        ({"match": {"key": "a"}}, "match: expected 'keyword' or 'integer' beside 'key'"),
        ({"match": {"key": "a", "keyword": 1}}, "match.keyword: expected a str, got 1"),
        ({"match": {"key": "a", "integer": "1"}}, "match.integer: expected an int, got '1'"),
        ({"match": {"key": "a", "integer": 1, "keyword": "x"}}, "match: expected 'keyword' or 'integer'"),
        ({"key": "a", "range": {"lt": True}}, "range.lt: expected a number"),
        ({"key": "a", "range": {"lt": float("nan")}}, "range.lt: expected a number or an RFC 3339 time, got nan"),
        ({"key": "a", "range": {"gt": 1, "lt": "2024-01-01"}}, "range: expected bounds that are all numbers or all times"),
        ({"key": "a", "range": {"before": 1}}, "range.before: unknown key: expected gt, gte, lt, lte"),
        (
            {"key": "a", "range": {"gt": 10**5000}},
            "range.gt: expected a number or an RFC 3339 time of at most 1024 bits, got an int of 16610 bits",
        ),
        ({"key": "a", "values_count": {"gt": 1.0}}, "values_count.gt: expected an int, got 1.0"),
        ({"key": "a", "is_empty": 1}, "is_empty: expected true or false, got 1"),
        ({"is_null": "a"}, "is_null: expected {key}"),
        ({"is_empty": {}}, "is_empty.key: expected a key path, got None"),
        ({"has_id": 5}, "has_id: expected a list of ids, got 5"),
        ({"has_id": "abc"}, "has_id: expected a list of ids, got 'abc'"),
        ({"has_id": [1, -1]}, "has_id[1]: expected an id, an int in [0, 2**64) or a str of 1 to 480 bytes, got -1"),
        ({"has_id": [2**64]}, "has_id[0]: expected an id"),
        ({"has_id": [True]}, "has_id[0]: expected an id"),
        ({"has_id": [""]}, "has_id[0]: expected an id"),
        ({"has_id": ["é" * 241]}, "has_id[0]: expected an id"),
        ({"has_id": ["\ud800"]}, "has_id[0]: expected an id"),
        ({"has_vector": ["a"]}, "has_vector: expected the name of a vector"),
        ({"nested": {"key": "a"}}, "nested.filter: expected a filter, got None"),
        ({"nested": {"filter": {}}}, "nested.key: expected a key path, got None"),
        ({"nested": {"key": "a", "filter": {"must": [{"key": "b"}]}}}, "nested.filter.must[0]: 'key' without a predicate"),
        ({"min_should": {"conditions": [CITY]}}, "min_should.min_count: expected an int, got None"),
        ({"min_should": {"conditions": [CITY], "min_count": 0}}, "min_should.min_count: expected an int of at least 1, got 0"),
        ({"min_should": {"conditions": CITY, "min_count": 1}}, "min_should.conditions: expected a list of conditions"),
        (
            {"key": "a", "geo_radius": {"center": {"lat": 1}, "radius": 1}},
            "geo_radius.center.lon: expected degrees in [-180, 180], got None",
        ),
        (
            {"key": "a", "geo_radius": {"center": {"lat": 1, "lon": 1}, "radius": -1}},
            "geo_radius.radius: expected metres, 0 or more, got -1",
        ),
        ({"key": "a", "geo_radius": {"center": {"lat": 1, "lon": 1}, "radius": float("inf")}}, "geo_radius.radius: expected metres"),
        ({"key": "a", "geo_radius": {"center": [1, 1], "radius": 1}}, "geo_radius.center: expected a point"),
        ({"key": "a", "geo_bounding_box": {"top_left": {"lat": 1, "lon": 1}}}, "geo_bounding_box.bottom_right: expected a point"),
        ({"key": "a", "geo_polygon": {"exterior": {"points": []}}}, "geo_polygon.exterior.points: expected a ring of at least 4 points"),
        ({"key": "a", "geo_polygon": {"exterior": {"points": [{"lat": 0, "lon": "x"}]}}}, "geo_polygon.exterior.points[0].lon"),
        (5, "filter: expected a filter: a dict, or conditions built with F, got 5"),
        ([CITY], "filter: expected a filter"),
        (F("a"), "filter: expected a filter: a dict, or conditions built with F, got F('a')"),
    ],
    ids=lambda one: "" if isinstance(one, str) else None,
)
def test_errors_name_the_path_what_was_expected_and_what_was_seen(filter, message):
    with pytest.raises(InvalidFilter, match=re.escape(message)) as raised:
        parse(filter)
    assert isinstance(raised.value, InvalidArgument)
    assert isinstance(raised.value, ValueError)


def test_an_object_with_model_dump_is_told_to_be_dumped():
    class Model:
        def model_dump(self):
            return {}

    with pytest.raises(InvalidFilter, match=r"pass its model_dump\(by_alias=True\)"):
        parse(Model())


# ---- hostile input ----


def deep(levels, wrap):
    filter = dict(CITY)
    for _ in range(levels):
        filter = wrap(filter)
    return filter


@pytest.mark.parametrize(
    "wrap",
    [
        lambda inner: {"must": [inner]},
        lambda inner: {"should": inner},
        lambda inner: {"nested": {"key": "a", "filter": inner}},
        lambda inner: {"min_should": {"conditions": [inner], "min_count": 1}},
    ],
)
def test_nesting_is_limited(wrap):
    assert parse(deep(60, wrap)).depth >= 60
    for levels in (70, 100_000):
        with pytest.raises(InvalidFilter, match="nested more than 64 deep"):
            parse(deep(levels, wrap))


def test_a_dict_that_contains_itself_is_refused():
    loop: dict = {}
    loop["must"] = [loop]
    with pytest.raises(InvalidFilter, match="nested more than 64 deep"):
        parse(loop)


def test_the_nesting_of_built_filters_is_limited():
    def build(levels):
        return F("a").nested(build(levels - 1)) if levels else F("a") == 1

    assert build(64).depth == 64
    with pytest.raises(InvalidFilter, match="nested more than 64 deep"):
        build(65)


def test_a_small_dict_that_stands_for_an_endless_filter_is_refused(monkeypatch):
    monkeypatch.setattr(tree, "MAX_CONDITIONS", 3000)
    filter = dict(CITY)
    for _ in range(30):
        filter = {"must": [filter] * 10}
    with pytest.raises(InvalidFilter, match="more than 3,000 conditions"):
        parse(filter)


def test_a_built_filter_that_shares_its_parts_endlessly_is_refused():
    def build(levels):
        if not levels:
            return F("a") == 1
        inner = build(levels - 1)
        return F("k").nested(inner) | (inner & (F("b") == levels))

    with pytest.raises(InvalidFilter, match="more than 100,000 conditions"):
        build(60)


def test_huge_lists_are_fine():
    many = list(range(300_000))
    assert 300_000 == len(parse({"has_id": many}).must[0].members)
    assert 300_000 == len(parse({"key": "a", "match": {"any": many}}).must[0].members)
    assert 50_000 == len(parse({"should": [CITY] * 50_000}).should)


NAMES = ["must", "should", "must_not", "min_should", "conditions", "min_count", "key", "match", "value", "any", "except", "text", "range"]
NAMES += ["gt", "lt", "geo_radius", "center", "radius", "lat", "lon", "geo_polygon", "exterior", "interiors", "points", "values_count"]
NAMES += [
    "is_empty",
    "is_null",
    "has_id",
    "has_vector",
    "nested",
    "filter",
    "keyword",
    "integer",
    "geo_bounding_box",
    "top_left",
    "bottom_right",
]


def garbage(rng: random.Random, depth: int):
    kind = rng.random()
    if depth and kind < 0.45:
        return {
            rng.choice(NAMES) if rng.random() < 0.97 else rng.choice([1, None, ("t",), b"x"]): garbage(rng, depth - 1)
            for _ in range(rng.randint(0, 3))
        }
    if depth and kind < 0.6:
        return [garbage(rng, depth - 1) for _ in range(rng.randint(0, 4))]
    return rng.choice(
        [
            None,
            True,
            0,
            1,
            -1,
            2**70,
            1.5,
            float("nan"),
            float("inf"),
            "",
            "a",
            "a[].b",
            "a..",
            "2024-01-01",
            "�",
            b"bytes",
            object(),
            type,
            {1, 2},
            {"x"},
            np.array(5),
            np.array([[1]]),
            np.array([1.5]),
            np.float32(2),
            F("a"),
            F("a") == 1,
            range(3),
            1j,
            lambda: 0,
            F("a").count,
        ]
    )


@pytest.mark.parametrize("seed", range(5))
def test_wrong_types_anywhere_raise_nothing_but_invalid_filter(seed):
    print(f"seed {seed}")
    rng = random.Random(seed)
    refused = 0
    for _ in range(2000):
        filter = garbage(rng, 5)
        try:
            node = parse(filter)
        except InvalidFilter:
            refused += 1
        else:
            assert parse(node.to_dict()) == node
            assert repr(node)
    assert 1000 < refused < 2000


def test_a_dict_that_was_changed_is_another_filter():
    filter = {"must": [{"key": "n", "match": {"value": 1}}]}
    first = parse(filter)
    assert first is parse({"must": [{"key": "n", "match": {"value": 1}}]})
    filter["must"][0]["match"]["value"] = 2
    assert repr(F("n") == 2) == repr(parse(filter))
    assert repr(F("n") == 1) == repr(first)


@pytest.mark.parametrize("values", [(True, 1), (1, "1"), ("a", b"a")])
def test_values_that_compare_equal_or_look_alike_are_not_taken_for_each_other(values):
    known, other = ({"must": [{"key": "n", "match": {"value": value}}]} for value in values)
    kept = parse(known)
    if isinstance(values[1], bytes):
        with pytest.raises(InvalidFilter, match="b'a'"):
            parse(other)
    else:
        assert kept != parse(other)
    assert kept is parse(known)


def test_a_wrong_filter_is_refused_each_time():
    for _ in range(3):
        with pytest.raises(InvalidFilter, match=r"must\[0\].range.lt"):
            parse({"must": [{"key": "n", "range": {"lt": "cheap"}}]})


def test_more_filters_than_are_kept_are_all_parsed_right():
    for number in range(2000):
        assert {"must": [{"key": "n", "match": {"value": number}}]} == parse({"must": [{"key": "n", "match": {"value": number}}]}).to_dict()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (np.int64(4607182418800017408), np.float64(1.0)),
        (np.float64(1.0), np.int64(4607182418800017408)),
        (np.int32(1065353216), np.float32(1.0)),
    ],
)
def test_numbers_of_numpy_with_the_same_bits_are_different_bounds(one, other):
    assert {repr(F("n") < one.item()): repr(F("n") < other.item())} == {
        repr(parse({"key": "n", "range": {"lt": one}})): repr(parse({"key": "n", "range": {"lt": other}}))
    }


def test_bytes_are_refused_also_where_a_number_of_the_same_bits_was_taken():
    assert parse({"key": "n", "match": {"value": np.int64(97)}}) == parse(F("n") == 97)
    with pytest.raises(InvalidFilter, match="expected a str, int or bool, got b'a"):
        parse({"key": "n", "match": {"value": np.int64(97).tobytes()}})


def test_conditions_made_one_after_the_other_are_never_taken_for_each_other():
    kept = F("n") == -1
    first = parse(kept)
    for number in range(1000):  # each is gone before the next, which may have its place in memory
        assert Filter(must=(F("n") == number,)) == parse(F("n") == number)
    assert first == parse(kept) == Filter(must=(kept,))
