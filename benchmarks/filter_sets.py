"""
How long a filter takes to become a set of points, without any search: tags, ranges and what combines them, in the core.

    python benchmarks/filter_sets.py [--points 1000000] [--repeats 51] [--record]

Medians through `vecdb.index.CoreIndex`, the call from Python included.
`count` counts only; `set, first` makes the set for a search (it asks
for a plan) right after a write, `set, again` before the next one; `offsets` gives them to Python. One point in --dead is dead.
"""

from __future__ import annotations

import argparse
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from engine import report
from engine.report import Table
from numpy.typing import NDArray

from vecdb.index import CoreIndex, lib

Words = NDArray[np.uint64]
SHARES = (0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.001, 0.00001)
_MANY = 200  # tags of one point in a thousand each
_K = 10


@dataclass(frozen=True)
class _Field:
    dim: int = 2
    metric: str = "l2"
    m: int = 16
    ef_construction: int = 200
    seed: int = 1
    quantization: str | None = None


def tag(number: int) -> list[int]:
    """
    Return the words of a tag.
    """
    return [lib.VECDB_OP_TAG, number]


def joined(operation: int, *parts: list[int], minimum: int | None = None) -> list[int]:
    """
    Return the words that combine these programs.
    """
    words = [word for part in parts for word in part]
    return [*words, operation, len(parts), *([] if minimum is None else [minimum])]


def below(share: float) -> list[int]:
    """
    Return the words of a range that this share of the points is in.
    """
    (bits,) = struct.unpack("<Q", struct.pack("<d", share))
    return [lib.VECDB_OP_RANGE, 1, lib.VECDB_BOUND_LT, 0, 0, bits, 0]


def programs() -> dict[str, list[int]]:
    """
    Return what is measured, by name.
    """
    numbers = {share: number for number, share in enumerate(SHARES)}
    half, fifth, tenth, twentieth = (tag(numbers[share]) for share in (0.5, 0.2, 0.1, 0.05))
    fiftieth, hundredth, few = (tag(numbers[share]) for share in (0.02, 0.01, 0.00001))
    many = [100 + i for i in range(_MANY)]
    both, either, negated = lib.VECDB_OP_AND, lib.VECDB_OP_OR, [lib.VECDB_OP_NOT]
    return {
        **{f"tag {share:.3%}": tag(number) for share, number in numbers.items()},
        "tag 50 % and tag 20 %": joined(both, half, fifth),
        "tags 50, 20 and 10 % at once": joined(both, half, fifth, tenth),
        "tag 50 % and tag 1 %": joined(both, half, hundredth),
        "tag 50 % and 10 points": joined(both, half, few),
        "tags 10, 5 or 2 %": joined(either, tenth, twentieth, fiftieth),
        f"any of {_MANY} tags of 0.1 %": [lib.VECDB_OP_ANY_TAG, _MANY, *many],
        "any of 5 tags of 0.1 %": [lib.VECDB_OP_ANY_TAG, 5, *many[:5]],
        "not tag 50 %": half + negated,
        "not tag 1 %": hundredth + negated,
        "tag 20 % and not tag 50 %": joined(both, fifth, half + negated),
        "at least 2 of tags 50, 20, 10, 5 %": joined(lib.VECDB_OP_AT_LEAST, half, fifth, tenth, twentieth, minimum=2),
        "at least 2 of 20 tags of 0.1 %": joined(lib.VECDB_OP_AT_LEAST, *(tag(number) for number in many[:20]), minimum=2),
        "range 0.1 %": below(0.001),
        "range 1 %": below(0.01),
        "range 10 %": below(0.1),
        "range 10 % and tag 10 %": joined(both, below(0.1), tenth),
    }


def filled(points: int, dead: int, *, absent: bool) -> CoreIndex:
    """
    Return an index of points with the tags and the column; with absent, one point in ten has no row.
    """
    random = np.random.default_rng(7)
    index = CoreIndex([_Field()], threads=0)
    present = np.ones((1, points), dtype=np.uint8)
    if absent:
        present[0, random.random(points) < 0.1] = 0
    index.append_rows(0, random.standard_normal((int(present.sum()), 2)).astype(np.float32))
    shares = [(number, share) for number, share in enumerate(SHARES)] + [(100 + i, 0.001) for i in range(_MANY)]
    members = [(number, np.flatnonzero(random.random(points) < share)) for number, share in shares]
    offsets = np.concatenate([chosen for _, chosen in members]).astype(np.uint32)
    tags = np.concatenate([np.full(len(chosen), number) for number, chosen in members]).astype(np.uint64)
    everyone = np.arange(points, dtype=np.uint32)
    column = (np.full(points, 1, dtype=np.uint32), everyone, random.random(points), np.zeros(points, dtype=np.int32))
    index.apply(
        first_offset=0,
        ids=everyone.astype(np.uint64),
        kinds=np.zeros(points, dtype=np.uint8),
        present=present,
        tags_added=(offsets, tags),
        column_added=column,
    )
    if dead:
        index.apply(first_offset=points, tombstones=everyone[random.random(points) < 1 / dead])
    return index


def median_us(call: Callable[[], object], repeats: int, before: Callable[[], object] = lambda: None) -> float:
    """
    Return the median duration of a call; before is not timed.
    """
    taken = []
    for _ in range(repeats):
        before()
        start = time.perf_counter_ns()
        call()
        taken.append(time.perf_counter_ns() - start)
    return float(np.median(taken)) / 1000


def measured(index: CoreIndex, points: int, repeats: int, title: str) -> Table:
    """
    Measure all programs.
    """
    table = Table(title, ["filter", "points", "count us", "set, first us", "set, again us", "offsets us"])

    def write() -> None:
        index.apply(first_offset=points)

    for name, words in programs().items():
        program = np.array(words, dtype=np.uint64)
        table.add(
            name,
            index.count(program)[0],
            median_us(lambda program=program: index.count(program), repeats),  # type: ignore[misc]
            median_us(lambda program=program: index.plan(_K, program=program), repeats, write),  # type: ignore[misc]
            median_us(lambda program=program: index.plan(_K, program=program), repeats),  # type: ignore[misc]
            median_us(lambda program=program: index.select(program), repeats, write),  # type: ignore[misc]
        )
    return table


def main() -> None:
    """
    Measure, print, and record.
    """
    parser = argparse.ArgumentParser(description="How long filters take to become sets of points.")
    parser.add_argument("--points", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=51)
    parser.add_argument("--dead", type=int, default=20, help="one point in so many is dead; 0: none")
    parser.add_argument("--absent", action="store_true", help="one point in ten has no row, so that offsets are not rows")
    parser.add_argument("--record", action="store_true", help="append to benchmarks/RESULTS.md")
    options = parser.parse_args()
    about = report.heading()
    index = filled(options.points, options.dead, absent=options.absent)
    title = f"filters over {options.points:,} points, 1 in {options.dead} dead" + (", 1 in 10 without a row" if options.absent else "")
    table = measured(index, options.points, options.repeats, title)
    print(report.text(table))
    if options.record:
        report.record("sets of points by filters", about, [table])


if __name__ == "__main__":
    main()
