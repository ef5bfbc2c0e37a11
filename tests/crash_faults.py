"""
A fault at each file call of small workloads: an error of the medium, a full disk, a write that takes only a part, once and from then on.

Every failure is a VecdbError, and after another opening, with the fault gone, everything acknowledged is there and the rest whole or not at
all. `python tests/crash_faults.py --cases 100000 --seed 1` meets all cases of up to two operations; test_crash_faults.py a share of them.
"""

from __future__ import annotations

import argparse
import errno
import itertools
import os
import random
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any
from unittest import mock

import lmdb
from crash_judge import Judge
from crash_life import NAME, OPERATIONS, Life, Model
from crash_medium import image_of, materialise
from crash_states import Explorer, copy_of, explorer
from storage_doubles import CountingSystem, QuickSystem

import vecdb
from vecdb.storage import files
from vecdb.storage.points import PointsFile
from vecdb.storage.system import Buffer

KINDS = ("EIO", "ENOSPC", "short")


@dataclass(frozen=True, slots=True)
class Fault:
    """
    What happens at call number `at`, and with `sticky` at all later ones.
    """

    kind: str
    at: int
    sticky: bool


class FaultyCalls(QuickSystem):
    """
    Counts calls while `fault` is set, and fails those that it names; a commit of LMDB is a call too.
    """

    def __init__(self) -> None:
        self.fault: Fault | None = None
        self.calls: list[str] = []
        self.failed: list[str] = []

    def due(self, name: str) -> bool:
        if self.fault is None:
            return False
        number = len(self.calls)
        self.calls.append(name)
        hit = number == self.fault.at or (self.fault.sticky and number > self.fault.at)
        if hit:
            self.failed.append(name)
        return hit

    def error(self) -> OSError:
        assert self.fault is not None
        code = getattr(errno, "EIO" if self.fault.kind == "short" else self.fault.kind)
        return OSError(code, os.strerror(code))

    def __getattribute__(self, name: str) -> Any:
        method = super().__getattribute__(name)
        if name not in CountingSystem.CALLS:
            return method

        def call(*arguments: Any) -> Any:
            if not self.due(name) or self.fault is None:
                return method(*arguments)
            if self.fault.kind == "short":
                return self.short(*arguments) if name == "pwritev" else method(*arguments)
            if name == "close":
                method(*arguments)  # the descriptor is gone, whatever close says
            raise self.error()

        return call

    @staticmethod
    def short(fd: int, buffers: Sequence[Buffer], offset: int) -> int:
        data = b"".join(buffers)
        return os.pwrite(fd, data[: max(1, len(data) // 2)], offset)


@contextmanager
def faulty() -> Iterator[FaultyCalls]:
    """
    Let the library's file calls, and the commits of LMDB, go through a double.
    """
    system, write = FaultyCalls(), PointsFile.write

    @contextmanager
    def written(self: PointsFile) -> Iterator[Any]:
        with write(self) as transaction:
            yield transaction
            if system.due("commit") and system.fault is not None and system.fault.kind != "short":
                raise lmdb.DiskError("mdb_txn_commit: injected") if system.fault.kind == "EIO" else lmdb.Error("No space left on device")

    with mock.patch.object(files, "system", system), mock.patch.object(PointsFile, "write", written):
        yield system


class Faults:
    """
    Meets faults in workloads, on the base of an explorer.
    """

    def __init__(self, exploring: Explorer) -> None:
        self.exploring = exploring
        self.outcomes: Counter[str] = Counter()
        self._judge = Judge()
        self._image, self._model = exploring.base()
        self._home = exploring.home / "faulty"
        self._outcomes: dict[tuple[str, ...], Model] = {}

    def calls(self, workload: Sequence[str]) -> int:
        """
        Return how many calls there are to fail: of the last operation, a write behind it, and the end.
        """
        self.meet(workload, Fault("short", 1 << 40, sticky=False))
        return self._counted

    def meet(self, workload: Sequence[str], fault: Fault) -> None:
        """
        Carry out a workload with a fault in its last operation, in a write behind it or in the end, and hold what another opening shows
        against what it may.
        """
        told = f"workload {' '.join(workload)!r}, {fault}"
        outcome = self.outcome(workload)
        shutil.rmtree(self._home, ignore_errors=True)
        materialise(self._image, self._home)
        with faulty() as system:
            life = Life(self._home / NAME, self._model, number=20)
            for operation in workload[:-1]:
                OPERATIONS[operation](life)
            before, acknowledged = copy_of(life.model), True
            system.fault = fault
            try:
                OPERATIONS[workload[-1]](life)
            except vecdb.VecdbError:
                acknowledged = False
                self.outcomes["refused"] += 1
            possible = [copy_of(life.model)] if acknowledged else [before, outcome]
            possible = self.write_behind(life, possible)
            with suppress(vecdb.VecdbError):
                life.db.close()
            system.fault = None
            self._counted = len(system.calls)
            assert not (fault.kind == "short" and not acknowledged), f"{told}: a short write was not continued: {system.failed}"
            self.outcomes["met"] += bool(system.failed)
            told += f", failed {system.failed[:3]}"
        try:
            self._judge.check(self._home / NAME, image_of(self._home), possible, random.Random(fault.at))
        except Exception as error:
            raise AssertionError(f"{told}: {error}") from error

    def write_behind(self, life: Life, possible: list[Model]) -> list[Model]:
        """
        Write once more, as far as that is possible.
        """
        payload: dict[str, Any] = {"n": 4, "behind": True}
        try:
            if not list(life.db):
                return possible
            life.db["c0"].upsert("behind", None, payload)
        except vecdb.VecdbError:
            # Whether it happened is found out by opening again.
            return [*possible, *(with_point(model, payload) for model in possible)]
        return [with_point(model, payload) for model in possible]

    def outcome(self, workload: Sequence[str]) -> Model:
        """
        Return the model after a workload that nothing disturbs.
        """
        known = self._outcomes.get(tuple(workload))
        if known is None:
            shutil.rmtree(self._home, ignore_errors=True)
            materialise(self._image, self._home)
            life = Life(self._home / NAME, self._model, number=20)
            for operation in workload:
                OPERATIONS[operation](life)
            life.end()
            known = self._outcomes[tuple(workload)] = life.model
        return known


def with_point(model: Model, payload: dict[str, Any]) -> Model:
    return {**model, "c0": {**model["c0"], "behind": (payload, None)}}


def meet_faults(cases: int, *, seed: int, part: int = 0, parts: int = 1, told: Callable[[str], None] = print) -> Counter[str]:
    """
    Meet so many of all faults in workloads of one and two operations.
    """
    told(f"seed {seed}")
    workloads = [chosen for length in (1, 2) for chosen in itertools.product(OPERATIONS, repeat=length)][part::parts]
    chance = random.Random(f"{seed} {part}")
    with explorer(seed=seed) as exploring:
        faults = Faults(exploring)
        every = [
            (workload, Fault(kind, at, sticky))
            for workload in workloads
            for at in range(faults.calls(workload))
            for kind in KINDS
            for sticky in (False, True)
        ]
        for workload, fault in chance.sample(every, min(cases, len(every))):
            faults.meet(workload, fault)
        return faults.outcomes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--part", default="0/1", help="i/n: every n-th of the workloads, from the i-th on")
    options = parser.parse_args()
    part, parts = map(int, options.part.split("/"))
    began = time.monotonic()
    outcomes = meet_faults(options.cases, seed=options.seed, part=part, parts=parts)
    print(f"{dict(outcomes)}, 0 lost; {time.monotonic() - began:.0f} s, {time.process_time():.0f} s of CPU")


if __name__ == "__main__":
    main()
