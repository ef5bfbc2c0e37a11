"""
The live state of one collection: the core, the store and the payload indexes, and the one way in which they change.

`apply` is the only code that changes state; live writes reach it through the log's leader, recovery through the replay, so that they
cannot differ. Invariant: between two applies, store, core and indexes describe the same points. Readers see one of these states:
`consistent` repeats a read that an apply crossed, the third time with writers held.

Threads: any thread may call anything. Lock order: write lock, then the log's own, then the apply lock. The apply lock is never held while
waiting for disk or for another thread.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any, TypeVar

from vecdb._block import Block, Blocks, Resolve, checked_size
from vecdb._contents import Contents, CoreLoader
from vecdb._declared import DeclaredIndexes
from vecdb._forked import track
from vecdb._interrupt import uninterrupted
from vecdb._payload_index import PayloadIndexes
from vecdb._resolve import Overlay, Resolved
from vecdb.errors import Closed, Forked, ReadOnly, StorageError, VecdbError
from vecdb.index import CoreIndex
from vecdb.storage.effects import Effects
from vecdb.storage.framing import FieldSpec
from vecdb.storage.store import Store
from vecdb.types import CollectionInfo

T = TypeVar("T")

HELP_SLICE = 256  # points a writer moves into the graph between two looks at Ctrl-C
WAIT_SECONDS = 0.1
_REMEMBERED_APPLIES = 64


class CollectionState:
    """
    Everything that handles of one collection share.
    """

    def __init__(
        self,
        name: str,
        fields: Sequence[FieldSpec],
        metadata: dict[str, Any],
        loader: CoreLoader,
        store: Store,
        write_lock: threading.RLock,
        *,
        writable: bool,
        threads: int,
    ) -> None:
        self.name = name
        self.fields = tuple(fields)
        self.metadata = metadata
        self.store = store
        self.writable = writable
        self.threads = threads
        self.write_lock = write_lock
        self.apply_lock = threading.Lock()
        self.contents = Contents(self.fields, loader, store.generation, self.apply_lock)
        self.declared = DeclaredIndexes(name, self.contents, store)
        self.compacting = threading.Lock()
        self._overlay = Overlay(store)
        self._next_offset = store.next_offset
        self._written = 0  # calls that were queued
        self.blocks = Blocks()
        # Odd while an apply runs. Each apply notes the offsets whose point changed under its number.
        self._epoch = 0
        self._changed: deque[tuple[int, frozenset[int]]] = deque(maxlen=_REMEMBERED_APPLIES)
        self._failure: BaseException | None = None
        self._closed = False
        self.forked = False
        # Whether `check_open` has nothing to raise: what every search asks first.
        self.is_usable = True
        track(self)

    def start(self) -> None:
        """
        Replay the log, then let the core, and the declared payload indexes, be built in the background.
        """
        self.store.start(self.apply)
        self._next_offset = self.store.next_offset
        self.core.set_threads(self.threads)
        self.declared.start()

    # ---- state ----

    @property
    def core(self) -> CoreIndex:
        """
        The core of now.
        """
        return self.contents.core

    @property
    def indexes(self) -> PayloadIndexes:
        """
        The payload indexes of now.
        """
        return self.contents.indexes

    @property
    def wide_ids(self) -> bool:
        """
        Whether some id, now or once, was a str or did not fit an int64.
        """
        return self.contents.wide_ids

    def note_fork(self) -> None:
        """
        Refuse every use from now on: in a child made by fork.
        """
        self.forked = True
        self.is_usable = False

    def check_open(self) -> None:
        """
        Raise unless the state can be read.
        """
        if self.is_usable:
            return
        if self.forked:
            raise Forked(f"collection {self.name!r} was opened before this process was forked: open the database again in the child")
        if self._closed:
            raise Closed(f"collection {self.name!r} is closed: open the database again")
        if self._failure is not None:
            raise StorageError(
                f"collection {self.name!r} failed while a write was applied ({self._failure}): close the database and open it again; "
                "nothing acknowledged is lost"
            )

    def check_writable(self) -> None:
        """
        Raise unless the state can be written.
        """
        self.check_open()
        if not self.writable:
            raise ReadOnly(f"collection {self.name!r} was opened with mode='r': open the database with mode='a' to write")
        reason = self.store.read_only_reason
        if reason is not None:
            raise ReadOnly(f"collection {self.name!r} is read-only: {reason}. Close the database and open it again")

    # ---- writing ----

    def block(self, check: Callable[[], None]) -> AbstractContextManager[None]:
        """
        Return what collects this thread's writes in a with block, and carries them out as one call at its end, after another `check`.
        """

        def end(block: Block) -> None:
            check()
            self.write(lambda overlay, next_offset: block.resolve(overlay, self._written, next_offset))

        with self.write_lock:
            return self.blocks.collect(Block(self._overlay, self._written), end)

    def write(self, resolve: Resolve) -> Resolved:
        """
        Carry out one call: resolve it, log it, wait until it is durable and applied; in a block only note it.
        """
        block = self.blocks.open
        if block is not None:
            self.check_writable()
            with self.write_lock:
                return block.write(self._overlay, resolve)
        with uninterrupted():
            with self.write_lock:
                self.check_writable()
                resolved = resolve(self._overlay, self._next_offset)
                if resolved.empty:
                    return resolved
                effects = resolved.effects
                checked_size(effects)
                self.store.reserve(effects)
                ticket = self.store.enqueue(effects)
                # Nothing can fail from here on: the call is in the log's queue.
                self._overlay.queued(ticket.lsn, resolved)
                self._next_offset += len(effects.put_ids)
                self._written += 1
            self.store.commit(ticket)
            self._overlay.applied(ticket.lsn, resolved.ids)
        self.help()
        return resolved

    def settle(self) -> None:
        """
        Wait until every queued call is applied. The caller holds the write lock.
        """
        self.store.drain()

    def help(self) -> None:
        """
        Move the tail along while it is longer than its bound, so that searches stay fast under a flood of writes.
        """
        try:
            while self.core.help(HELP_SLICE) == HELP_SLICE:
                pass
        except Closed:
            pass  # by another thread, which is no failure of the write that asked for help: it is durable already

    def apply(self, lsn: int, effects: Effects) -> None:
        """
        Take one durable call into the state: rows and payloads first, then the core in one step.
        """
        with self.apply_lock:
            changed = frozenset(effects.tombstones.tolist() + effects.patch_offsets.tolist())
            self._changed.append((self._epoch + 1, changed))
            self._epoch += 1
            try:
                self.contents.apply(lsn, effects)
            except BaseException as error:
                self._failure = error
                self.is_usable = False
                raise
            self._epoch += 1

    def move_to(self, contents: Contents, install: Callable[[], None]) -> None:
        """
        Read and write other contents from now on, numbered anew; `install` has the store do so. REQUIRES: the write lock, nothing queued,
        the apply lock.
        """
        # Nothing is known of what changed: every read that crosses this is repeated, and also one that ends between two of its steps.
        self._changed.clear()
        self._epoch += 1
        try:
            install()
            contents.wide_ids |= self.contents.wide_ids
            self.contents = contents
            self.declared.move_to(contents)
            self._overlay = Overlay(self.store)  # what calls that are on their way out still have in the old one is applied
            self._next_offset = self.store.next_offset
        finally:
            self._epoch += 1

    # ---- reading ----

    def consistent(self, read: Callable[[], T], changed: Callable[[T], Iterable[int] | None]) -> T:
        """
        Return what read gives, of one state: repeated when a write changed, meanwhile, an offset that `changed` names (None: any write
        counts).
        """
        for _ in range(2):
            begin = self._epoch
            try:
                result = read()
            except VecdbError:
                # In the middle of an apply store and core differ: an offset of the one may be unknown to the other.
                if self._unchanged(begin, None):
                    self.check_open()  # of a state that was closed meanwhile, that is the reason to give
                    raise
                continue
            if (self._epoch == begin and begin % 2 == 0) or self._unchanged(begin, changed(result)):
                return result
        with self.apply_lock:
            self.check_open()  # an apply that failed half-way leaves no state to read
            return read()

    def whole(self, read: Callable[[], T]) -> T:
        """
        Return what read gives of the store alone, never of a call that the core does not show yet.
        """
        return self.consistent(read, lambda _: None)

    def _unchanged(self, begin: int, offsets: Iterable[int] | None) -> bool:
        now = self._epoch
        if now == begin and begin % 2 == 0:
            return True
        if offsets is None:
            return False
        crossed = [(number, changed) for number, changed in tuple(self._changed) if number >= begin]
        if len(crossed) < (now + 1) // 2 - begin // 2:
            return False  # some have been forgotten
        return not any(changed.intersection(offsets) for _, changed in crossed if changed)

    def wait_indexed(self, timeout: float | None) -> bool:
        """
        Wait until the declared indexes are built and the graph covers what it should, in slices that let Ctrl-C through.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            left = WAIT_SECONDS if deadline is None else min(WAIT_SECONDS, max(0.0, deadline - time.monotonic()))
            if self.declared.wait(left) and self.core.wait_indexed(int(left * 1000)):
                return True
            if deadline is not None and time.monotonic() >= deadline:
                return False
            self.check_open()

    def info(self) -> CollectionInfo:
        """
        Return the figures of core, store and indexes.
        """
        core, store = self.core.stats(), self.store.info()
        fields = [self.core.field_stats(field.number) for field in self.fields]
        return CollectionInfo(
            name=self.name,
            points=store.points,
            vectors=sum(field.live_rows for field in fields),
            tail=sum(field.rows - field.indexed_rows for field in fields),
            deleted=core.offsets - core.live,
            bytes={
                "vectors": sum(field.vector_bytes for field in fields),
                "norms": sum(field.norm_bytes for field in fields),
                "codes": sum(field.code_bytes for field in fields),
                "graph": sum(field.graph_bytes for field in fields),
                "links": sum(field.link_bytes for field in fields),
                "ids": core.id_bytes,
                "tags": core.tag_bytes,
                "columns": core.column_bytes,
                "dictionary": self.indexes.bytes,
                "payload file": store.payload_bytes,
                "vector files": store.vector_bytes,
                "derived files": store.derived_bytes,
                "log": store.log_bytes,
            },
            wal={"last_lsn": store.last_lsn, "durable_lsn": store.durable_lsn, "checkpoint_lsn": store.checkpoint_lsn},
            indexes=self.indexes.keys,
            read_only=self.store.read_only_reason,
            dead_in_graph=sum(field.dead_in_graph for field in fields),
            unreachable=sum(field.unreachable for field in fields),
            readers=store.readers,
            readers_behind=store.readers_behind,
            dropped=store.derived_dropped,
        )

    def close(self) -> None:
        """
        Checkpoint, release the files and the core's memory; idempotent, and without effect in a child made by fork.
        """
        if self.forked:
            return
        with self.write_lock:
            if self._closed:
                return
            self._closed = True
            self.is_usable = False
        try:
            self.declared.close()
            self.store.close()
        finally:
            self.core.close()
