"""
What the parts of `Collection` share: the state, its queries, and the handle that says whether they may still be used.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from vecdb._query import Queries
from vecdb._state import CollectionState


class Handle(Protocol):
    """
    The permission to use a collection; each check raises when there is none.
    """

    def check(self) -> None:
        """
        Raise unless the collection may be read.
        """

    def check_writable(self) -> None:
        """
        Raise unless the collection may be written.
        """

    def close(self) -> None:
        """
        Release what the handle alone holds.
        """

    def reduce(self) -> tuple[Any, ...]:
        """
        Return what pickles the collection.
        """


class OwnHandle:
    """
    The handle of a collection without a database: it owns the state.
    """

    def __init__(self, state: CollectionState) -> None:
        self.check: Callable[[], None] = state.check_open
        self.check_writable: Callable[[], None] = state.check_writable
        self.close: Callable[[], None] = state.close

    def reduce(self) -> tuple[Any, ...]:
        """
        Refuse: the points exist in this process only.
        """
        raise TypeError("a collection in memory cannot be pickled: its points exist in this process only; use a database with a path")


class Held:
    """
    A state held through a handle.
    """

    _state: CollectionState
    _queries: Queries
    _handle: Handle

    def _attach(self, state: CollectionState, queries: Queries, handle: Handle) -> None:
        self._state = state
        self._queries = queries
        self._handle = handle
        self._fields = queries.fields
