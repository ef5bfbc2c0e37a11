"""
Every crash point of small workloads: the state as a kill, a power cut, or torn and reordered sectors leave it, opened and held against the
model; recovery from it is cut likewise.

`python tests/crash_states.py --states 200000 --seed 1` runs as many distinct states as you like; CI runs 12,000, of which some 30,000 come
up (test_crash_states.py).
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

from crash_judge import Judge, content_of
from crash_life import NAME, OPERATIONS, Life, Model, quick
from crash_medium import Event, Image, Medium, Recorder, image_of, lmdb_seen, materialise, repeatable

from vecdb.storage import files

FRESH = "from nothing"
Workload = tuple[str, ...]


class CrashFailure(AssertionError):
    """
    A state that did not open as it must.
    """


@dataclass(frozen=True, slots=True)
class Step:
    """
    Calls that belong together, and what a database may show while they run and after them.
    """

    name: str
    events: Sequence[Event]
    before: list[Model]
    after: list[Model]


@dataclass(slots=True)
class Tally:
    """
    How many distinct states were opened, by kind, and how many came up, the same one more than once.
    """

    kinds: Counter[str] = field(default_factory=Counter)
    points: int = 0
    enumerated: int = 0

    @property
    def states(self) -> int:
        return self.kinds.total()


def workloads() -> list[Workload]:
    """
    Return all operations in combinations of up to three, on a database that has points, and those that begin with nothing.
    """
    combinations = [chosen for length in (1, 2, 3) for chosen in itertools.product(OPERATIONS, repeat=length)]
    fresh = [(FRESH, *chosen) for chosen in combinations if chosen[0] == "create"]
    every = [*combinations, *fresh, long_workload(40), (FRESH, *long_workload(40))]
    # Any share of them should have some of each.
    return random.Random(1).sample(every, len(every))


def long_workload(length: int) -> Workload:
    """
    Return the workload of so many operations, most of them writes.
    """
    chance = random.Random(length)
    names = [name for name in OPERATIONS if name != "create"]
    return ("create", *chance.choices(names, weights=[6, 6, 4, 4, 2, 1, 1], k=length - 1))


class Explorer:
    """
    Opens states below `home`, a directory of its own, and counts those that are distinct.
    """

    def __init__(self, home: Path, *, seed: int) -> None:
        self.home = home
        self.seed = seed
        self.tally = Tally()
        self._seen: dict[bytes, Model] = {}
        self._judge = Judge()
        self._base: tuple[Image, Model] | None = None
        self._where = ""

    # ---- workloads ----

    def base(self) -> tuple[Image, Model]:
        """
        Return a database with a checkpoint, a tombstone, and calls in the log, as a kill leaves it.
        """
        if self._base is None:
            with self.recording(self.home / "base", Medium(), salt=1):
                life = Life(self.home / "base" / NAME, {})
                for operation in ("create", "upsert", "upsert", "checkpoint", "update", "delete"):
                    OPERATIONS[operation](life)
                self._base = image_of(self.home / "base"), life.model
                life.end()
        return self._base

    @contextmanager
    def recording(self, root: Path, medium: Medium, *, salt: int) -> Iterator[Recorder]:
        """
        Record what is done below a directory that is made from the medium's page cache.
        """
        shutil.rmtree(root, ignore_errors=True)
        materialise(medium.after_kill(), root)
        recorder = Recorder(root, medium)
        chance = random.Random(salt)
        with ExitStack() as stack:
            stack.enter_context(mock.patch.object(files, "system", recorder))
            stack.enter_context(mock.patch.object(os, "urandom", chance.randbytes))
            stack.enter_context(mock.patch("vecdb._live.now", return_value="2024-01-01T00:00:00Z"))
            stack.enter_context(repeatable(salt))
            stack.enter_context(lmdb_seen(recorder))
            yield recorder

    def record(self, medium: Medium, model: Model, workload: Sequence[str], *, salt: int) -> list[Step]:
        """
        Open the database, carry out the workload, and return what each step did.
        """
        steps: list[Step] = []
        with self.recording(self.home / "live", medium, salt=salt) as recorder:
            done = 0

            def step(name: str, before: Model, after: Model) -> None:
                nonlocal done
                steps.append(Step(name, recorder.events[done:], [before, after], [after]))
                done = len(recorder.events)

            life = Life(self.home / "live" / NAME, model, number=len(model) and 20)
            for name in life.db:
                len(life.db[name])
            step("open", model, model)
            for operation in workload:
                before = copy_of(life.model)
                OPERATIONS[operation](life)
                step(operation, before, copy_of(life.model))
            life.end()
        return steps

    def run(self, workload: Workload, *, states: int) -> None:
        """
        Open up to so many distinct states of a workload: every crash point of the last operation (of all, in a long one) under a kill and
        a cut, then torn sectors, and cuts of recovery, at random ones.
        """
        chance = random.Random(f"{self.seed} {workload}")
        image, model = ({}, {}) if workload[0] == FRESH else self.base()
        operations = workload[1:] if workload[0] == FRESH else workload
        steps = self.record(Medium.of(image), model, operations, salt=2)
        first = 0 if len(operations) in (1, 40) else len(steps) - 1
        points: list[tuple[Medium, list[Model], str]] = []
        medium = Medium.of(image)
        for number, step in enumerate(steps):
            if number < first:
                for event in step.events:
                    medium.apply(event)
                continue
            for place, event in enumerate(step.events):
                medium.apply(event)
                allowed = step.after if place == len(step.events) - 1 else step.before
                points.append((medium.copy(), allowed, f"{step.name} {place} {event.call} {event.path}"))
        self.tally.points += len(points)
        goal = self.tally.states + states
        self._where = " ".join(workload)
        if len(points) > states:
            points = chance.sample(points, states)
        for point, allowed, where in points:
            self.open("kill", point.after_kill(), allowed, where)
            self.open("cut", point.after_loss(), allowed, where)
        misses = 0
        while points and self.tally.states < goal and misses < 20:
            point, allowed, where = chance.choice(points)
            before = self.tally.states
            if chance.random() < 0.2:
                self.cut_recovery(point, allowed, where, chance, states=max(1, min(40, goal - before)))
            else:
                self.open("torn", point.after_cut(chance), allowed, where)
            misses = 0 if self.tally.states > before else misses + 1

    def cut_recovery(self, point: Medium, allowed: list[Model], where: str, chance: random.Random, *, states: int) -> None:
        """
        Recover from a state, and cut that anywhere: after a kill the page cache is still there, and may be lost now.
        """
        killed = chance.random() < 0.5
        image = point.after_kill() if killed else point.after_cut(chance)
        found = self.open("kill" if killed else "torn", image, allowed, where)
        medium = point.copy() if killed else Medium.of(image)
        if NAME not in image:
            return
        steps = self.record(medium, found, ("upsert",) if found else (), salt=chance.getrandbits(30))
        choices: list[tuple[Medium, list[Model], str]] = []
        for number, step in enumerate(steps):
            for place, event in enumerate(step.events):
                medium.apply(event)
                ended = place == len(step.events) - 1
                models = step.after if ended else step.before if number else allowed
                choices.append((medium.copy(), models, f"{where}, then {step.name} {place} {event.call} {event.path}"))
        for after, models, place in chance.sample(choices, min(len(choices), states)):
            self.open("recovery cut", after.after_cut(chance), models, place)

    # ---- one state ----

    def open(self, kind: str, image: Image, allowed: list[Model], where: str) -> Model:
        """
        Hold a state against the models it may show, and return the one it does; each content is opened once.
        """
        key = content_of(image.items())
        self.tally.enumerated += 1
        try:
            found = self._seen.get(key)
            if found is None:
                target = self.home / "state"
                shutil.rmtree(target, ignore_errors=True)
                materialise(image, target)
                found = self._seen[key] = self._judge.check(target / NAME, image, allowed, random.Random(key))
                self.tally.kinds[kind] += 1
            assert any(found == model for model in allowed), f"{len(allowed)} models are allowed here, and none is what it shows"
        except Exception as error:
            raise CrashFailure(f"seed {self.seed}, workload {self._where!r}, after {where}, {kind}: {error}") from error
        return found


def copy_of(model: Model) -> Model:
    return {name: dict(points) for name, points in model.items()}


@contextmanager
def explorer(*, seed: int) -> Iterator[Explorer]:
    """
    Make an explorer whose directory is in memory where there is such a file system.
    """
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="vecdb-crash-", dir=memory if os.access(memory, os.W_OK) else None) as home, quick():
        yield Explorer(Path(home), seed=seed)


def explore(chosen: Sequence[Workload], *, states: int, seed: int, told: Callable[[str], None] = print) -> Tally:
    """
    Open so many distinct states of the workloads, spread evenly; fewer only when there are no more.
    """
    told(f"seed {seed}")
    with explorer(seed=seed) as exploring:
        for number, workload in enumerate(chosen):
            missing = states - exploring.tally.states
            exploring.run(workload, states=max(1, -(-missing // (len(chosen) - number))))
        return exploring.tally


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--states", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--share", default="1/1", help="i/n: the i-th of n shares of the workloads, to be run beside the others")
    parser.add_argument("--only", help="one workload, as a failure names it")
    options = parser.parse_args()
    share, shares = map(int, options.share.split("/"))
    chosen = [tuple(options.only.replace(FRESH, FRESH.replace(" ", "_")).split())] if options.only else workloads()[share - 1 :: shares]
    chosen = [tuple(name.replace("_", " ") for name in workload) for workload in chosen]
    began = time.monotonic()
    tally = explore(chosen, states=options.states, seed=options.seed)
    print(
        f"{tally.states} distinct states of {len(chosen)} workloads ({tally.points} crash points, "
        f"{tally.enumerated} states that came up), 0 failures; "
        f"{dict(tally.kinds)}; {time.monotonic() - began:.0f} s, {time.process_time():.0f} s of CPU"
    )


if __name__ == "__main__":
    main()
