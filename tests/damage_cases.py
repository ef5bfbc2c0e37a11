"""
Damage to the files of a small database, case by case, each opened in a child process: refused or harmless, never a wrong answer, never the
end of the process.

`python tests/damage_cases.py --cases 1000000 --seed 1` runs all there are; the last line it prints is the outcome as JSON. test_damage.py
runs 20,000 of another seed each time. Each child is forked with everything imported, and does cases until one ends it; then the next child
goes on behind that one.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from crash_judge import Judge, directory_of
from crash_life import NAME, Model, difference, quick, read, read_points, unclean
from crash_medium import materialise
from damage_kinds import BASES, POINTS, Base, Case, groups_of, make_bases
from storage_doubles import SECTOR

import vecdb
from vecdb.storage.segments import RECORD_HEADER, SEGMENT_HEADER, RecordHeader, SegmentHeader

# Files that no answer rests on.
SPARE = ("LOCK", "INDEXES", "-lock", ".derived")
WAYS = ("ordinary", "verify=True", "salvage=True", "verify()")
_kept: list[vecdb.Database] = []
_BATCH = 400
_CHECKED_WAYS = 100  # one of so many cases is met in all four ways
_SECONDS = 30


@dataclass(slots=True)
class Outcomes:
    """
    Counts by kind of damage and outcome, what should not have been, and by which cases LMDB ended an ordinary opening.
    """

    counts: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    fatal: list[str] = field(default_factory=list)


def may_be_short(case: Case, base: Base) -> bool:
    """
    Whether calls at the end of a log may be missing: where the damage cannot be told from a write that a cut has broken off.
    """
    above = case.path.rpartition("/")[0]
    last = max((path for path in base.image if path.endswith(".log") and path.rpartition("/")[0] == above), default="")
    if case.base == "closed" or case.path != last or (case.kind == "flipped" and case.base == "idle"):
        return False
    return case.kind not in ("flipped", "zeroed") or not is_confirmed(case, base.image[case.path] or b"")


def is_confirmed(case: Case, segment: bytes) -> bool:
    """
    Whether a record that the damage leaves alone says that the first one it touches was on the medium.
    """
    decoded = SegmentHeader.decode(segment)
    assert decoded is not None
    start, end = case.place, case.place + (SECTOR if case.kind == "zeroed" else 1)
    position, lsn = SEGMENT_HEADER, None
    while (header := RecordHeader.decode(segment[position : position + RECORD_HEADER], decoded[1].salt)) is not None:
        if lsn is None and position + header.size > start:
            lsn = header.lsn
        elif lsn is not None and header.durable_lsn >= lsn and not (position < end and start < position + RECORD_HEADER):
            return True
        position += header.size
    return False


def meet(case: Case, base: Base, home: Path, way: str, chance: random.Random) -> str:
    """
    Open the damaged database in a way and return the outcome: refused, right, short, or what is wrong.
    """
    shutil.rmtree(home, ignore_errors=True)
    allowed = [base.model, *(base.prefixes if may_be_short(case, base) else ())]
    try:
        if way == "verify()":
            return verify_damaged(case, base, home)
        materialise(case.apply(base), home)
        if way == "salvage=True":
            return salvaged(home / NAME, base)
        with unclean(), vecdb.open(home / NAME, threads=1, verify=way == "verify=True") as db:
            found = read_damaged(db, case, base)
        if found in allowed and chance.random() < 0.1 and way == "ordinary":
            shutil.rmtree(home)
            image = case.apply(base)
            materialise(image, home)
            Judge().check(home / NAME, image, allowed, chance)
    except vecdb.VecdbError as error:
        spare = way == "ordinary" and case.path.endswith(SPARE)
        return f"no answer rests on this file, and it was refused: {error}" if spare else "refused"
    except Exception as error:  # noqa: BLE001 - whatever else comes out is what this looks for
        return f"{type(error).__name__}: {error}"
    if found == base.model:
        return "right"
    return "short" if found in allowed else f"shows what is not there: {difference(found, [base.model])}"


def read_damaged(db: vecdb.Database, case: Case, base: Base) -> Model:
    """
    Return what a database shows; of collections whose files are not damaged, what they showed when they were first opened.
    """
    found: Model = {}
    for name in db:
        number = directory_of(db, name)
        if case.path.startswith(f"{NAME}/{number}/"):
            found[name] = read_points(db[name])
        else:
            known = base.untouched.get(number)
            if known is None:
                known = base.untouched[number] = read_points(db[name])
            found[name] = known
    return found


def salvaged(path: Path, base: Base) -> str:
    """
    Open with salvage=True: whatever it keeps was there once.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        db = vecdb.open(path, threads=1, salvage=True)
    with unclean(), db:
        versions: dict[object, list[object]] = {}
        for model in (base.model, *base.prefixes):
            for points in model.values():
                for one, (payload, _) in points.items():
                    versions.setdefault(one, []).append(payload)
        invented = [one for points in read(db).values() for one, (payload, _) in points.items() if payload not in versions.get(one, ())]
    return f"salvage invents {invented}" if invented else "right"


