"""
Whatever byte, length or file of a database is damaged, opening it is refused or harmless: no wrong answer, and no end of the process.

In parts, so that they spread over processes; `python tests/damage_cases.py` goes through as many cases as you like.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

CASES = int(os.environ.get("VECDB_DAMAGE_CASES", "20000"))
PARTS = 6
SCRIPT = Path(__file__).with_name("damage_cases.py")
# What structural damage to points.lmdb may do to an ordinary opening, of the cases of that file.
FATAL_SHARE = 0.002


@pytest.fixture(scope="module")
def seed() -> int:
    return random.randrange(2**32)


@pytest.mark.parametrize("part", range(PARTS))
def test_damage_is_refused_or_harmless(part: int, seed: int) -> None:
    print(f"seed {seed}")
    command = [sys.executable, str(SCRIPT), "--cases", str(CASES), "--seed", str(seed), "--part", f"{part}/{PARTS}"]
    done = subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE, cwd=SCRIPT.parent.parent)
    outcome = json.loads(done.stdout.splitlines()[-1])
    assert [] == outcome["wrong"]
    ordinary = {name: count for name, count in outcome["counts"].items() if name.startswith("ordinary/")}
    assert sum(ordinary.values()) * PARTS >= CASES - PARTS
    of_points = sum(count for name, count in ordinary.items() if name.startswith("ordinary/points.lmdb/"))
    # A few cases are more than the share of so few: a part may have them.
    assert len(outcome["fatal"]) <= max(1, FATAL_SHARE * of_points), outcome["fatal"]
    assert ordinary["ordinary/points.lmdb/refused"] > 0
    assert ordinary["ordinary/segment/refused"] > 0
