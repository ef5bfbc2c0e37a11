"""
The order of ids and of payload values, wherever equals have to be told apart. Pure functions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

PointId = int | str

RANKS: Mapping[type, int] = {bool: 0, int: 1, float: 1, str: 2}
"""
The types of values that can be told apart by value, in their order.
"""


def id_order(one: PointId) -> tuple[bool, PointId]:
    """
    Return what sorts as ids do: ints, then strs (by code points, which order like their UTF-8).

    >>> sorted(["b", 10, "a", 9], key=id_order)
    [9, 10, 'a', 'b']
    """
    return isinstance(one, str), one


def value_order(value: Any) -> tuple[int, Any, bool]:
    """
    Return what sorts values of the types in `RANKS`: bools, numbers (of equal ones the int first), strs.

    >>> sorted(["1", 1.0, 1, True, 0.5], key=value_order)
    [True, 0.5, 1, 1.0, '1']
    """
    return RANKS[type(value)], value, isinstance(value, float)
