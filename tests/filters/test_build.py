"""
F: filters written as Python expressions.
"""

import copy
import operator
import pickle
from datetime import date, datetime, timedelta, timezone
from functools import reduce
from uuid import UUID

import numpy as np
import pytest

from vecdb.errors import InvalidFilter
from vecdb.filters import F, Filter, parse

RING = [(0, 0), (0, 4), (4, 4), (0, 0)]
POINTS = [{"lat": float(lat), "lon": float(lon)} for lat, lon in RING]

BUILT = [
    (F("k") == "v", {"key": "k", "match": {"value": "v"}}),
    (F("k") == True, {"key": "k", "match": {"value": True}}),  # noqa: E712
    (F("k").any_of("a", "b"), {"key": "k", "match": {"any": ["a", "b"]}}),
    (F("k").any_of([1, 2]), {"key": "k", "match": {"any": [1, 2]}}),
    (F("k").except_("a"), {"key": "k", "match": {"except": ["a"]}}),
    (F("k") != 3, {"must_not": [{"key": "k", "match": {"value": 3}}]}),
    (F("k").text("a b"), {"key": "k", "match": {"text": "a b"}}),
    (F("k").text_any("a b"), {"key": "k", "match": {"text_any": "a b"}}),
    (F("k").phrase("a b"), {"key": "k", "match": {"phrase": "a b"}}),
    (F("k").prefix("a"), {"key": "k", "match": {"prefix": "a"}}),
    (F("k") < 1, {"key": "k", "range": {"lt": 1}}),
    (F("k") <= 1.5, {"key": "k", "range": {"lte": 1.5}}),
    (F("k") > 1, {"key": "k", "range": {"gt": 1}}),
    (1 <= F("k"), {"key": "k", "range": {"gte": 1}}),
    (F("k").range(gte=1, lt=5), {"key": "k", "range": {"gte": 1, "lt": 5}}),
    (F("k") < "2024-01-01T10:00:00Z", {"key": "k", "range": {"lt": "2024-01-01T10:00:00Z"}}),
    (F("k").geo_radius(1, 2, 300), {"key": "k", "geo_radius": {"center": {"lat": 1.0, "lon": 2.0}, "radius": 300}}),
    (
        F("k").geo_box((4, 1), {"lat": 2, "lon": 3}),
        {"key": "k", "geo_bounding_box": {"top_left": {"lat": 4.0, "lon": 1.0}, "bottom_right": {"lat": 2.0, "lon": 3.0}}},
    ),
    (F("k").geo_polygon(RING), {"key": "k", "geo_polygon": {"exterior": {"points": POINTS}, "interiors": []}}),
    (F("k").geo_polygon(RING, [POINTS]), {"key": "k", "geo_polygon": {"exterior": {"points": POINTS}, "interiors": [{"points": POINTS}]}}),
    (F("k").count >= 2, {"key": "k", "values_count": {"gte": 2}}),
    (F("k").count == 2, {"key": "k", "values_count": {"gte": 2, "lte": 2}}),
    (F("k").is_empty(), {"is_empty": {"key": "k"}}),
    (F("k").is_null(), {"is_null": {"key": "k"}}),
    (F.has_id([1, "a"]), {"has_id": [1, "a"]}),
    (F.has_vector("title"), {"has_vector": "title"}),
    (F("k").nested(F("x") == 1), {"nested": {"key": "k", "filter": {"must": [{"key": "x", "match": {"value": 1}}]}}}),
    (
        F.min_should(1, F("k") == 1, {"key": "k", "is_null": True}),
        {"min_should": {"conditions": [{"key": "k", "match": {"value": 1}}, {"is_null": {"key": "k"}}], "min_count": 1}},
    ),
]


@pytest.mark.parametrize(("built", "printed"), BUILT, ids=lambda one: repr(one) if not isinstance(one, dict) else "")
def test_what_is_built_prints_as_the_grammar_and_is_read_back(built, printed):
    assert printed == built.to_dict()
    assert parse(printed) == parse(built)
    assert hash(parse(printed)) == hash(parse(built))


