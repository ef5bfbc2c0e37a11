"""
What a finalizer wants done in a thread of the library is done when that thread holds nothing.
"""

from __future__ import annotations

import threading

from vecdb._background import BackgroundThread, put_off, rest


def test_what_is_put_off_is_done_after_the_work() -> None:
    steps: list[str] = []

    def work() -> None:
        assert put_off(lambda: steps.append(f"put off, {threading.current_thread().name}"))
        steps.append("worked")
        rest()
        assert put_off(lambda: steps.append("put off again"))
        steps.append("worked again")

    thread = BackgroundThread(work, name="test")
    thread.start()
    thread.join()
    assert steps == ["worked", "put off, test", "worked again", "put off again"]


def test_other_threads_put_nothing_off() -> None:
    assert not put_off(lambda: None)
    rest()
