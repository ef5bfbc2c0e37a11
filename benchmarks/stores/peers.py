"""
vecdb, SQLite and LMDB as stores of the same points: each write is on the medium when it returns.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import lmdb

import vecdb

from .work import Batch, Work

Write = Callable[[Batch], None]


class Store(Protocol):
    """
    A store in a directory of its own; `writer` is called once in each thread that writes.
    """

    name: str

    def writer(self) -> Write: ...

    def settle(self) -> float:
        """
        Wait for what goes on behind; return the seconds that took.
        """

    def close(self) -> None: ...


class Vecdb:
    """
    A collection on disk, indexed in the background.
    """

    name = "vecdb"

    def __init__(self, directory: Path, work: Work) -> None:
        self.database = vecdb.open(directory / "vecdb")
        self.collection = self.database.create_collection("points", dim=work.dim)

    def writer(self) -> Write:
        def write(batch: Batch) -> None:
            if len(batch.ids) == 1:
                self.collection.upsert(batch.ids[0], batch.vectors[0], batch.payloads[0])
            else:
                self.collection.upsert(batch.ids, batch.vectors, batch.payloads)

        return write

    def settle(self) -> float:
        start = time.perf_counter()
        self.collection.wait_indexed()
        return time.perf_counter() - start

    def close(self) -> None:
        self.database.close()


class Sqlite:
    """
    One table, WAL, synchronous=FULL; a transaction a batch, a connection a thread.
    """

    name = "SQLite"

    def __init__(self, directory: Path, work: Work) -> None:
        self._path = directory / "points.sqlite"
        self._connections: list[sqlite3.Connection] = []
        self._connect().execute("CREATE TABLE points (id INTEGER PRIMARY KEY, vector BLOB, payload TEXT)")

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, timeout=60, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        self._connections.append(connection)
        return connection

    def writer(self) -> Write:
        connection = self._connect()

        def write(batch: Batch) -> None:
            rows = [
                (one, vector.tobytes(), json.dumps(payload))
                for one, vector, payload in zip(batch.ids, batch.vectors, batch.payloads, strict=True)
            ]
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany("INSERT OR REPLACE INTO points VALUES (?, ?, ?)", rows)
            connection.execute("COMMIT")

        return write

    def settle(self) -> float:
        return 0.0

    def close(self) -> None:
        for connection in self._connections:
            connection.close()


class Lmdb:
    """
    One key a point, default sync; a transaction a batch.
    """

    name = "LMDB"

    def __init__(self, directory: Path, work: Work) -> None:
        self._environment: Any = lmdb.open(str(directory / "points.lmdb"), map_size=16 << 30, lib_version=0)

    def writer(self) -> Write:
        def write(batch: Batch) -> None:
            with self._environment.begin(write=True) as transaction:
                for one, vector, payload in zip(batch.ids, batch.vectors, batch.payloads, strict=True):
                    transaction.put(one.to_bytes(8, "big"), vector.tobytes() + json.dumps(payload).encode())

        return write

    def settle(self) -> float:
        return 0.0

    def close(self) -> None:
        self._environment.close()


STORES: tuple[type[Vecdb] | type[Sqlite] | type[Lmdb], ...] = (Vecdb, Sqlite, Lmdb)
