"""
Calls that are applied joined leave what they leave one by one.
"""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from vecdb.storage import joining
from vecdb.storage.effects import Effects, FieldRows, PointId
from vecdb.storage.joining import joined
from vecdb.storage.memtable import Memtable

FIELDS = 2


class Life:
    """
    Random calls on a collection that has `old` points already.
    """

    def __init__(self, rng: random.Random, old: int) -> None:
        self.rng = rng
        self.offsets: dict[PointId, int] = {f"old {number}": number for number in range(old)}
        self.first = self.next = old

    def call(self) -> Effects:
        kind = self.rng.choices(("new", "replace", "delete", "patch"), (8, 4, 1, 1))[0]
        some = self.rng.sample(list(self.offsets), min(len(self.offsets), self.rng.randrange(1, 3)))
        if kind == "patch" and some:
            offsets = sorted(self.offsets[one] for one in some)
            return Effects(self.next, patch_offsets=np.array(offsets, np.uint32), patch_payloads=[b"patch"] * len(offsets))
        if kind == "delete":
            dead = sorted(self.offsets.pop(one) for one in some)
            return Effects(self.next, tombstones=np.array(dead, np.uint32), deleted_ids=list(some))
        ids: list[PointId] = some if kind == "replace" and some else [self.next * 10 + place for place in range(self.rng.randrange(1, 4))]
        dead = sorted(self.offsets[one] for one in ids if one in self.offsets)
        payloads = [b"%d" % (self.next + place) for place in range(len(ids))]
        effects = Effects(self.next, list(ids), payloads, self.vectors(len(ids)), np.array(dead, np.uint32))
        self.offsets.update(zip(ids, range(self.next, self.next + len(ids)), strict=True))
        self.next += len(ids)
        return effects

    def vectors(self, count: int) -> dict[int, FieldRows]:
        vectors = {}
        for field in range(self.rng.choices((0, 1, FIELDS), (1, 6, 3))[0]):
            positions = None if self.rng.random() < 0.8 else np.arange(count - 1, dtype=np.uint32)
            rows = count if positions is None else len(positions)
            vectors[field] = FieldRows(positions, np.full((rows, 3), self.next + field / 10, np.float32))
        return vectors


def state_after(first: int, calls: list[Effects]) -> dict[str, Any]:
    """
    Return what calls leave in a memtable and in the files of rows.
    """
    table = Memtable(first, fields=FIELDS)
    rows: list[list[list[float]]] = [[] for _ in range(FIELDS)]
    for effects in calls:
        assert table.next_offset == effects.first_offset
        table.apply(effects)
        for field, given in effects.put_vectors.items():
            rows[field] += given.rows.tolist()
    present = [table.present_offsets(field).tolist() for field in range(FIELDS)]
    changed = table.tombstones().tolist(), table.changed().tolist()
    return {"ids": table.ids, "payloads": table.payloads, "new": table.new_ids, "present": present, "changed": changed, "rows": rows}


def test_joined_calls_leave_what_the_calls_leave(rng: random.Random) -> None:
    fewer = 0
    for _ in range(300):
        life = Life(rng, old=rng.randrange(6))
        calls = [life.call() for _ in range(rng.randrange(1, 12))]
        together = list(joined(list(enumerate(calls, 5))))
        assert state_after(life.first, calls) == state_after(life.first, [effects for _, effects in together])
        assert len(calls) + 4 == together[-1][0]
        assert sorted({lsn for lsn, _ in together}) == [lsn for lsn, _ in together]
        fewer += len(calls) - len(together)
    assert fewer > 100


def puts(first: int, *ids: PointId, dead: tuple[int, ...] = ()) -> Effects:
    rows = {0: FieldRows(None, np.zeros((len(ids), 3), np.float32))}
    return Effects(first, list(ids), [b""] * len(ids), rows, np.array(dead, np.uint32))


def test_a_call_that_touches_a_point_of_the_run_begins_another() -> None:
    calls = [puts(9, "a", dead=(3,)), puts(10, "b", dead=(1,)), puts(11, "a", dead=(9,)), puts(12, "c")]
    assert [(2, ["a", "b"], [1, 3]), (4, ["a", "c"], [9])] == [
        (lsn, effects.put_ids, effects.tombstones.tolist()) for lsn, effects in joined(list(enumerate(calls, 1)))
    ]


def test_a_run_is_no_longer_than_copying_its_rows_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joining, "MOST_POINTS", 3)
    calls = [puts(number, number) for number in range(7)] + [puts(7, *range(7, 12)), puts(12, 12)]
    assert [3, 3, 1, 5, 1] == [len(effects.put_ids) for _, effects in joined(list(enumerate(calls, 1)))]


def test_a_call_alone_is_the_call_itself() -> None:
    call = puts(0, "a")
    assert [(7, call)] == list(joined([(7, call)]))
    assert [] == list(joined([]))
