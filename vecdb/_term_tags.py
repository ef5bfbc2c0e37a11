"""
The tags of the terms of a payload index.

Invariant: what there is of a term are a str or number among others in a dict, and in a tuple: Python's garbage collector looks into
neither, so that a million terms do not make each of its passes last a tenth of a second, in which no other thread goes on. Terms only
come. Thread rule: one thread adds at a time; any thread reads meanwhile, and an iteration ends with what was there at its start.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from vecdb.filters import Term

PIECE = 4096
_WITH_VALUE = frozenset(("bool", "int", "str", "word"))

Default = TypeVar("Default")
Value = str | int | bool


class TermTags(Mapping[Term, int]):
    """
    A tag by term, in the order in which the terms came.
    """

    __slots__ = ("_count", "_pieces", "_tags")

    def __init__(self) -> None:
        self._tags: dict[str, dict[Value, int]] = {}  # by name and value; a marker's value is its name
        # Names and values of PIECE terms each; the last piece grows.
        self._pieces: list[tuple[Sequence[str], Sequence[Value]]] = [([], [])]
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Term]:
        count = self._count
        for low in range(0, count, PIECE):
            yield from self.piece(low, count)

    def __contains__(self, term: object) -> bool:
        return isinstance(term, tuple) and self.get(term, None) is not None

    def __getitem__(self, term: Term) -> int:
        return self._tags[term[0]][term[-1]]

    def get(self, term: Term, default: Default | None = None) -> int | Default | None:  # type: ignore[override]
        """
        Return the tag of a term, or the default.
        """
        of_name = self._tags.get(term[0])
        return default if of_name is None else of_name.get(term[-1], default)

    def numbers(self) -> list[int]:
        """
        Return all tags.
        """
        return [tag for of_name in tuple(self._tags.values()) for tag in of_name.copy().values()]

    def of_name(self, name: str) -> dict[Value, int]:
        """
        Return the tags of the terms of a name, by their values; a copy.
        """
        return self._tags.get(name, {}).copy()

    def piece(self, low: int, count: int) -> list[Term]:
        """
        Return PIECE terms from the place `low` on, which is a multiple of that, but none from the place `count` on.
        """
        names, values = self._piece(low, count)
        if _are_alike(names) and names[0] in _WITH_VALUE:
            return list(zip(names, values, strict=True))
        return [(name, value) if name in _WITH_VALUE else (name,) for name, value in zip(names, values, strict=True)]

    def numbers_of_piece(self, low: int, count: int) -> NDArray[np.uint64]:
        """
        Return the tags of the same.
        """
        names, values = self._piece(low, count)
        if _are_alike(names):
            return np.fromiter(map(self._tags[names[0]].__getitem__, values), np.uint64, len(values))
        return np.array([self._tags[name][value] for name, value in zip(names, values, strict=True)], np.uint64)

    def _piece(self, low: int, count: int) -> tuple[Sequence[str], Sequence[Value]]:
        names, values = self._pieces[low // PIECE]
        return names[: count - low], values[: count - low]

    def add(self, term: Term, tag: int) -> None:
        """
        Give a tag to a term that has none.
        """
        self._tags.setdefault(term[0], {})[term[-1]] = tag
        self._append((term[0],), (term[-1],))

    def add_all(self, terms: Sequence[Term], tags: Sequence[int]) -> None:
        """
        Give each of some terms that have none its tag; quickest where those of a name follow each other.
        """
        first = 0
        for name, run in groupby(terms, itemgetter(0)):
            values: list[Value] = list(map(itemgetter(-1), run))
            self._tags.setdefault(name, {}).update(zip(values, tags[first : first + len(values)], strict=True))
            self._append([name] * len(values), values)
            first += len(values)

    def _append(self, new_names: Sequence[str], new_values: Sequence[Value]) -> None:
        done = 0
        while done < len(new_names):
            names, values = self._pieces[-1]
            assert isinstance(names, list)
            assert isinstance(values, list)
            end = done + PIECE - len(names)
            names += new_names[done:end]
            values += new_values[done:end]
            if len(names) == PIECE:
                self._pieces[-1] = (tuple(names), tuple(values))
                self._pieces.append(([], []))
            self._count += min(end, len(new_names)) - done
            done = end


def _are_alike(names: Sequence[str]) -> bool:
    return len(names) > 0 and names.count(names[0]) == len(names)
