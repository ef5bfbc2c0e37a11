"""
The targets of fuzzing take their seeds, and survive what becomes of them with some bytes changed. `tests/fuzz/run.py` looks further.
"""

from __future__ import annotations

import random

import pytest
from fuzz import targets


@pytest.fixture(autouse=True)
def file_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(targets.files, "system", targets.files.system)  # the targets put their own in its place


@pytest.fixture
def seed() -> int:
    chosen = random.randrange(1 << 32)
    print(f"seed {chosen}")
    return chosen


@pytest.mark.parametrize("name", sorted(targets.TARGETS))
def test_seeds_are_taken_and_changed_seeds_do_no_harm(name: str, seed: int) -> None:
    seeds = targets.TARGETS[name][1]()
    assert sum(targets.run_one(name, one) for one in seeds) >= len(seeds) / 3
    rng = random.Random(seed)
    refused = 0
    for _ in range(300):
        data = bytearray(rng.choice(seeds))
        for _ in range(rng.randint(1, 4)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        if rng.random() < 0.2:
            del data[rng.randrange(len(data)) :]
        refused += not targets.run_one(name, bytes(data))
    assert refused > 0
