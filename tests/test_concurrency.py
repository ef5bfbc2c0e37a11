"""
Threads on one collection: no lost merge, one winner of racing adds, and no search that sees half a batch.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
import pytest

import vecdb
from vecdb import F


def together(*jobs: Callable[[], None]) -> None:
    """
    Run the jobs in threads that begin at the same moment; raise the first error.
    """
    barrier = threading.Barrier(len(jobs))
    errors: list[BaseException] = []

    def run(job: Callable[[], None]) -> None:
        try:
            barrier.wait()
            job()
        except BaseException as error:  # noqa: BLE001
            errors.append(error)

    threads = [threading.Thread(target=run, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def test_threads_that_merge_keys_into_one_point_lose_none(points: vecdb.Collection) -> None:
    points.upsert("a", [1, 0, 0, 0])
    rounds = 25

    def merge(thread: int) -> Callable[[], None]:
        def job() -> None:
            for step in range(rounds):
                if step % 2:
                    points.set_payload({f"{thread}-{step}": step}, ids="a")
                else:
                    points.update("a", payloads={f"{thread}-{step}": step})

        return job

    together(*[merge(thread) for thread in range(8)])
    assert points["a"].payload == {f"{thread}-{step}": step for thread in range(8) for step in range(rounds)}


def test_of_racing_adds_of_one_id_exactly_one_succeeds(points: vecdb.Collection) -> None:
    for attempt in range(10):
        won: list[int] = []

        def add(thread: int, attempt: int = attempt, won: list[int] = won) -> Callable[[], None]:
            def job() -> None:
                try:
                    points.add([attempt, f"{attempt}-{thread}"], [[1, 0, 0, 0]] * 2, [{"by": thread}, {}])
                except vecdb.AlreadyExists:
                    return
                won.append(thread)

            return job

        together(*[add(thread) for thread in range(8)])
        assert len(won) == 1
        point = points[attempt]
        assert point.payload == {"by": won[0]}
        assert [f"{attempt}-{thread}" in points for thread in range(8)] == [thread == won[0] for thread in range(8)]


@pytest.mark.parametrize("filtered", [False, True])
def test_searches_never_see_half_a_batch(points: vecdb.Collection, filtered: bool) -> None:
    """
    Every batch writes the same ten ids with one version; whatever is read shows ten points of a single version.
    """
    ids = list(range(10))
    random = np.random.default_rng(1)
    rows = random.standard_normal((10, 4))
    points.upsert(ids, rows, [{"version": 0, "here": True}] * 10)
    stop = threading.Event()

    def write() -> None:
        for version in range(1, 60):
            if version % 3:
                points.upsert(ids, random.standard_normal((10, 4)), [{"version": version, "here": True}] * 10)
            else:
                points.set_payload({"version": version}, ids=ids)
        stop.set()

    def read() -> None:
        query = [1.0, 0.5, 0.2, 0.1]
        while not stop.is_set():
            hits = points.search(query, k=20, filter=F("here") == True if filtered else None)  # noqa: E712
            assert sorted(hits.ids) == ids
            assert len({hit.payload["version"] for hit in hits}) == 1
            many = points.get_many(ids)
            assert len({point.payload["version"] for point in many if point is not None}) == 1
            assert points.count(F("version") >= 0) == 10

    together(write, read, read)


def test_a_filter_never_returns_a_point_that_does_not_match(points: vecdb.Collection) -> None:
    ids = list(range(50))
    points.upsert(ids, np.random.default_rng(2).standard_normal((50, 4)), [{"side": "left"}] * 50)
    stop = threading.Event()

    def flip() -> None:
        for step in range(60):
            points.set_payload({"side": "right" if step % 2 == 0 else "left"}, ids=ids[:25])
        stop.set()

    def read(side: str) -> Callable[[], None]:
        def job() -> None:
            while not stop.is_set():
                for hit in points.search([1, 0, 0, 0], k=50, filter=F("side") == side):
                    assert hit.payload == {"side": side}

        return job

    together(flip, read("left"), read("right"))


def test_writes_while_the_graph_is_built_keep_every_search_right() -> None:
    points = vecdb.Collection(dim=8, threads=2)
    random = np.random.default_rng(3)
    stop = threading.Event()

    def write() -> None:
        for start in range(0, 12_000, 500):
            points.upsert(range(start, start + 500), random.standard_normal((500, 8)), [{"n": n} for n in range(start, start + 500)])
        stop.set()

    def read() -> None:
        while not stop.is_set():
            before = len(points)
            hits = points.search([1.0] * 8, k=20)
            after = len(points)
            assert len(set(hits.ids)) == len(hits)
            assert len(hits) == 20 if before >= 20 else len(hits) <= after
            scores = hits.scores
            assert scores == sorted(scores, reverse=True)

    together(write, read, read)
    assert points.wait_indexed(60)
    assert len(points) == 12_000
    points.close()


def test_closing_while_others_search_ends_in_closed_only(path: object) -> None:
    db = vecdb.open(path)  # type: ignore[arg-type]
    points = db.create_collection("p", dim=4)
    points.upsert(range(200), np.random.default_rng(4).standard_normal((200, 4)))
    started = threading.Event()

    def read() -> None:
        try:
            while True:
                assert len(points.search([1, 0, 0, 0], k=5)) == 5
                started.set()
        except vecdb.Closed:
            pass

    def close() -> None:
        started.wait(10)
        db.close()

    together(read, read, close)
