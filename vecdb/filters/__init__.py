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
from vecdb.filters.terms import FILLED, FLOATS, ONE, IndexKey, Kind, Number, Term, Terms, given_by, is_value, term, terms
from vecdb.filters.times import Time, parse_time, time_pair
from vecdb.filters.tree import Filter, Node

__all__ = [
    "FILLED",
    "FLOATS",
    "ONE",
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
    "given_by",
    "is_value",
    "keys",
    "lower",
    "matches",
    "offsets_program",
    "parse",
    "parse_time",
    "term",
    "terms",
    "time_pair",
    "values",
    "with_tag",
]
