"""
A reader beside writers that are killed at random moments sees whole batches only, and every acknowledged one at its next refresh.

The number of rounds is small here; `python tests/reader_rounds.py 200` runs as many as you like.
"""

from __future__ import annotations

from pathlib import Path

from reader_rounds import run_rounds


def test_a_reader_beside_killed_writers_sees_whole_batches_only(tmp_path: Path) -> None:
    outcome = run_rounds(tmp_path / "killed.vecdb", rounds=5, seed=20)
    assert outcome.rounds == 5
    assert outcome.states_read > 5
