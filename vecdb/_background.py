"""
The library's own threads, and what must not be done in the middle of their work.

The garbage collector may run a finalizer in any thread. One that closes a database waits for that database's work and takes its locks, so
that in a thread that does this very work it would wait for itself: there it is put off until the thread rests, holding nothing.
Thread rule: `put_off` from any thread; `rest` by the thread itself.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable


class BackgroundThread(threading.Thread):
    """
    A daemon thread that calls `work`, then does what was put off.
    """

    def __init__(self, work: Callable[[], None], *, name: str) -> None:
        super().__init__(name=name, daemon=True)
        self._work: Callable[[], None] | None = work
        self._put_off: deque[Callable[[], None]] = deque()

    def run(self) -> None:
        """
        Work until there is nothing left to do.
        """
        assert self._work is not None
        try:
            self._work()
        finally:
            self._work = None  # what it refers to may go now
            self.rest()

    def rest(self) -> None:
        """
        Do what was put off. The caller is this thread and holds no lock.
        """
        while self._put_off:
            self._put_off.popleft()()

    def put_off(self, action: Callable[[], None]) -> None:
        """
        Have an action done when the thread rests.
        """
        self._put_off.append(action)


def put_off(action: Callable[[], None]) -> bool:
    """
    Have an action done later if this is a thread of the library; False in any other thread, where it may be done now.
    """
    thread = threading.current_thread()
    if not isinstance(thread, BackgroundThread):
        return False
    thread.put_off(action)
    return True


def rest() -> None:
    """
    Do what was put off, if this is a thread of the library. The caller holds no lock.
    """
    thread = threading.current_thread()
    if isinstance(thread, BackgroundThread):
        thread.rest()
