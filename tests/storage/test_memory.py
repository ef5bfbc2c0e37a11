"""
The store in memory: the same protocol, calls applied whole and in order.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from vecdb.errors import InternalError, ReadOnly, StorageError
from vecdb.storage.codec import decode_payload
from vecdb.storage.effects import Effects
from vecdb.storage.memory import MemoryStore

Open = Callable[..., Any]


def put(first: int, ids: list[int | str]) -> Effects:
    return Effects(first_offset=first, put_ids=ids, put_payloads=[b"\x80"] * len(ids))


def without_vectors(model: dict[Any, Any]) -> dict[Any, Any]:
    return {point_id: (payload, {}) for point_id, (payload, _) in model.items()}


def test_points_live_as_the_model_says(open_collection: Open, rng: random.Random) -> None:
    collection = open_collection(None)
    for version in range(60):
        ids = rng.sample([*range(20), *"abcdefgh"], 5)
        known = [point_id for point_id in ids if point_id in collection.model]
        change = rng.randrange(3)
        if change == 0:
            collection.upsert(ids, version=version)
        elif change == 1:
            collection.delete(ids)
        elif known:
            collection.patch(known, {"version": version})
        assert without_vectors(collection.model) == collection.contents()


def test_ids_come_in_order_from_any_point_on(open_collection: Open) -> None:
    collection = open_collection(None)
    collection.upsert(["b", 10, "a", 2**64 - 1, 9])
    assert [9, 10, 2**64 - 1, "a", "b"] == list(collection.store.iterate_ids())
    assert [2**64 - 1, "a", "b"] == list(collection.store.iterate_ids(after=10))
    assert ["b"] == list(collection.store.iterate_ids(after="a"))
    assert [] == list(collection.store.iterate_ids(after="zzz"))


def test_an_iteration_sees_the_state_at_its_call(open_collection: Open) -> None:
    collection = open_collection(None)
    collection.upsert([1, 2, 3])
    ids, payloads = collection.store.iterate_ids(), collection.store.iterate_payloads(0, 100)
    collection.delete([2])
    collection.upsert([4], version=1)
    assert [1, 2, 3] == list(ids)
    assert [0, 1, 2] == [offset for offset, _ in payloads]
    assert [1, 3, 4] == list(collection.store.iterate_ids())


def test_calls_are_applied_in_the_order_of_their_places(open_collection: Open) -> None:
    store = MemoryStore()
    applied: list[int] = []

    def apply(lsn: int, effects: Effects) -> None:
        store.apply(lsn, effects)
        applied.append(lsn)

    store.start(apply)
    first, second, third = (store.enqueue(put(i, [i])) for i in range(3))
    store.commit(second)
    assert [1, 2] == applied
    store.commit(first)
    store.commit(third)
    assert [1, 2, 3] == applied
    store.enqueue(put(3, [3]))
    store.drain()
    assert 4 == store.live_count


def test_a_call_that_cannot_be_applied_makes_the_store_read_only(open_collection: Open) -> None:
    store = MemoryStore()

    def apply(lsn: int, effects: Effects) -> None:
        if lsn == 2:
            raise MemoryError("no room")
        store.apply(lsn, effects)

    store.start(apply)
    tickets = [store.enqueue(put(i, [i])) for i in range(3)]
    with pytest.raises(StorageError, match="no room"):
        store.commit(tickets[2])
    store.commit(tickets[0])
    with pytest.raises(StorageError, match="no room"):
        store.commit(tickets[1])
    assert "no room" in str(store.read_only_reason)
    with pytest.raises(ReadOnly, match="no room"):
        store.enqueue(put(1, [9]))
    with pytest.raises(StorageError):
        store.drain()
    assert [0] == list(store.iterate_ids())


def test_a_call_that_does_not_continue_the_state_is_refused() -> None:
    store = MemoryStore()
    with pytest.raises(InternalError, match="begins at offset 5, expected 0"):
        store.apply(1, put(5, [1]))


def test_many_threads_write_whole_calls(open_collection: Open) -> None:
    collection = open_collection(None)
    ids = list(range(20))
    collection.upsert(ids)
    failures: list[str] = []

    def read() -> None:
        for _ in range(200):
            payloads = collection.store.payloads_of(collection.store.offsets_of(ids))
            versions = {decode_payload(payload)["version"] for payload in payloads if payload is not None}
            if len(versions) > 1:
                failures.append(f"versions {versions} in one read")

    def write(first: int) -> None:
        for version in range(first, first + 50):
            collection.upsert(ids, version=version)

    threads = [threading.Thread(target=read), *(threading.Thread(target=write, args=(100 * i,)) for i in range(3))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [] == failures
    assert 20 == collection.store.live_count
    assert collection.store.next_offset == 20 * 151


def test_there_are_no_files_to_care_for(open_collection: Open) -> None:
    collection = open_collection(None)
    collection.upsert([1, 2])
    collection.store.checkpoint()
    collection.store.note_idle()
    assert not collection.store.maybe_checkpoint()
    assert (-1, 0) == collection.store.row_file(0)
    info = collection.store.info()
    assert (2, 2, 1, 0, 0) == (info.points, info.offsets, info.applied_lsn, info.log_bytes, info.payload_bytes)
    assert np.array_equal([0, 1], collection.store.offsets_of([1, 2]))
    collection.close()
    collection.close()
    assert 0 == collection.store.live_count
