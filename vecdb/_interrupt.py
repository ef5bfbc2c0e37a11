"""
Ctrl-C held back while a step runs that must not be cut: logging, syncing and applying a write.

Python raises KeyboardInterrupt in the main thread only, between any two bytecodes; there the handler is replaced for the time of the step
and the signal delivered after it. Steps may be nested: the outermost one holds.
"""

from __future__ import annotations

import _signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from signal import SIGINT
from types import FrameType

# The functions of `signal` make enums of what they take and return: a small write would spend a tenth of its time there.
_get_handler, _set_handler = _signal.getsignal, _signal.signal
_main_thread = threading.main_thread().ident
_is_held = False  # only the main thread reads or writes it


@contextmanager
def uninterrupted() -> Iterator[None]:
    """
    Hold back SIGINT for the time of a with block.
    """
    global _is_held
    if threading.get_ident() != _main_thread or _is_held:
        yield
        return
    previous = _get_handler(SIGINT)
    if not callable(previous):
        yield
        return
    caught: list[tuple[int, FrameType | None]] = []
    _set_handler(SIGINT, lambda number, frame: caught.append((number, frame)))
    _is_held = True
    try:
        yield
    finally:
        _is_held = False
        _set_handler(SIGINT, previous)
        if caught:
            previous(*caught[0])
