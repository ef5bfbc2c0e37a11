"""
What compaction does to offsets: the live ones below a limit move together, those from the limit on follow behind them.

Invariant: the order of offsets stays, so that ascending lists stay ascending. Values and pure functions; any thread.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from vecdb.errors import InternalError
from vecdb.storage.effects import Effects


class Renumbering:
    """
    The new offset of each old one; `live` says which of the offsets below len(live) have one.

    >>> Renumbering(np.array([True, False, True])).of(np.array([0, 2, 3], np.uint32)).tolist()
    [0, 1, 2]
    """

    def __init__(self, live: NDArray[np.bool_]) -> None:
        self.end: int = len(live)
        self.count: int = int(np.count_nonzero(live))
        self._live = live
        self._ranks = np.cumsum(live, dtype=np.uint32)

    def of(self, offsets: NDArray[np.uint32]) -> NDArray[np.uint32]:
        """
        Return the new offsets; an offset that has none is an InternalError.
        """
        below = offsets[offsets < self.end]
        if not self._live[below].all():
            raise InternalError(f"a call changes offset {int(below[~self._live[below]][0])}, which was dead before; please report this")
        moved = self.end - self.count
        new = np.empty(len(offsets), np.uint32)
        new[offsets < self.end] = self._ranks[below] - np.uint32(1)
        new[offsets >= self.end] = offsets[offsets >= self.end] - np.uint32(moved)
        return new

    def translate(self, effects: Effects) -> Effects:
        """
        Return what a call does to the offsets as they are numbered now.
        """
        return replace(
            effects,
            first_offset=effects.first_offset - self.end + self.count,
            tombstones=self.of(effects.tombstones),
            patch_offsets=self.of(effects.patch_offsets),
        )
