"""
A driver process: one command a line in, one line of JSON out.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class Driver:
    """
    A running driver, until it is closed.
    """

    def __init__(self, executable: Path) -> None:
        self._process = subprocess.Popen([str(executable)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def close(self) -> None:
        """
        End the process.
        """
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def call(self, name: str, **values: object) -> dict[str, Any]:
        """
        Return the driver's answer to a command; raise RuntimeError for an error of the driver.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        words = [name, *(f"{key}={value}" for key, value in values.items() if value is not None)]
        if any(len(word.split()) != 1 for word in words):
            raise ValueError(f"a driver's command cannot hold blanks, but {words} does: use --work with a path that has none")
        self._process.stdin.write(" ".join(words) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the driver ended at {name} with status {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise RuntimeError(f"{' '.join(words)}: {answer['error']}")
        return answer


class Run(NamedTuple):
    """
    What timed searches gave: hits (n, k), queries per second (median of the passes) and latencies.
    """

    found: NDArray[np.uint32]
    qps: float
    p50_us: float
    p99_us: float


class Asked(NamedTuple):
    """
    What is the same in all runs of a cell: where its files are, and how it is measured.
    """

    files: dict[str, str]
    queries: int
    passes: int
    cpu: int | None
    out: Path


def run(driver: Driver, asked: Asked, *, inputs: Sequence[str], k: int, queries: int | None = None, **values: object) -> Run:
    """
    Search with the first queries (all of them when None), sending the files named in inputs.
    """
    count = min(queries or asked.queries, asked.queries)
    files = {name: asked.files[name] for name in inputs if name in asked.files}
    answer = driver.call("run", first=0, count=count, k=k, passes=asked.passes, cpu=asked.cpu, out=asked.out, **files, **values)
    found = np.fromfile(asked.out, dtype=np.uint32).reshape(count, k)
    return Run(found, count / float(np.median(answer["pass_seconds"])), answer["p50_us"], answer["p99_us"])
