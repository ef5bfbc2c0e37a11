"""
What a child made by fork got from its parent and must neither use nor release: live databases and collections.

In the child their locks may be held for ever, their threads are gone, and their files (LMDB's table of readers among them) are the
parent's. Each is told so and kept until the process ends, since releasing its memory would join threads and clear slots that are not
the child's. Thread rule: `track` from any thread; the rest runs in the child, before anything else does.
"""

from __future__ import annotations

import ctypes
import os
import weakref
from typing import Protocol


class Forkable(Protocol):
    """
    What has a use that ends at a fork.
    """

    def note_fork(self) -> None:
        """
        Take note, in the child, that this is the parent's.
        """


_tracked: weakref.WeakSet[Forkable] = weakref.WeakSet()


def track(one: Forkable) -> None:
    """
    Have `note_fork` called in every child made by fork from now on.
    """
    _tracked.add(one)


def _after_fork() -> None:
    for one in list(_tracked):
        one.note_fork()
        # A reference that nothing gives back: at exit the interpreter clears every module, and would finalize the object with it.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(one))


os.register_at_fork(after_in_child=_after_fork)
