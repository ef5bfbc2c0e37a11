"""
SIGKILL at a random moment: every acknowledged point is there, no half batch, and search finds it; a reader beside sees whole batches only.

The number of rounds is small here; `python tests/kill_rounds.py 200` runs as many as you like.
"""

from __future__ import annotations

from pathlib import Path

from kill_rounds import run_rounds


def test_acknowledged_writes_survive_sigkill(tmp_path: Path) -> None:
    outcome = run_rounds(tmp_path / "killed.vecdb", rounds=12, seed=20)
    assert outcome.rounds == 12
    assert outcome.acknowledged > 0
    assert outcome.states_read > 12
