"""
Reading points.lmdb: one transaction, every value checked against its CRC32C.

Invariant: a Snapshot shows one state of the file for as long as it is open, whatever is written meanwhile; a value
that is not what was written is Corruption naming file, table and key. Thread rule: one thread at a time.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from itertools import islice
from operator import lt
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import lmdb
import numpy as np
from numpy.typing import NDArray

from vecdb.errors import Corruption
from vecdb.storage.base_state import STATE_KEY, TABLES, BaseState
from vecdb.storage.blocks import (
    BITMAP_BYTES,
    FIRST_STR_KEY,
    IDS_PER_BLOCK,
    OFFSETS_PER_BITMAP,
    SUMS_PER_VALUE,
    IdBlock,
    decode_ids,
    id_key,
    id_of_key,
    is_id_key,
    key_u32,
    key_u32_u32,
    key_u64_u32,
    u32,
    unseal,
    unseal_each,
)
from vecdb.storage.effects import PointId
from vecdb.storage.lmdb_errors import lmdb_errors, meaning

Entry = tuple[bytes, bytes]
_MAX_U32 = 2**32 - 1
_KEYS_AT_ONCE = 1 << 14


class Table(NamedTuple):
    """
    A table of an open file: LMDB's handle, and its place in words, for errors.
    """

    handle: Any
    where: str


class Snapshot:
    """
    A read transaction over points.lmdb; close it, or use it as a context manager.

    `doubted`: an id that is not there has to be proven absent.
    """

    def __init__(self, path: Path, txn: lmdb.Transaction[bytes], tables: Mapping[bytes, Table], *, doubted: bool = False) -> None:
        self.path = path
        self._txn = txn
        self._tables = tables
        self._doubted = doubted

    def __enter__(self) -> Snapshot:
        """
        Return itself.
        """
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """
        Close it.
        """
        self.close()

    def close(self) -> None:
        """
        End the transaction; idempotent.
        """
        self._txn.abort()

    def state(self) -> BaseState:
        """
        Return the state of the file.
        """
        return BaseState.decode(self._require(b"meta", STATE_KEY), self._where(b"meta"))

    def offsets_of(self, ids: Sequence[PointId]) -> dict[PointId, int]:
        """
        Return the offsets of those ids that exist.
        """
        keys = {id_key(point_id): point_id for point_id in ids}
        where = self._where(b"ids")
        found = {keys[key]: self._offset(key, value, where) for key, value in self._get_many(b"ids", list(keys))}
        if self._doubted and len(found) < len(keys):
            for key, point_id in keys.items():
                if point_id not in found:
                    self._check_absent(key, where)
        return found

    def _check_absent(self, key: bytes, where: str) -> None:
        """
        Raise Corruption unless the keys that stand around this one are what was written: a damaged key would lead past its own place.
        """
        above, below = self._around(key)
        if (above and above[0] <= key) or (below and below[0] >= key):
            raise Corruption(f"{where}: its keys are not in order around {key.hex()}; restore a backup of the database")
        for entry in filter(None, (above, below)):
            unseal(*entry, where)

    def last_int_id(self) -> int:
        """
        Return the greatest id that is an int, -1 when there is none; raises Corruption when the keys around it are not what was written.
        """
        where = self._where(b"ids")
        above, last = self._around(FIRST_STR_KEY)
        for entry in filter(None, (above, last)):
            unseal(*entry, where)
        if last is None:
            return -1
        if not is_id_key(last[0]) or last[0] >= FIRST_STR_KEY:
            raise Corruption(f"{where}: {last[0].hex()} is no key of an int id; restore a backup of the database")
        return int(id_of_key(last[0]))

    def _around(self, key: bytes) -> tuple[Entry | None, Entry | None]:
        """
        Return the first entry of ids that is not below a key, and the one before it.
        """
        with lmdb_errors(self.path), self._txn.cursor(db=self._tables[b"ids"].handle) as cursor:
            above = cursor.item() if cursor.set_range(key) else None
            below = cursor.item() if (cursor.prev() if above else cursor.last()) else None
        return above, below

    def check_ids(self, count: int) -> None:
        """
        Raise Corruption unless the keys of all ids are as many as there are points, and in order. Their checksums are left to those who
        read them: a key that is damaged in its place is met by whoever looks for it, see `doubted` of PointsFile.
        """
        where = self._where(b"ids")
        seen, last = 0, b""
        with lmdb_errors(self.path), self._txn.cursor(db=self._tables[b"ids"].handle) as cursor:
            # As readings begin, since LMDB's own first entry may be one that they do not find.
            keys = cursor.iternext(values=False) if cursor.set_range(b"\0") else iter(())
            while piece := list(islice(keys, _KEYS_AT_ONCE)):
                if not (last < piece[0] and all(map(lt, piece, islice(piece, 1, None)))):
                    raise Corruption(f"{where}: its keys are not in order; restore a backup of the database")
                # The keys of another table, which stand in order too, would begin otherwise.
                if not is_id_key(piece[0]):
                    raise Corruption(f"{where}: {piece[0].hex()} is no key of an id; restore a backup of the database")
                seen, last = seen + len(piece), piece[-1]
        if seen != count:
            raise Corruption(f"{where}: it has {seen} ids, expected {count}; restore a backup of the database")

    def payloads_of(self, offsets: Sequence[int]) -> list[bytes | None]:
        """
        Return the payload of each offset, None where it is not alive; a live offset without one is Corruption.
        """
        where = self._where(b"payloads")
        wanted = list(map(key_u32.pack, offsets))
        entries = self._get_many(b"payloads", wanted)
        contents: list[bytes | None] = [*unseal_each(entries, where)]
        if len(contents) == len(wanted):
            return contents
        found = dict(zip([key for key, _ in entries], contents, strict=True))
        for offset, key in zip(offsets, wanted, strict=True):
            if key not in found and self.is_live(offset):
                raise Corruption(f"{where}: the payload of the live offset {offset} is missing; restore a backup of the database")
        return list(map(found.get, wanted))

    def ids_from(self, start: bytes) -> Iterator[tuple[bytes, PointId, int]]:
        """
        Iterate over (key, id, offset) from the first key that is not below start.
        """
        where = self._where(b"ids")
        for key, value in self._scan(b"ids", start):
            offset = self._offset(key, value, where)  # after its checksum, which covers the key, that is what was written
            if not is_id_key(key):
                raise Corruption(f"{where}: {key.hex()} is no key of an id; restore a backup of the database")
            yield key, id_of_key(key), offset

    def payloads_between(self, first: int, last: int) -> dict[int, bytes]:
        """
        Return the payloads of the live offsets in [first, last), ascending.
        """
        where = self._where(b"payloads")
        end = key_u32.pack(last) if last <= _MAX_U32 else b"\xff" * (key_u32.size + 1)
        entries = []
        for entry in self._scan(b"payloads", key_u32.pack(first)):
            if entry[0] >= end:
                break
            entries.append(entry)
        keys = [key for key, _ in entries]
        for key in keys:
            if len(key) != key_u32.size:
                raise Corruption(f"{where}: a key has {len(key)} bytes, expected {key_u32.size}; restore a backup of the database")
        offsets = np.frombuffer(b"".join(keys), ">u4").tolist()
        return dict(zip(offsets, unseal_each(entries, where), strict=True))

    def id_block(self, number: int) -> IdBlock:
        """
        Return the block of ids that begins with offset number * IDS_PER_BLOCK.
        """
        key = key_u32.pack(number)
        return decode_ids(
            self._require(b"id_blocks", key), first_offset=number * IDS_PER_BLOCK, where=f"{self._where(b'id_blocks')}, block {number}"
        )

    def live_bitmap(self, number: int) -> bytes:
        """
        Return the liveness of the offsets from number * OFFSETS_PER_BITMAP on.
        """
        return self._bitmap(b"live", key_u32.pack(number))

    def present_bitmap(self, field: int, number: int) -> bytes:
        """
        Return which offsets from number * OFFSETS_PER_BITMAP on have a vector in the field.
        """
        return self._bitmap(b"present", key_u32_u32.pack(field, number))

    def is_live(self, offset: int) -> bool:
        """
        Return whether the offset belongs to a point.
        """
        if offset >= self.state().next_offset:
            return False
        byte = self.live_bitmap(offset // OFFSETS_PER_BITMAP)[offset % OFFSETS_PER_BITMAP // 8]
        return bool(byte >> (offset % 8) & 1)

    def row_sums(self, field: int, blocks: int) -> NDArray[np.uint32]:
        """
        Return the CRC32C of the first `blocks` whole blocks of rows.
        """
        values = [self._require(b"row_sums", key_u32_u32.pack(field, number)) for number in range(-(-blocks // SUMS_PER_VALUE))]
        sums = np.frombuffer(b"".join(values), "<u4").astype(np.uint32)
        if len(sums) != blocks:
            raise Corruption(f"{self._where(b'row_sums')}: field {field} has {len(sums)} block checksums, expected {blocks}")
        return sums

    def changed_since(self, lsn: int) -> NDArray[np.uint32] | None:
        """
        Return the offsets whose payload or liveness may have changed after lsn, ascending; None when the list does
        not reach back that far.
        """
        if lsn < self.state().changed_from:
            return None
        where = self._where(b"changed")
        parts = [np.frombuffer(unseal(key, value, where), "<u4") for key, value in self._scan(b"changed", key_u64_u32.pack(lsn + 1, 0))]
        return np.unique(np.concatenate(parts)).astype(np.uint32) if parts else np.empty(0, np.uint32)

    def check_all(self) -> None:
        """
        Read every value of every table; raises Corruption at the first that is not what was written.
        """
        for table in TABLES:
            for damaged in self.damaged_values(table):
                raise Corruption(damaged)

    def damaged_values(self, table: bytes) -> Iterator[str]:
        """
        Read every value of a table and describe those that are not what was written.
        """
        where = self._where(table)
        for key, value in self._scan(table, b"\0"):
            try:
                unseal(key, value, where)
            except Corruption as error:
                yield str(error)

    def entries(self, table: bytes) -> int:
        """
        Return how many values a table has.
        """
        with lmdb_errors(self.path):
            return int(self._txn.stat(self._tables[table].handle)["entries"])

    def _where(self, table: bytes) -> str:
        return self._tables[table].where

    @staticmethod
    def _offset(key: bytes, value: bytes, where: str) -> int:
        content = unseal(key, value, where)
        if len(content) != 4:
            raise Corruption(f"{where}, key {key.hex()}: an offset has {len(content)} bytes, expected 4")
        return int(u32.unpack(content)[0])

    def _bitmap(self, table: bytes, key: bytes) -> bytes:
        content = self._require(table, key)
        if len(content) != BITMAP_BYTES:
            raise Corruption(f"{self._where(table)}, key {key.hex()}: a bitmap has {len(content)} bytes, expected {BITMAP_BYTES}")
        return content

    def _require(self, table: bytes, key: bytes) -> bytes:
        value = self._get(table, key)
        if value is None:
            raise Corruption(f"{self._where(table)}: the value of key {key.hex()} is missing; restore a backup of the database")
        return unseal(key, value, self._where(table))

    def _get(self, table: bytes, key: bytes) -> bytes | None:
        with lmdb_errors(self.path):
            return self._txn.get(key, db=self._tables[table].handle)

    def _get_many(self, table: bytes, keys: list[bytes]) -> list[tuple[bytes, bytes]]:
        try:
            with self._txn.cursor(db=self._tables[table].handle) as cursor:
                return cursor.getmulti(keys)
        except lmdb.Error as error:
            raise meaning(error, self.path) from error

    def _scan(self, table: bytes, start: bytes) -> Generator[tuple[bytes, bytes], None, None]:
        with lmdb_errors(self.path), self._txn.cursor(db=self._tables[table].handle) as cursor:
            if cursor.set_range(start):
                yield from cursor.iternext(keys=True, values=True)
