"""
The store on disk, as a collection uses it: reads, snapshots, random lives compared with a model, closing.
"""

from __future__ import annotations

import errno
import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vecdb.errors import InternalError, ReadOnly, StorageError
from vecdb.storage import files
from vecdb.storage.codec import encode_payload
from vecdb.storage.disk import DiskStore
from vecdb.storage.effects import Effects, FieldRows, PointId
from vecdb.storage.points import PointsFile
from vecdb.storage.points_read import Snapshot

Open = Callable[..., Any]
IDS = [*range(30), *(f"id {i}" for i in range(30)), 2**64 - 1, "\U0001f600", "x" * 480]


def change(collection: Any, rng: random.Random, version: int) -> None:
    ids = rng.sample(IDS, rng.randrange(1, 12))
    known = [point_id for point_id in ids if point_id in collection.model]
    kind = rng.randrange(4)
    if kind <= 1:
        collection.upsert(ids, version=version)
    elif kind == 2:
        collection.delete(ids)
    elif known:
        collection.patch(known, {"version": version, "patched": True})


def test_random_lives_agree_with_a_model(tmp_path: Path, open_collection: Open, worlds: Any, rng: random.Random) -> None:
    for life in range(3):
        dims = rng.choice([(3,), (5, 2), (20_000,)])
        home = tmp_path / f"c-{life}"
        collection = open_collection(home, dims=dims, durability=rng.choice(["fsync", "os"]))
        for step in range(60):
            change(collection, rng, step)
            event = rng.randrange(12)
            if event == 0:
                collection.store.checkpoint()
            elif event in (1, 2):
                model = collection.model
                if event == 1:
                    collection.close()
                else:
                    worlds[0](home, tmp_path / f"crash-{life}-{step}")
                    home = tmp_path / f"crash-{life}-{step}"
                collection = open_collection(home, dims=dims, verify=rng.random() < 0.5)
                collection.model = model
            if step % 5 == 0:
                collection.check()
        collection.check()


