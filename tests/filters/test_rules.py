"""
The rules of the filter grammar, one sentence each, with their corner cases.
"""

import pytest

from vecdb.filters import F, matches, parse


def match(filter, payload, *, id=1, vectors=()):
    return matches(parse(filter), payload, id=id, has_vector=lambda name: name in vectors)


def on(value, **predicate):
    """
    Return whether {"a": value} satisfies a predicate on the key a.
    """
    return match({"key": "a", **predicate}, {"a": value})


VALUE_PREDICATES = [
    {"match": {"value": "x"}},
    {"match": {"any": ["x"]}},
    {"match": {"except": ["x"]}},
    {"match": {"text": "x"}},
    {"match": {"text_any": "x"}},
    {"match": {"phrase": "x"}},
    {"match": {"prefix": "x"}},
    {"range": {"gt": 0}},
    {"range": {}},
    {"range": {"gt": "2000-01-01"}},
    {"geo_radius": {"center": {"lat": 0, "lon": 0}, "radius": 1e9}},
]


def test_one_element_of_an_array_is_enough():
    assert on(["x", "y"], match={"value": "y"})
    assert not on(["x", "y"], match={"value": "z"})


def test_the_bounds_of_a_range_are_met_by_one_element():
    assert on([1, 6, 9], range={"gt": 5, "lt": 7})
    assert not on([1, 9], range={"gt": 5, "lt": 7})


def test_an_array_at_the_end_of_the_path_is_unwrapped_by_one_level():
    grid = {"grid": [[1, 2], [3]]}
    assert not match(F("grid") == 3, grid)
    assert match(F("grid[]") == 3, grid)
    assert match(F("grid[0]") == 2, grid)
    assert not match(F("grid[1]") == 2, grid)


@pytest.mark.parametrize("predicate", VALUE_PREDICATES, ids=str)
def test_missing_null_and_the_empty_array_fail_every_value_predicate_and_pass_its_negation(predicate):
    for payload in ({}, {"a": None}, {"a": []}, {"a": [None]}):
        condition = {"key": "a", **predicate}
        assert not match(condition, payload)
        assert match({"must_not": condition}, payload)


def test_except_wants_a_non_null_element_that_is_not_listed():
    assert on(["x", "y"], match={"except": ["x"]})
    assert not on(["x", "x"], match={"except": ["x"]})
    assert not on(["x", None], match={"except": ["x"]})
    for other in (1, True, 1.5, {"k": 1}, [["x"]], "z"):
        assert on(other, match={"except": ["x"]})


def test_an_empty_list_matches_nothing_and_its_except_any_non_null_value():
    for value in ("x", 1, 1.5, {}, [[]]):
        assert not on(value, match={"any": []})
        assert on(value, match={"except": []})


def test_empty_is_missing_null_or_the_empty_array():
    empty = {"is_empty": {"key": "a"}}
    for payload in ({}, {"a": None}, {"a": []}):
        assert match(empty, payload)
    for value in ([None], "", 0, False, {}, [[]]):
        assert not match(empty, {"a": value})


def test_several_values_are_empty_when_all_of_them_are():
    for form in ({"is_empty": {"key": "a[].b"}}, {"key": "a[].b", "is_empty": True}):
        assert match(form, {"a": [{"b": None}, {"b": []}, {}]})
        assert match(form, {"a": []})
        assert not match(form, {"a": [{"b": None}, {"b": 1}]})
    assert match({"key": "a[].b", "is_empty": False}, {"a": [{"b": None}, {"b": 1}]})


def test_null_is_null_or_an_array_that_contains_null_and_missing_is_not():
    for form, expected in (
        ({"is_null": {"key": "a"}}, True),
        ({"key": "a", "is_null": True}, True),
        ({"key": "a", "is_null": False}, False),
    ):
        assert expected is match(form, {"a": None})
        assert expected is match(form, {"a": [1, None]})
        for payload in ({}, {"a": []}, {"a": [[None]]}, {"a": 0}):
            assert expected is not match(form, payload)
    assert match(F("a[].b").is_null(), {"a": [{"b": 1}, {"b": None}]})


@pytest.mark.parametrize(
    ("payload", "count"),
    [({}, 0), ({"a": None}, 0), ({"a": []}, 0), ({"a": "xyz"}, 1), ({"a": {"b": 1, "c": 2}}, 1), ({"a": [1, None, None]}, 3)],
    ids=str,
)
def test_values_are_counted(payload, count):
    assert match(F("a").count == count, payload)
    assert not match(F("a").count != count, payload)
    assert match(F("a").count < count + 1, payload)
    assert not match(F("a").count > count, payload)


def test_each_of_several_values_has_its_own_count():
    payload = {"a": [{"b": [1, 2, 3]}, {"b": 5}]}
    assert match(F("a[].b").count == 3, payload)
    assert match(F("a[].b").count == 1, payload)
    assert not match(F("a[].b").count == 2, payload)
    assert not match({"key": "a[].b", "values_count": {"gt": 1, "lt": 3}}, payload)


def test_types_are_never_mixed_up_in_a_match():
    values = {"int": 1, "float": 1.0, "bool": True, "str": "1"}
    for kind, wanted in (("int", 1), ("bool", True), ("str", "1")):
        for other, value in values.items():
            assert (kind == other) is on(value, match={"value": wanted}), (kind, other)
    assert not on(True, match={"any": [0, 1]})
    assert not on(1.0, match={"any": [1]})
    assert on(1.0, match={"except": [1]})
    assert on(True, match={"except": [1]})


