"""
Whatever file call fails, once or from then on, nothing acknowledged is lost, and every failure is the library's own error.

`python tests/crash_faults.py` does the same for as many faults as you like.
"""

from __future__ import annotations

import random

import pytest
from crash_faults import meet_faults

CASES = 800
PARTS = 4


@pytest.mark.parametrize("part", range(PARTS))
def test_no_fault_loses_what_was_acknowledged(part: int) -> None:
    outcomes = meet_faults(CASES // PARTS, seed=random.randrange(2**32), part=part, parts=PARTS)
    assert outcomes["met"] > CASES // PARTS // 2
    assert outcomes["refused"] > 0
