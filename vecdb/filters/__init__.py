"""
Filters: the must / should / must_not grammar, what it means, and its lowering to a program of the core.

`parse` checks a dict or what `F` built and gives a tree; `matches` is the reference evaluator over one payload; `terms`
says what a payload gives to the index of a key; `lower` turns a tree into a program over these indexes. Nothing is
stored here; everything is immutable or without state, so it may be used from any thread.
"""

from vecdb.filters.build import F
from vecdb.filters.conditions import Except
from vecdb.filters.evaluate import matches
from vecdb.filters.geo import GeoPoint
from vecdb.filters.leaves import Resolver
from vecdb.filters.lower import keys, lower
from vecdb.filters.parse import parse
from vecdb.filters.paths import KeyPath, elements, values
from vecdb.filters.program import Program, offsets_program, with_tag
from vecdb.filters.terms import FLOATS, IndexKey, Kind, Number, Term, Terms, is_value, term, terms
from vecdb.filters.times import Time, parse_time
from vecdb.filters.tree import Filter, Node

__all__ = [
    "FLOATS",
    "Except",
    "F",
    "Filter",
    "GeoPoint",
    "IndexKey",
    "KeyPath",
    "Kind",
    "Node",
    "Number",
    "Program",
    "Resolver",
    "Term",
    "Terms",
    "Time",
    "elements",
    "is_value",
    "keys",
    "lower",
    "matches",
    "offsets_program",
    "parse",
    "parse_time",
    "term",
    "terms",
    "values",
    "with_tag",
]
