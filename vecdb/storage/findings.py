"""
What a verification finds: problems (something that was stored is lost or wrong), notes (what costs no answer), and how much was looked at.

Invariant: the first problems are kept, the others counted. Thread rule: one thread.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from vecdb.errors import Closed, VecdbError

MOST_PROBLEMS = 200


class Findings:
    """
    Collects what is found.
    """

    def __init__(self) -> None:
        self.problems: list[str] = []
        self.notes: list[str] = []
        self.counts: Counter[str] = Counter()
        self.readable = True
        """
        False when pages of points.lmdb are damaged, which nobody should read then: LMDB may end the process.
        """
        self._left_out = 0

    def problem(self, what: str) -> None:
        """
        Note something that was stored and is lost or wrong, once.
        """
        if what in self.problems:
            return
        if len(self.problems) < MOST_PROBLEMS:
            self.problems.append(what)
        else:
            self._left_out += 1

    def note(self, what: str) -> None:
        """
        Note something that costs no answer.
        """
        self.notes.append(what)

    @contextmanager
    def collecting(self) -> Iterator[None]:
        """
        Take an error of a with block as a problem, and go on behind it.
        """
        try:
            yield
        except Closed:
            raise
        except VecdbError as error:
            self.problem(str(error))

    def finish(self) -> tuple[tuple[str, ...], tuple[str, ...], dict[str, int]]:
        """
        Return problems, notes and counts.
        """
        problems = list(self.problems)
        if self._left_out:
            problems.append(f"and {self._left_out} problems more")
        return tuple(problems), tuple(self.notes), dict(self.counts)
