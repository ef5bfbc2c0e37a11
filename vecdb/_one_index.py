"""
One payload index: one kind of one key, as far as it is built.

Plain state without a lock: `_payload_index.PayloadIndexes` owns it and says which lock guards what.
"""

from __future__ import annotations

from collections.abc import Mapping

from vecdb.filters import KeyPath, Kind, Term

_BYTES_PER_TERM = 160  # a dictionary entry and an empty posting
# In the core: a place in a posting, which grows by doubling; an entry of a column.
_BYTES_PER_ENTRY: Mapping[Kind, int] = {"tags": 8, "words": 8, "presence": 8, "numbers": 16, "times": 16, "counts": 16, "points": 32}
COLUMNS: frozenset[Kind] = frozenset(("numbers", "times", "points", "counts"))


class PayloadIndex:
    """
    The index of one kind of one key: a tag for each term, or one column.
    """

    __slots__ = ("column", "complete", "end", "entries", "key", "kind", "m", "pins", "scanned", "tags", "touched", "used")

    def __init__(self, key: KeyPath, kind: Kind, column: int, end: int) -> None:
        self.key = key
        self.kind = kind
        self.column = column
        self.tags: dict[Term, int] = {}
        self.entries = 0
        self.complete = False
        # While it is built: the offsets below `scanned` and from `end` on are in it, and those that writes touched.
        self.scanned = 0
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
        return self.complete or offset < self.scanned or offset >= self.end or offset in self.touched
