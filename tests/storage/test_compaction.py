"""
Compaction on disk: the same points in a generation without tombstones, whatever is written, read, cut or failing meanwhile.
"""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from log_harness import GENERATION, UUID, create_log, open_log, read_log
from storage_doubles import FaultySystem, FullDisk

from vecdb.errors import Corruption, ReadOnly, StorageError, VecdbError
from vecdb.storage import checkpoint, compaction, files, generation_copy
from vecdb.storage.effects import Effects
from vecdb.storage.framing import Current, write_current
from vecdb.storage.log_reader import segment_name
from vecdb.storage.renumbering import Renumbering
from vecdb.storage.wal import Log

Open = Callable[..., Any]


def filled(open_collection: Open, path: Path, *, dims: tuple[int, ...] = (40, 3), count: int = 500) -> Any:
    """
    A collection of which a checkpoint holds a part, with tombstones, patches and a second field that every second point has.
    """
    collection = open_collection(path, dims=dims)
    collection.upsert(list(range(count)))
    collection.store.checkpoint()
    collection.upsert([*range(count // 2, count, 2), "a", "b"], version=1)
    collection.delete([3, "a", count - 2])
    collection.patch([4, count // 2, "b"], {"patched": True})
    return collection


def generations(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.iterdir() if entry.name.startswith("gen-"))


def assert_compacted(collection: Any, path: Path, generation: int) -> None:
    collection.check()
    info = collection.store.info()
    assert (generation, info.points, len(collection.model)) == (info.generation, info.offsets, info.points)
    assert [f"gen-{generation}"] == generations(path)
    assert set() == collection.core.dead


def test_the_points_stay_and_the_tombstones_go(tmp_path: Path, open_collection: Open) -> None:
    home, dims = tmp_path / "c-0", (40, 3)
    collection = filled(open_collection, home)
    collection.compact()
    assert_compacted(collection, home, 2)
    collection.upsert([7, "new"], version=4)
    collection.delete([8])
    collection.check()
    collection.close()
    again = open_collection(home, dims=dims)
    again.model = collection.model
    again.check()
    again.compact()
    assert_compacted(again, home, 3)
    again.close()
    once_more = open_collection(home, dims=dims, verify=True)
    once_more.model = collection.model
    assert_compacted(once_more, home, 3)


def test_a_collection_larger_than_a_bitmap_and_a_block_of_ids(tmp_path: Path, open_collection: Open) -> None:
    home = tmp_path / "c-0"
    collection = open_collection(home, dims=(2,))
    collection.upsert(list(range(150_000)))
    collection.delete(list(range(0, 150_000, 2)))
    collection.compact()
    assert_compacted(collection, home, 2)
    collection.close()
    again = open_collection(home, dims=(2,), verify=True)
    again.model = collection.model
    assert_compacted(again, home, 2)


def test_an_empty_collection_can_be_compacted(tmp_path: Path, open_collection: Open) -> None:
    home = tmp_path / "c-0"
    collection = open_collection(home)
    collection.compact()
    assert_compacted(collection, home, 2)
    collection.upsert([1, 2])
    collection.delete([1, 2])
    collection.compact()
    assert_compacted(collection, home, 3)
    collection.upsert([1])
    collection.check()


def test_the_files_shrink(tmp_path: Path, open_collection: Open) -> None:
    home = tmp_path / "c-0"
    collection = open_collection(home, dims=(64,))
    for version in range(8):
        collection.upsert(list(range(2000)), version=version)
    collection.store.checkpoint()

    def size() -> int:
        return sum(path.stat().st_size for path in home.rglob("*.f32"))

    before = size()
    collection.compact()
    assert size() < before / 4


def test_what_is_written_meanwhile_is_in_both_generations(tmp_path: Path, open_collection: Open) -> None:
    home = tmp_path / "c-0"
    collection = filled(open_collection, home)
    steps = iter(range(100))

    def write(_: int = 0) -> None:
        step = next(steps)
        collection.upsert([step, f"s{step}", 1000 + step], version=10 + step)
        collection.delete([400 + step, f"s{step - 1}"])
        collection.patch([300 + step, 1000 + step], {"step": step})
        if step % 2:
            collection.store.checkpoint()

    collection.compact(advance=write, before_the_end=write)
    assert next(steps) >= 2
    collection.check()
    assert 2 == collection.store.info().generation
    collection.close()
    again = open_collection(home, dims=(40, 3))
    again.model = collection.model
    again.check()


def test_much_that_is_written_meanwhile_goes_to_the_file_in_steps(
    tmp_path: Path, open_collection: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction, "_FLUSH_BYTES", 5000)
    collection = filled(open_collection, tmp_path / "c-0")

    def write(_: int) -> None:
        for step in range(20):
            collection.upsert(list(range(step, step + 30)), version=20 + step)

    collection.compact(advance=write)
    collection.check()


def test_more_writes_than_memory_takes_end_the_compaction_and_nothing_else(
    tmp_path: Path, open_collection: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction, "_MOST_WAITING_BYTES", 5000)
    home = tmp_path / "c-0"
    collection = filled(open_collection, home)

    def write(_: int) -> None:
        collection.upsert(list(range(300)), version=5)

    with pytest.raises(StorageError, match="call compact again"):
        collection.compact(advance=write)
    collection.check()
    assert ["gen-1"] == generations(home)
    collection.upsert([1], version=6)
    collection.compact()
    collection.check()


def test_a_reading_that_runs_goes_on_in_the_old_files(tmp_path: Path, open_collection: Open) -> None:
    home = tmp_path / "c-0"
    collection = filled(open_collection, home)
    expected = list(collection.store.iterate_ids())
    payloads = list(collection.store.iterate_payloads(0, 2**32))
    ids, stored = collection.store.iterate_ids(), collection.store.iterate_payloads(0, 2**32)
    assert expected[0] == next(ids)
    assert payloads[0] == next(stored)
    before = collection.store.generation
    collection.compact()
    collection.delete(list(range(100)))
    collection.store.checkpoint()
    assert expected[1:] == list(ids)
    assert payloads[1:] == list(stored)
    assert expected == list(before.iterate_ids())
    assert before is not collection.store.generation


def test_what_stops_a_copy_leaves_the_collection_as_it_was(tmp_path: Path, open_collection: Open) -> None:
    home = tmp_path / "c-0"
    collection = filled(open_collection, home)

    class Interrupted(BaseException):
        pass

    def stop(_: int = 0) -> None:
        raise Interrupted

    for options in ({"advance": stop}, {"before_the_end": stop}):
        with pytest.raises(Interrupted):
            collection.compact(**options)
        assert ["gen-1"] == generations(home)
        collection.upsert([1], version=3)
        collection.check()
    collection.compact()
    assert_compacted(collection, home, 2)


@pytest.mark.parametrize("file", ["vectors/0.f32", "vectors/1.f32"])
def test_damage_is_found_and_not_copied(tmp_path: Path, open_collection: Open, file: str) -> None:
    home = tmp_path / "c-0"
    collection = filled(open_collection, home)
    collection.store.checkpoint()
    path = home / "gen-1" / file
    data = bytearray(path.read_bytes())
    data[17] ^= 4
    path.write_bytes(data)
    with pytest.raises(Corruption, match=r"f32: the vectors from row 0 on"):
        collection.compact()
    assert ["gen-1"] == generations(home)


def test_graphs_are_carried_over(tmp_path: Path, open_collection: Open) -> None:
    home = tmp_path / "c-0"
    collection = filled(open_collection, home)
    collection.core.indexed[0] = 200
    kept = sum(offset not in collection.core.dead for offset in range(200))
    collection.compact()
    assert {0: kept} == collection.core.graph_rows
    assert ["graph-0.derived"] == [path.name for path in (home / "gen-2" / "derived").iterdir()]


@pytest.mark.parametrize("lose", ["nothing", "everything unsynced", "some pages"])
def test_a_crash_at_any_call_leaves_the_old_or_the_new_generation_whole(
    tmp_path: Path, system: Any, open_collection: Open, worlds: Any, rng: Any, lose: str
) -> None:
    copy_world, lose_unsynced = worlds
    choose = {"nothing": lambda: False, "everything unsynced": lambda: True, "some pages": lambda: rng.random() < 0.5}[lose]
    home, dims = tmp_path / "c-0", (40, 3)
    collection = filled(open_collection, home, count=200)
    collection.core.indexed[0] = 100
    crashed: list[tuple[str, Path, list[dict[Any, Any]]]] = []
    known = [dict(collection.model)]

    def stop(call: str) -> None:
        path = tmp_path / f"crash-{len(crashed)}"
        copy_world(home, path)
        lose_unsynced(home, path, system.synced, choose)
        crashed.append((call, path, list(known)))

    def write() -> None:
        first = len(crashed)
        collection.upsert([5, "meanwhile"], version=2)
        collection.delete([150])
        # Two calls: what is cut between them shows the first, the second, or neither.
        known[:] = [dict(collection.model)]
        for _, _, expected in crashed[first:]:
            half = dict(collection.model) | {150: expected[0][150]}
            expected += [half, *known]

    system.after = stop
    collection.compact(before_the_end=write)
    system.after = lambda call: None
    collection.check()
    assert any("CURRENT" in call for call, _, _ in crashed)
    seen = set()
    for number, (call, path, expected) in enumerate(crashed):
        recovered = open_collection(path, dims=dims)
        contents = recovered.contents()
        assert contents in expected, f"after {call}: {len(contents)} points"
        seen.add(recovered.store.info().generation)
        assert [f"gen-{recovered.store.info().generation}"] == generations(path)
        recovered.model = contents
        recovered.upsert(["written after recovery", 1], version=9)
        recovered.check()
        recovered.close()
        again = open_collection(path, dims=dims)
        again.model = recovered.model
        again.check()
        if number % 5 == 0:
            again.compact()
            again.check()
        again.close()
        shutil.rmtree(path)
    assert {1, 2} == seen


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
@pytest.mark.parametrize("sticky", [False, True], ids=["once", "sticky"])
def test_a_failing_call_at_any_place_loses_nothing(
    tmp_path: Path, open_collection: Open, worlds: Any, monkeypatch: pytest.MonkeyPatch, code: int, sticky: bool
) -> None:
    base, dims = tmp_path / "base", (8,)
    original = filled(open_collection, base, dims=dims, count=60)
    at, outcomes = 0, set()
    while True:
        home = tmp_path / f"c-{at}"
        worlds[0](base, home)
        collection = open_collection(home, dims=dims)
        collection.model = dict(original.model)
        faulty = FaultySystem(at=at, error=code, sticky=sticky)
        with monkeypatch.context() as patch:
            patch.setattr(files, "system", faulty)
            try:
                collection.compact()
                outcomes.add("compacted")
            except VecdbError:
                assert faulty.failed
                outcomes.add("read-only" if collection.store.read_only_reason else "as before")
        collection.check()
        if collection.store.read_only_reason is None:
            collection.upsert(["after"], version=5)
            collection.store.checkpoint()
            collection.check()
        else:
            with pytest.raises(ReadOnly, match="open"):
                collection.upsert(["refused"])
        collection.close()
        again = open_collection(home, dims=dims)
        again.model = collection.model
        again.check()
        again.compact()
        again.check()
        again.close()
        shutil.rmtree(home)
        if not faulty.failed:
            break
        at += 1 if at < 40 else 3
    assert {"compacted", "read-only", "as before"} == outcomes


def test_leftovers_go_at_the_next_opening(tmp_path: Path, open_collection: Open) -> None:
    home = tmp_path / "c-0"
    collection = filled(open_collection, home)
    collection.compact()
    collection.close()
    for name in ("gen-1", "gen-3"):
        (home / name / "vectors").mkdir(parents=True)
        (home / name / "points.lmdb").write_bytes(b"left behind")
    again = open_collection(home, dims=(40, 3))
    again.model = collection.model
    assert_compacted(again, home, 2)


def test_a_call_of_the_next_generation_under_an_old_current_is_corruption(tmp_path: Path, open_collection: Open, worlds: Any) -> None:
    home, copy = tmp_path / "c-0", tmp_path / "copy"
    collection = filled(open_collection, home)
    worlds[0](home, copy)
    collection.compact()
    first = collection.store.info().last_lsn + 1
    shutil.copy(home / "wal" / segment_name(first), copy / "wal")
    early = open_collection(copy, dims=(40, 3))
    assert 1 == early.store.info().generation
    early.model = collection.model
    early.check()
    early.close()
    worlds[0](home, tmp_path / "later")
    collection.upsert([1], version=9)
    shutil.rmtree(copy)
    worlds[0](home, copy)
    shutil.rmtree(copy / "gen-2")
    worlds[0](tmp_path / "later" / "gen-2", copy / "gen-1")
    write_current(copy / "CURRENT", Current(1))
    with pytest.raises(Corruption):
        open_collection(copy, dims=(40, 3))


def test_checkpoints_go_on_in_the_new_generation(tmp_path: Path, open_collection: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "GRAPH_LEAST_ROWS", 10)
    home = tmp_path / "c-0"
    collection = filled(open_collection, home)
    collection.compact()
    collection.upsert(list(range(1000, 1100)), version=1)
    collection.core.indexed[0] = 90
    collection.store.checkpoint()
    collection.check()
    info = collection.store.info()
    assert info.applied_lsn == info.checkpoint_lsn
    assert (home / "gen-2" / "derived" / "graph-0.derived").exists()
    assert 1 == len(list((home / "wal").iterdir()))


def test_a_failed_log_refuses_and_a_blocked_checkpoint_does(tmp_path: Path, open_collection: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    collection = filled(open_collection, tmp_path / "c-0")
    with monkeypatch.context() as patch:
        patch.setattr(files, "system", FaultySystem(at=0, error=errno.EIO, sticky=True, names=("sync_data",)))
        with pytest.raises(StorageError):
            collection.upsert(["lost"])
    with pytest.raises(ReadOnly):
        collection.compact()


def test_an_offset_without_an_id_is_found(tmp_path: Path, open_collection: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    collection = filled(open_collection, tmp_path / "c-0")
    scan = generation_copy.Snapshot.ids_from
    with monkeypatch.context() as patch:
        patch.setattr(generation_copy.Snapshot, "ids_from", lambda self, start: list(scan(self, start))[1:])
        with pytest.raises(Corruption, match="1 live offsets have no id"):
            collection.compact()
    collection.check()


@settings(deadline=None)
@given(st.lists(st.booleans()), st.integers(0, 5), st.data())
def test_offsets_are_numbered_as_their_points_are(live: list[bool], later: int, data: st.DataObject) -> None:
    renumbering = Renumbering(np.array(live, bool))
    alive = [offset for offset, lives in enumerate(live) if lives] + list(range(len(live), len(live) + later))
    chosen = data.draw(st.permutations(alive))
    expected = [alive.index(offset) for offset in chosen]
    assert expected == renumbering.of(np.array(chosen, np.uint32)).tolist()
    effects = Effects(first_offset=len(live) + later, tombstones=np.array(sorted(chosen), np.uint32))
    translated = renumbering.translate(effects)
    assert (len(alive), sorted(expected)) == (translated.first_offset, translated.tombstones.tolist())


def test_the_log_changes_its_generation_only_where_it_is_expected_to_end(tmp_path: Path) -> None:
    create_log(tmp_path / "wal")
    opened = open_log(tmp_path / "wal")
    last = opened.write(b"a call")
    assert not opened.log.begin_generation(GENERATION + 1, last - 1)
    assert (GENERATION, last) == (opened.log.generation, opened.log.end_lsn)
    assert opened.log.begin_generation(GENERATION + 1, last)
    assert [b"a call"] == [body for _, body in read_log(tmp_path / "wal")]
    later = opened.write(b"another")
    opened.log.close(clean=True)
    with pytest.raises(Corruption, match="a call of generation 4, but CURRENT names the one before it"):
        read_log(tmp_path / "wal")
    reader = Log.open(
        tmp_path / "wal",
        uuid=UUID,
        generation=GENERATION + 1,
        applied_lsn=last,
        clean_lsn=0,
        replay=lambda lsn, body: opened.replayed.append((lsn, bytes(body))),
        writable=False,
    )
    reader.close(clean=False)
    assert [(later, b"another")] == opened.replayed


def test_a_full_disk_refuses_another_generation_with_nothing_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    create_log(tmp_path / "wal")
    opened = open_log(tmp_path / "wal")
    last = opened.write(b"a call")
    disk = FullDisk()
    monkeypatch.setattr(files, "system", disk)
    disk.full = True
    with pytest.raises(StorageError, match="free space"):
        opened.log.begin_generation(GENERATION + 1, last)
    disk.full = False
    assert (None, GENERATION) == (opened.log.failed, opened.log.generation)
    opened.write(b"another")
    opened.log.close(clean=True)
