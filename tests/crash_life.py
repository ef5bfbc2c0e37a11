"""
A small database's life through the public API, with a model beside it, and how a database is held against one.

Used by the tests that cut, fail and damage: they need it quick, so that files are small, nothing is synced, and no thread drives the idle
work. Thread rule: one thread; `quick` patches the library for the time of a with block.
"""

from __future__ import annotations

import gc
import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from numpy.typing import NDArray
from storage_doubles import QuickSystem

import vecdb
from vecdb import F
from vecdb._live import LiveDatabase
from vecdb.index import CoreIndex
from vecdb.storage import files, segment_file, vectors, wal
from vecdb.storage.disk import DiskStore

DIM = 3
NAME = "db"

Points = dict[int | str, tuple[dict[str, Any], bytes | None]]
"""
Id to payload and vector.
"""
Model = dict[str, Points]
"""
Name of a collection to its points.
"""


@contextmanager
def quick() -> Iterator[None]:
    """
    Make files small, syncs free, and the idle work a call of the test.
    """
    with ExitStack() as stack:
        for module in (segment_file, wal):
            stack.enter_context(mock.patch.object(module, "SMALLEST", 4096))
        stack.enter_context(mock.patch.object(vectors, "_LEAST_GROWTH", 4096))
        stack.enter_context(mock.patch.object(LiveDatabase, "_start_ticker"))
        stack.enter_context(mock.patch.object(CoreIndex, "set_threads"))
        stack.enter_context(mock.patch.object(wal, "IDLE_SECONDS", 0.0))
        stack.enter_context(mock.patch.object(files, "system", QuickSystem()))
        # What the interpreter holds already need not be looked through again and again.
        gc.collect()
        gc.freeze()
        stack.callback(gc.unfreeze)
        yield


def vector_of(number: int, dim: int = DIM) -> NDArray[np.float32]:
    """
    Return the vector that write `number` gives: no two are alike, and no component of one is zero.
    """
    return np.random.default_rng(number).uniform(0.1, 1.0, dim).astype(np.float32)


class Life:
    """
    An open database and its model; each operation changes both, the model once the library has returned.
    """

    def __init__(self, path: Path, model: Model, *, number: int = 0, dim: int = DIM) -> None:
        self.path = path
        self.model: Model = {name: dict(points) for name, points in model.items()}
        self.number = number
        self.dim = dim
        self.db = vecdb.open(path, threads=1)

    @property
    def name(self) -> str:
        """
        The newest collection.
        """
        return max(self.model)

    @property
    def points(self) -> vecdb.Collection:
        return self.db[self.name]

    def create(self) -> None:
        name = f"c{len(self.model)}"
        self.db.create_collection(name, dim=self.dim, metric="l2")
        self.model[name] = {}

    def _put(self, ids: list[int | str]) -> None:
        self.number += 1
        rows = [None if place == 2 else vector_of(10 * self.number + place, self.dim) for place in range(len(ids))]
        payloads = [{"n": self.number, "place": place} for place in range(len(ids))]
        self.points.upsert(ids, rows, payloads)
        for one, row, payload in zip(ids, rows, payloads, strict=True):
            self.model[self.name][one] = (payload, None if row is None else row.tobytes())

    def _some(self) -> list[int | str]:
        return sorted(self.model[self.name], key=str)[:: max(1, len(self.model[self.name]) // 2)][:2]

    def upsert(self) -> None:
        self._put([100 + self.number, f"s{self.number}", 200 + self.number])

    def update(self) -> None:
        self._put(self._some() or [1, "two"])

    def delete(self) -> None:
        ids = self._some()
        self.points.delete(ids)
        for one in ids:
            del self.model[self.name][one]

    def payload(self) -> None:
        self.number += 1
        ids = self._some()
        self.points.set_payload({"n": self.number, "more": "x" * 20}, ids=ids)
        for one in ids:
            old, vector = self.model[self.name][one]
            self.model[self.name][one] = ({**old, "n": self.number, "more": "x" * 20}, vector)

    def checkpoint(self) -> None:
        self.points.checkpoint()

    def compact(self) -> None:
        self.points.compact()

    def close(self) -> None:
        self.db.close()
        self.db = vecdb.open(self.path, threads=1)
        for name in self.db:
            len(self.db[name])

    def idle(self) -> None:
        self.points._state.store.note_idle()

    def end(self) -> None:
        """
        Let go of it without a checkpoint, as far as that can be done in one process.
        """
        with unclean(), suppress(vecdb.VecdbError):
            self.db.close()


OPERATIONS: dict[str, Callable[[Life], None]] = {
    name: getattr(Life, name) for name in ("create", "upsert", "update", "delete", "payload", "checkpoint", "compact", "close")
}


@contextmanager
def unclean() -> Iterator[None]:
    """
    Let databases be closed without a checkpoint and without the mark of an orderly end.
    """
    with mock.patch.object(DiskStore, "_checkpoint_at_close", _no_checkpoint):
        yield


def _no_checkpoint(store: DiskStore, checkpointer: object) -> bool:
    return False


def read(db: vecdb.Database) -> Model:
    """
    Return everything that a database holds, by its public API.
    """
    return {name: read_points(db[name]) for name in db}


def read_points(points: vecdb.Collection) -> Points:
    """
    Return everything that a collection holds.
    """
    found: Points = {}
    for point in points.get_many(list(points)):
        assert point is not None
        found[point.id] = (point.payload, None if point.vector is None else np.asarray(point.vector, np.float32).tobytes())
    return found


def check_search(points: vecdb.Collection, expected: Points, chance: random.Random) -> None:
    """
    Compare a search, with a filter and without one, with brute force.
    """
    dim = points.dim
    query = vector_of(chance.randrange(1_000_000), dim)
    least = chance.randrange(6)
    found = points.search(query, k=4)
    rows = {one: np.frombuffer(vector, np.float32) for one, (_, vector) in expected.items() if vector is not None}
    distances = sorted((float(np.linalg.norm(row - query)), str(one)) for one, row in rows.items())
    assert [one for _, one in distances[:4]] == [str(hit.id) for hit in found]
    assert np.allclose([distance for distance, _ in distances[:4]], [hit.score for hit in found], rtol=1e-5)
    if chance.random() < 0.3:
        matching = {one for one, (payload, _) in expected.items() if payload.get("n", 0) >= least}
        assert len(matching) == points.count(F("n") >= least)
        filtered = [one for _, one in distances if one in {str(one) for one in matching}]
        assert filtered[:4] == [str(hit.id) for hit in points.search(query, k=4, filter=F("n") >= least)]


def difference(found: Model, allowed: list[Model]) -> str:
    """
    Say what is not as it may be.
    """
    lines = []
    for model in allowed:
        for name in sorted({*found, *model}):
            there, wanted = found.get(name), model.get(name)
            if there is None or wanted is None:
                lines.append(f"collection {name}: found {there is not None}, expected {wanted is not None}")
            else:
                wrong = [one for one in {**there, **wanted} if there.get(one) != wanted.get(one)]
                lines += [f"{name}[{one!r}] is {there.get(one)}, expected {wanted.get(one)}" for one in wrong[:3]]
        lines.append("or")
    return "; ".join(lines[:-1])