def test_reads_find_points_in_every_layer(tmp_path: Path, open_collection: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    collection = open_collection(tmp_path / "c-0")
    collection.upsert(["base", "base replaced later", "base deleted later", "base patched later"])
    collection.store.checkpoint()
    collection.upsert(["frozen", "base replaced later"], version=1)
    with monkeypatch.context() as patch:
        patch.setattr("vecdb.storage.checkpoint.write_checkpoint", lambda *_, **__: (_ for _ in ()).throw(StorageError("injected")))
        with pytest.raises(StorageError, match="injected"):
            collection.store.checkpoint()
    collection.upsert(["active", "frozen"], version=2)
    collection.delete(["base deleted later"])
    collection.patch(["base patched later"], {"patched": True})
    collection.check()
    assert [None, 6, 7] == collection.store.offsets_of(["base deleted later", "active", "frozen"])


def test_ids_that_count_up_are_looked_for_in_the_file_once_a_checkpoint(
    tmp_path: Path, open_collection: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    collection = open_collection(tmp_path / "c-0")
    asked: list[PointId] = []
    look = Snapshot.offsets_of
    monkeypatch.setattr(Snapshot, "offsets_of", lambda self, ids: asked.extend(ids) or look(self, ids))
    for first in (0, 100):
        collection.upsert([first, first + 5, "a"])
        collection.store.checkpoint()
        asked.clear()
        for one in range(first + 6, first + 20):
            collection.upsert([one])
        assert [first + 6] == asked
        found = collection.store.offsets_of([first + 4, first, first + 50, first + 5])
        assert [False, True, False, True] == [offset is not None for offset in found]
    collection.check()


def test_calls_that_become_durable_together_are_applied_together(
    tmp_path: Path, open_collection: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    collection = open_collection(tmp_path / "c-0")
    tickets = []
    for one in range(5):
        effects = Effects(one, [one], [encode_payload({"n": one})], {0: FieldRows(None, np.full((1, 4), one, np.float32))})
        collection.store.reserve(effects)
        tickets.append(collection.store.enqueue(effects))
    collection.applied.clear()
    for ticket in tickets:
        collection.store.commit(ticket)
    assert [tickets[-1].lsn] == collection.applied
    assert [0, 1, 2, 3, 4] == collection.store.offsets_of([0, 1, 2, 3, 4])
    assert [encode_payload({"n": one}) for one in range(5)] == collection.store.payloads_of([0, 1, 2, 3, 4])


def test_ids_come_in_order_from_any_point_on(tmp_path: Path, open_collection: Open) -> None:
    collection = open_collection(tmp_path / "c-0")
    collection.upsert([5, 10, "b", 2**64 - 1])
    collection.store.checkpoint()
    collection.upsert(["a", 7, "c"])
    collection.delete(["b"])
    everything = [5, 7, 10, 2**64 - 1, "a", "c"]
    assert everything == list(collection.store.iterate_ids())
    for place, point_id in enumerate(everything):
        assert everything[place + 1 :] == list(collection.store.iterate_ids(after=point_id))
    assert ["c"] == list(collection.store.iterate_ids(after="b"))
    assert everything[1:] == list(collection.store.iterate_ids(after=6))


def test_an_iteration_sees_one_state_while_writes_and_checkpoints_go_on(tmp_path: Path, open_collection: Open) -> None:
    collection = open_collection(tmp_path / "c-0")
    collection.upsert(list(range(100)))
    collection.store.checkpoint()
    collection.upsert(list(range(50, 150)), version=1)
    ids, payloads = collection.store.iterate_ids(), collection.store.iterate_payloads(0, 2**32)
    expected = dict(collection.store.iterate_payloads(0, 2**32))
    assert 0 == next(ids)
    collection.delete(list(range(0, 150, 2)))
    collection.store.checkpoint()
    collection.upsert(list(range(300)), version=2)
    collection.store.checkpoint()
    assert list(range(1, 150)) == list(ids)
    assert expected == dict(payloads)
    collection.check()


def test_a_read_is_of_one_state_even_if_a_write_and_a_checkpoint_come_in_its_middle(
    tmp_path: Path, open_collection: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    collection = open_collection(tmp_path / "c-0")
    collection.upsert(["base"])
    collection.store.checkpoint()
    collection.upsert(["active"])
    begin = PointsFile.snapshot
    writers: list[threading.Thread] = []

    def write() -> None:
        collection.upsert(["base", "active"], version=1)
        collection.store.checkpoint()

    def snapshot(self: PointsFile) -> Snapshot:
        if not writers:
            writers.append(threading.Thread(target=write))
            writers[0].start()
            writers[0].join(timeout=0.5)
        return begin(self)

    before = collection.store.offsets_of(["active", "base"])
    with monkeypatch.context() as patch:
        patch.setattr(PointsFile, "snapshot", snapshot)
        assert before == collection.store.offsets_of(["active", "base"])
        writers[0].join()
    writers.clear()
    collection.upsert(["active"], version=2)
    before = collection.store.offsets_of(["active", "base"])
    with monkeypatch.context() as patch:
        patch.setattr(PointsFile, "snapshot", snapshot)
        assert None not in collection.store.payloads_of(before)
        writers[0].join()
    assert [None, None] == collection.store.payloads_of(before)
    collection.check()


def test_a_range_of_payloads_is_what_is_alive_in_it(tmp_path: Path, open_collection: Open) -> None:
    collection = open_collection(tmp_path / "c-0")
    collection.upsert(list(range(20)))
    collection.store.checkpoint()
    collection.delete([3, 4])
    assert [2, 5, 6] == [offset for offset, _ in collection.store.iterate_payloads(2, 7)]
    assert [] == list(collection.store.iterate_payloads(7, 7))
    assert [19] == [offset for offset, _ in collection.store.iterate_payloads(19, 1000)]


def test_room_is_made_behind_the_rows_of_queued_calls(tmp_path: Path, open_collection: Open) -> None:
    collection = open_collection(tmp_path / "c-0", dims=(4096,))
    effects = []
    tickets = []
    with collection.lock:
        for call in range(3):
            vectors = collection.vectors(list(range(10)), call)
            effects.append(
                Effects(
                    first_offset=10 * call, put_ids=[f"{call}-{i}" for i in range(10)], put_payloads=[b"\x80"] * 10, put_vectors=vectors
                )
            )
            collection.store.reserve(effects[-1])
            tickets.append(collection.store.enqueue(effects[-1]))
        assert 0 == collection.store.row_file(0)[1]
        assert (tmp_path / "c-0" / "gen-1" / "vectors" / "0.f32").stat().st_size >= 30 * 4096 * 4
    for ticket in reversed(tickets):
        collection.store.commit(ticket)
    assert 30 == collection.store.row_file(0)[1]
    assert 30 == collection.store.live_count


def test_a_full_disk_refuses_a_write_and_changes_nothing(tmp_path: Path, open_collection: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    collection = open_collection(tmp_path / "c-0", dims=(1000,))
    collection.upsert(list(range(5)))

    class Full(files.System):
        def pwritev(self, fd: int, buffers: Any, offset: int) -> int:
            raise OSError(errno.ENOSPC, "injected")

    with monkeypatch.context() as patch:
        patch.setattr(files, "system", Full())
        with pytest.raises(StorageError, match="free space"):
            collection.upsert(list(range(1000)), version=1)
    assert collection.store.read_only_reason is None
    collection.check()
    collection.upsert(list(range(1000)), version=2)
    collection.check()


def test_a_row_that_cannot_be_written_makes_the_store_read_only_and_is_replayed(
    tmp_path: Path, open_collection: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    collection = open_collection(tmp_path / "c-0")
    collection.upsert([1, 2])

    class Failing(files.System):
        def pwritev(self, fd: int, buffers: Any, offset: int) -> int:
            if str(files.path_of(fd)).endswith(".f32"):
                raise OSError(errno.EIO, "injected")
            return super().pwritev(fd, buffers, offset)

    with monkeypatch.context() as patch:
        patch.setattr(files, "system", Failing())
        with pytest.raises(StorageError):
            collection.upsert([2, 3], version=1)
    assert "a write failed" in collection.store.read_only_reason
    assert [1, 2] == list(collection.store.iterate_ids())
    for refused in (lambda: collection.upsert([9]), collection.store.checkpoint):
        with pytest.raises(ReadOnly, match="open it again"):
            refused()
    assert not collection.store.maybe_checkpoint()
    collection.close()
    again = open_collection(tmp_path / "c-0")
    assert [1, 2, 3] == list(again.store.iterate_ids())
    assert 1 == again.contents()[3][0]["version"]


def test_closing_twice_is_fine_and_leaves_nothing_to_replay(tmp_path: Path, open_collection: Open) -> None:
    collection = open_collection(tmp_path / "c-0")
    collection.upsert([1, 2, 3])
    collection.close()
    collection.close()
    again = open_collection(tmp_path / "c-0")
    assert [] == again.applied
    again.model = collection.model
    again.check()


def test_a_store_that_was_not_started_says_so(tmp_path: Path, open_collection: Open) -> None:
    open_collection(tmp_path / "c-0").close()
    collection = open_collection(None)
    collection.core.dims = (4,)
    store = DiskStore.open(tmp_path / "c-0", durability="fsync", write_lock=collection.lock, load=collection.core, graphs=collection.core)
    with pytest.raises(InternalError, match="not started"):
        store.checkpoint()
    store.close()


def test_files_are_for_the_owner_only(tmp_path: Path, open_collection: Open) -> None:
    collection = open_collection(tmp_path / "c-0")
    collection.upsert(list(range(2000)))
    collection.core.indexed[0] = 2000
    collection.close()
    for path in (tmp_path / "c-0").rglob("*"):
        assert (path.stat().st_mode & 0o777) == (0o700 if path.is_dir() else 0o600), path


def test_a_small_collection_is_cheap(tmp_path: Path, open_collection: Open) -> None:
    collection = open_collection(tmp_path / "c-0", dims=(384,))
    collection.upsert(list(range(10)))
    collection.close()
    assert sum(path.stat().st_blocks * 512 for path in (tmp_path / "c-0").rglob("*") if path.is_file()) < 1 << 20


def test_the_figures_say_what_is_there(tmp_path: Path, open_collection: Open) -> None:
    collection = open_collection(tmp_path / "c-0")
    collection.upsert([1, 2, 3])
    collection.delete([1])
    info = collection.store.info()
    assert (2, 3, 0, 1) == (info.points, info.offsets, info.checkpoint_lsn, info.generation)
    assert info.applied_lsn == info.last_lsn == info.durable_lsn == 2
    assert min(info.log_bytes, info.payload_bytes, info.vector_bytes) > 0
