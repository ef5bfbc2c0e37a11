"""
Links among the points of a payload index, asked for from the core and taken back.

Invariant: `index.m` is what was asked for; the points of markers are never linked. Thread rule: under the collection's apply lock.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from vecdb._one_index import COLUMNS, PayloadIndex
from vecdb.filters import Term, is_value
from vecdb.index import CoreIndex


class IndexLinks:
    """
    The links of one collection's indexes, in all of its vector fields.
    """

    def __init__(self, core: CoreIndex, fields: Sequence[int]) -> None:
        self._core = core
        self._fields = fields

    def ask(self, index: PayloadIndex, m: int) -> None:
        """
        Have the points of each value linked, or those of the windows and cells that filters use.
        """
        index.m = m
        for field in self._fields:
            if index.kind in COLUMNS:
                self._core.link_column(field, index.column, m=m)
            else:
                self._core.link_tags(field, array_of([tag for term, tag in index.tags.items() if is_value(term)]), m=m)

    def ask_for_term(self, index: PayloadIndex, term: Term, tag: int) -> None:
        """
        Have the points of a term that is new linked, too, where those of the others are.
        """
        if index.m is not None and is_value(term):
            for field in self._fields:
                self._core.link_tags(field, array_of([tag]), m=index.m)

    def withdraw(self, index: PayloadIndex) -> None:
        """
        Give up all links of an index.
        """
        index.m = None
        for field in self._fields:
            if index.kind in COLUMNS:
                self._core.unlink_column(field, index.column)
            else:
                self._core.unlink_tags(field, array_of(index.tags.numbers()))


def array_of(tags: Collection[int]) -> NDArray[np.uint64]:
    """
    Return tags as the core takes them.
    """
    return np.fromiter(tags, dtype=np.uint64, count=len(tags))
