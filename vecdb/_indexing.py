"""
The payload indexes of a collection as a caller sees them: declared, dropped, listed.

Arguments are checked here; `_declared` does the work. Any thread may call.
"""

from __future__ import annotations

from typing import Literal

from vecdb._convert import whole
from vecdb._declared import check_m
from vecdb._handle import Held
from vecdb._index_kinds import KINDS, MAX_M, MIN_M
from vecdb.errors import InvalidArgument
from vecdb.filters import KeyPath
from vecdb.types import IndexInfo

IndexKind = Literal["keyword", "integer", "float", "bool", "datetime", "geo", "text"]


class Indexing(Held):
    """
    The part of `Collection` that declares payload indexes.
    """

    def create_index(self, key: str, kind: IndexKind | None = None, *, m: int | None = None) -> None:
        """
        Declare an index on a payload key: built now, kept up to date, in memory and, from some size on, in a file of its own.

        Never needed for a right answer and never changes one: without it the first filter on a key builds what it needs, and values that
        are not of `kind` are still found. `kind` is keyword, integer, float, bool, datetime, geo or text; None takes the kind of most of
        the oldest points' values at the key (about 1,000 of them), keyword where there are none. `m`, from 2 to 10,000, has the points of
        each single value linked among themselves, so that a search for that value walks over them alone; of numbers, times and places
        (integer, float, datetime, geo) those of the ranges and areas that filters ask for, from the first search that gains by it. Without
        `m`, values, ranges and areas that are searched for often get such links on their own.

        Returns when the index is built. Declaring it again does nothing, unless `m` is another: then the links are made anew. Raises
        AlreadyExists when the key has an index of another kind, InvalidArgument for arguments out of range.

        >>> import vecdb
        >>> points = vecdb.Collection(dim=2)
        >>> points.upsert([1, 2], None, [{"price": 3.5}, {"price": 9}])
        >>> points.create_index("price")
        >>> points.indexes["price"].kind, points.count(vecdb.F("price") < 5)
        ('float', 1)
        """
        self._handle.check_writable()
        path = as_key(key)
        if kind is not None and not (isinstance(kind, str) and kind in KINDS):
            raise InvalidArgument(f"kind is {kind!r}, expected one of {', '.join(map(repr, KINDS))}, or None to take it from the values")
        links = None if m is None else whole(m, "m", MIN_M, MAX_M)
        if kind is not None:
            check_m(kind, links)
        self._state.declared.create(path, kind, links)

    def drop_index(self, key: str) -> None:
        """
        Drop the index of a payload key, its links and its declaration; later filters on the key build what they need.

        Raises NotFound when the key has no index, neither declared nor built by a filter.

        >>> import vecdb
        >>> points = vecdb.Collection(dim=2)
        >>> points.create_index("colour", "keyword")
        >>> points.drop_index("colour")
        >>> points.indexes
        {}
        """
        self._handle.check_writable()
        self._state.declared.drop(as_key(key))

    @property
    def indexes(self) -> dict[str, IndexInfo]:
        """
        The payload indexes by key: those that were declared, and those that filters have built.

        >>> import vecdb
        >>> points = vecdb.Collection(dim=2)
        >>> points.create_index("colour", "keyword", m=8)
        >>> points.indexes["colour"].declared, points.indexes["colour"].m
        (True, 8)
        """
        self._handle.check()
        return self._state.declared.infos()


def as_key(key: object) -> KeyPath:
    """
    Return an argument as the path of a payload key, or raise InvalidArgument.
    """
    if not isinstance(key, str):
        raise InvalidArgument(f"key is {key!r} of type {type(key).__name__}, expected a str such as 'price' or 'shop.city'")
    try:
        key.encode("utf-8")
    except UnicodeEncodeError:
        raise InvalidArgument(f"key is {key!r}, which holds a lone surrogate: expected text that UTF-8 can encode") from None
    return KeyPath.parse(str(key))
