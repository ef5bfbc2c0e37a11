"""
Threads on one collection: no lost merge, one winner of racing adds, and no search that sees half a batch.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vecdb
from vecdb import F
from vecdb._resolve import Current, Overlay, Resolved, no_effects
from vecdb.storage.memory import MemoryStore
from vecdb.types import PointId


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


def during(points: vecdb.Collection, call: str, write: Callable[[], object]) -> None:
    """
    Have a write happen once, between the lowering of a filter and the core's call that uses the program.
    """
    core = points._state.core
    original = getattr(core, call)

    def intercepted(*arguments: object, **options: object) -> object:
        setattr(core, call, original)
        write()
        return original(*arguments, **options)

    setattr(core, call, intercepted)


NOT_NEW = ~(F("kind") == "new")


@pytest.mark.parametrize("write", [lambda p: p.upsert(3, [1, 1, 0, 0], {"kind": "new"}), lambda p: p.set_payload({"kind": "new"}, ids=2)])
def test_a_term_first_written_during_a_search_is_not_missed_by_its_filter(
    points: vecdb.Collection, write: Callable[[vecdb.Collection], object]
) -> None:
    """
    The filter was lowered when no point had the term, so that its negation was everything.
    """

    def again() -> None:
        points.upsert([1, 2], [[1, 0, 0, 0], [0, 1, 0, 0]], [{"kind": "old"}, {"kind": "old"}])
        points.delete(3)
        points._state.indexes._drop(points._state.indexes._indexes[next(iter(points._state.indexes._indexes))])

    for call, read in (
        ("search", lambda: points.search([1, 0, 0, 0], filter=NOT_NEW).ids),
        ("search", lambda: [int(one) for one in points.knn([[1, 0, 0, 0]], filter=NOT_NEW)[0][0] if one >= 0]),
        ("count", lambda: list(range(1, points.count(NOT_NEW) + 1))),
    ):
        points.upsert([1, 2], [[1, 0, 0, 0], [0, 1, 0, 0]], [{"kind": "old"}, {"kind": "old"}])
        assert points.count(F("kind") == "old") == 2
        during(points, call, lambda: write(points))
        assert read() == [one for one in (1, 2) if points[one].payload == {"kind": "old"}]
        again()


def test_the_length_never_runs_ahead_of_a_search(points: vecdb.Collection) -> None:
    """
    A thread asks for both while an apply is between the store and the core.
    """
    seen: list[tuple[int, bool, list[object], int]] = []
    core = points._state.core
    original = core.apply

    def read() -> None:
        seen.append((len(points), 1 in points, list(points), len(points.search([1, 0, 0, 0]))))

    reader = threading.Thread(target=read)

    def slow(**changes: object) -> int:
        reader.start()
        reader.join(0.2)
        return original(**changes)  # type: ignore[arg-type]

    core.apply = slow  # type: ignore[method-assign]
    points.upsert(1, [1, 0, 0, 0])
    reader.join()
    assert seen == [(1, True, [1], 1)]


def test_a_call_that_was_applied_takes_no_later_one_out_of_the_overlay() -> None:
    """
    The later call queues its entry at the very moment when the first looks at its own.
    """
    overlay = Overlay(MemoryStore())
    later: list[threading.Thread] = []

    class Watched(dict[PointId, Current]):
        def get(self, *arguments: Any) -> Any:
            found = super().get(*arguments)
            if not later:
                later.append(threading.Thread(target=lambda: overlay.queued(2, put_at(1))))
                later[0].start()
                later[0].join(0.2)
            return found

    def put_at(offset: int) -> Resolved:
        effects = no_effects(offset)
        effects.put_ids, effects.put_payloads = ["a"], [b""]
        return Resolved(effects, [])

    overlay._points = Watched()
    overlay.queued(1, put_at(0))
    overlay.applied(1, ["a"])
    later[0].join()
    assert overlay.offsets_of(["a"]) == [1]


def test_a_write_whose_help_is_cut_by_a_close_returns(path: Path) -> None:
    db = vecdb.open(path)
    points = db.create_collection("p", dim=4)
    core = points._state.core
    original = core.help

    def closing(most: int) -> int:
        db.close()
        return original(most)

    core.help = closing  # type: ignore[method-assign]
    points.upsert(1, [1, 0, 0, 0])
    with vecdb.open(path) as again:
        assert list(again["p"]) == [1]
