"""
Ctrl-C never cuts a write in two, and is not lost either.
"""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest

import vecdb
from vecdb._interrupt import uninterrupted


def test_an_interrupt_is_delivered_after_the_outermost_step() -> None:
    steps: list[str] = []

    def nested() -> None:
        with uninterrupted():
            with uninterrupted():
                os.kill(os.getpid(), signal.SIGINT)
                steps.append("inner")
            steps.append("outer")

    with pytest.raises(KeyboardInterrupt):
        nested()
    assert steps == ["inner", "outer"]
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)


def test_writes_interrupted_at_random_are_whole_or_absent(path: Path) -> None:
    """
    Signals arrive from another thread at any moment; a call that raises left its batch whole or absent, one that returned left it whole.
    """
    stop = threading.Event()

    def interrupt() -> None:
        while not stop.wait(0.003):
            os.kill(os.getpid(), signal.SIGINT)

    acknowledged: list[int] = []
    with vecdb.open(path) as db:
        points = db.create_collection("p", dim=2)
        sender = threading.Thread(target=interrupt)
        batch = 0
        try:
            sender.start()
            while batch < 150:
                batch += 1
                try:
                    points.upsert([batch * 10 + n for n in range(5)], [[1, n] for n in range(5)], [{"batch": batch}] * 5)
                    acknowledged.append(batch)
                except KeyboardInterrupt:
                    continue
        except KeyboardInterrupt:
            pass
        finally:
            while sender.is_alive():
                try:
                    stop.set()
                    sender.join()
                except KeyboardInterrupt:
                    continue
        check(points, acknowledged)
    with vecdb.open(path) as db:
        check(db["p"], acknowledged)


def check(points: vecdb.Collection, acknowledged: list[int]) -> None:
    found = {int(one) for one in points}  # type: ignore[arg-type]
    batches = {one // 10 for one in found}
    assert set(acknowledged) <= batches
    assert found == {batch * 10 + n for batch in batches for n in range(5)}
    assert all(points.count(vecdb.F("batch") == batch) == 5 for batch in batches)
