"""
What is saved, copied and set aside reaches the medium before anything rests on it: syncs stand where a power cut would need them.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import numpy as np
from storage_doubles import QuickSystem

import vecdb
from vecdb.hnsw import Index
from vecdb.storage import files

Call = tuple[str, ...]


class Calls(QuickSystem):
    """
    Lists syncs, and changes of names, with the paths below `root`.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.calls: list[Call] = []

    def note(self, call: str, *paths: Path) -> None:
        self.calls.append((call, *(os.path.relpath(path, self.root) for path in paths)))

    def sync_data(self, fd: int) -> None:
        self.note("sync", Path(f"/proc/self/fd/{fd}").readlink())

    def sync_directory(self, fd: int) -> None:
        self.note("sync", Path(f"/proc/self/fd/{fd}").readlink())

    def rename(self, source: Path, target: Path) -> None:
        super().rename(source, target)
        self.note("rename", source, target)

    def mkdir(self, path: Path, mode: int) -> None:
        super().mkdir(path, mode)
        self.note("mkdir", path)


@contextmanager
def listed(root: Path) -> Iterator[list[Call]]:
    """
    List the calls that are made in a with block.
    """
    system = Calls(root)
    with mock.patch.object(files, "system", system):
        yield system.calls


def test_the_files_of_an_index_are_synced_before_they_get_their_names_and_the_names_after(tmp_path: Path) -> None:
    index = Index(space="l2", dim=3)
    index.init_index(max_elements=10)
    index.add_items(np.eye(3, dtype=np.float32))
    with listed(tmp_path) as calls:
        index.save_index(str(tmp_path / "saved"))
    renames = [call for call in calls if call[0] == "rename"]
    assert ["saved"] == [call[2] for call in renames]
    assert [("sync", renames[0][1]), renames[0], ("sync", ".")] == calls


def test_the_name_of_a_backup_is_synced_at_the_end(tmp_path: Path) -> None:
    with vecdb.open(tmp_path / "db") as db:
        db.create_collection("c", dim=3).upsert(1, np.ones(3, np.float32), {})
        with listed(tmp_path) as calls:
            db.backup(tmp_path / "copy")
    place = next(place for place, call in enumerate(calls) if call[0] == "rename" and call[2] == "copy")
    assert [("sync", ".")] == calls[place + 1 :]


def test_a_salvage_syncs_where_it_puts_files_before_and_after_they_move(tmp_path: Path) -> None:
    path = tmp_path / "db"
    with vecdb.open(path) as db:
        db.create_collection("c", dim=3).upsert([1, 2], np.ones((2, 3), np.float32), [{}, {}])
    damaged = next(path.rglob("0.f32"))
    damaged.write_bytes(b"\1" * damaged.stat().st_size)
    number = next(one.name for one in path.glob("c-*"))
    with listed(path) as calls, warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        vecdb.open(path, salvage=True).close()
    aside = [("mkdir", "salvaged-1"), ("sync", "."), ("rename", number, f"salvaged-1/{number}"), ("sync", "salvaged-1"), ("sync", ".")]
    start = calls.index(aside[0])
    assert aside == calls[start : start + len(aside)]
    moved = calls.index(("rename", f"salvaged-1/rebuilt-{number}", number))
    assert ("sync", ".") == calls[moved + 1]
