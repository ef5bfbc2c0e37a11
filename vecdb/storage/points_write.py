"""
What a checkpoint writes into points.lmdb: a frozen memtable, counts and checksums, in one transaction.

Invariant: after the transaction the file holds the state as of `lsn`, and the number of live bits agrees with the
count it states; a difference aborts it. Thread rule: one checkpoint at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import lmdb
import numpy as np
from numpy.typing import NDArray

from vecdb.errors import InternalError
from vecdb.storage.base_state import STATE_KEY, BaseState, RowState
from vecdb.storage.blocks import (
    BITMAP_BYTES,
    CHANGES_PER_VALUE,
    IDS_PER_BLOCK,
    OFFSETS_PER_BITMAP,
    SUMS_PER_VALUE,
    decode_ids,
    encode_ids,
    ids_of_block,
    key_u32,
    key_u32_u32,
    key_u64_u32,
    seal,
    u32,
    unseal,
    with_bits,
)
from vecdb.storage.memtable import DEAD, Memtable
from vecdb.storage.points import PointsFile

# The list of changed offsets is given up, and what depends on it derived anew, when it passes this many entries or half
# of the offsets: twice what makes a file due, so that after a checkpoint that was cut between its commit and the new
# files the old ones are still good.
CHANGED_LIMIT = 1 << 21


@dataclass(frozen=True, slots=True)
class RowsFrozen:
    """
    A field's rows as of the checkpoint: `new_sums` are the checksums of the whole blocks from `first_block` on.
    """

    state: RowState
    first_block: int
    new_sums: NDArray[np.uint32]


@dataclass(frozen=True, slots=True)
class Frozen:
    """
    All that a checkpoint at `lsn` makes durable.
    """

    lsn: int
    memtable: Memtable
    live: int
    rows: tuple[RowsFrozen, ...]


def write_checkpoint(points: PointsFile, frozen: Frozen, *, oldest_derived: int | None) -> BaseState:
    """
    Commit a frozen state and return what the file says now.

    `oldest_derived` is the LSN of the oldest file that changes have to be known since: those up to it are forgotten; None forgets all.
    """
    memtable = frozen.memtable
    with points.write() as (txn, tables):
        writer = _Writer(txn, tables, points)
        before = writer.state()
        if before.applied_lsn == frozen.lsn:
            # The commit of an earlier attempt succeeded although it reported an error.
            return before
        if memtable.first_offset != before.next_offset:
            raise InternalError(
                f"{points.path} ends at offset {before.next_offset}, the checkpoint begins at {memtable.first_offset}; please report this"
            )
        writer.ids(memtable)
        writer.payloads(memtable)
        writer.id_blocks(memtable)
        live = before.live + writer.liveness(memtable)
        if live != frozen.live:
            raise InternalError(
                f"{points.path} would have {live} live points, the checkpoint at LSN {frozen.lsn} counts {frozen.live}; please report this"
            )
        for field, rows in enumerate(frozen.rows):
            writer.presence(field, memtable)
            writer.row_sums(field, rows)
        changed_from = writer.changed(
            frozen.lsn, memtable.changed(), keep_above=oldest_derived, offsets=memtable.next_offset, before=before.changed_from
        )
        state = BaseState(
            before.uuid,
            before.generation,
            frozen.lsn,
            memtable.next_offset,
            frozen.live,
            changed_from,
            tuple(rows.state for rows in frozen.rows),
        )
        writer.put(b"meta", STATE_KEY, state.encode())
    return state


class _Writer:
    """
    One write transaction, table by table.
    """

    def __init__(self, txn: lmdb.Transaction[bytes], tables: Mapping[bytes, Any], points: PointsFile) -> None:
        self._txn = txn
        self._tables = tables
        self._path = points.path

    def state(self) -> BaseState:
        content = self._get(b"meta", STATE_KEY)
        return BaseState.decode(content or b"", f"{self._path}, table meta")

    def put(self, table: bytes, key: bytes, content: bytes) -> None:
        self._txn.put(key, seal(key, content), db=self._tables[table])

    def ids(self, memtable: Memtable) -> None:
        entries = memtable.sorted_ids()
        table = self._tables[b"ids"]
        for key, _, offset in entries:
            if offset == DEAD:
                self._txn.delete(key, db=table)
        self._put_many(b"ids", ((key, seal(key, u32.pack(offset))) for key, _, offset in entries if offset != DEAD))

    def payloads(self, memtable: Memtable) -> None:
        table = self._tables[b"payloads"]
        new: list[int] = []
        old: list[tuple[bytes, bytes]] = []
        for offset in sorted(memtable.payloads):
            payload = memtable.payloads[offset]
            if offset >= memtable.first_offset:
                if payload is not None:
                    new.append(offset)
                continue
            key = key_u32.pack(offset)
            if payload is None:
                self._txn.delete(key, db=table)
            else:
                old.append((key, seal(key, payload)))
        self._put_many(b"payloads", old)

        def appended() -> Iterator[tuple[bytes, bytes]]:
            for offset in new:
                payload = memtable.payloads[offset]
                key = key_u32.pack(offset)
                yield key, seal(key, payload or b"")

        self._put_many(b"payloads", appended(), append=True)

    def id_blocks(self, memtable: Memtable) -> None:
        first = memtable.first_offset
        number, kept = divmod(first, IDS_PER_BLOCK)
        ids = memtable.new_ids
        if not ids:
            return
        if kept:
            content = self._get(b"id_blocks", key_u32.pack(number)) or b""
            block = decode_ids(content, first_offset=number * IDS_PER_BLOCK, where=f"{self._path}, table id_blocks, block {number}")
            ids = ids_of_block(block)[:kept] + ids
        for start in range(0, len(ids), IDS_PER_BLOCK):
            self.put(b"id_blocks", key_u32.pack(number + start // IDS_PER_BLOCK), encode_ids(ids[start : start + IDS_PER_BLOCK]))

    def liveness(self, memtable: Memtable) -> int:
        """
        Set the new offsets, clear the tombstones; return by how much the number of live bits rose.
        """
        new = np.arange(memtable.first_offset, memtable.next_offset, dtype=np.uint32)
        return self._bitmaps(b"live", (), ones=new, zeros=memtable.tombstones(), span=new)

    def presence(self, field: int, memtable: Memtable) -> None:
        span = np.arange(memtable.first_offset, memtable.next_offset, dtype=np.uint32)
        self._bitmaps(b"present", (field,), ones=memtable.present_offsets(field), zeros=np.empty(0, np.uint32), span=span)

    def row_sums(self, field: int, rows: RowsFrozen) -> None:
        sums = rows.new_sums.astype("<u4")
        number, kept = divmod(rows.first_block, SUMS_PER_VALUE)
        if kept and len(sums):
            content = self._get(b"row_sums", key_u32_u32.pack(field, number)) or b""
            sums = np.concatenate([np.frombuffer(content, "<u4")[:kept], sums])
        for start in range(0, len(sums), SUMS_PER_VALUE):
            self.put(b"row_sums", key_u32_u32.pack(field, number + start // SUMS_PER_VALUE), sums[start : start + SUMS_PER_VALUE].tobytes())

    def changed(self, lsn: int, changed: NDArray[np.uint32], *, keep_above: int | None, offsets: int, before: int) -> int:
        """
        Note the changed offsets under lsn, forget what nothing needs; return the LSN since which the list is whole.
        """
        table = self._tables[b"changed"]
        floor = lsn if keep_above is None else max(before, keep_above)
        total = len(changed)
        obsolete: list[bytes] = []
        with self._txn.cursor(db=table) as cursor:
            for key, value in cursor:
                if key_u64_u32.unpack(key)[0] <= floor:
                    obsolete.append(key)
                else:
                    total += len(value) // 4 - 1
        if total > min(CHANGED_LIMIT, max(offsets // 2, 1024)):
            floor = lsn
        if floor >= lsn:
            self._txn.drop(table, delete=False)
            return floor
        for key in obsolete:
            self._txn.delete(key, db=table)
        for part, start in enumerate(range(0, len(changed), CHANGES_PER_VALUE)):
            self.put(b"changed", key_u64_u32.pack(lsn, part), changed[start : start + CHANGES_PER_VALUE].astype("<u4").tobytes())
        return floor

    def _get(self, table: bytes, key: bytes) -> bytes | None:
        value = self._txn.get(key, db=self._tables[table])
        return None if value is None else unseal(key, value, f"{self._path}, table {table.decode()}")

    def _put_many(self, table: bytes, items: Iterable[tuple[bytes, bytes]], *, append: bool = False) -> None:
        with self._txn.cursor(db=self._tables[table]) as cursor:
            cursor.putmulti(items, append=append)

    def _bitmaps(
        self, table: bytes, prefix: tuple[int, ...], *, ones: NDArray[np.uint32], zeros: NDArray[np.uint32], span: NDArray[np.uint32]
    ) -> int:
        """
        Write the bitmaps that the span of new offsets and the zeros touch; return the rise of the number of bits.
        """
        rise = 0
        chunks = np.unique(np.concatenate([span, zeros]) // OFFSETS_PER_BITMAP)
        for number in chunks.tolist():
            key = (key_u32_u32 if prefix else key_u32).pack(*prefix, number)
            old = self._get(table, key)
            low = number * OFFSETS_PER_BITMAP
            new = with_bits(old, ones=_within(ones, low), zeros=_within(zeros, low))
            rise += _popcount(new) - _popcount(old or bytes(BITMAP_BYTES))
            self.put(table, key, new)
        return rise


def _within(offsets: NDArray[np.uint32], low: int) -> NDArray[np.uint32]:
    first, last = np.searchsorted(offsets, [low, low + OFFSETS_PER_BITMAP])
    within: NDArray[np.uint32] = offsets[first:last] - np.uint32(low)
    return within


def _popcount(bitmap: bytes) -> int:
    return int.from_bytes(bitmap, "little").bit_count()
