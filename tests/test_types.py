"""
What points, hits and figures look like, in a console and in a notebook.
"""

from __future__ import annotations

import inspect
import re

import numpy as np
import pytest

import vecdb
from vecdb import Collection, Hit, Hits, Point


def test_short_vectors_are_shown_and_long_ones_measured() -> None:
    assert repr(Point("a", [1.0, 2.0], {"n": 1})) == "Point(id='a', vector=[1.0, 2.0], payload={'n': 1})"
    assert repr(Point(1, np.zeros(384, dtype=np.float32))) == "Point(id=1, vector=<384 components>, payload={})"
    assert repr(Point(1, None, {}, has_vector_data=False)) == "Point(id=1, vector=None, payload={}, has_vector_data=False)"
    assert repr(Hit(1, 0.123456789, {"n": 1}, np.ones(2, dtype=np.float32))) == (
        "Hit(id=1, score=0.123457, payload={'n': 1}, vector=array([1., 1.], dtype=float32))"
    )
    assert repr(Hits([Hit("a", 1.0)])) == "[Hit(id='a', score=1)]"


def test_a_database_and_its_collections_say_what_they_are() -> None:
    with vecdb.open(":memory:") as db:
        products = db.create_collection("products", dim=3, metric="l2")
        assert repr(db) == "<vecdb.Database ':memory:', mode 'a': products>"
        assert repr(products) == "<vecdb.Collection 'products': 0 points, dim 3, l2>"
    assert repr(db) == "<vecdb.Database ':memory:': closed>"
    assert repr(products).startswith("<vecdb.Collection 'products'")


def test_hits_are_a_table_in_a_notebook_and_escaped() -> None:
    points = Collection(dim=2)
    points.upsert([1, "<b>"], [[1, 0], [0, 1]], [{"<i>": "<script>alert(1)</script>", "long": "x" * 500}, {"list": [1, {"a": None}]}])
    shown = points.search([1, 0.1])._repr_html_()
    assert re.findall("<th>(.*?)</th>", shown) == ["", "id", "score", "&lt;i&gt;", "long", "list"]
    assert "<script>" not in shown
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in shown
    assert "x" * 119 + "…" in shown
    assert "x" * 120 not in shown
    assert shown.count("<tr>") == 3
    assert "[1, {&quot;a&quot;: null}]" in shown
    assert Hits()._repr_html_().count("<tr>") == 1


def test_info_is_a_table_in_a_notebook() -> None:
    with vecdb.open(":memory:") as db:
        points = db.create_collection("<name>", dim=2)
        points.upsert([1, 2], [[1, 0], [0, 1]])
        shown = points.info()._repr_html_()
    assert "<caption>&lt;name&gt;</caption>" in shown
    assert "<tr><td>points</td><td>2</td></tr>" in shown
    assert "<tr><td>last lsn</td><td>1</td></tr>" in shown


PUBLIC = [getattr(vecdb, name) for name in vecdb.__all__]
METHODS = [
    pytest.param(method, id=f"{kind.__name__}.{name}")
    for kind in (vecdb.Collection, vecdb.Database)
    for name, method in inspect.getmembers(kind)
    if not name.startswith("_")
]


@pytest.mark.parametrize("method", METHODS)
def test_every_public_method_is_documented_with_an_example(method: object) -> None:
    text = inspect.getdoc(method)
    assert text is not None
    assert text[0].isupper() or text.startswith("`")
    assert text.splitlines()[0].endswith((".", ":"))
    assert isinstance(method, property) or ">>> " in text


def test_everything_public_has_a_docstring() -> None:
    assert [thing.__name__ for thing in PUBLIC if not inspect.getdoc(thing)] == []
    assert sorted(vecdb.__all__) == vecdb.__all__
