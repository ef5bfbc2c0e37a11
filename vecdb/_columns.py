"""
Values of one payload key as a column: the narrowest type that holds them.

Ints are never made floats unless there are floats among them, and then only where no digit is lost. Functions without state.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


def pandas_column(pandas: Any, values: Sequence[Any]) -> Any:
    """
    Return values as a Series; None is a missing value.
    """
    kinds = {type(value) for value in values}
    missing = type(None) in kinds
    kinds.discard(type(None))
    if kinds == {int} and (width := int_width(values)) is not None:
        dtype: Any = width.capitalize().replace("Ui", "UI") if missing else width
    elif kinds == {float} or (kinds == {int, float} and are_exact(values)):
        return pandas.Series([np.nan if value is None else float(value) for value in values], dtype="float64")
    elif kinds == {bool}:
        dtype = "boolean" if missing else "bool"
    else:
        dtype = object
    return pandas.Series(objects(values) if dtype is object else list(values), dtype=dtype)


def objects(values: Sequence[Any]) -> Any:
    """
    Return values as an array of objects, whatever they are.
    """
    # Filled one by one: numpy would take apart lists of one length.
    column = np.empty(len(values), dtype=object)
    for row, value in enumerate(values):
        column[row] = value
    return column


def int_width(values: Sequence[Any]) -> str | None:
    """
    Return the type that holds all ints, None when there is none.
    """
    present = [value for value in values if value is not None]
    if max(present) < 2**63:
        return "int64"
    return "uint64" if min(present) >= 0 else None


def are_exact(values: Sequence[Any]) -> bool:
    """
    Return whether every int among values is the same number as a double.
    """
    return all(not isinstance(value, int) or abs(value) <= 2**53 for value in values)
