"""
Tell on a text stream how far the first run is: count, rate, time left.

A terminal has its last line rewritten; any other stream gets a plain line every few seconds. One thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TextIO

SECONDS_BETWEEN_LINES = 5.0


class Progress:
    """
    Show sentences and counts on a stream.
    """

    def __init__(self, stream: TextIO, *, clock: Callable[[], float] = time.monotonic) -> None:
        """
        Write to `stream`; `clock` gives seconds.
        """
        self._stream = stream
        self._clock = clock
        self._baseline: tuple[float, int] | None = None  # time and count that the rate is measured from
        self._shown_at = float("-inf")
        self._width = 0  # of the line that a terminal still shows

    def say(self, sentence: str) -> None:
        """
        Write a line of its own.
        """
        self._leave_line()
        print(sentence, file=self._stream, flush=True)

    def count(self, done: int, total: int) -> None:
        """
        Show that `done` of `total` are there; the first call is the baseline of the rate.
        """
        now = self._clock()
        if self._baseline is None:
            self._baseline = (now, done)
        since, before = self._baseline
        text = f"  embedded {done:,} of {total:,}"
        if done > before and now > since:
            rate = (done - before) / (now - since)
            text += f", {rate:,.0f} a second, about {(total - done) / rate:,.0f} s to go" if done < total else f", {rate:,.0f} a second"
        if self._stream.isatty():
            print(f"\r{text:<{self._width}}", end="", file=self._stream, flush=True)
            self._width = len(text)
            if done >= total:
                self._leave_line()
        elif done >= total or now - self._shown_at >= SECONDS_BETWEEN_LINES:
            print(text, file=self._stream, flush=True)
            self._shown_at = now

    def _leave_line(self) -> None:
        if self._width:
            print(file=self._stream, flush=True)
            self._width = 0
