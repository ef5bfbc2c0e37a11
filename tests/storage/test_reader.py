"""
The store of a reader: it writes nothing, and where it may not write LMDB's table of readers it keeps writers out instead.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from storage_doubles import QuickSystem
from writer_process import OtherProcess

import vecdb
from vecdb import F
from vecdb.storage import files
from vecdb.storage.system import Buffer

WRITES = """
db = vecdb.open(path)
p = db.get_or_create_collection("p", dim=3)
p.upsert(ids, np.ones((len(ids), 3)), [{"n": 0}] * len(ids))
"""


class NothingIsWritten(QuickSystem):
    """
    Refuses every call that could change something.
    """

    def open(self, path: Path, flags: int, mode: int) -> int:
        assert not flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND), f"{path} is opened for writing"
        return super().open(path, flags, mode)

    def pwritev(self, fd: int, buffers: Sequence[Buffer], offset: int) -> int:
        raise AssertionError(f"{files.path_of(fd)} is written")

    def sync_data(self, fd: int) -> None:
        raise AssertionError(f"{files.path_of(fd)} is synced")

    def sync_directory(self, fd: int) -> None:
        raise AssertionError("a directory is synced")

    def rename(self, source: Path, target: Path) -> None:
        raise AssertionError(f"{source} is renamed")

    def unlink(self, path: Path) -> None:
        raise AssertionError(f"{path} is removed")

    def mkdir(self, path: Path, mode: int) -> None:
        raise AssertionError(f"{path} is made")

    def rmdir(self, path: Path) -> None:
        raise AssertionError(f"{path} is removed")


class NoPermission(NothingIsWritten):
    """
    Says that nothing may be written, as a directory 0500 does to anybody but root; `read_only` says it of the whole file system.
    """

    read_only = False

    def may_write(self, path: Path) -> bool:
        return False

    def statvfs(self, path: Path) -> os.statvfs_result:
        status = list(super().statvfs(path))
        status[8] |= os.ST_RDONLY if self.read_only else 0
        return os.statvfs_result(status)


@pytest.fixture(scope="module")
def process() -> Iterator[OtherProcess]:
    with OtherProcess() as one:
        yield one


def content(path: Path) -> dict[Path, bytes]:
    return {one: one.read_bytes() for one in path.rglob("*") if one.is_file() and not one.name.endswith("-lock")}


def test_a_reader_writes_no_file_whatever_it_does_and_finds(process: OtherProcess, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    process.do(WRITES + "p.wait_indexed(); db.close()", path=str(path), ids=list(range(2000)))
    generation = path / "c-0" / "gen-1"
    graph = generation / "derived" / "graph-0.derived"
    graph.write_bytes(b"damaged, so that a writer would remove it")
    (generation / "derived" / "graph-0.tmp").write_bytes(b"left by an interrupted save")
    (path / "c-0" / "wal" / "00000000000000000009.log.tmp").write_bytes(b"prepared and never published")
    (path / "c-0" / "gen-7").mkdir()
    (path / ".c-5.tmp").mkdir()
    before = content(path)
    monkeypatch.setattr(files, "system", NothingIsWritten())
    with vecdb.open(path, mode="r") as db:
        points = db["p"]
        assert 2000 == points.count(F("n") == 0)
        assert 10 == len(points.search([1, 1, 1], k=10))
        assert points.wait_indexed()
        assert points.verify().ok
        assert db.refresh() is False
        assert before == content(path)
        process.do(WRITES + "p.checkpoint(); p.delete([1]); p.compact()", path=str(path), ids=[1, 2])
        assert db.refresh() is True
        assert 1999 == len(points)
    process.do("db.close()")


def test_a_reader_without_permission_keeps_writers_out_and_waits_for_the_one_there_is(
    process: OtherProcess, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process.do(WRITES, path=str(path), ids=[1, 2])
    monkeypatch.setattr(files, "system", NoPermission())
    with vecdb.open(path, mode="r", timeout=0.02) as db:
        with pytest.raises(vecdb.Locked, match=rf"process {process.pid}.*may not write"):
            db["p"]
        process.do("db.close()")
        assert [1, 2] == list(db["p"])
        with pytest.raises(RuntimeError, match=r"Locked.*being read by a process that may not write"):
            process.do("vecdb.open(path, timeout=0.02)")
        assert db.refresh() is False
    process.do("db = vecdb.open(path); db.close()")


def test_a_reader_without_permission_needs_the_file_lock_unless_the_file_system_is_read_only(
    process: OtherProcess, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process.do(WRITES + "db.close()", path=str(path), ids=[1, 2])
    (path / "LOCK").unlink()
    double = NoPermission()
    monkeypatch.setattr(files, "system", double)
    with vecdb.open(path, mode="r") as db:
        with pytest.raises(vecdb.StorageError, match="LOCK does not exist"):
            db["p"]
        double.read_only = True
        assert np.array_equal([1, 1, 1], db["p"][1].vector)
    assert not (path / "LOCK").exists()


def test_a_reader_of_a_database_that_is_cut_short_says_what_is_missing(process: OtherProcess, path: Path) -> None:
    process.do(WRITES + "db.close()", path=str(path), ids=[1, 2])
    collection = path / "c-0"
    for missing, said in (("wal", "wal"), ("gen-1/vectors/0.f32", "0.f32 is missing"), ("gen-1/points.lmdb", "points.lmdb")):
        aside = collection / "aside"
        (collection / missing).rename(aside)
        with vecdb.open(path, mode="r") as db, pytest.raises((vecdb.Corruption, vecdb.StorageError), match=said):
            db["p"]
        aside.rename(collection / missing)
    (segment,) = (collection / "wal").glob("*.log")
    segment.rename(collection / "aside")
    with vecdb.open(path, mode="r") as db, pytest.raises(vecdb.Corruption, match="log gap"):
        db["p"]
