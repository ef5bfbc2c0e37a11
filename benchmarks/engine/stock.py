"""
The baseline: stock hnswlib in C++, one thread, no Python in the loop, as many beam widths as it takes to reach a recall.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from .curves import Sample, ladder
from .data import Dataset
from .driver import Asked, Driver, Run, run

INPUTS = ("queries", "filter_of_query", "bitmaps")
SEED = 100
_LARGEST_EF = 4000
_LEAST_QUERIES = 50
_NEARLY_ALL = 0.9975

RecallOf = Callable[[Run], float]


class Options(NamedTuple):
    """
    What an index is built with; stock hnswlib has no quantization.
    """

    m: int
    ef_construction: int
    quantization: str | None = "auto"


class Stock:
    """
    Stock hnswlib in its driver, with a graph over one set.
    """

    def __init__(self, executable: Path, data: Dataset, rows_file: Path, options: Options, cache: Path) -> None:
        self.driver = Driver(executable)
        self._points = len(data.rows)
        self._shape = {"dim": data.dim, "m": options.m, "ef_construction": options.ef_construction, "seed": SEED}
        self._rows_file = rows_file
        key = hashlib.sha256(repr((sorted(self._shape.items()), file_digest(rows_file))).encode()).hexdigest()[:16]
        self._graph = cache / f"stock-{key}.hnsw"
        self._executable = executable

    def build(self, threads: int) -> float:
        """
        Build the graph, keep it, and return the seconds that took.
        """
        graph = self._graph if threads == 1 else None
        answer = self.driver.call("build", rows=self._rows_file, threads=threads, graph=graph, **self._shape)
        return float(answer["seconds"])

    def ready(self) -> None:
        """
        Load the graph that an earlier run built with one thread, or build it.
        """
        if self._graph.exists():
            self.driver.call("load", graph=self._graph, dim=self._shape["dim"])
        else:
            self.build(1)

    def heap_bytes(self) -> float:
        """
        Return what the graph takes of the heap of a process that does nothing else.
        """
        alone = Driver(self._executable)
        taken = float(alone.call("load", graph=self._graph, dim=self._shape["dim"])["heap_bytes"])
        alone.close()
        return taken

    def curve(self, asked: Asked, k: int, recall_of: RecallOf) -> list[Sample]:
        """
        Return a sample for each beam width up to the first that finds nearly everything.
        """
        samples: list[Sample] = []
        for ef in ladder(k, max(_LARGEST_EF, 10 * k)):
            samples.append(self._sample(asked, k, ef, recall_of, asked.queries))
            if samples[-1].recall >= _NEARLY_ALL:
                break
        return samples

    def curve_to(self, asked: Asked, k: int, recall_of: RecallOf, *, target: float, budget: float) -> list[Sample]:
        """
        Return the samples around the beam width that reaches target, found by a quick climb with few queries.

        Where a pass takes longer than budget seconds, fewer queries are asked (at least 50); the climb ends once even those take longer.
        """
        climb: list[Sample] = []
        samples: list[Sample] = []
        efs = ladder(k, min(self._points, max(_LARGEST_EF, 10 * k)))
        for place, ef in enumerate(efs):
            climb.append(self._sample(asked._replace(passes=1), k, ef, recall_of, _LEAST_QUERIES))
            is_slow = _LEAST_QUERIES / climb[-1].qps > budget
            if climb[-1].recall < target and not is_slow and ef != efs[-1]:
                continue
            for measured in efs[max(0, place - 1) if not samples else place : place + 1]:
                queries = int(max(_LEAST_QUERIES, climb[-1].qps * budget))
                samples.append(self._sample(asked, k, measured, recall_of, queries))
            if samples[-1].recall >= target or is_slow:
                break
        return samples

    def at(self, asked: Asked, k: int, recall_of: RecallOf, ef: int) -> Sample:
        """
        Return the sample of one beam width.
        """
        return self._sample(asked, k, ef, recall_of, asked.queries)

    def _sample(self, asked: Asked, k: int, ef: int, recall_of: RecallOf, queries: int) -> Sample:
        found = run(self.driver, asked, inputs=INPUTS, k=k, queries=queries, ef=ef, words=-(-self._points // 64))
        return Sample(ef, recall_of(found), found.qps)


def file_digest(path: Path) -> str:
    """
    Return a digest of the content of a file.
    """
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
