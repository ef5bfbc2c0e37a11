"""
Rounds of kill and reopen with a reader beside: a child process writes batches and reports each acknowledged one; it is killed; the parent
holds the database against the reports. Another child reads beside all of it, and holds every state it sees against the batches: each is
whole. What the batches are, kill_rounds.py says; here one thread writes them.

Run by hand: `python tests/reader_rounds.py ROUNDS [SEED]`.
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
from pathlib import Path

import numpy as np
from kill_rounds import BATCH, DIM, Contents, apply_to, check_search, deletes, ids_of, payload_of, state_of, vector_of

import vecdb

CHILD = """
import sys
sys.path.insert(0, {here!r})
import reader_rounds
reader_rounds.write_until_killed({path!r}, {first})
"""


READER = """
import sys
sys.path.insert(0, {here!r})
import reader_rounds
reader_rounds.read_beside({path!r})
"""


def write_until_killed(path: str, first: int) -> None:
    """
    Write batch after batch; print "begin N" before and "done N" after each.
    """
    points = vecdb.open(path).get_or_create_collection("points", dim=DIM)
    batch = first
    while True:
        print(f"begin {batch}", flush=True)
        ids = ids_of(0, batch)
        if deletes(batch):
            points.delete(ids)
        else:
            points.upsert(ids, np.stack([vector_of(batch, n) for n in range(BATCH)]), [payload_of(batch, n) for n in range(BATCH)])
        print(f"done {batch}", flush=True)
        if batch % 11 == 5:
            points.checkpoint()
        batch += 1


def read_beside(path: str) -> None:
    """
    Refresh and check, over and over. "round N" says that batches from N on will be written, and is answered before they are; "settle" is
    answered with the last batch seen, and how many states were.
    """
    with vecdb.open(path, mode="r") as db:
        points = db["points"]
        model = state_of(points)[0]
        first = batch = states = 0
        while True:
            told = sys.stdin.readline() if select.select([sys.stdin], [], [], 0.01)[0] else "\n"
            if not told:
                return
            if told.startswith("round"):
                first = batch = int(told.split()[1])
                print("begun", flush=True)
            db.refresh()
            found = state_of(points)[0]
            newest = max((one for one, _ in found.values()), default=-1)
            while found != model:
                # A batch that deletes leaves no number: behind the newest, or as the first of a round whose predecessor was lost.
                assert batch <= max(newest + 1, first), f"a state is that of no whole batch: beyond batch {batch - 1}, up to {newest}"
                model = apply_to(model, 0, batch)
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
    model: Contents = field(default_factory=dict)


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
    assert reader.stdout.readline() == "begun\n"
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
    for one in done:
        after = apply_to(outcome.model, 0, one)
        assert one <= last or after == outcome.model, "the reader did not see an acknowledged batch"
        outcome.model = after
    outcome.acknowledged += len(done)
    with vecdb.open(path, timeout=20) as db:
        points = db.get_or_create_collection("points", dim=DIM)
        found = state_of(points)[0]
        if found != outcome.model:
            assert len(begun) > len(done), "an acknowledged batch is missing, and none was under way"
            outcome.model = apply_to(outcome.model, 0, begun[-1])
            outcome.unfinished_kept += 1
            assert found == outcome.model, "the batch under way is there in part"
        check_search(points, outcome.model, chance)
    outcome.rounds += 1
    return begun[-1] + 1


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
