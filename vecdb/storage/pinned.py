"""
points.lmdb as of one moment, for a reader beside a writer: one LMDB transaction, kept open, that all reads of a state share.

Invariant: every read sees the file as it was when the transaction began, whatever the writer commits meanwhile; the writer cannot reuse the
pages it needs before it ends, with the last reference to it. Thread rule: any thread; a lock makes the calls of LMDB follow one another.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import closing
from itertools import islice
from pathlib import Path
from threading import Lock

import lmdb

from vecdb.storage.points_read import Entry, Snapshot, Table

# Entries that a scan reads at a time; others may read in between.
_PIECE = 1024


class _SharedSnapshot(Snapshot):
    """
    A snapshot that any thread may read.
    """

    def __init__(self, path: Path, txn: lmdb.Transaction[bytes], tables: Mapping[bytes, Table], *, doubted: bool) -> None:
        super().__init__(path, txn, tables, doubted=doubted)
        self._lock = Lock()

    def close(self) -> None:
        """
        Do nothing: others read on, and the transaction ends with the last reference.
        """

    def entries(self, table: bytes) -> int:
        """
        Return how many values a table has.
        """
        with self._lock:
            return super().entries(table)

    def _get(self, table: bytes, key: bytes) -> bytes | None:
        with self._lock:
            return super()._get(table, key)

    def _get_many(self, table: bytes, keys: list[bytes]) -> list[tuple[bytes, bytes]]:
        with self._lock:
            return super()._get_many(table, keys)

    def _around(self, key: bytes) -> tuple[Entry | None, Entry | None]:
        with self._lock:
            return super()._around(key)

    def _scan(self, table: bytes, start: bytes) -> Generator[tuple[bytes, bytes], None, None]:
        while True:
            with self._lock, closing(super()._scan(table, start)) as entries:
                piece = list(islice(entries, _PIECE))
            yield from piece
            if len(piece) < _PIECE:
                return
            start = piece[-1][0] + b"\0"


class PinnedPoints:
    """
    A state of points.lmdb; `number` is LMDB's number of the transaction that wrote it.
    """

    def __init__(self, path: Path, txn: lmdb.Transaction[bytes], tables: Mapping[bytes, Table], *, doubted: bool) -> None:
        self.path = path
        self.number = int(txn.id())
        self._shared = _SharedSnapshot(path, txn, tables, doubted=doubted)

    def snapshot(self) -> Snapshot:
        """
        Return the state; closing it does nothing.
        """
        return self._shared
