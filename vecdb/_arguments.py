"""
Arguments that callers may give as anything: whether a value is a list of things, or one of a few words.

Invariant: no value makes these functions raise, however it compares or iterates; the caller says what it expected. Pure functions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


def items(value: object) -> list[Any] | None:
    """
    Return the items of an iterable, None for what is none: text, a dict, a table, a filter, an array without dimensions.

    >>> items(n for n in range(2)), items("ab"), items(5)
    ([0, 1], None, None)
    """
    if type(value) is list:
        return list(value)
    if isinstance(value, (str, bytes, bytearray, Mapping)) or not isinstance(value, Iterable) or getattr(value, "ndim", 1) != 1:
        return None
    try:
        iterator = iter(value)
    except TypeError:  # a filter refuses, so that `in` does
        return None
    return list(iterator)


def is_one_of(value: object, words: Iterable[str]) -> bool:
    """
    Return whether a value is one of some words; arrays and keys of filters, whose comparisons are no bools, are not.

    >>> is_one_of("dot", ("dot", "l2")), is_one_of(["dot"], ("dot", "l2"))
    (True, False)
    """
    return isinstance(value, str) and value in words