def verify_damaged(case: Case, base: Base, home: Path) -> str:
    """
    Damage the files of an open database, and have it verified.
    """
    materialise(base.image, home)
    db = vecdb.open(home / NAME, threads=1)
    # Its end would write to what is damaged below.
    _kept.append(db)
    points = [db[name] for name in db]
    for one in points:
        # Indexes are built in the background, from the file that is damaged below.
        one._state.declared.wait(10.0)
    target = home / case.path
    damaged = case.apply(base).get(case.path)
    if damaged is None or not target.exists():
        target.unlink(missing_ok=True)
    else:
        target.write_bytes(damaged)
    reports = [one.verify() for one in points]
    return "right" if all(report.ok for report in reports) else "refused"


# ---- children ----


def in_children(count: int, work: Callable[[int], str]) -> Iterator[str]:
    """
    Yield what `work` returns for 0, 1, ..., each called in a child; "signal N" for one that ended its child.
    """
    done = 0
    while done < count:
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            status = 1
            try:
                os.close(reading)
                os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
                for number in range(done, min(done + _BATCH, count)):
                    signal.alarm(_SECONDS)
                    os.write(writing, json.dumps(work(number)).encode() + b"\n")
                status = 0
            finally:
                os._exit(status)
        os.close(writing)
        with os.fdopen(reading) as lines:
            for line in lines:
                done += 1
                yield json.loads(line)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status:
            done += 1
            yield f"signal {-status}" if status < 0 else f"exit status {status}"


def choose(bases: Mapping[str, Base], count: int, chance: random.Random) -> list[Case]:
    """
    Return so many cases in random order: all of small files, and of large ones equally many; four times as many of a points.lmdb that no
    checksum stands beside.
    """
    # What is not a flipped byte is rare, and each of it counts.
    groups = {
        (name, number): (group, 4 if name != "closed" and group[0].path.endswith(POINTS) else 1)
        for name in BASES
        for number, group in enumerate(groups_of(name, bases[name]))
        if len(group)
    }
    chosen: list[Case] = []
    weights = sum(weight for _, weight in groups.values())
    for group, weight in sorted(groups.values(), key=lambda one: len(one[0]) / one[1]):
        share = (count - len(chosen)) * weight // weights
        chosen += chance.sample(group, min(share, len(group)))
        weights -= weight
    return chance.sample(chosen, len(chosen))


def run(cases: int, *, seed: int, part: int, parts: int, home: Path) -> Outcomes:
    """
    Meet so many of all cases, and every one that ends an ordinary opening in the other ways too.
    """
    chance = random.Random(seed)
    bases = make_bases(home / "made")
    chosen = choose(bases, cases, chance)[part::parts]
    outcomes = Outcomes()

    def go(asked: Sequence[tuple[Case, str]]) -> list[str]:
        def work(number: int) -> str:
            case, way = asked[number]
            return meet(case, bases[case.base], home / "case", way, random.Random(f"{seed} {case} {way}"))

        return list(in_children(len(asked), work))

    first = [(case, "ordinary") for case in chosen]
    found = go(first)
    fatal = [case for case, outcome in zip(chosen, found, strict=True) if outcome.startswith("signal")]
    more = [(case, way) for case in (*fatal, *chosen[::_CHECKED_WAYS]) for way in WAYS[1:]]
    for (case, way), outcome in zip([*first, *more], [*found, *go(more)], strict=True):
        name = case.path.rpartition("/")[2]
        file = name if not name.endswith(".log") else "segment"
        if outcome.startswith("signal") and way == "ordinary" and name == POINTS:
            outcomes.fatal.append(str(case))
            outcome = "ended by LMDB"
        elif outcome not in ("right", "refused", "short"):
            outcomes.wrong.append(f"{case} {way}: {outcome}")
            outcome = "wrong"
        outcomes.counts[f"{way}/{file}/{outcome}" if way == "ordinary" else f"{way}/{outcome}"] += 1
    return outcomes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--part", default="0/1", help="i/n: every n-th of the cases, from the i-th on")
    options = parser.parse_args()
    part, parts = map(int, options.part.split("/"))
    logging.disable(logging.CRITICAL)
    memory = Path("/dev/shm")
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="vecdb-damage-", dir=memory if os.access(memory, os.W_OK) else None) as home, quick():
        (Path(home) / "made").mkdir()
        outcomes = run(options.cases, seed=options.seed, part=part, parts=parts, home=Path(home))
    print(f"seed {options.seed}, {time.monotonic() - began:.0f} s", file=sys.stderr)
    print(json.dumps({"counts": dict(sorted(outcomes.counts.items())), "wrong": outcomes.wrong, "fatal": outcomes.fatal}))
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
