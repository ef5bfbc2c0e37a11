"""
Rounds of kill and reopen: a child process writes batches by several threads and reports each acknowledged one; it is killed; the parent
holds the database against the reports.

Run by hand: `python tests/kill_rounds.py --rounds 2000 --seed 1`.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import vecdb
from vecdb import F

DIM = 16
BATCH = 20
IDS = 200
THREADS = 4
_VECTORS = np.random.default_rng(5).standard_normal((4096, DIM)).astype(np.float32)

Contents = dict[int, tuple[int, int]]
"""
Id to the number of the batch that wrote it, and the place in it.
"""


def vector_of(batch: int, position: int) -> NDArray[np.float32]:
    """
    Return the vector that a batch gives a point; no two of batches that are close are alike.
    """
    return _VECTORS[(batch * 101 + position) % len(_VECTORS)]


def ids_of(thread: int, batch: int) -> list[int]:
    """
    Return the ids of a batch: each thread has a range of its own, in which its batches overlap, so that points are replaced.
    """
    return random.Random(batch * THREADS + thread).sample(range(thread * IDS, (thread + 1) * IDS), BATCH)


def payload_of(batch: int, position: int) -> dict[str, Any]:
    return {"batch": batch, "position": position, "text": "x" * (batch % 300)}


def deletes(batch: int) -> bool:
    return batch % 7 == 3


def write_until_killed(path: str, report: str, first: list[int]) -> None:
    """
    Write batch after batch in several threads; append "begin THREAD N" to a file before and "done THREAD N" after each.
    """
    told = os.open(report, os.O_WRONLY | os.O_APPEND)
    points = vecdb.open(path).get_or_create_collection("points", dim=DIM)

    def write(thread: int, batch: int) -> None:
        while True:
            os.write(told, b"begin %d %d\n" % (thread, batch))
            ids = ids_of(thread, batch)
            if deletes(batch):
                points.delete(ids)
            else:
                vectors = np.stack([vector_of(batch, n) for n in range(BATCH)])
                points.upsert(ids, vectors, [payload_of(batch, n) for n in range(BATCH)])
            os.write(told, b"done %d %d\n" % (thread, batch))
            if thread == 0 and batch % 11 == 5:
                points.checkpoint()
            if thread == 1 and batch % 40 == 20:
                points.compact()
            batch += 1

    threads = [threading.Thread(target=write, args=(thread, batch), daemon=True) for thread, batch in enumerate(first)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    # A thread ends by an error only.
    os.write(told, b"failed\n")


@dataclass
class Outcome:
    """
    What the rounds showed; `model` is what each thread's points must be.
    """

    rounds: int = 0
    acknowledged: int = 0
    unfinished: int = 0
    unfinished_kept: int = 0
    model: list[Contents] = field(default_factory=lambda: [{} for _ in range(THREADS)])


def apply_to(model: Contents, thread: int, batch: int) -> Contents:
    """
    Return a thread's points after a batch.
    """
    after = dict(model)
    for position, one in enumerate(ids_of(thread, batch)):
        if deletes(batch):
            after.pop(one, None)
        else:
            after[one] = (batch, position)
    return after


def state_of(points: vecdb.Collection) -> list[Contents]:
    """
    Return what the database holds, after checking each vector and payload against its batch.
    """
    found: list[Contents] = [{} for _ in range(THREADS)]
    for point in points.get_many(list(points)):
        assert point is not None
        batch, position = point.payload["batch"], point.payload["position"]
        assert point.payload == payload_of(batch, position)
        assert np.array_equal(vector_of(batch, position), point.vector)
        number = int(point.id)
        found[number // IDS][number] = (batch, position)
    return found


def run_rounds(path: Path, *, rounds: int, seed: int) -> Outcome:
    """
    Kill and reopen; raise AssertionError when an acknowledged write is missing or half a batch is there.
    """
    print(f"seed={seed}")
    chance = random.Random(seed)
    outcome = Outcome()
    # Children are forked from a process that has imported everything and runs no thread.
    starter = multiprocessing.get_context("forkserver")
    starter.set_forkserver_preload(["kill_rounds"])
    report = path.with_name(path.name + ".report")
    next_batch = [0] * THREADS
    for _ in range(rounds):
        report.write_bytes(b"")
        child = starter.Process(target=write_until_killed, args=(str(path), str(report), next_batch))
        child.start()
        while not report.stat().st_size and child.is_alive():
            time.sleep(0.001)
        time.sleep(chance.random() ** 2 * 0.3)
        child.kill()
        child.join()
        begun, done = read_report(report)
        assert begun, "the child wrote nothing"
        outcome.acknowledged += sum(map(len, done.values()))
        with vecdb.open(path, timeout=20) as db:
            points = db.get_or_create_collection("points", dim=DIM)
            found = state_of(points)
            for thread in range(THREADS):
                for batch in done.get(thread, ()):
                    outcome.model[thread] = apply_to(outcome.model[thread], thread, batch)
                unfinished = sorted(set(begun.get(thread, ())) - set(done.get(thread, ())))
                outcome.unfinished += len(unfinished)
                if found[thread] != outcome.model[thread]:
                    assert unfinished, f"thread {thread}: an acknowledged batch is missing, and none was under way"
                    outcome.model[thread] = apply_to(outcome.model[thread], thread, unfinished[0])
                    outcome.unfinished_kept += 1
                    assert found[thread] == outcome.model[thread], f"thread {thread}: the batch under way is there in part"
                next_batch[thread] = max(begun.get(thread, [next_batch[thread] - 1])) + 1
            check_search(points, {one: place for model in outcome.model for one, place in model.items()}, chance)
        outcome.rounds += 1
    return outcome


def read_report(report: Path) -> tuple[dict[int, list[int]], dict[int, list[int]]]:
    """
    Return the batches that each thread began, and those that it was told are done.
    """
    begun: dict[int, list[int]] = {}
    done: dict[int, list[int]] = {}
    for line in report.read_text().splitlines():
        assert line != "failed", "a thread of the child ended"
        word, thread, batch = line.split()
        (begun if word == "begin" else done).setdefault(int(thread), []).append(int(batch))
    return begun, done


def check_search(points: vecdb.Collection, model: Contents, chance: random.Random) -> None:
    """
    Check that search finds points by their own vectors, and by filter.
    """
    assert len(points) == len(model)
    for one in chance.sample(sorted(model), min(10, len(model))):
        batch, position = model[one]
        best = points.search(vector_of(batch, position), k=1)[0]
        assert best.score > 1 - 1e-5
        assert np.array_equal(vector_of(*model[int(best.id)]), vector_of(batch, position))
    if model:
        batch = chance.choice(sorted(model.values()))[0]
        assert sum(other == batch for other, _ in model.values()) == points.count(F("batch") == batch)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as directory:
        result = run_rounds(Path(directory) / "killed.vecdb", rounds=options.rounds, seed=options.seed)
    print(
        f"{result.rounds} kills of {THREADS} threads, {result.acknowledged} acknowledged batches, 0 lost; of "
        f"{result.unfinished} batches under way {result.unfinished_kept} were there, whole, the others not at all; "
        f"{time.monotonic() - began:.0f} s"
    )
