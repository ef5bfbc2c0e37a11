"""
points.lmdb, the durable base of a collection: ids, payloads, liveness, presence, checksums of rows;
docs/file_format.md has the tables.

Invariant: the file holds the state as of `applied_lsn`, whole; only the checkpoint writes it (points_write.py), in
default-sync transactions. Thread rule: `snapshot` may be called from any thread; a write transaction stays in the
thread that began it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lmdb

from vecdb.errors import Corruption
from vecdb.storage import files
from vecdb.storage.base_state import STATE_KEY, TABLES, BaseState
from vecdb.storage.blocks import seal
from vecdb.storage.lmdb_errors import MAP_SIZE, MAX_READERS, lmdb_errors, meaning
from vecdb.storage.page_check import check_pages
from vecdb.storage.pinned import PinnedPoints
from vecdb.storage.points_read import Snapshot, Table

FILE_NAME = "points.lmdb"


class PointsFile:
    """
    An open points.lmdb; `doubted` when nothing says that its pages are what was written.
    """

    def __init__(self, path: Path, env: lmdb.Environment, handles: Mapping[bytes, Any]) -> None:
        self.path = path
        self.doubted = False
        self._env = env
        self._tables = {name: Table(handle, f"{path}, table {name.decode()}") for name, handle in handles.items()}

    @staticmethod
    def create(path: Path, state: BaseState) -> None:
        """
        Make an empty file in a directory that nothing refers to yet. The caller fsyncs the directory and renames it,
        since LMDB's own first writes are not safe against a power cut.
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
        return cls._open(path, {})

    @classmethod
    def open_reading(cls, path: Path, *, beside_writer: bool) -> PointsFile:
        """
        Open an existing file for a reader. `beside_writer` wants the right to write LMDB's table of readers, beside the file; without it,
        REQUIRES that no process writes the file until it is closed.
        """
        return cls._open(path, {"readonly": True, "lock": beside_writer})

    @classmethod
    def _open(cls, path: Path, options: dict[str, bool]) -> PointsFile:
        if not files.exists(path):
            raise Corruption(f"{path} is missing; restore a backup of the database")
        with lmdb_errors(path):
            env = _open_environment(path, create=False, **options)
            try:
                if options.get("lock", True):
                    env.reader_check()
                _check_length(path, env)
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
        try:
            return Snapshot(self.path, self._env.begin(), self._tables, doubted=self.doubted)
        except lmdb.Error as error:
            raise meaning(error, self.path) from error

    def pin(self) -> PinnedPoints:
        """
        Return the file as of now, for any thread, for as long as it is referred to.
        """
        with lmdb_errors(self.path):
            return PinnedPoints(self.path, self._env.begin(), self._tables, doubted=self.doubted)

    def newest(self) -> int:
        """
        Return LMDB's number of the newest transaction that was committed.
        """
        with lmdb_errors(self.path):
            return int(self._env.info()["last_txnid"])

    def readers(self) -> tuple[int, int]:
        """
        Return how many states of the file other processes keep readable, and how many checkpoints the oldest is behind.
        """
        with lmdb_errors(self.path):
            newest, lines = self.newest(), self._env.readers().splitlines()
        # A line a reader: process, thread, transaction; "-" where none is open.
        slots = (line.split() for line in lines)
        seen = [int(slot[2]) for slot in slots if len(slot) == 3 and slot[2].isdecimal() and slot[0] != str(os.getpid())]
        return len(seen), newest - min(seen, default=newest)

    @contextmanager
    def write(self) -> Iterator[tuple[lmdb.Transaction[bytes], Mapping[bytes, Any]]]:
        """
        Begin the checkpoint's transaction: committed, synced, at the end of the block, undone on an exception.
        """
        with lmdb_errors(self.path):
            self._env.reader_check()
            with self._env.begin(write=True) as txn:
                yield txn, {name: table.handle for name, table in self._tables.items()}

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


def _check_length(path: Path, env: lmdb.Environment) -> None:
    """
    Raise Corruption when the file ends before a page that something refers to: LMDB maps the file, and reading behind its end ends the
    process. A page that is free may be missing.
    """
    needed = (env.info()["last_pgno"] + 1) * env.stat()["psize"]  # first: another process may make the file longer
    fd = files.open_file(path)
    try:
        length = files.size(fd)
    finally:
        files.close(fd)
    if length < needed:
        check_pages(path)


def _open_environment(path: Path, *, create: bool, **options: bool) -> lmdb.Environment:
    return lmdb.open(
        str(path),
        subdir=False,
        map_size=MAP_SIZE,
        mode=0o600,
        create=create,
        max_readers=MAX_READERS,
        max_dbs=len(TABLES),
        max_spare_txns=4,
        lib_version=0,
        **options,
    )
