"""
Ctrl-C held back while a step runs that must not be cut: logging, syncing and applying a write.

Python raises KeyboardInterrupt in the main thread only, between any two bytecodes; there the handler is replaced for the time of the step
and the signal delivered after it. Steps may be nested: the outermost one holds.
"""

from __future__ import annotations

import _signal
import threading
from contextlib import AbstractContextManager, nullcontext
from signal import SIGINT
from types import FrameType, TracebackType

# The functions of `signal` make enums of what they take and return: a small write would spend a tenth of its time there.
_get_handler, _set_handler = _signal.getsignal, _signal.signal
_main_thread = threading.main_thread().ident
_is_held = False  # only the main thread reads or writes it
_nothing = nullcontext()


def uninterrupted() -> AbstractContextManager[None]:
    """
    Return what holds back SIGINT for the time of a with block.
    """
    return _nothing if threading.get_ident() != _main_thread or _is_held else _Holding()


class _Holding:
    """
    Keeps the signals that come, and delivers the first at the end. A class: what `contextmanager` makes costs a small write more.
    """

    __slots__ = ("_caught", "_previous")

    def __enter__(self) -> None:
        global _is_held
        self._caught: list[tuple[int, FrameType | None]] = []
        self._previous = previous = _get_handler(SIGINT)
        if callable(previous):
            _set_handler(SIGINT, self._keep)
            _is_held = True

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        global _is_held
        previous = self._previous
        if callable(previous):
            _is_held = False
            _set_handler(SIGINT, previous)
            if self._caught:
                previous(*self._caught[0])

    def _keep(self, number: int, frame: FrameType | None) -> None:
        self._caught.append((number, frame))
