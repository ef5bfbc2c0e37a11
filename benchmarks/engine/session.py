"""
One set being measured: its files, its drivers, and the settings that all parts share.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from . import build, truth
from .cells import Spec
from .core import Core
from .data import Dataset
from .driver import Asked, Run
from .filters import Cell
from .stock import Options, Stock
from .truth import Score, Truth


@dataclass(frozen=True)
class Settings:
    """
    How everything is measured: passes for the clock, seconds a slow engine gets for a cell's pass, a CPU to stay on, whether tags get links
    because they are asked for ("asked") or because the queries use them ("searched").
    """

    options: Options
    passes: int = 3
    budget: float = 2.0
    cpu: int | None = None
    links: str = "searched"


class Session:
    """
    The drivers with one set, and the truth about it.
    """

    def __init__(self, data: Dataset, work: Path, settings: Settings) -> None:
        self.data = data
        self.work = work
        self.settings = settings
        self.faults: list[str] = []
        self.directory = work / data.name
        self.directory.mkdir(parents=True, exist_ok=True)
        rows_file = self.write("rows", data.rows)
        self._files = {"queries": str(self.write("queries", data.queries))}
        cache = work / "graphs"
        cache.mkdir(exist_ok=True)
        self.stock = Stock(build.stock(work), data, rows_file, settings.options, cache)
        self.core = Core(build.core(work), data, rows_file, settings.options, cache)
        # The core without a graph: its scan, whatever the planner would choose.
        self.scanner = Core(build.core(work), data, rows_file, settings.options, cache)

    def write(self, name: str, array: NDArray[np.generic]) -> Path:
        """
        Write an array where the drivers can read it.
        """
        path = self.directory / name
        np.ascontiguousarray(array).tofile(path)
        return path

    def close(self) -> None:
        """
        End the drivers.
        """
        self.stock.driver.close()
        self.core.driver.close()
        self.scanner.driver.close()

    def asked(self, cell: Cell) -> Asked:
        """
        Return how a cell is searched; writes its files.
        """
        files = self._files | cell.write(self.directory / "cell")
        return Asked(files, len(self.data.queries), self.settings.passes, self.settings.cpu, self.directory / "found")

    def truth(self, cell: Cell, k: int) -> Truth:
        """
        Return the exact answer of a cell.
        """
        return truth.exact(self.data.rows, self.data.queries, k, cell.filter_of_query, cell.mask if cell.is_filtered else None)

    def score(self, cell: Cell, known: Truth, found: NDArray[np.uint32]) -> Score:
        """
        Return what hits are worth; what no engine may do (give a point that does not match, or one twice) is kept in `faults`.
        """
        mask_of = cell.mask if cell.is_filtered else None
        score = truth.score(self.data.rows, self.data.queries, found, known, cell.filter_of_query, mask_of)
        if score.wrong:
            self.faults.append(f"FAULT in {cell.spec.name}: {score.wrong} hits do not match the filter or come twice")
            print(self.faults[-1])
        return score

    def recall_of(self, cell: Cell, known: Truth) -> Callable[[Run], float]:
        """
        Return the function from a run to its mean recall.
        """
        return lambda run: self.score(cell, known, run.found).mean

    def unfiltered(self, k: int) -> Cell:
        """
        Return the cell without filters.
        """
        return Cell(Spec(1.0, "all", "none", k), len(self.data.rows), np.zeros(len(self.data.queries), dtype=np.uint32))
