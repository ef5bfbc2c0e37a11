"""
Opening gives back what was confirmed, after a crash at any file call, with unsynced writes lost in any mixture;
damage is reported and never an answer.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vecdb.errors import Corruption, StorageError
from vecdb.storage import clean_close, files
from vecdb.storage.blocks import id_key
from vecdb.storage.effects import Effects
from vecdb.storage.memtable import Memtable
from vecdb.storage.points import PointsFile

Open = Callable[..., Any]


class World:
    """
    A crashed copy: where it is, the model when it was taken, and the ones that it may show.
    """

    def __init__(self, path: Path, call: str, expected: list[dict[Any, Any]]) -> None:
        self.path = path
        self.call = call
        self.expected = expected


def assert_recovers(world: World, open_collection: Open, dims: tuple[int, ...]) -> None:
    """
    Open it, twice, with a write in between, and compare.
    """
    collection = open_collection(world.path, dims=dims)
    seen = collection.contents()
    assert seen in world.expected, f"after {world.call}: {len(seen)} points"
    collection.model = seen
    collection.upsert(["written after recovery", 1], version=9)
    collection.check()
    collection.close()
    again = open_collection(world.path, dims=dims)
    again.model = collection.model
    again.check()
    again.close()
    shutil.rmtree(world.path)


@pytest.mark.parametrize("lose", ["nothing", "everything unsynced", "some pages"])
def test_a_crash_at_any_call_of_a_checkpoint_loses_nothing(
    tmp_path: Path, system: Any, open_collection: Open, worlds: Any, rng: random.Random, lose: str
) -> None:
    copy_world, lose_unsynced = worlds
    choose = {"nothing": lambda: False, "everything unsynced": lambda: True, "some pages": lambda: rng.random() < 0.5}[lose]
    home, dims = tmp_path / "c-0", (40, 3)
    collection = open_collection(home, dims=dims)
    collection.upsert(list(range(300)))
    collection.store.checkpoint()
    collection.upsert([*list(range(200, 500)), "a", "b"], version=1)
    collection.delete([3, "a", 250])
    collection.patch([4, 300, "b"], {"patched": True})
    crashed: list[World] = []

    def stop(call: str) -> None:
        path = tmp_path / f"crash-{len(crashed)}"
        copy_world(home, path)
        lose_unsynced(home, path, system.synced, choose)
        crashed.append(World(path, call, [dict(collection.model)]))

    system.after = stop
    collection.store.checkpoint()
    system.after = lambda call: None
    assert len(crashed) >= 4
    assert any("vectors" in world.call for world in crashed)
    for world in crashed:
        assert_recovers(world, open_collection, dims)
    collection.check()


@pytest.mark.parametrize("lose", ["nothing", "everything unsynced", "some pages"])
def test_a_crash_at_any_call_of_a_life_loses_nothing_confirmed(
    tmp_path: Path, system: Any, open_collection: Open, worlds: Any, rng: random.Random, lose: str
) -> None:
    copy_world, lose_unsynced = worlds
    choose = {"nothing": lambda: False, "everything unsynced": lambda: True, "some pages": lambda: rng.random() < 0.5}[lose]
    home, dims = tmp_path / "c-0", (8,)
    collection = open_collection(home, dims=dims)
    crashed: list[World] = []
    before: list[dict[Any, Any]] = [{}]

    def stop(call: str) -> None:
        if call.startswith("before"):
            return
        path = tmp_path / f"crash-{len(crashed)}"
        copy_world(home, path)
        lose_unsynced(home, path, system.synced, choose)
        crashed.append(World(path, call, list(before)))

    def step(change: Callable[[], None]) -> None:
        first = len(crashed)
        change()
        before[:] = [dict(collection.model)]
        for world in crashed[first:]:
            world.expected += before

    system.after = stop
    step(lambda: collection.upsert([1, 2, "a"]))
    step(lambda: collection.upsert([2, 3], version=1))
    step(collection.store.checkpoint)
    step(lambda: collection.delete(["a", 1]))
    step(lambda: collection.patch([2], {"x": 1}))
    step(collection.store.checkpoint)
    step(lambda: collection.upsert(list(range(3000)), version=2))
    step(collection.close)
    system.after = lambda call: None
    for world in crashed:
        assert_recovers(world, open_collection, dims)


def test_the_replay_goes_through_the_same_apply(tmp_path: Path, open_collection: Open, worlds: Any) -> None:
    collection = open_collection(tmp_path / "c-0")
    collection.upsert([1])
    collection.store.checkpoint()
    collection.upsert([2])
    collection.delete([1])
    worlds[0](tmp_path / "c-0", tmp_path / "crashed")
    recovered = open_collection(tmp_path / "crashed")
    assert collection.applied[1:] == recovered.applied
    recovered.model = collection.model
    recovered.check()


def test_the_core_is_fed_in_blocks_and_in_order(tmp_path: Path, open_collection: Open) -> None:
    collection = open_collection(tmp_path / "c-0", dims=(4, 2))
    collection.upsert(list(range(70_000)))
    collection.delete(list(range(0, 70_000, 7)))
    collection.close()
    again = open_collection(tmp_path / "c-0", dims=(4, 2))
    assert ["map_rows", "expect_checksums"] * 2 + ["load_block"] * 18 == again.core.calls
    again.model = collection.model
    again.check()


def test_a_call_that_does_not_continue_the_state_is_corruption(tmp_path: Path, open_collection: Open) -> None:
    collection = open_collection(tmp_path / "c-0")
    collection.upsert([1, 2])
    with pytest.raises(Corruption, match="begins at offset 5"):
        collection.store.apply(99, Effects(first_offset=5))
    assert "could not be applied" in collection.store.read_only_reason


def damage(path: Path, position: int) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)


def closed(tmp_path: Path, open_collection: Open, **options: Any) -> Path:
    collection = open_collection(tmp_path / "c-0", **options)
    collection.upsert(list(range(50)))
    collection.close()
    return Path(tmp_path / "c-0")


def test_a_points_file_changed_after_a_clean_close_is_corruption_until_it_is_restored(tmp_path: Path, open_collection: Open) -> None:
    home = closed(tmp_path, open_collection)
    points = home / "gen-1" / "points.lmdb"
    for position in range(0, points.stat().st_size, 997):
        damage(points, position)
        for _ in range(2):
            with pytest.raises(Corruption, match="not what the last close left"):
                open_collection(home)
        damage(points, position)
    open_collection(home).close()


def test_a_large_points_file_is_doubted_after_a_clean_close_too(
    tmp_path: Path, open_collection: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = closed(tmp_path, open_collection)
    points = home / "gen-1" / "points.lmdb"
    data, key = points.read_bytes(), b"\x09\x00" + id_key(20)  # with its length, as it stands in a page
    assert key in data
    points.write_bytes(data.replace(key, key[:-1] + b"\x00"))
    monkeypatch.setattr(clean_close, "CHECKED_BYTES", 0)
    with pytest.raises(Corruption, match="table ids: its keys are not in order"):
        open_collection(home)


def test_a_points_file_cut_after_a_clean_close_is_corruption(tmp_path: Path, open_collection: Open) -> None:
    home = closed(tmp_path, open_collection)
    points = home / "gen-1" / "points.lmdb"
    points.write_bytes(points.read_bytes()[:-4096])
    with pytest.raises(Corruption, match="after the last close it had"):
        open_collection(home)


def test_the_note_of_a_clean_close_is_gone_while_a_writer_is_at_work(tmp_path: Path, open_collection: Open) -> None:
    home = closed(tmp_path, open_collection)
    note = home / "gen-1" / "points.lmdb.sum"
    assert note.exists()
    collection = open_collection(home)
    assert not note.exists()
    collection.close()
    assert note.exists()


def test_a_damaged_note_of_a_clean_close_is_corruption(tmp_path: Path, open_collection: Open) -> None:
    home = closed(tmp_path, open_collection)
    note = home / "gen-1" / "points.lmdb.sum"
    for position in range(note.stat().st_size):
        damage(note, position)
        with pytest.raises(Corruption):
            open_collection(home)
        damage(note, position)


def test_a_log_that_was_lost_after_a_clean_close_is_corruption(tmp_path: Path, open_collection: Open) -> None:
    home = closed(tmp_path, open_collection)
    for segment in (home / "wal").iterdir():
        segment.unlink()
    for _ in range(2):
        with pytest.raises((Corruption, StorageError)):
            open_collection(home)


def test_rows_shorter_than_the_checkpoint_are_corruption(tmp_path: Path, open_collection: Open) -> None:
    home = closed(tmp_path, open_collection)
    rows = home / "gen-1" / "vectors" / "0.f32"
    rows.write_bytes(rows.read_bytes()[: 50 * 16 - 1])
    with pytest.raises(Corruption, match="expected at least 800"):
        open_collection(home)
    rows.unlink()
    with pytest.raises(Corruption, match=r"0\.f32 is missing"):
        open_collection(home)


def test_rows_changed_behind_the_last_whole_block_are_corruption(tmp_path: Path, open_collection: Open) -> None:
    home = closed(tmp_path, open_collection)
    rows = home / "gen-1" / "vectors" / "0.f32"
    damage(rows, 799)
    with pytest.raises(Corruption, match=r"rows? 0 to 49"):
        open_collection(home)
    damage(rows, 799)
    damage(rows, 800)
    open_collection(home)


def test_files_of_another_collection_are_refused(tmp_path: Path, open_collection: Open) -> None:
    home = closed(tmp_path, open_collection, dims=(4,))
    other = tmp_path / "c-1"
    open_collection(other, dims=(4, 4)).close()
    for name in ("points.lmdb", "points.lmdb.sum"):
        shutil.copy(other / "gen-1" / name, home / "gen-1" / name)
    with pytest.raises(Corruption, match="different collections were mixed"):
        open_collection(home)


def test_a_missing_points_file_is_corruption(tmp_path: Path, open_collection: Open) -> None:
    home = closed(tmp_path, open_collection)
    (home / "gen-1" / "points.lmdb").unlink()
    (home / "gen-1" / "points.lmdb.sum").unlink()
    with pytest.raises(Corruption, match="is missing"):
        open_collection(home)


def test_something_else_in_place_of_the_points_file_is_corruption(tmp_path: Path, open_collection: Open) -> None:
    home = closed(tmp_path, open_collection)
    (home / "gen-1" / "points.lmdb").write_bytes(b"not an LMDB file" * 1000)
    (home / "gen-1" / "points.lmdb.sum").unlink()
    with pytest.raises(Corruption, match="is damaged"):
        open_collection(home)


def test_counts_that_disagree_with_the_bitmaps_are_corruption(
    tmp_path: Path, open_collection: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    collection = open_collection(tmp_path / "c-0")
    collection.upsert([1, 2, 3])
    monkeypatch.setattr(Memtable, "present_offsets", lambda self, field: super(Memtable, self).__getattribute__("tombstones")())
    collection.close()
    with pytest.raises(Corruption, match="bitmaps show"):
        open_collection(tmp_path / "c-0")


def test_verify_reads_every_value(tmp_path: Path, open_collection: Open) -> None:
    home = closed(tmp_path, open_collection)
    points = PointsFile.open(home / "gen-1" / "points.lmdb")
    with points.write() as (txn, tables):
        key = (7).to_bytes(4, "big")
        value = bytearray(txn.get(key, db=tables[b"payloads"]))
        value[-1] ^= 1
        txn.put(key, bytes(value), db=tables[b"payloads"])
    points.close()
    (home / "gen-1" / "points.lmdb.sum").unlink()
    open_collection(home).close()
    with pytest.raises(Corruption, match=r"table payloads, key 00000007: the checksum"):
        open_collection(home, verify=True)
    collection = open_collection(home)
    assert collection.store.payloads_of([6])[0] is not None
    with pytest.raises(Corruption, match=r"points\.lmdb, table payloads, key 00000007"):
        collection.store.payloads_of([7])


def test_a_creation_cut_at_any_call_leaves_nothing_or_everything(tmp_path: Path, system: Any, open_collection: Open) -> None:
    home = tmp_path / "db"
    home.mkdir()
    copies: list[Path] = []

    def stop(call: str) -> None:
        copies.append(tmp_path / f"crash-{len(copies)}")
        shutil.copytree(home, copies[-1])

    system.after = stop
    open_collection(home / "c-0").close()
    system.after = lambda call: None
    for copied in copies:
        if (copied / "c-0").exists():
            collection = open_collection(copied / "c-0")
            assert collection.contents() == {}
            collection.close()
        else:
            open_collection(copied / "c-0").close()
        assert [] == [name for name in files.list_directory(copied) if name.endswith(".tmp")]