def test_ranges_take_int_and_float_alike_but_never_bools_or_strs():
    for value in (1, 1.0):
        assert on(value, range={"gte": 1, "lte": 1.0})
    for value in (True, "1"):
        assert not on(value, range={"gte": 0, "lte": 2})


def test_ranges_compare_integers_exactly_beyond_the_precision_of_doubles():
    assert on(2**53 + 1, range={"gt": 2**53})
    assert on(2**53 + 1, range={"gt": float(2**53)})
    assert not on(2**53, range={"gt": float(2**53)})
    assert on(2**63 - 1, range={"lt": 2**63})


def test_a_range_of_times_compares_instants():
    between = {"gte": "2024-02-29", "lt": "2024-03-01T00:00:00+02:00"}
    for inside in ("2024-02-29", "2024-02-29T00:00:00Z", "2024-02-29T23:59:59.999+02:00", "2024-02-29 12:00:00"):
        assert on(inside, range=between), inside
    for outside in ("2024-02-28T23:59:59Z", "2024-02-29T22:00:00Z", "2024-02-30", "yesterday", 1709164800, ""):
        assert not on(outside, range=between), outside


def test_clauses_without_conditions_match_everything():
    for filter in ({}, None, {"must": []}, {"should": []}, {"must_not": []}, {"must": [], "should": [], "must_not": []}):
        assert match(filter, {})
    assert not match({"must_not": [{}]}, {})
    assert not match({"must_not": {}}, {})


def test_should_beside_must_is_still_required():
    filter = {"must": [F("a") == 1], "should": [F("b") == 1, F("c") == 1]}
    assert match(filter, {"a": 1, "c": 1})
    assert not match(filter, {"a": 1})
    assert not match(filter, {"b": 1})


def test_min_should_counts_each_condition_by_itself():
    one, two = F("a") == 1, F("b") == 2
    assert match(F.min_should(2, one, two), {"a": 1, "b": 2})
    assert not match(F.min_should(2, one, two), {"a": 1})
    assert match(F.min_should(2, one, one), {"a": 1})
    assert not match(F.min_should(3, one, two), {"a": 1, "b": 2})
    assert not match({"min_should": {"conditions": [], "min_count": 1}}, {})


def test_nested_conditions_are_met_by_one_element():
    payload = {"offers": [{"shop": "A", "price": 5}, {"shop": "B", "price": 1}]}
    assert match((F("offers[].shop") == "A") & (F("offers[].price") < 3), payload)
    assert not match(F("offers").nested((F("shop") == "A") & (F("price") < 3)), payload)
    for key in ("offers", "offers[]"):
        assert match(F(key).nested((F("shop") == "A") & (F("price") < 6)), payload)


def test_nested_tests_only_objects_inside_an_array():
    for value in ({"b": 1}, "x", None, [], [1, "x", None, [{"b": 1}]]):
        assert not match(F("a").nested(F("b") == 1), {"a": value})
        assert not match(F("a").nested({}), {"a": value})
    assert match(F("a").nested({}), {"a": [{}]})
    assert match(F("a").nested(F("b").is_empty()), {"a": [1, {"c": 1}]})


def test_nested_is_recursive():
    payload = {"a": [{"b": [{"c": 1, "d": 1}]}, {"b": [{"c": 2, "d": 2}]}]}
    assert match(F("a").nested(F("b").nested((F("c") == 2) & (F("d") == 2))), payload)
    assert not match(F("a").nested(F("b").nested((F("c") == 1) & (F("d") == 2))), payload)


def test_ids_and_vectors_inside_nested_never_match():
    payload = {"a": [{"b": 1}]}
    for inner in (F.has_id(1), F.has_vector("title")):
        assert match(inner, payload, vectors=["title"])
        assert not match(F("a").nested(inner), payload, vectors=["title"])
        assert match(F("a").nested(~inner), payload, vectors=["title"])


def test_ids_are_compared_with_their_type():
    assert match(F.has_id([1, "b"]), {}, id=1)
    assert match(F.has_id([1, "b"]), {}, id="b")
    assert not match(F.has_id([1, "b"]), {}, id="1")
    assert not match(F.has_id([]), {}, id=1)


def test_a_vector_is_present_by_name():
    assert match({"has_vector": "title"}, {}, vectors=["title"])
    assert not match({"has_vector": "title"}, {}, vectors=["image"])


def test_the_first_form_of_the_grammar_means_a_match_of_the_value():
    assert parse({"must": [{"match": {"key": "a", "keyword": "x"}}]}) == parse(F("a") == "x")
    assert parse({"must": [{"match": {"key": "a", "integer": 5}}]}) == parse(F("a") == 5)


def test_geo_points_may_stand_alone_or_in_an_array():
    near = F("a").geo_radius(51.5, -0.1, 10_000)
    london = {"lat": 51.51, "lon": -0.12, "name": "London"}
    assert match(near, {"a": london})
    assert match(near, {"a": [{"lat": 0, "lon": 0}, london]})
    for other in ({"lat": 51.51}, {"lat": "51.51", "lon": "-0.12"}, {"lat": True, "lon": 0}, [51.51, -0.12], "London"):
        assert not match(near, {"a": other})
