"""
Key paths: how they are spelled, and what they lead to.
"""

import pytest

from vecdb.errors import InvalidArgument
from vecdb.filters import KeyPath, elements, values
from vecdb.filters.paths import Each


def at(payload, path):
    return values(payload, KeyPath.parse(path))


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("a", ("a",)),
        ("a.b", ("a", "b")),
        ("a[].b", ("a", Each.ELEMENT, "b")),
        ("a[0][12].b", ("a", 0, 12, "b")),
        ('"dotted.key"', ("dotted.key",)),
        ('a."b[0]"[]', ("a", "b[0]", Each.ELEMENT)),
        ('"say ""hi"""', ('say "hi"',)),
        ('""', ("",)),
        ("größe in cm-2", ("größe in cm-2",)),
    ],
)
def test_paths_are_parsed_and_spelled_back(text, steps):
    assert KeyPath.parse(text).steps == steps
    assert str(KeyPath.parse(text)) == text


def test_a_path_is_the_same_however_it_is_written():
    assert KeyPath.parse('"a"."b"') == KeyPath.parse("a.b")
    assert len({KeyPath.parse('"a"[01]'), KeyPath.parse("a[1]")}) == 1
    assert KeyPath.parse('a."0"') != KeyPath.parse("a[0]")


@pytest.mark.parametrize(
    "text", ["", ".", "a.", ".a", "a..b", "[]", "[0].a", "a[", "a[x]", "a[-1]", "a[0", "a]", '"a', 'a"b', '"a"b', "a[]b", "a[1.5]"]
)
def test_what_is_not_a_path_is_refused_with_the_place(text):
    with pytest.raises(InvalidArgument, match=r"expected .* at character \d+, got"):
        KeyPath.parse(text)


def test_names_go_into_objects_but_not_into_arrays():
    assert [1] == at({"a": {"b": 1}}, "a.b")
    assert [] == at({"a": [{"b": 1}]}, "a.b")
    assert [] == at({"a": "b"}, "a.b")
    assert [1] == at({"a.b": 1, "a": {"b": 2}}, '"a.b"')


def test_brackets_go_into_arrays_only():
    assert [1, [2]] == at({"a": [{"b": 1}, {"b": [2]}, {"c": 3}, 4]}, "a[].b")
    assert [2] == at({"a": [1, 2]}, "a[1]")
    assert [] == at({"a": [1, 2]}, "a[2]")
    assert [] == at({"a": [1, 2]}, "a[99999999999999999999]")
    assert [] == at({"a": {"0": 1, "": 2}}, "a[0]")
    assert [] == at({"a": {"b": 1}}, "a[]")
    assert [] == at({"a": "text"}, "a[]")


def test_values_keep_nulls_and_arrays_and_elements_unwrap_them():
    payload = {"a": [{"b": [1, None]}, {"b": None}, {"b": [[2]]}]}
    assert [[1, None], None, [[2]]] == at(payload, "a[].b")
    assert [1, [2]] == list(elements(payload, KeyPath.parse("a[].b")))
