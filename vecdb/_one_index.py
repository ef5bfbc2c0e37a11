"""
One payload index: one kind of one key, as far as it is built.

Plain state without a lock: `_payload_index.PayloadIndexes` owns it and says which lock guards what.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import get_args

from vecdb._term_tags import TermTags
from vecdb.errors import InvalidArgument
from vecdb.filters import IndexKey, KeyPath, Kind
from vecdb.storage.index_file import IndexName
from vecdb.storage.saved_indexes import SavedIndex

_BYTES_PER_TERM = 168  # an entry of a dict, the value, its place in the order, and an empty posting
# In the core: a place in a posting, which grows by doubling; an entry of a column.
_BYTES_PER_ENTRY: Mapping[Kind, int] = {"tags": 8, "words": 8, "presence": 8, "numbers": 16, "times": 16, "counts": 16, "points": 32}
_KINDS: tuple[Kind, ...] = get_args(Kind)
COLUMNS: frozenset[Kind] = frozenset(("numbers", "times", "points", "counts"))


class PayloadIndex:
    """
    The index of one kind of one key: a tag for each term, or one column.
    """

    __slots__ = (
        "column",
        "complete",
        "end",
        "entries",
        "key",
        "kind",
        "m",
        "pins",
        "saved",
        "scanned",
        "stale",
        "tags",
        "touched",
        "used",
    )

    def __init__(self, key: KeyPath, kind: Kind, column: int, end: int) -> None:
        self.key = key
        self.kind = kind
        self.column = column
        self.tags = TermTags()
        self.entries = 0
        self.complete = False
        # While it is built, these offsets are in it: below `scanned` but for the stale ones, from `end` on, and what writes touched.
        self.saved: SavedIndex | None = None  # the file that it is to be filled from
        self.scanned = 0
        self.stale: set[int] = set()
        self.end = end
        self.touched: set[int] = set()
        self.pins = 0
        self.used = 0
        self.m: int | None = None  # points are to be linked among themselves, with so many links: see PayloadIndexes.link

    @property
    def bytes(self) -> int:
        """
        About how much memory the index takes.
        """
        return self.entries * _BYTES_PER_ENTRY[self.kind] + len(self.tags) * _BYTES_PER_TERM

    def covers(self, offset: int) -> bool:
        """
        Return whether what the payload of an offset gives is in the index.
        """
        if self.complete or offset >= self.end or offset in self.touched:
            return True
        return offset < self.scanned and offset not in self.stale


def names_of(indexes: Iterable[PayloadIndex]) -> tuple[str, ...]:
    """
    Return the keys of a payload, each once, at which the paths of indexes begin.
    """
    return tuple(dict.fromkeys(str(index.key.steps[0]) for index in indexes))


def file_name(name: IndexKey) -> IndexName:
    """
    Return the name by which an index is saved.
    """
    return IndexName(str(name[0]), name[1])


def index_key(name: IndexName) -> IndexKey | None:
    """
    Return the key and kind that a file names; None when this vecdb knows none such.
    """
    try:
        key = KeyPath.parse(name.key)
    except InvalidArgument:
        return None
    kind = next((kind for kind in _KINDS if kind == name.kind), None)
    return (key, kind) if kind is not None and str(key) == name.key else None
