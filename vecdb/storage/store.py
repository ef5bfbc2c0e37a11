"""
What a collection asks of its storage, and what storage asks of the core: protocols only, no code.

Three stores satisfy `Store`: `disk.DiskStore`, `memory.MemoryStore`, and `reader.ReaderStore`, which is never written. Life of one: open
(the loader is fed), `start(apply)` (the log is replayed through the very callable that live writes use), writes and reads, `close`. Thread
rule: `reserve` and `enqueue` are called under the collection's write lock, `commit` and everything else without it; `apply` is called by
one thread at a time, in LSN order, from within `start` and `commit` (or a checkpoint that drains the queue), and must therefore not take
the write lock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vecdb.storage.blocks import IdBlock
from vecdb.storage.effects import Effects, PointId
from vecdb.storage.findings import Findings
from vecdb.storage.framing import IndexSpec
from vecdb.storage.saved_indexes import IndexSource, SavedIndexes
from vecdb.storage.view import View
from vecdb.storage.wal import Ticket

Apply = Callable[[int, Effects], None]
Advance = Callable[[int], None]
WriteLock = AbstractContextManager[Any]


@dataclass(frozen=True, slots=True)
class StoreInfo:
    """
    Figures of a store, for `Collection.info()`; sizes are bytes, all 0 for a store without files where they mean files. `derived_dropped`
    are the derived files that did not verify, with the reasons; `readers` counts the states of points.lmdb that readers in other processes
    keep, `readers_behind` the checkpoints since the oldest.
    """

    points: int
    offsets: int
    applied_lsn: int
    checkpoint_lsn: int
    last_lsn: int
    durable_lsn: int
    log_bytes: int
    payload_bytes: int
    vector_bytes: int
    derived_bytes: int
    generation: int
    checkpoint_error: str | None
    derived_dropped: tuple[str, ...] = ()
    readers: int = 0
    readers_behind: int = 0


class Loader(Protocol):
    """
    The core, while a collection is opened. Order of the calls: for each field `map_rows`, `expect_checksums`;
    `load_block` in ascending order; `load_graph`.
    """

    @property
    def fields(self) -> int:
        """
        How many vector fields there are.
        """

    def map_rows(self, field: int, fd: int, rows: int) -> None:
        """
        Map rows [0, rows) of the file.
        """

    def expect_checksums(self, field: int, crcs: NDArray[np.uint32]) -> None:
        """
        Take the CRC32C of the whole blocks of rows, from block 0 on.
        """

    def load_block(self, ids: IdBlock, present: NDArray[np.uint8], dead: NDArray[np.uint32]) -> None:
        """
        Take the next offsets: `present` is (fields, offsets), `dead` lists the offsets of the block that are
        tombstones.
        """

    def append_rows(self, field: int, rows: NDArray[np.float32]) -> None:
        """
        Take the next rows, of a store without files.
        """

    def load_graph(self, field: int, uuid: bytes, generation: int, data: memoryview) -> tuple[int, int]:
        """
        Take a saved graph; return (the LSN it is exact for, rows it covers), or raise Corruption and leave everything
        as it was.
        """


class Predecessor(Protocol):
    """
    The core of the generation that a compaction replaces.
    """

    def still(self) -> AbstractContextManager[Any]:
        """
        Keep calls from being applied for the time of a with block.
        """

    def get_rows(self, field: int, offsets: NDArray[np.uint32]) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """
        Return the rows (n, dim) of n offsets, those of tombstones included, and which of the offsets have one.
        """

    def save_kept_graph(self, field: int, uuid: bytes, generation: int, lsn: int, kept: NDArray[np.bool_]) -> memoryview | None:
        """
        Return the field's graph of the rows that are kept, numbered anew in their order, or None when there is none. REQUIRES: `still`.
        """


class Compaction(Protocol):
    """
    The next generation of a collection, in the making; a context manager that undoes it unless `install` was called. One at a time.
    """

    @property
    def points(self) -> SavingGeneration:
        """
        The next generation: at first the state of some moment since the compaction began, then with what `follow` applied.
        """

    def follow(self, apply: Apply) -> int:
        """
        Give the calls that were applied to the present generation meanwhile, translated, to `apply`, which applies them to
        the next one; return how many.
        """

    def standing_still(self) -> AbstractContextManager[Any]:
        """
        Keep checkpoints from being made for the time of a with block. REQUIRES: the write lock is not held.
        """

    def commit(self) -> None:
        """
        Make the next generation the one that counts, durably. REQUIRES: `standing_still`, the write lock, nothing queued,
        nothing to follow.
        """

    def install(self) -> None:
        """
        Make it the one that is read and written. REQUIRES: `commit`, under the same holding of the write lock; and that no call is applied.
        """

    def __enter__(self) -> Compaction: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...


class DerivedSource(IndexSource, Protocol):
    """
    The core and the payload indexes, when derived files are saved. Writes go on meanwhile.
    """

    def indexed_rows(self, field: int) -> int:
        """
        Return how many rows the graph of the field covers now; 0 when there is none.
        """

    def save_graph(self, field: int, uuid: bytes, generation: int, lsn: int) -> memoryview | None:
        """
        Return the graph's bytes, or None when there is none worth saving.
        """


class Generation(Protocol):
    """
    The points of one generation, as they are read and as a call changes them. It stays readable after the store has moved on to the next
    one, in its last state.
    """

    @property
    def next_offset(self) -> int:
        """
        The first offset that no applied write has used.
        """

    @property
    def live_count(self) -> int:
        """
        The number of points.
        """

    def offsets_of(self, ids: Sequence[PointId]) -> list[int | None]:
        """
        Return each id's offset in the applied state; None where there is no such point.
        """

    def payloads_of(self, offsets: Sequence[int]) -> list[bytes | None]:
        """
        Return each offset's encoded payload; None where the offset is a tombstone by now.
        """

    def iterate_ids(self, *, after: PointId | None = None) -> Iterator[PointId]:
        """
        Iterate over the ids beyond `after` of the state at this call, ascending: ints, then strs by their UTF-8.
        """

    def iterate_payloads(self, first: int, last: int) -> Iterator[tuple[int, bytes]]:
        """
        Iterate over (offset, encoded payload) of the live offsets in [first, last) of the state at this call,
        ascending.
        """

    def view(self) -> View:
        """
        Return the applied state of now, which stays readable while writes go on.
        """

    def row_file(self, field: int) -> tuple[int, int]:
        """
        Return the descriptor of the field's rows and how many rows are written; (-1, 0) when rows are kept in memory.
        The descriptor stays the store's.
        """

    def apply(self, lsn: int, effects: Effects) -> None:
        """
        Write the rows and take the call into the state; called by the collection's own `apply`, first of all.
        """


class SavingGeneration(Generation, Protocol):
    """
    A generation that may have saved payload indexes.
    """

    @property
    def saved_indexes(self) -> SavedIndexes | None:
        """
        The payload indexes that are saved; None where nothing is.
        """


class Store(Generation, Protocol):
    """
    Points, payloads and liveness of one collection, and the way a write takes to become durable. What it reads is of the
    present generation.
    """

    @property
    def generation(self) -> SavingGeneration:
        """
        The present generation.
        """

    @property
    def read_only_reason(self) -> str | None:
        """
        Why writes are refused, or None.
        """

    def start(self, apply: Apply) -> None:
        """
        Replay what the log has beyond the checkpoint through `apply`, which all later writes will go through as well.
        """

    def reserve(self, effects: Effects) -> None:
        """
        Make room for the rows of a call; raises StorageError with nothing changed.
        """

    def enqueue(self, effects: Effects) -> Ticket:
        """
        Give the call its place in the order of writes.
        """

    def commit(self, ticket: Ticket) -> None:
        """
        Return when the call is durable and applied.
        """

    def checkpoint(self) -> None:
        """
        Make the applied state the durable base, so that the log before it can go.
        """

    def maybe_checkpoint(self) -> bool:
        """
        Checkpoint when the log's size or age asks for it; a failure is kept in `info()`, not raised. True when one
        was made.
        """

    def drain(self) -> None:
        """
        Wait until every queued call is applied; raises when one failed. REQUIRES: the write lock, so that none is
        added.
        """

    def note_idle(self) -> None:
        """
        Let the log confirm its last record after a second of idling; called about every 0.25 s.
        """

    def compact(self, load: Loader, graphs: DerivedSource, old: Predecessor, advance: Advance) -> Compaction:
        """
        Make the next generation: the points of now, without tombstones, which go to `load` as when a store is opened. `advance` is told how
        many points are done; what it raises ends the compaction.
        """

    def verify(self, findings: Findings, advance: Advance) -> None:
        """
        Check everything that is stored; `advance` is told how many points are done.
        """

    def read_indexes(self) -> Mapping[str, IndexSpec]:
        """
        Return the declared payload indexes by key; none, with a logged warning, when what was kept of them cannot be
        read.
        """

    def write_indexes(self, declared: Mapping[str, IndexSpec]) -> None:
        """
        Replace the declared payload indexes as one step; durable on return. REQUIRES: one caller at a time.
        """

    def info(self) -> StoreInfo:
        """
        Return the store's figures.
        """

    def close(self) -> None:
        """
        Checkpoint and release every file; idempotent.
        """
