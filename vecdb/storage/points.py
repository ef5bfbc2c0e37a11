"""
points.lmdb, the durable base of a collection: ids, payloads, liveness, presence, checksums of rows; docs/file_format.md has the tables.

Invariant: the file holds the state as of `applied_lsn`, whole; only the checkpoint writes it (points_write.py), in default-sync transactions; every value is checked against its CRC32C when read.
Thread rule: `snapshot` may be called from any thread, a Snapshot is used by one thread at a time; a write transaction stays in the thread that began it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import lmdb
import numpy as np
from numpy.typing import NDArray

from vecdb.errors import Corruption, StorageError
from vecdb.storage import files
from vecdb.storage.blocks import (
    BITMAP_BYTES,
    IDS_PER_BLOCK,
    OFFSETS_PER_BITMAP,
    SUMS_PER_VALUE,
    decode_ids,
    id_key,
    id_of_key,
    key_u32,
    key_u32_u32,
    key_u64_u32,
    seal,
    u32,
    unseal,
)
from vecdb.storage.effects import PointId
from vecdb.storage.store import IdBlock

FILE_NAME = "points.lmdb"
MAP_SIZE = 64 << 30
TABLES = (b"meta", b"ids", b"payloads", b"id_blocks", b"live", b"present", b"row_sums", b"changed")
STATE_KEY = b"state"
MAX_READERS = 512

_state_head = struct.Struct("<16sQQQQQI4x")
_state_field = struct.Struct("<QI4x")


@dataclass(frozen=True, slots=True)
class RowState:
    """
    What is written of a field's rows: how many, and the CRC32C of those behind the last whole block.
    """

    rows: int
    partial_crc: int


@dataclass(frozen=True, slots=True)
class BaseState:
    """
    The single value of the table `meta`: what the file as a whole says.
    """

    uuid: bytes
    generation: int
    applied_lsn: int
    next_offset: int
    live: int
    changed_from: int
    rows: tuple[RowState, ...]

    def encode(self) -> bytes:
        """
        Return the content of the value.
        """
        head = _state_head.pack(self.uuid, self.generation, self.applied_lsn, self.next_offset, self.live, self.changed_from, len(self.rows))
        return head + b"".join(_state_field.pack(field.rows, field.partial_crc) for field in self.rows)

    @classmethod
    def decode(cls, content: bytes, where: str) -> BaseState:
        """
        Return the state; raises Corruption naming `where`.
        """
        fields = _state_head.unpack_from(content)[6] if len(content) >= _state_head.size else -1
        if len(content) != _state_head.size + fields * _state_field.size:
            raise Corruption(f"{where}: the state has {len(content)} bytes and says {fields} vector fields")
        uuid, generation, applied_lsn, next_offset, live, changed_from, _ = _state_head.unpack_from(content)
        rows = tuple(RowState(*_state_field.unpack_from(content, _state_head.size + i * _state_field.size)) for i in range(fields))
        return cls(uuid, generation, applied_lsn, next_offset, live, changed_from, rows)


@contextmanager
def lmdb_errors(path: Path) -> Iterator[None]:
    """
    Turn errors of LMDB into this library's, with the path and what to do.
    """
    try:
        yield
    except (lmdb.CorruptedError, lmdb.PageNotFoundError, lmdb.InvalidError, lmdb.VersionMismatchError) as error:
        raise Corruption(f"{path} is damaged: {error}; restore a backup, or open with salvage=True to keep what verifies") from error
    except lmdb.MapFullError as error:
        raise StorageError(f"{path} has reached its limit of {MAP_SIZE >> 30} GiB; delete points, or split the collection") from error
    except lmdb.PanicError as error:
        raise StorageError(f"{path} cannot be written any more after a failed write ({error}); close the database and open it again") from error
    except lmdb.ReadersFullError as error:
        raise StorageError(f"{path} has {MAX_READERS} readers at work already; close some iterators or readers") from error
    except lmdb.Error as error:
        raise StorageError(f"{path}: {error}; check the disk and its free space, then try again") from error


class PointsFile:
    """
    An open points.lmdb.
    """

    def __init__(self, path: Path, env: lmdb.Environment, tables: Mapping[bytes, Any]) -> None:
        self.path = path
        self._env = env
        self._tables = tables

    @staticmethod
    def create(path: Path, state: BaseState) -> None:
        """
        Make an empty file in a directory that nothing refers to yet. The caller fsyncs the directory and renames it, since LMDB's own first writes are not safe against a power cut.
        """
        with lmdb_errors(path):
            env = _open_environment(path, create=True)
            try:
                with env.begin(write=True) as txn:
                    tables = {name: env.open_db(name, txn=txn) for name in TABLES}
                    txn.put(STATE_KEY, seal(STATE_KEY, state.encode()), db=tables[b"meta"])
                env.sync(force=True)
            finally:
                env.close()
        files.remove(path.with_name(path.name + "-lock"))

    @classmethod
    def open(cls, path: Path) -> PointsFile:
        """
        Open an existing file; raises Corruption when it is none of ours.
        """
        if not files.exists(path):
            raise Corruption(f"{path} is missing; restore a backup of the database")
        with lmdb_errors(path):
            env = _open_environment(path, create=False)
            try:
                env.reader_check()
                tables = {name: env.open_db(name, create=False) for name in TABLES}
            except lmdb.NotFoundError as error:
                env.close()
                raise Corruption(f"{path}: a table is missing ({error}); restore a backup of the database") from error
            except BaseException:
                env.close()
                raise
        return cls(path, env, tables)

    def snapshot(self) -> Snapshot:
        """
        Begin a read transaction: the file as of now, for as long as the Snapshot is open.
        """
        with lmdb_errors(self.path):
            return Snapshot(self.path, self._env.begin(), self._tables)

    @contextmanager
    def write(self) -> Iterator[tuple[lmdb.Transaction[bytes], Mapping[bytes, Any]]]:
        """
        Begin the checkpoint's transaction: committed, synced, at the end of the block, undone on an exception.
        """
        with lmdb_errors(self.path):
            self._env.reader_check()
            with self._env.begin(write=True) as txn:
                yield txn, self._tables

    def size(self) -> int:
        """
        Return the bytes of the file that are in use.
        """
        with lmdb_errors(self.path):
            return int((self._env.info()["last_pgno"] + 1) * self._env.stat()["psize"])

    def close(self) -> None:
        """
        Release the file; snapshots that are still open become unusable.
        """
        self._env.close()


class Snapshot:
    """
    A read transaction over points.lmdb; close it, or use it as a context manager.
    """

    def __init__(self, path: Path, txn: lmdb.Transaction[bytes], tables: Mapping[bytes, Any]) -> None:
        self.path = path
        self._txn = txn
        self._tables = tables

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
        return {keys[key]: self._offset(key, value, where) for key, value in self._get_many(b"ids", list(keys))}

    def payloads_of(self, offsets: Sequence[int]) -> dict[int, bytes]:
        """
        Return the payloads of those offsets that are alive; a live offset without one is Corruption.
        """
        keys = {key_u32.pack(offset): offset for offset in offsets}
        where = self._where(b"payloads")
        found = {keys[key]: unseal(key, value, where) for key, value in self._get_many(b"payloads", list(keys))}
        for offset in keys.values():
            if offset not in found and self.is_live(offset):
                raise Corruption(f"{where}: the payload of the live offset {offset} is missing; restore a backup, or open with salvage=True to keep what verifies")
        return found

    def ids_from(self, start: bytes) -> Iterator[tuple[bytes, PointId, int]]:
        """
        Iterate over (key, id, offset) from the first key that is not below start.
        """
        where = self._where(b"ids")
        for key, value in self._scan(b"ids", start):
            yield key, id_of_key(key), self._offset(key, value, where)

    def payloads_between(self, first: int, last: int) -> dict[int, bytes]:
        """
        Return the payloads of the live offsets in [first, last), ascending.
        """
        where = self._where(b"payloads")
        found: dict[int, bytes] = {}
        for key, value in self._scan(b"payloads", key_u32.pack(first)):
            offset = key_u32.unpack(key)[0]
            if offset >= last:
                break
            found[offset] = unseal(key, value, where)
        return found

    def id_block(self, number: int) -> IdBlock:
        """
        Return the block of ids that begins with offset number * IDS_PER_BLOCK.
        """
        key = key_u32.pack(number)
        return decode_ids(self._require(b"id_blocks", key), first_offset=number * IDS_PER_BLOCK, where=f"{self._where(b'id_blocks')}, block {number}")

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
        Return the offsets whose payload or liveness may have changed after lsn, ascending; None when the list does not reach back that far.
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
            where = self._where(table)
            for key, value in self._scan(table, b"\0"):
                unseal(key, value, where)

    def _where(self, table: bytes) -> str:
        return f"{self.path}, table {table.decode()}"

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
        with lmdb_errors(self.path):
            value = self._txn.get(key, db=self._tables[table])
        if value is None:
            raise Corruption(f"{self._where(table)}: the value of key {key.hex()} is missing; restore a backup, or open with salvage=True to keep what verifies")
        return unseal(key, value, self._where(table))

    def _get_many(self, table: bytes, keys: list[bytes]) -> list[tuple[bytes, bytes]]:
        with lmdb_errors(self.path), self._txn.cursor(db=self._tables[table]) as cursor:
            return list(cursor.getmulti(keys))

    def _scan(self, table: bytes, start: bytes) -> Iterator[tuple[bytes, bytes]]:
        with lmdb_errors(self.path), self._txn.cursor(db=self._tables[table]) as cursor:
            if cursor.set_range(start):
                yield from cursor.iternext(keys=True, values=True)


def _open_environment(path: Path, *, create: bool) -> lmdb.Environment:
    return lmdb.open(
        str(path), subdir=False, map_size=MAP_SIZE, mode=0o600, create=create, max_readers=MAX_READERS, max_dbs=len(TABLES), max_spare_txns=4, lib_version=0
    )