@pytest.mark.parametrize("built", [built for built, _ in BUILT], ids=repr)
def test_the_repr_is_the_expression_that_builds_it(built):
    assert parse(built) == parse(eval(repr(built), {"F": F}))
    assert parse(~built & built) == parse(eval(repr(~built & built), {"F": F}))


def test_the_example_of_the_contract():
    built = (F("city") == "London") & (F("price") < 100) & ~F("tags").any_of("sold", "reserved")
    assert {
        "must": [{"key": "city", "match": {"value": "London"}}, {"key": "price", "range": {"lt": 100}}],
        "must_not": [{"key": "tags", "match": {"any": ["sold", "reserved"]}}],
    } == built.to_dict()
    assert "(F('city') == 'London') & (F('price') < 100) & ~F('tags').any_of('sold', 'reserved')" == repr(built)


def test_and_or_and_not_keep_flat_what_can_be_flat():
    a, b, c = F("a") == 1, F("b") == 2, F("c") == 3
    assert Filter(must=(a, b, c)) == a & b & c == a & (b & c)
    assert Filter(should=(a, b, c)) == a | b | c == a | (b | c)
    assert Filter(must_not=(a, b)) == ~(a | b)
    assert Filter(must=(c, a | b)) == c & (a | b)
    assert Filter(should=(a & b, c)) == (a & b) | c
    assert parse(a) == parse(~~a) or (~~a).should == (a,)
    assert Filter(must_not=(a & b,)) == ~(a & b)


def test_the_filter_that_matches_everything_is_kept_by_every_operator():
    everything, a = parse({}), F("a") == 1
    assert Filter(must=(a,)) == everything & a
    assert Filter(should=(everything, a)) == everything | a
    assert Filter(must_not=(everything,)) == ~everything


def test_a_thousand_conditions_may_be_joined_one_by_one():
    built = reduce(operator.or_, [F("a") == n for n in range(1000)])
    assert 1000 == len(built.should)
    assert parse(built.to_dict()) == built


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: bool(F("a") == 1),
        lambda: (F("a") == 1) and (F("b") == 2),
        lambda: (F("a") == 1) or (F("b") == 2),
        lambda: not F("a").is_null(),
        lambda: 1 < F("a") < 5,
        lambda: F("a") in ["x", "y"],
        lambda: "x" in F("a"),
        lambda: "x" in (F("a") == 1),
        lambda: F("a") == "x" & F("b") == "y",
        lambda: F("a") & (F("b") == 1),
        lambda: (F("a") == 1) & F("b"),
        lambda: (F("a") == 1) | {"must": []},
        lambda: ~F("a"),
        lambda: bool(F("a")),
        lambda: list(F("a") == 1),
        lambda: hash(F("a")),
    ],
)
def test_what_python_would_misread_raises_type_error(wrong):
    with pytest.raises(TypeError):
        wrong()


