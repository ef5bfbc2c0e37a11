"""
vecdb's core alone: its C ABI driven from C++, without Python in the loop, compiled as it is shipped.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

from . import build
from .data import Dataset
from .driver import Asked, Driver, Run, run
from .filters import Cell
from .stock import SEED, Options, file_digest

INPUTS = ("queries", "filter_of_query", "programs", "starts")
ATTACHED = ("tag_offsets", "tags", "numbers", "places")
NO_CODES, EIGHT_BITS = 0, 1
STRATEGIES = ("empty", "exact", "graph", "tag", "sweep")


class PlanSeen(NamedTuple):
    """
    What the planner chose for one filter, and the costs it predicted.
    """

    strategy: str
    ef: int
    cost_exact_ns: float
    cost_graph_ns: float | None


class LinksSeen(NamedTuple):
    """
    What links the searches made the core build: for how many tags, in how many seconds of one thread, in how many bytes.
    """

    tags: int
    seconds: float
    bytes: int


class Core:
    """
    The core in its driver, with one set in it.
    """

    def __init__(self, executable: Path, data: Dataset, rows_file: Path, options: Options, cache: Path) -> None:
        self.driver = Driver(executable)
        self._rows_file = rows_file
        self._shape: dict[str, Any] = {"dim": data.dim, "m": options.m, "ef_construction": options.ef_construction, "seed": SEED}
        self._shape["coding"] = NO_CODES if options.quantization is None else EIGHT_BITS
        key = hashlib.sha256(repr((sorted(self._shape.items()), build.core_digest(), file_digest(rows_file))).encode()).hexdigest()[:16]
        self._graph = cache / f"core-{key}.graph"

    def create(self, *, threads: int) -> None:
        """
        Make an empty index with so many background workers; without any, `wait` does their work in its own thread.
        """
        self.driver.call("create", threads=threads, **self._shape)

    def build(self, threads: int) -> float:
        """
        Store the rows and wait for the graph; return the seconds both took. With one thread the graph is kept for later runs.
        """
        self.create(threads=0 if threads == 1 else threads)
        seconds = self.driver.call("add", rows=self._rows_file)["seconds"] + self.driver.call("wait")["seconds"]
        if threads == 1:
            self.driver.call("save", graph=self._graph)
        return float(seconds)

    def ready(self) -> None:
        """
        Load the graph that an earlier run of the same sources built with one thread, or build it.
        """
        if not self._graph.exists():
            self.build(1)
            return
        self.create(threads=0)
        self.driver.call("add", rows=self._rows_file)
        self.driver.call("load", graph=self._graph)
        self.driver.call("wait")

    def fill(self) -> None:
        """
        Store the rows and make no graph: every search is a scan.
        """
        self.create(threads=0)
        self.driver.call("add", rows=self._rows_file)

    def attach(self, cell: Cell, files: dict[str, str]) -> None:
        """
        Give the points the tags, numbers and places of a cell.
        """
        if cell.has_attributes:
            self.driver.call("attach", **{name: files[name] for name in ATTACHED if name in files})

    def settle(self, asked: Asked, k: int, links: str) -> LinksSeen:
        """
        Wait for the links of tags: those that an index asks for ("asked"), or those that the core makes of its own accord when searches use
        some tags often ("searched"); of the second kind some are made in any case.
        """
        if links == "asked":
            self.driver.call("link")
        self.run(asked._replace(passes=2), k)
        seconds = self.driver.call("wait")["seconds"]
        stats = self.stats()
        return LinksSeen(int(stats["linked_tags"]), seconds, int(stats["link_bytes"]))

    def detach(self) -> None:
        """
        Take them away.
        """
        self.driver.call("detach")

    def run(self, asked: Asked, k: int, *, ef: int = 0, exact: bool = False, batch: int = 1, queries: int | None = None) -> Run:
        """
        Search one query a call (or `batch`), ef=0: by the core's own choice.
        """
        return run(self.driver, asked, inputs=INPUTS, k=k, queries=queries, ef=ef, exact=int(exact), batch=batch)

    def plan(self, cell: Cell, files: dict[str, str], k: int) -> PlanSeen:
        """
        Return the plan of the cell's first filter.
        """
        programs = {name: files[name] for name in ("programs", "starts")} if cell.is_filtered else {}
        answer = self.driver.call("plan", k=k, ef=0, filter=0, **programs)
        return PlanSeen(STRATEGIES[int(answer["strategy"])], int(answer["ef"]), answer["cost_exact_ns"], answer["cost_graph_ns"])

    def stats(self) -> dict[str, float]:
        """
        Return the core's own figures: points and bytes by part.
        """
        return self.driver.call("stats")
