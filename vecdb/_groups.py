"""
Groups: the best hits of each value at a key, best group first, of groups with the same best hit by value.

Which groups come first is found by searches that leave out, each time, the points all of whose values are known already; with few values
every group is searched. A group's hits are those of a search among its points. Functions without state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from vecdb._ordering import id_order, value_order
from vecdb.filters import Except, F, IndexKey, KeyPath, Node, Term, elements, keys, term
from vecdb.types import Group, Hit, Hits, PointId

_FEW_VALUES = 64
_FIRST_HITS = 32
_DEEPER = 4

Search = Callable[[Node, int], Hits]
"""
(filter, k) -> hits as the caller wants them.
"""

Look = Callable[[Node, int, str], Hits]
"""
(filter, k, name) -> hits with only the payload key of this name.
"""


def search_groups(
    search: Search, look: Look, key: KeyPath, node: Node, known: Sequence[Term], wanted: int, size: int, *, smaller: bool
) -> list[Group]:
    """
    Return the first `wanted` groups with at most `size` hits each; `known` are the terms that any point has or had at the key, `smaller`
    says that the smaller score is the better one.
    """
    terms = known if len(known) <= max(_FEW_VALUES, _DEEPER * wanted) else _first_terms(look, key, node, wanted)
    groups = [Group(_value(one), search(node & (F(str(key)) == _value(one)), size)) for one in terms]
    found = [group for group in groups if group.hits]
    found.sort(key=lambda group: (_rank(group.hits[0], smaller=smaller), value_order(group.key)))
    return found[:wanted]


def keys_of_groups(key: KeyPath, node: Node) -> frozenset[IndexKey]:
    """
    Return the indexes that `search_groups` uses.
    """
    return keys(node) | keys(F(str(key)) == "") | keys(Except(key, ()))


def _first_terms(look: Look, key: KeyPath, node: Node, wanted: int) -> list[Term]:
    """
    Return the terms of the groups that come first in the ranking of all points, best first.
    """
    first = key.steps[0]
    assert isinstance(first, str), "a path begins with a name"
    found: dict[Term, None] = {}
    depth = max(_FIRST_HITS, 2 * wanted)
    while len(found) < wanted:
        before = len(found)
        values: Any = tuple(_value(one) for one in found if one[0] != "bool")
        hits = look(node & Except(key, values), depth, first)
        for hit in hits:
            found.update(dict.fromkeys(_terms(elements(hit.payload or {}, key))))
        if len(hits) < depth:
            break
        if len(found) == before:
            depth *= _DEEPER
    return list(found)[:wanted]


def _terms(found: Iterable[object]) -> list[Term]:
    return sorted((known for one in found if (known := term(one)) is not None), key=lambda known: value_order(_value(known)))


def _rank(hit: Hit, *, smaller: bool) -> tuple[float, tuple[bool, PointId]]:
    return hit.score if smaller else -hit.score, id_order(hit.id)


def _value(known: Term) -> str | int | bool:
    return known[-1]
