"""
The segment after the open one, made ahead of its need, so that neither a write nor a checkpoint waits for its zeros to reach the medium.

Invariant: at most one spare is ready; it is aside, all zeros, synced, and gets its name when it is published. That none could be made, for
want of room, fails nobody: whoever needs a segment then makes it, or is refused. Thread rule: `make` and `make_for_switch` by any thread,
holding no lock of the log; `watch` and `take` by whoever places calls.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path

from vecdb._background import BackgroundThread
from vecdb._interrupt import uninterrupted
from vecdb.errors import StorageError
from vecdb.storage.segment_file import SegmentFile, next_size, pays_to_leave, size_after_switch

logger = logging.getLogger("vecdb.storage")

# A call's sync waits for what was written before it, these zeros included.
_PIECE = 256 << 10


class Spares:
    """
    The spare of one log. `wanted`, when set, is called once the open segment is half full: it is to have `make` called soon, elsewhere.
    """

    def __init__(self, directory: Path) -> None:
        self.wanted: Callable[[], None] | None = None
        self._directory = directory
        self._making = threading.Lock()
        self._ready: SegmentFile | None = None
        self._asked = False
        self._closed = False
        self._number = 0
        self._size, self._used = 0, 0

    def watch(self, size: int, used: int) -> None:
        """
        Note that `used` bytes of the open segment's `size` have a purpose.
        """
        self._size, self._used = size, used
        if self.wanted is None or self._asked or 2 * used <= size:
            return
        self._asked = True
        try:
            self.wanted()
        except RuntimeError as error:  # no thread could be started; the call that is being placed needs none
            logger.warning("%s: the log's next segment is not made ahead: %s", self._directory, error)

    def make(self) -> None:
        """
        Make the segment that follows when the open one is full, unless one is ready.
        """
        self._make(next_size(self._size, self._size, 0))

    def make_in_background(self) -> None:
        """
        Have a thread of its own `make` it.
        """
        BackgroundThread(self.make, name="vecdb-log").start()

    def make_for_switch(self) -> None:
        """
        Make the segment that a checkpoint goes on in, unless one is ready or the checkpoint will leave the log where it is.
        """
        if pays_to_leave(self._used):
            self._make(size_after_switch(self._size))

    def _make(self, size: int) -> None:
        with uninterrupted(), self._making:
            if self._closed or self._ready is not None:
                return
            self._number += 1
            try:
                self._ready = SegmentFile.prepare(self._directory / f"spare-{self._number}.tmp", size, piece=_PIECE)
            except (StorageError, MemoryError) as error:
                logger.warning("%s: the log's next segment could not be made ahead: %s", self._directory, error)

    def take(self, least: int) -> SegmentFile | None:
        """
        Return the spare, when it has at least so many bytes; None when there is none. One that is being made is waited for.
        """
        with self._making:
            self._asked = False
            segment = self._ready
            if segment is None or segment.size < least:
                return None
            self._ready = None
            return segment

    def close(self) -> None:
        """
        Remove the spare, and make none from now on; idempotent.
        """
        with self._making:
            self._closed = True
            if self._ready is not None:
                self._ready.discard()
                self._ready = None
