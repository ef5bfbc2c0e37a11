"""
`open(salvage=True)`: whatever is damaged, it opens with all that verifies, tells what is lost, and removes nothing.
"""

from __future__ import annotations

import random
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vecdb
from vecdb import F, _registry
from vecdb.storage import salvage
from vecdb.storage.framing import _HEADER

DIM = 40
COUNT = 6000


def vector_of(number: int, version: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng((number, version)).standard_normal(DIM).astype(np.float32)


def write(points: vecdb.Collection, numbers: range, version: int) -> None:
    ids: list[Any] = [i if i % 3 else f"s{i}" for i in numbers]
    vectors = [None if i % 100 == 0 else vector_of(i, version) for i in numbers]
    points.upsert(ids, vectors, [{"i": i, "version": version} for i in numbers])


def check(points: vecdb.Collection, *, versions: tuple[int, ...] = (0, 1, 2)) -> tuple[int, int]:
    """
    Every point is as it was written once; return how many there are, and how many have lost their vector.
    """
    without = 0
    found = points.get_many(list(points))
    for one in found:
        assert one is not None
        number, version = one.payload["i"], one.payload["version"]
        assert one.id == (number if number % 3 else f"s{number}")
        assert version in versions
        if one.vector is None:
            without += number % 100 != 0
        else:
            assert vector_of(number, version).tobytes() == np.asarray(one.vector).tobytes()
    assert len(found) == points.count({}) == points.count(F("i") >= 0)
    return len(found), without


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """
    A database of two collections as a dead process leaves it: the first with a base, tombstones, and calls in the log.
    """
    home = tmp_path_factory.mktemp("original")
    with vecdb.open(home / "live.vecdb") as db:
        points = db.create_collection("points", dim=DIM)
        write(points, range(COUNT), 0)
        points.create_index("i", "integer")
        points.checkpoint()
        write(points, range(0, COUNT, 10), 1)
        points.delete([1, 2, 4])
        points.checkpoint()
        write(points, range(5, 50, 5), 2)
        points.delete([7, 8])
        points.set_payload({"patched": True}, ids=[11, 14])
        write(points, range(COUNT, COUNT + 10), 2)
        other = db.create_collection("other", dim=DIM)
        write(other, range(100), 0)
        ignored = shutil.ignore_patterns("*-lock", "LOCK")
        shutil.copytree(home / "live.vecdb", home / "dead.vecdb", ignore=ignored)
    return home / "dead.vecdb"


@pytest.fixture
def damaged(original: Path, path: Path) -> Path:
    shutil.copytree(original, path)
    return path


LIVE = COUNT - 5 + 10


@contextmanager
def salvaged(path: Path) -> Iterator[vecdb.Database]:
    """
    Open it with salvage, and see that the outcome verifies and opens as any other.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        db = vecdb.open(path, salvage=True)
    with db:
        assert all(db[name].verify().ok for name in db)
        yield db
    with vecdb.open(path, verify=True) as again:
        for name in again:
            check(again[name])
            write(again[name], range(3), 2)


def flip(path: Path, at: int, bit: int = 3) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1 << bit
    path.write_bytes(data)


def test_nothing_is_done_without_damage(damaged: Path) -> None:
    with salvaged(damaged) as db:
        assert db.report is None
        assert (LIVE, 0) == check(db["points"])
        assert not list(damaged.glob("salvaged-*"))


def test_a_damaged_block_of_vectors_costs_these_vectors_only(damaged: Path) -> None:
    rows = damaged / "c-0" / "gen-1" / "vectors" / "0.f32"
    flip(rows, 70_000)
    broken = rows.read_bytes()
    with pytest.raises(vecdb.Corruption), vecdb.open(damaged) as db:
        check(db["points"])
    with pytest.warns(RuntimeWarning, match="lost their vector"):
        db = vecdb.open(damaged, salvage=True)
    with db:
        count, without = check(db["points"])
        assert LIVE == count
        assert 0 < without <= 65536 // (4 * DIM)
        report = db.report
        assert report is not None
        assert not report.ok
        assert any("have lost their vector, of ids" in problem for problem in report.problems)
        assert {11, 14} == {point.id for point in db["points"].get_many([11, 14, 17]) if point is not None and "patched" in point.payload}
        assert db["points"].get(7) is None
        assert "i" in db["points"].indexes
        assert (100, 0) == check(db["other"])
    assert broken == (damaged / "salvaged-1" / "c-0" / "gen-1" / "vectors" / "0.f32").read_bytes()
    assert not (damaged / "salvaged-1" / "c-1").exists()
    with vecdb.open(damaged, salvage=True) as db:
        assert db.report is None


def test_a_lost_page_of_payloads_costs_its_points_only(damaged: Path) -> None:
    file = damaged / "c-0" / "gen-1" / "points.lmdb"
    data = bytearray(file.read_bytes())
    # Leaves of payloads, those that LMDB has given up among them, hold the key "version" many times.
    pages = [number for number in range(2, len(data) // 4096) if data.count(b"version", number * 4096, (number + 1) * 4096) > 20]
    for page in pages[::10]:
        data[page * 4096 : (page + 1) * 4096] = bytes(4096)
    file.write_bytes(data)
    with salvaged(damaged) as db:
        count, _ = check(db["points"])
        assert LIVE * 0.7 < count < LIVE
        assert db.report is not None
        assert any("points are lost, of ids" in problem for problem in db.report.problems)


@pytest.mark.parametrize("table", ["ids", "id_blocks", "live", "present", "row_sums", "meta", "changed"])
def test_a_damaged_value_costs_little(damaged: Path, table: str) -> None:
    """
    What other places tell is not lost with a value: ids, life, presence, and the state itself.
    """
    import lmdb

    file = damaged / "c-0" / "gen-1" / "points.lmdb"
    with lmdb.open(str(file), subdir=False, max_dbs=16, lib_version=0) as env, env.begin(write=True) as txn:
        database = env.open_db(table.encode(), txn=txn, create=False)
        for key, value in list(txn.cursor(database)):
            txn.put(key, value[:-1] + bytes([value[-1] ^ 1]), db=database)
    file.with_name(file.name + "-lock").unlink()
    with salvaged(damaged) as db:
        count, without = check(db["points"])
        assert LIVE == count
        assert without == 0 if table not in ("present", "row_sums", "meta") else without <= COUNT


@pytest.mark.parametrize("name", ["CATALOG", "c-0/MANIFEST", "c-0/CURRENT", "c-0/INDEXES"])
@pytest.mark.parametrize("how", ["flipped", "missing"])
def test_damaged_small_files(damaged: Path, name: str, how: str) -> None:
    if how == "flipped":
        flip(damaged / name, 24)
    else:
        (damaged / name).unlink()
    with salvaged(damaged) as db:
        counts = sorted(len(db[one]) for one in db)
        assert ([100] if name == "c-0/MANIFEST" else [100, LIVE]) == counts
        assert (name == "c-0/INDEXES") == (db.report is None)
        if name == "CATALOG":
            assert ["salvaged-0", "salvaged-1"] == list(db)
        if name == "c-0/MANIFEST":
            assert (damaged / "salvaged-1" / "c-0" / "gen-1" / "points.lmdb").exists()


@pytest.mark.parametrize("name", ["gen-1/points.lmdb", "gen-1/vectors/0.f32", "wal"])
def test_missing_files(damaged: Path, name: str) -> None:
    missing = damaged / "c-0" / name
    if missing.is_dir():
        shutil.rmtree(missing)
    else:
        missing.unlink()
    with salvaged(damaged) as db:
        count, without = check(db["points"])
        if name == "wal":
            assert COUNT - 3 == count
        elif name.endswith("0.f32"):
            assert LIVE == count
            assert without > COUNT * 0.9
        else:
            # Only what the log still has.
            assert 10 <= count < 1000


def test_a_call_behind_a_damaged_one_is_kept(damaged: Path) -> None:
    segment = max((damaged / "c-0" / "wal").iterdir())
    data = segment.read_bytes()
    records = [at for at in range(64, len(data), 8) if data[at : at + 4] == b"VWAL" and data[at + 36] == 1]
    flip(segment, records[-2] + 60)
    with salvaged(damaged) as db:
        points = db["points"]
        check(points)
        assert all(number in points or f"s{number}" in points for number in range(COUNT, COUNT + 10))
        assert db.report is not None
        assert any("what was written from LSN" in problem for problem in db.report.problems)


def test_any_flipped_bit_leaves_something_that_opens(damaged: Path, original: Path) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    names = [file.relative_to(original) for file in original.rglob("*") if file.is_file() and "c-1" not in str(file)]
    lost = 0
    for _ in range(12):
        shutil.rmtree(damaged)
        shutil.copytree(original, damaged)
        for name in rng.sample(names, 2):
            size = (damaged / name).stat().st_size
            flip(damaged / name, rng.randrange(min(size, rng.choice((200, size)))), rng.randrange(8))
        with salvaged(damaged) as db:
            counts = [check(db[name])[0] for name in db]
            lost += sum(counts) < LIVE + 100
    assert lost < 12


def test_a_salvage_that_was_cut_is_done_again(damaged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flip(damaged / "c-0" / "gen-1" / "vectors" / "0.f32", 70_000)

    def cut(*_: Any) -> int:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(salvage, "rebuild_collection", cut)
        with pytest.raises(KeyboardInterrupt):
            vecdb.open(damaged, salvage=True)
    with vecdb.open(damaged) as db:
        assert (100, 0) == check(db["other"])
        with pytest.raises(vecdb.StorageError):
            db["points"]
    with salvaged(damaged) as db:
        assert LIVE == check(db["points"])[0]
        assert db.report is not None
        assert any("is missing; it is read from" in problem for problem in db.report.problems)
    assert (damaged / "salvaged-1" / "c-0" / "MANIFEST").exists()


def test_an_older_catalog_hides_no_collection(damaged: Path, original: Path) -> None:
    with vecdb.open(damaged) as db:
        write(db.create_collection("later", dim=DIM), range(30), 0)
        db.create_collection("salvaged-2", dim=DIM)
    shutil.copy(original / "CATALOG", damaged / "CATALOG")
    with pytest.raises(vecdb.Corruption, match="does not name c-2, which holds points"):
        vecdb.open(damaged)
    with salvaged(damaged) as db:
        assert ["other", "points", "salvaged-2"] == list(db)
        assert (30, 0) == check(db["salvaged-2"])
        assert db.report is not None
        assert any("too old to name c-2" in problem for problem in db.report.problems)
        db.create_collection("one more", dim=DIM)
        assert (30, 0) == check(db["salvaged-2"])


def test_what_a_newer_version_wrote_is_left_alone(damaged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vecdb._crc import crc32c

    file = damaged / "c-0" / "MANIFEST"
    data = file.read_bytes()
    magic, _, length = _HEADER.unpack_from(data)
    header = _HEADER.pack(magic, 2, length)
    file.write_bytes(header + crc32c(header + data[_HEADER.size + 4 :]).to_bytes(4, "little") + data[_HEADER.size + 4 :])
    with pytest.raises(vecdb.StorageError, match="newer vecdb"):
        vecdb.open(damaged, salvage=True)
    assert not list(damaged.glob("salvaged-*"))


def test_it_wants_a_database_that_nobody_has_open(damaged: Path) -> None:
    for mode in ("r", "x"):
        with pytest.raises(vecdb.InvalidArgument, match="mode"):
            vecdb.open(damaged, mode=mode, salvage=True)  # type: ignore[arg-type]
    with vecdb.open(damaged), pytest.raises(vecdb.InvalidArgument, match="close it first"):
        vecdb.open(damaged, salvage=True)
    with pytest.raises(vecdb.InvalidArgument, match="salvage"):
        vecdb.open(damaged, salvage="yes")  # type: ignore[arg-type]


def test_a_new_database_needs_no_salvage(tmp_path: Path) -> None:
    with vecdb.open(tmp_path / "new", salvage=True) as db:
        assert (None, []) == (db.report, list(db))
    with vecdb.open(":memory:", salvage=True) as db:
        assert db.report is None
    (tmp_path / "else").mkdir()
    (tmp_path / "else" / "file").write_text("something else")
    with pytest.raises(vecdb.StorageError, match="not a vecdb database"):
        vecdb.open(tmp_path / "else", salvage=True)
    assert not _registry._live