def test_the_type_error_says_what_to_write():
    with pytest.raises(TypeError, match=r"write \(a\) & \(b\) for a and b.*in parentheses"):
        bool(F("a") == 1)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: F("a") == 1.5, "match.value: expected a str, int or bool, got 1.5: match never takes floats, use range"),
        (lambda: F("a") == None, r"F\('a'\) == None: use .is_null\(\) for null"),  # noqa: E711
        (lambda: F("a") < None, "use .is_null"),
        (lambda: F("a") < "cheap", "range.lt: expected a number or an RFC 3339 time, got 'cheap'"),
        (lambda: F("a") < F("b"), "range.lt: expected a number or an RFC 3339 time"),
        (lambda: F("a") == ["x"], "use any for a list"),
        (lambda: F("a").any_of("x", 1), r"match.any\[1\]"),
        (lambda: F("a").any_of(True), r"match.any\[0\]"),
        (lambda: F("a").text(None), "got None"),
        (lambda: F("a").count > 1.5, "values_count.gt: expected an int, got 1.5"),
        (lambda: F("a").count == None, "is_empty"),  # noqa: E711
        (lambda: F("a..b"), "F: key 'a..b'"),
        (lambda: F(1), "F: expected a key path, got 1"),
        (lambda: F.has_id([1.5]), r"has_id\[0\]: expected an id"),
        (lambda: F.has_id({"a": 1}), r"has_id\[0\]: expected an id"),
        (lambda: F.has_id(F("a") == 1), r"has_id\[0\]: expected an id"),
        (lambda: F.has_vector(None), "got None"),
        (lambda: F.min_should(0, F("a") == 1), "min_should.min_count: expected an int of at least 1, got 0"),
        (lambda: F.min_should(F("a") == 1), "min_should.min_count: expected an int"),
        (lambda: F("a").nested(F("b")), "nested.filter: expected a filter"),
        (lambda: F("a").geo_radius(91, 0, 1), r"geo_radius.center.lat: expected degrees in \[-90, 90\], got 91"),
        (lambda: F("a").geo_box("x", (1, 2)), "geo_bounding_box.top_left"),
        (lambda: F("a").geo_polygon(RING[:-1]), "geo_polygon.exterior.points: expected a ring of at least 4 points"),
    ],
)
def test_bad_values_raise_invalid_filter(wrong, message):
    with pytest.raises(InvalidFilter, match=message):
        wrong()


def test_numpy_values_datetimes_and_uuids_are_taken_as_their_kind():
    assert (F("a") == 3) == (F("a") == np.int64(3))
    assert (F("a") == True) == (F("a") == np.bool_(True))  # noqa: E712
    assert (F("a") > 3) == (np.int32(3) < F("a"))
    assert (F("a") < 0.5) == (np.float64(0.5) > F("a")) == (F("a") < np.float32(0.5))
    assert F("a").any_of(1, 2) == F("a").any_of(np.array([1, 2]))
    assert F.has_id([1, 2]) == F.has_id(np.array([1, 2])) == F.has_id(iter([1, 2]))
    assert F.has_id([7]) == F.has_id(7) == F.has_id(np.uint64(7))
    some = UUID(int=5)
    assert (F("a") == str(some)) == (F("a") == some)
    assert F.has_id(str(some)) == F.has_id([some])
    day = datetime(2024, 1, 1, 12, tzinfo=timezone(timedelta(hours=2)))
    assert (F("a") < "2024-01-01T10:00:00Z") == (F("a") < day) == (F("a") < np.datetime64("2024-01-01T10:00:00"))
    assert (F("a") < "2024-01-01") == (F("a") < date(2024, 1, 1)) == (F("a") < datetime(2024, 1, 1))
    assert (F("a") < "2024-01-01") == (F("a") < np.datetime64("2024")) == (F("a") < np.datetime64("2024-01-01T00"))
    assert "2024-01-01T10:00:00+00:00" == (F("a") < day).to_dict()["range"]["lt"]


def test_conditions_that_mean_different_things_are_different():
    different = [F("a") == 1, F("a") == True, F("a") == "1", F("a").any_of(1), F("a").except_(1), F("b") == 1, F("a") <= 1, F("a") >= 1]  # noqa: E712
    for position, one in enumerate(different):
        for other in different[position + 1 :]:
            assert parse(one).must != parse(other).must
    assert 8 == len({parse(one) for one in different})


def test_filters_are_copied_and_pickled():
    for built, _ in BUILT:
        assert parse(built) == parse(pickle.loads(pickle.dumps(built))) == parse(copy.deepcopy(built))


def test_filters_with_the_same_repr_mean_the_same():
    """
    A long list is printed whole, so that the repr may stand for the filter.
    """
    many = F("a").any_of(range(1000))
    assert parse(many) == parse(eval(repr(many), {"F": F}))
    assert repr(many) != repr(F("a").any_of([*range(999), 1000]))
