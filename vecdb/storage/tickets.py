"""
Tickets of calls in the log's queue, and what is told to those who wait for them.

Invariant: a ticket is finished once; its error is set before `done`. Thread rule: finished by the log's leader, read by any thread.
"""

from __future__ import annotations

from dataclasses import dataclass
from queue import SimpleQueue

from vecdb.errors import StorageError
from vecdb.storage.log_writer import Group


@dataclass(slots=True, eq=False)
class Ticket:
    """
    A call's place in the order of writes: the LSN of its COMMIT record, what the caller attached, and, once `done`, why it failed.
    """

    lsn: int
    payload: object = None
    done: bool = False
    error: StorageError | None = None


class Queued(Ticket):
    """
    A ticket with what is to be written; `signal` holds an item when its waiters should look again.
    """

    __slots__ = ("group", "signal")

    def __init__(self, group: Group, payload: object) -> None:
        super().__init__(group.last_lsn, payload)
        self.group: Group | None = group
        self.signal: SimpleQueue[None] = SimpleQueue()

    def finish(self, error: StorageError | None) -> None:
        """
        Tell the waiters, and let go of the bytes: a ticket may be kept for long.
        """
        self.error = error
        self.group = None
        self.done = True
        self.signal.put(None)


def copy_of(failure: StorageError) -> StorageError:
    """
    Return the same error anew: one exception object cannot be raised in several threads.
    """
    copy = StorageError(str(failure))
    copy.errno = failure.errno
    return copy


def failure_in(error: BaseException, outer: BaseException | None) -> BaseException | None:
    """
    Return the failure behind an exception: itself, or, where an interrupt overtook it, what the interrupt came after; None when an
    interrupt came alone. `outer` is what the caller was handling already.
    """
    seen: BaseException | None = error
    while seen is not None and seen is not outer and not isinstance(seen, Exception):
        seen = seen.__context__
    return None if seen is outer else seen
