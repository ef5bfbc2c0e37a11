"""
Rounds of kill and reopen: a child process writes batches and reports each acknowledged one; it is killed; the parent holds the database
against the reports. Another child reads beside all of it, and holds every state it sees against the batches: each is whole.

Run by hand: `python tests/kill_rounds.py ROUNDS [SEED]`.
"""

from __future__ import annotations

import random
import select
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import vecdb
from vecdb import F

DIM = 16
BATCH = 20
IDS = 400

CHILD = """
import sys
sys.path.insert(0, {here!r})
import kill_rounds
kill_rounds.write_until_killed({path!r}, {first})
"""


READER = """
import sys
sys.path.insert(0, {here!r})
import kill_rounds
kill_rounds.read_beside({path!r})
"""


@lru_cache(maxsize=20_000)
def vector_of(batch: int, position: int) -> NDArray[np.float32]:
    """
    Return the vector that a batch gives a point.
    """
    return np.random.default_rng(batch * 1000 + position).standard_normal(DIM).astype(np.float32)


def contents_of(batch: int) -> tuple[list[int], NDArray[np.float32], list[dict[str, Any]]]:
    """
    Return ids, vectors and payloads of a batch; ids overlap with those of other batches, so that points are replaced.
    """
    chooser = random.Random(batch)
    ids = chooser.sample(range(IDS), BATCH)
    return (
        ids,
        np.stack([vector_of(batch, n) for n in range(BATCH)]),
        [{"batch": batch, "position": n, "text": "x" * (batch % 300)} for n in range(BATCH)],
    )


def write_until_killed(path: str, first: int) -> None:
    """
    Write batch after batch; print "begin N" before and "done N" after each.
    """
    points = vecdb.open(path).get_or_create_collection("points", dim=DIM)
    batch = first
    while True:
        print(f"begin {batch}", flush=True)
        if batch % 7 == 3:
            points.delete(contents_of(batch)[0])
        else:
            points.upsert(*contents_of(batch))
        print(f"done {batch}", flush=True)
        if batch % 11 == 5:
            points.checkpoint()
        batch += 1


def read_beside(path: str) -> None:
    """
    Refresh and check, over and over. "round N" says that batches from N on are written; "settle" is answered with the last batch seen, and
    how many states were.
    """
    with vecdb.open(path, mode="r") as db:
        points = db["points"]
        model = state_of(points)
        batch, states = 0, 0
        while True:
            told = sys.stdin.readline() if select.select([sys.stdin], [], [], 0.01)[0] else "\n"
            if not told:
                return
            if told.startswith("round"):
                batch = int(told.split()[1])
            db.refresh()
            found = state_of(points)
            newest = max((one for one, _ in found.values()), default=-1)
            while found != model:
                assert batch <= newest + 1, f"a state is that of no whole batch: beyond batch {batch - 1}, up to {newest}"
                model = apply_to(model, batch)
                batch += 1
            states += 1
            if told.startswith("settle"):
                print(batch - 1, states, flush=True)


@dataclass
class Outcome:
    """
    What the rounds showed.
    """

    rounds: int = 0
    acknowledged: int = 0
    unfinished_kept: int = 0
    states_read: int = 0
    model: dict[int, tuple[int, int]] = field(default_factory=dict)


def apply_to(model: dict[int, tuple[int, int]], batch: int) -> dict[int, tuple[int, int]]:
    """
    Return the model (id -> batch and position) after a batch.
    """
    ids = contents_of(batch)[0]
    after = dict(model)
    for position, one in enumerate(ids):
        if batch % 7 == 3:
            after.pop(one, None)
        else:
            after[one] = (batch, position)
    return after


def state_of(points: vecdb.Collection) -> dict[int, tuple[int, int]]:
    """
    Return what the database holds, after checking each vector and payload against its batch.
    """
    found: dict[int, tuple[int, int]] = {}
    for point in points.get_many(list(points)):
        assert point is not None
        batch, position = point.payload["batch"], point.payload["position"]
        assert point.payload == {"batch": batch, "position": position, "text": "x" * (batch % 300)}
        assert np.array_equal(vector_of(batch, position), point.vector)
        found[int(point.id)] = (batch, position)
    return found


def run_rounds(path: Path, *, rounds: int, seed: int) -> Outcome:
    """
    Kill and reopen; raise AssertionError when an acknowledged write is missing or half a batch is there.
    """
    print(f"seed={seed}")
    chance = random.Random(seed)
    outcome = Outcome()
    batch = 0
    with vecdb.open(path) as db:
        db.create_collection("points", dim=DIM)
    command = [sys.executable, "-c", READER.format(here=str(Path(__file__).resolve().parent), path=str(path))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as reader:
        for _ in range(rounds):
            batch = one_round(path, outcome, batch, chance, reader)
    assert reader.returncode == 0, "the reader failed"
    return outcome


def one_round(path: Path, outcome: Outcome, batch: int, chance: random.Random, reader: subprocess.Popen[str]) -> int:
    """
    Kill a writer and check what it leaves; return the next batch.
    """
    assert reader.stdin is not None
    assert reader.stdout is not None
    reader.stdin.write(f"round {batch}\n")
    reader.stdin.flush()
    script = CHILD.format(here=str(Path(__file__).resolve().parent), path=str(path), first=batch)
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        lines = [child.stdout.readline()]
        time.sleep(chance.random() ** 2 * 0.4)
        child.send_signal(signal.SIGKILL)
        lines += child.stdout.readlines()
    begun = [int(line.split()[1]) for line in lines if line.startswith("begin ") and line.endswith("\n")]
    done = [int(line.split()[1]) for line in lines if line.startswith("done ") and line.endswith("\n")]
    assert begun, "the child wrote nothing"
    reader.stdin.write("settle\n")
    reader.stdin.flush()
    last, outcome.states_read = map(int, reader.stdout.readline().split())
    assert last >= max(done, default=0), "the reader did not see an acknowledged batch"
    for one in done:
        outcome.model = apply_to(outcome.model, one)
    outcome.acknowledged += len(done)
    with vecdb.open(path, timeout=20) as db:
        points = db.get_or_create_collection("points", dim=DIM)
        found = state_of(points)
        if found != outcome.model:
            assert len(begun) > len(done), "an acknowledged batch is missing, and none was under way"
            outcome.model = apply_to(outcome.model, begun[-1])
            outcome.unfinished_kept += 1
            assert found == outcome.model, "the batch under way is there in part"
        check_search(points, outcome.model, chance)
    outcome.rounds += 1
    return begun[-1] + 1


def check_search(points: vecdb.Collection, model: dict[int, tuple[int, int]], chance: random.Random) -> None:
    """
    Check that search finds points by their own vectors, and by filter.
    """
    assert len(points) == len(model)
    for one in chance.sample(sorted(model), min(20, len(model))):
        batch, position = model[one]
        hit = points.search(vector_of(batch, position), k=1)[0]
        assert (one, {"batch": batch, "position": position}) == (hit.id, {key: hit.payload[key] for key in ("batch", "position")})
        expected = sum(other == batch for other, _ in model.values())
        assert expected == points.count(F("batch") == batch)


if __name__ == "__main__":
    wanted = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as directory:
        result = run_rounds(Path(directory) / "killed.vecdb", rounds=wanted, seed=int(sys.argv[2]) if len(sys.argv) > 2 else 1)
    print(
        f"{result.rounds} kills, {result.acknowledged} acknowledged batches, 0 lost; "
        f"{result.unfinished_kept} unacknowledged batches were there, whole; "
        f"{result.states_read} states read beside; {time.monotonic() - began:.0f} s"
    )
