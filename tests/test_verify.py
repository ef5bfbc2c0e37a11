"""
`Collection.verify` and `open(verify=True)`: sound collections are, damaged ones are told in full, before anything is answered from them.
"""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

import vecdb
from vecdb import F


def fill(points: vecdb.Collection) -> None:
    random = np.random.default_rng(1)
    points.upsert([*range(3000), "a"], random.standard_normal((3001, 4)), [{"n": i % 5} for i in range(3001)])
    points.delete([5, 6])
    points.upsert([7, 8], [None, [1, 2, 3, 4]])


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 8
    path.write_bytes(data)


def test_a_sound_collection_is_ok(points: vecdb.Collection) -> None:
    fill(points)
    report = points.verify()
    assert (True, (), ()) == (report.ok, report.problems, report.notes)
    assert 2999 == report.counts["points"]
    assert repr(report).startswith("<vecdb.Report 'points': ok, ")
    points.compact()
    assert points.verify().ok


def test_a_graph_is_looked_at(db: vecdb.Database) -> None:
    points = db.create_collection("graph", dim=16)
    points.upsert(range(20_000), np.random.default_rng(2).standard_normal((20_000, 16)))
    points.wait_indexed()
    report = points.verify()
    assert (True, 20_000) == (report.ok, report.counts["graph nodes"])


def test_writes_and_searches_go_on_beside_it(points: vecdb.Collection) -> None:
    fill(points)
    stop = threading.Event()

    def write() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            points.upsert([number % 100, f"s{number}"], [[1, 2, 3, number]] * 2, [{"n": number}] * 2)
            points.delete([f"s{number - 3}"])
            if number % 20 == 0:
                points.checkpoint()

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for _ in range(10):
            report = points.verify()
            assert report.ok, report
    finally:
        stop.set()
        thread.join()


def test_damage_beneath_an_open_collection_is_listed(path: Path) -> None:
    with vecdb.open(path) as db:
        points = db.create_collection("points", dim=4)
        fill(points)
        points.checkpoint()
        flip(path / "c-0" / "gen-1" / "vectors" / "0.f32", 100)
        flip(path / "c-0" / "MANIFEST", 30)
        report = points.verify()
        assert not report.ok
        assert any("MANIFEST" in problem for problem in report.problems)
        flip(path / "c-0" / "MANIFEST", 30)
        report = points.verify()
        assert any("0.f32" in problem for problem in report.problems)
        assert "problem" in repr(report).splitlines()[0]
        flip(path / "CATALOG", 25)
        assert any("CATALOG" in problem for problem in points.verify().problems)
        flip(path / "CATALOG", 25)


def test_what_core_and_store_disagree_on_is_listed(points: vecdb.Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(points)
    core = points._state.core
    original = core.get_ids
    monkeypatch.setattr(core, "get_ids", lambda offsets: [17 if one == 100 else one for one in original(offsets)])
    report = points.verify()
    assert 1 == len(report.problems)
    assert "the core has the id 17 at offset 100, the store at 17" in report.problems[0]


@pytest.mark.parametrize("file", ["CATALOG", "c-0/MANIFEST", "c-0/CURRENT", "c-0/gen-1/points.lmdb", "c-0/gen-1/vectors/0.f32"])
def test_open_with_verify_refuses_a_damaged_database(path: Path, file: str) -> None:
    with vecdb.open(path) as db:
        fill(db.create_collection("points", dim=4))
    with vecdb.open(path, verify=True) as db:
        assert 2999 == len(db["points"])
    flip(path / file, 24)
    with pytest.raises(vecdb.Corruption, match=Path(file).name):
        vecdb.open(path, verify=True)
    flip(path / file, 24)
    with vecdb.open(path, verify=True) as db:
        assert 600 == db["points"].count(F("n") == 4)


def test_open_with_verify_checks_a_database_that_is_open_already(path: Path) -> None:
    with vecdb.open(path) as db:
        points = db.create_collection("points", dim=4)
        fill(points)
        points.checkpoint()
        with vecdb.open(path, verify=True):
            pass
        flip(path / "c-0" / "gen-1" / "vectors" / "0.f32", 100)
        with pytest.raises(vecdb.Corruption, match=r"0\.f32"):
            vecdb.open(path, mode="r", verify=True)


def test_verify_is_a_bool(path: Path) -> None:
    with pytest.raises(vecdb.InvalidArgument, match="verify"):
        vecdb.open(path, verify=1)  # type: ignore[arg-type]


def test_a_closed_collection_cannot_be_verified() -> None:
    points = vecdb.Collection(dim=2)
    points.close()
    with pytest.raises(vecdb.Closed):
        points.verify()
