"""
The live log: calls get consecutive LSNs and a place in a segment, and become durable in groups; opening reads, replays and mends it.

Invariant: LSNs and places follow from the queue alone, so a call is queued by one append and is never half there; whoever holds `_leading`
writes the whole queue in order, syncs, applies, and wakes. A write or sync that failed is never tried again: the log is read-only from then
on and says so. Thread rule: any thread; `enqueue` and `switch_segment` under the collection's write lock; `prepare`, and what it returns,
never wait for the log.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from queue import Empty

from vecdb._interrupt import uninterrupted
from vecdb.errors import InternalError, InvalidArgument, ReadOnly, StorageError
from vecdb.storage import files
from vecdb.storage.effects import MAX_CALL_BYTES
from vecdb.storage.log_reader import LogReader, Replay
from vecdb.storage.log_recovery import rewrite_doubtful
from vecdb.storage.log_writer import Group, LogEnd, LogWriter
from vecdb.storage.segment_file import SMALLEST, SegmentFile, aside_of, remove_unpublished
from vecdb.storage.segments import RESERVE, SEGMENT_HEADER, Kind, SegmentHeader, group_records, group_size
from vecdb.storage.spares import Spares
from vecdb.storage.system import Buffer
from vecdb.storage.tickets import Queued, copy_of, failure_in
from vecdb.storage.tickets import Ticket as Ticket

IDLE_SECONDS = 1.0
# A waiter looks again by itself this often, in case a leader was stopped between its work and waking the others.
_LOOK_AGAIN_SECONDS = 0.25


class Log:
    """
    The log of one collection; made by `open`.

    `prepare` is to be set before the first call is enqueued: it gets the tickets of calls that are written, in LSN order, from one thread
    at a time, and returns what applies them, which is called when they are durable. Until then nobody may see anything of them; where an
    interrupt came in between, `prepare` gets them again.
    """

    prepare: Callable[[Sequence[Ticket]], Callable[[], None]]

    def __init__(self, directory: Path, writer: LogWriter, *, replayed_bytes: int, syncs: bool, writable: bool) -> None:
        self.failed: StorageError | None = None
        self.bytes_since_checkpoint = replayed_bytes
        self.spares: Spares = writer.spares
        self._directory = directory
        self._writer = writer
        self._syncs = syncs
        self._writable = writable
        self._last_lsn = writer.end.lsn
        self._last_commit = time.monotonic()
        self._placing = threading.Lock()
        self._leading = threading.Lock()
        self._queue: deque[Queued] = deque()
        self._closed = False

    @staticmethod
    def create(directory: Path, *, uuid: bytes, generation: int, first_lsn: int) -> None:
        """
        Make the log of a new collection: its directory, unless it exists, and an empty segment.
        """
        if not files.exists(directory):
            files.make_directory(directory)
        segment = SegmentFile.prepare(aside_of(directory, first_lsn), SMALLEST)
        try:
            segment.publish(SegmentHeader(uuid, generation, first_lsn, first_lsn - 1, 0, segment.salt))
        finally:
            segment.close()

    @classmethod
    def open(
        cls,
        directory: Path,
        *,
        uuid: bytes,
        generation: int,
        applied_lsn: int,
        clean_lsn: int,
        replay: Replay,
        durability: str = "fsync",
        writable: bool = True,
    ) -> Log:
        """
        Read the log, give each whole call above applied_lsn to `replay(lsn, body)` in order, and make it ready for writing.

        When writable, records that may not be on the medium are written again, into a segment of their own. `clean_lsn` is what `close`
        returned at the latest orderly close, 0 after any other end. `durability` is "fsync" or "os". Raises Corruption when something
        confirmed is damaged or missing. REQUIRES: when writable, the writer's lock.
        """
        if durability not in ("fsync", "os"):
            raise InvalidArgument(f'durability is {durability!r}, expected "fsync" or "os"')
        reader = LogReader(directory, uuid=uuid, generation=generation, applied_lsn=applied_lsn, clean_lsn=clean_lsn, replay=replay)
        state = reader.read()
        end = LogEnd(None, 0, state.last_lsn, state.proven_dcrc, state.proven_lsn, unconfirmed=False)
        if writable:
            remove_unpublished(directory)
            if state.doubtful:
                segment, position, dcrc = rewrite_doubtful(directory, state, uuid=uuid, generation=generation)
                end = LogEnd(segment, position, state.last_lsn, dcrc, state.last_lsn, unconfirmed=True)
        syncs = durability == "fsync"
        writer = LogWriter(directory, uuid=uuid, generation=generation, state=state, end=end, syncs=syncs)
        return cls(directory, writer, replayed_bytes=state.replayed_bytes, syncs=syncs, writable=writable)

    @property
    def last_lsn(self) -> int:
        """
        The last LSN that is written and applied.
        """
        return self._last_lsn

    @property
    def end_lsn(self) -> int:
        """
        The last LSN that is written, of a call or of a mark.
        """
        return self._writer.end.lsn

    @property
    def generation(self) -> int:
        """
        The generation that the next segment will name.
        """
        return self._writer.generation

    @property
    def durable_lsn(self) -> int:
        """
        The highest LSN that a sync has brought to the medium.
        """
        return self._writer.end.durable_lsn

    def enqueue(self, body: Sequence[Buffer], *, payload: object = None) -> Ticket:
        """
        Give a call its LSNs and its place; `payload` goes to `prepare` with the ticket. REQUIRES: the collection's write lock.

        Raises, with nothing changed, InvalidArgument for more than 2 GiB, ReadOnly, and StorageError when there is no room for it.
        """
        length = sum(map(len, body))
        if length > MAX_CALL_BYTES:
            raise InvalidArgument(f"a call has {length:,} bytes, at most {MAX_CALL_BYTES:,} are written as one; split it into several")
        with uninterrupted(), self._placing:
            return self._place(Kind.CALL, body, length, payload)

    def wait(self, ticket: Ticket) -> None:
        """
        Return when a call is durable (with durability "os": written) and applied; raises StorageError when it may not be.

        Any number of threads may wait, also for one ticket. Ctrl-C is held back until the outcome is known.
        """
        if not isinstance(ticket, Queued):
            raise InternalError(f"the ticket of LSN {ticket.lsn} is not this log's; please report this")
        with uninterrupted():
            while not ticket.done:
                if not self._lead():
                    with contextlib.suppress(Empty):
                        ticket.signal.get(timeout=_LOOK_AGAIN_SECONDS)
            ticket.signal.put(None)
        if ticket.error is not None:
            # One exception object cannot be raised in several threads: each would write its traceback into it.
            raise copy_of(ticket.error) from ticket.error

    def drain(self) -> None:
        """
        Return when everything queued is written and applied, or the log has failed.
        """
        with uninterrupted():
            while self._queue:
                with self._leading:
                    self._commit_queued()

    def switch_segment(self) -> int:
        """
        Return the LSN C that ends what is applied, after a sync; what follows goes to a new segment where that pays.

        REQUIRES: the collection's write lock. Raises ReadOnly when the log has failed before, StorageError when it does so now.
        """
        self._refuse_if_read_only()
        with uninterrupted():
            while True:
                self.drain()
                with self._leading:
                    self._refuse_if_read_only()
                    try:
                        with self._placing:
                            if self._queue:  # a mark
                                continue
                            self._writer.sync()
                            self._writer.leave_segment()
                    except (OSError, MemoryError) as error:
                        raise copy_of(self._fail(error)) from error
                    self.bytes_since_checkpoint = 0
                    return self._writer.end.lsn

    def begin_generation(self, generation: int, lsn: int) -> bool:
        """
        Go on in a new segment of another generation, when the log still ends at `lsn`, after a sync; False, and nothing done, when it does
        not: a mark came in between.

        REQUIRES: the collection's write lock. A full disk refuses, with nothing changed; any later failure makes the log read-only: which
        generation its end belongs to is found out by opening again.
        """
        with uninterrupted(), self._leading:
            with self._placing:
                self._refuse_if_read_only()
                end = self._writer.end
                if self._queue or end.lsn != lsn:
                    return False
                segment = self._writer.prepare(lsn + 1, end.segment, end.position, 0)
            try:
                self._writer.sync()
                self._writer.begin_generation(generation, segment)
            except (OSError, MemoryError) as error:
                raise copy_of(self._fail(error)) from error
            self.bytes_since_checkpoint = 0
            return True

    def fail(self, cause: BaseException) -> None:
        """
        Make the log read-only: what it belongs to is in doubt.
        """
        self._fail(cause)

    def drop_through(self, lsn: int) -> None:
        """
        Remove the segments that hold nothing above lsn, but never the last one; raises StorageError, and may then be called again.
        """
        self._writer.drop_through(lsn)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """
        Write nothing for the time of a with block. REQUIRES: the collection's write lock.
        """
        self.drain()
        with self._leading:
            yield

    def note_idle(self) -> bool:
        """
        Confirm the last call by a record that says that it is durable, when it is a second old; True when one was written.

        Also commits what a stopped caller left in the queue. A failure is kept in `failed`.
        """
        if self.failed is not None or not self._writable or self._closed:
            return False
        if self._queue:
            self._lead()
        if not self._syncs or not self._writer.end.unconfirmed or time.monotonic() - self._last_commit < IDLE_SECONDS:
            return False
        return self._write_mark(Kind.NOOP)

    def close(self, *, clean: bool) -> int:
        """
        Commit what is queued, mark an orderly end when `clean`, release the files; return the last LSN, for `clean_lsn`. Idempotent.

        REQUIRES: no enqueue after it. Raises StorageError when the last records could not be written; the files are released all the same.
        """
        if self._closed:
            return self._last_lsn
        try:
            self.drain()
            # Where nothing was written since opening, everything is proven already.
            if clean and self._writer.end.segment is not None:
                self._write_mark(Kind.CLOSE)
            if clean and self.failed is not None:
                raise copy_of(self.failed) from self.failed
        finally:
            self._closed = True
            with self._leading:
                self._writer.close()
        return self._last_lsn

    def _refuse_if_read_only(self) -> None:
        if not self._writable:
            raise ReadOnly(f"{self._directory} was opened read-only: open the database with mode='a' to write")
        if self._closed:
            raise ReadOnly(f"{self._directory} was closed: open the database again to write")
        if self.failed is not None:
            raise ReadOnly(str(self.failed)) from self.failed

    def _place(self, kind: Kind, body: Sequence[Buffer], length: int, payload: object) -> Queued:
        """
        Queue a group behind the last one. REQUIRES: `_placing`.
        """
        self._refuse_if_read_only()
        end = self._writer.end
        lsn, segment, position = end.lsn, end.segment, end.position
        if self._queue and (last := self._queue[-1].group) is not None:
            lsn, segment, position = last.last_lsn, last.segment, last.position + last.size
        size = group_size(length)
        # A mark uses the room that calls leave for it.
        reserve = RESERVE if kind == Kind.CALL else 0
        if segment is None or position + size + reserve > segment.size:
            segment, position = self._writer.prepare(lsn + 1, segment, position, size), SEGMENT_HEADER
        self.spares.watch(segment.size, position + size)
        queued = Queued(Group(kind, body, lsn + 1, lsn + group_records(length), segment, position, size), payload)
        self._queue.append(queued)
        return queued

    def _write_mark(self, kind: Kind) -> bool:
        """
        Write a NOOP or CLOSE, unless somebody is writing; both fit where calls leave room for them.
        """
        with self._placing:
            if self._queue or self._writer.end.segment is None or self.failed is not None or self._closed:
                return False
            mark = self._place(kind, (), 0, None)
        with contextlib.suppress(StorageError):  # It stays in `failed`.
            self.wait(mark)
        return mark.error is None

    def _lead(self) -> bool:
        """
        Commit the whole queue, unless another thread is at it; False then.
        """
        if not self._leading.acquire(blocking=False):
            return False
        stopped = True
        try:
            self._commit_queued()
            stopped = False
        finally:
            self._leading.release()
            with self._placing:
                waiting = list(self._queue) if stopped else [*self._queue][:1]
            for queued in waiting:
                queued.signal.put(None)
        return True

    def _commit_queued(self) -> None:
        """
        Write, sync and apply what is queued now. REQUIRES: `_leading`.

        What a leader that was stopped by an interrupt left is done again, by whoever comes next: the same bytes to the same place.
        """
        outer = sys.exc_info()[1]
        with self._placing:
            batch = [(queued, queued.group) for queued in self._queue if queued.group is not None]
        if not batch:
            return
        try:
            self.bytes_since_checkpoint += self._writer.write([group for _, group in batch])
            apply = self.prepare([queued for queued, group in batch if group.kind == Kind.CALL])
            if self._syncs or batch[-1][1].kind == Kind.CLOSE:
                self._writer.sync()
        except BaseException as error:
            cause = failure_in(error, outer)
            if cause is not None:
                self._fail(cause)
            if not isinstance(error, Exception):
                raise
            return
        self._last_commit = time.monotonic()
        self._apply(batch, apply)

    def _apply(self, batch: Sequence[tuple[Queued, Group]], apply: Callable[[], None]) -> None:
        """
        Apply durable calls and tell their waiters. A failure makes the log read-only: the next opening replays the calls.
        """
        try:
            apply()
        except BaseException as error:
            self._fail(error)
            if not isinstance(error, Exception):
                raise
            return
        self._last_lsn = batch[-1][1].last_lsn
        with self._placing:
            for _ in batch:
                self._queue.popleft()
        for queued, _ in batch:
            queued.finish(None)

    def _fail(self, cause: BaseException) -> StorageError:
        """
        Make the log read-only and fail everything queued.
        """
        failure = StorageError(
            f"{self._directory}: a write failed ({cause}); whether it happened will be known when the database is opened again. "
            "This handle is read-only from now on: close it, see to the cause, open it again"
        )
        failure.__cause__ = cause
        failure.errno = cause.errno if isinstance(cause, OSError) else None
        with self._placing:
            self.failed = failure
            queue, self._queue = self._queue, deque()
        for queued in queue:
            queued.finish(failure)
        return failure
