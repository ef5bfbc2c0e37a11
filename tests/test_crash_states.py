"""
Whatever call a process dies at, and whatever a power cut takes with it, everything acknowledged is there, and the rest whole or not at all.

In parts, so that they spread over processes; `python tests/crash_states.py` does the same for as many states as you like.
"""

from __future__ import annotations

import os
import random

import pytest
from crash_medium import Event, Medium
from crash_states import FRESH, explore, explorer, workloads

STATES = int(os.environ.get("VECDB_CRASH_STATES", "12000"))
PARTS = 24


@pytest.fixture(scope="module")
def seed() -> int:
    return random.randrange(2**32)


@pytest.mark.parametrize("part", range(PARTS))
def test_every_crash_point_leaves_what_was_acknowledged(part: int, seed: int) -> None:
    chosen = workloads()[part::PARTS]
    share = -(-STATES // PARTS)
    # Some parts have fewer points than their share, so that the others look at a few more.
    tally = explore(chosen, states=share * 21 // 20, seed=seed)
    assert tally.states >= share * 9 // 10
    assert {"kill", "cut", "torn", "recovery cut"} == set(tally.kinds)


@pytest.mark.parametrize("workload", [("create",), (FRESH, "create"), ("compact",), ("close",), ("checkpoint",)], ids=" ".join)
def test_what_is_written_after_a_kill_survives_the_cut_behind_it(workload: tuple[str, ...]) -> None:
    """
    Names and bytes that the killed process had not synced are durable before anything is acknowledged that rests on them.
    """
    with explorer(seed=1) as exploring:
        image, model = ({}, {}) if workload[0] == FRESH else exploring.base()
        medium = Medium.of(image)
        points = []
        for step in exploring.record(medium.copy(), model, [name for name in workload if name != FRESH], salt=3):
            for place, event in enumerate(step.events):
                medium.apply(event)
                points.append((medium.copy(), step.after if place == len(step.events) - 1 else step.before))
        for number, (point, allowed) in enumerate(points):
            found = exploring.open("kill", point.after_kill(), allowed, f"call {number}")
            steps = exploring.record(point, found, ["upsert", "checkpoint"] if found else ["create"], salt=4)
            for event in (event for step in steps for event in step.events):
                point.apply(event)
            exploring.open("cut", point.after_loss(), steps[-1].after, f"call {number}, recovered")


def test_the_medium_forgets_what_was_not_synced() -> None:
    medium = Medium.of({"d": None, "d/kept": b"old" * 1000})
    number = medium.numbers()["d/kept"]
    for event in (
        Event("write", file=number, offset=0, data=b"new" * 1000),
        Event("create", "d/made", file=9),
        Event("write", file=9, offset=0, data=b"x" * 600),
        Event("rename", "d/made", "d/named"),
    ):
        medium.apply(event)
    lost = {"d": None, "d/kept": b"old" * 1000}
    assert lost == medium.after_loss()
    assert {"d": None, "d/kept": b"new" * 1000, "d/named": b"x" * 600} == medium.after_kill()
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    cuts = [medium.after_cut(random.Random(seed + i)) for i in range(300)]
    assert lost in cuts
    assert {("d", "d/kept"), ("d", "d/kept", "d/made"), ("d", "d/kept", "d/named")} == {tuple(sorted(cut)) for cut in cuts}
    assert {b"", b"x" * 512, b"x" * 600, bytes(512) + b"x" * 88, bytes(600)} <= {cut.get("d/named") for cut in cuts}
    for cut in cuts:
        content = cut["d/kept"]
        assert content is not None
        assert all(content[at : at + 512] in ((b"old" * 1000)[at : at + 512], (b"new" * 1000)[at : at + 512]) for at in range(0, 3000, 512))
    medium.apply(Event("sync", file=number))
    medium.apply(Event("sync", file=9))
    medium.apply(Event("sync_directory", "d"))
    assert medium.after_kill() == medium.after_loss() == medium.after_cut(random.Random(1))
    other = medium.copy()
    other.apply(Event("unlink", "d/named"))
    assert {"d", "d/kept"} == set(other.after_kill())
    assert "d/named" in medium.after_kill()
