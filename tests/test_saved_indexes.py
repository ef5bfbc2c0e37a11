"""
Payload indexes are saved, and brought up to date after opening: an index from a file is the index that a scan would have built.
"""

from __future__ import annotations

import errno
import random
import shutil
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from filter_samples import PATHS, random_condition, random_filter, random_payloads
from storage_doubles import QuickSystem

import vecdb
from vecdb import Collection, F, _index_copying, _payload_index
from vecdb._payload_index import PayloadIndexes
from vecdb._payload_parts import PayloadParts
from vecdb.filters import KeyPath, Kind, matches, parse, terms
from vecdb.index import CoreIndex
from vecdb.storage import files, saved_indexes
from vecdb.storage.derived import DerivedFiles
from vecdb.storage.index_file import IndexHeader, IndexName, decode, encode
from vecdb.storage.saved_indexes import file_name

Model = dict[Any, dict[str, Any]]
V = [1.0, 0.0, 0.0, 0.0]
ALL = 1 << 16
KEYS = {"a": "keyword", "b": "integer", "c.d": "text", "e[]": "float", "e[].f": "datetime", '"g.h"': "geo"}


@pytest.fixture
def rng() -> random.Random:
    seed = 4
    print(f"seed {seed}")
    return random.Random(seed)


@pytest.fixture(autouse=True)
def small_indexes_are_saved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saved_indexes, "LEAST_ENTRIES", 1)
    monkeypatch.setattr(files, "system", QuickSystem())


def directory_of(path: Path) -> Path:
    return next((path / "c-0").glob("gen-*")) / "derived"


def files_of(path: Path) -> list[Path]:
    return sorted(directory_of(path).glob("index-*.derived"))


def write(rng: random.Random, points: Collection, model: Model) -> None:
    """
    Replace, add, change and delete some points.
    """
    ids = [one if rng.random() < 0.9 else f"id-{one}" for one in rng.sample(range(60), 20)]
    given = random_payloads(rng, len(ids))
    points.upsert(ids, [V] * len(ids), given)
    model.update(zip(ids, given, strict=True))
    for one in rng.sample(sorted(model, key=str), 4):
        (payload,) = random_payloads(rng, 1)
        points.set_payload(payload, ids=one)
        model[one] = {**model[one], **payload}
    gone = rng.sample(sorted(model, key=str), 4)
    points.delete(gone)
    for one in gone:
        del model[one]


def check(rng: random.Random, points: Collection, model: Model, filters: int) -> None:
    """
    Compare what filters select with what the evaluator selects of the model.
    """
    for _ in range(filters):
        filter = random_filter(rng) if rng.random() < 0.3 else random_condition(rng, 0)
        node = parse(filter)
        expected = {one for one, payload in model.items() if matches(node, payload, id=one, has_vector=lambda name: name == "")}
        assert expected == set(points.search(V, k=100, filter=filter, exact=True).ids), filter


def contents(points: Collection) -> dict[Any, Any]:
    """
    What each index holds, by key and kind: offsets of each term, or entries.
    """
    core, found = points._state.core, {}
    for name, index in points._state.indexes._indexes.items():
        assert index.complete, name
        if index.kind == "points":
            found[name] = set(zip(*(part.tolist() for part in core.copy_points(index.column, after=None, capacity=ALL)), strict=True))
        elif index.kind in ("numbers", "times", "counts"):
            found[name] = set(zip(*(part.tolist() for part in core.copy_column(index.column, after=None, capacity=ALL)), strict=True))
        else:
            tags = core.copy_tags(np.array([index.tags[term] for term in index.tags], np.uint64), first=0, last=2**32 - 1, capacity=ALL)
            assert tags is not None
            ends = np.cumsum(tags.counts).tolist()
            parts = [tags.offsets[first:last].tolist() for first, last in pairwise([0, *ends])]
            found[name] = {term: set(part) for term, part in zip(index.tags, parts, strict=True) if part}
        entries = len(found[name]) if index.kind not in ("tags", "words", "presence") else sum(map(len, found[name].values()))
        assert entries == index.entries, name
    return found


def built(points: Collection) -> dict[Any, Any]:
    """
    What they would hold if they were built now, from the payloads.
    """
    found: dict[Any, Any] = {}
    rows = list(points._state.contents.payloads.iterate(0, points._state.store.next_offset))
    for key, kind in points._state.indexes._indexes:
        held: Any = {} if kind in ("tags", "words", "presence") else set()
        for offset, payload in rows:
            for one in terms(payload, key, [kind])[kind]:
                if isinstance(held, dict):
                    held.setdefault(one, set()).add(offset)
                else:
                    held.add((offset, *one))
        found[key, kind] = held
    return found


def scans(monkeypatch: pytest.MonkeyPatch, points: Collection) -> list[int]:
    """
    Return a list that takes the offsets of payloads as indexes are built of them.
    """
    read: list[int] = []
    source = points._state.contents.payloads

    def noting(original: Callable[..., PayloadParts]) -> Callable[..., PayloadParts]:
        def call(*given: Any) -> PayloadParts:
            parts = original(*given)
            read.extend(parts.offsets)
            return parts

        return call

    monkeypatch.setattr(source, "between", noting(source.between))
    monkeypatch.setattr(source, "of", noting(source.of))
    return read


def filled(path: Path, rng: random.Random, model: Model) -> vecdb.Database:
    """
    A database with a declared index of each kind, and what random filters have indexed.
    """
    db = vecdb.open(path)
    points = db.create_collection("p", dim=4)
    for _ in range(3):
        write(rng, points, model)
    for key, kind in KEYS.items():
        points.create_index(key, kind)
    check(rng, points, model, 20)
    return db


# ---- the same index ----


@pytest.mark.parametrize("block", [1, 7, 4096])
def test_a_scan_gives_indexes_what_each_payload_gives_by_itself(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    rng = random.Random(seed := block)
    print(f"seed {seed}")
    monkeypatch.setattr(_payload_index, "BLOCK", block)
    points = Collection(dim=4)
    given = random_payloads(rng, 200)
    given += [{"a": one, "c": {"d": one}} for one in (2**53, 2**53 + 1, -(2**63), 2**64 - 1, 1, True, 1.0, -0.0, {}, [], None, "", "x\ny")]
    points.upsert(range(len(given)), None, given)
    points.delete(range(0, len(given), 9))
    wanted = [(KeyPath.parse(key), kind) for key in [*PATHS, "a.lat", "e", '"a""b"'] for kind in get_args(Kind)]
    with points._state.indexes.use(wanted):
        assert built(points) == contents(points)


@pytest.mark.parametrize("seed", range(6))
def test_an_index_from_a_file_is_the_index_that_a_scan_builds(path: Path, tmp_path: Path, seed: int) -> None:
    print(f"seed {seed}")
    rng, model = random.Random(seed), {}
    filled(path, rng, model).close()
    for round in range(6):
        assert bool(files_of(path)) == (round != 4)  # a backup numbers the points anew, and has none
        with vecdb.open(path) as db:
            points = db["p"]
            if round % 2:
                write(rng, points, model)  # while the indexes are filled
            assert points.wait_indexed(60)
            assert points.info().dropped == ()
            assert built(points) == contents(points)
            check(rng, points, model, 15)
            write(rng, points, model)
            if round == 1:
                points.checkpoint()
                write(rng, points, model)
                shutil.copytree(path, tmp_path / "crashed")
            if round == 2:
                points.compact()
                write(rng, points, model)
            if round == 3:
                db.backup(tmp_path / "backup")
            assert built(points) == contents(points)
            check(rng, points, model, 15)
        if round == 1:
            shutil.rmtree(path)
            (tmp_path / "crashed").rename(path)  # the log has what the checkpoint has not
        if round == 3:
            shutil.rmtree(path)
            (tmp_path / "backup").rename(path)


def test_only_what_the_file_cannot_know_is_scanned(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with vecdb.open(path) as db:
        points = db.create_collection("p", dim=4)
        points.upsert(range(1000), [V] * 1000, [{"n": n % 7} for n in range(1000)])
        points.create_index("n", "integer")
        points.checkpoint()
        points.set_payload({"n": 8}, ids=[3, 5])
        points.delete([9])
        points.upsert([2000, 2001], [V] * 2, [{"n": 8}, {"n": 1}])
        points.checkpoint()
        copy = path.with_name("copy")
        points.set_payload({"n": 9}, ids=[4, 5])
        points.upsert([2002], [V], [{"n": 9}])
        shutil.copytree(path, copy)
    monkeypatch.setattr("vecdb._declared.DeclaredIndexes._build_all", lambda self: None)  # so that the filter is what fills the index
    with vecdb.open(copy) as db:
        points = db["p"]
        read = scans(monkeypatch, points)
        assert points.count(F("n") == 8) == 2
        # Those that changed or came between the file and the last checkpoint; the log's own changes feed the index.
        assert [3, 5, 1000, 1001] == sorted(set(read))
        assert points.count(F("n") == 9) == 3
        assert points.count(F("n") < 3) == sum(n % 7 < 3 for n in range(1000) if n not in (3, 4, 5, 9)) + 1
        points._state.indexes.restore()
        assert built(points) == contents(points)


def test_what_filters_have_indexed_is_saved_too_and_what_was_dropped_is_not(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with vecdb.open(path) as db:
        points = db.create_collection("p", dim=4)
        points.upsert(range(50), [V] * 50, [{"a": n, "b": "x"} for n in range(50)])
        assert points.count(F("a") < 10) == 10
        assert points.count(F("b") == "x") == 50
        points.create_index("c", "keyword")
    assert 2 == len(files_of(path))
    with vecdb.open(path) as db:
        points = db["p"]
        assert points.wait_indexed(60)
        read = scans(monkeypatch, points)
        assert ["a", "b", "c"] == list(points.indexes)
        assert [True] * 3 == [one.complete for one in points.indexes.values()]
        assert points.count(F("a") < 10) == 10
        assert [] == read
        points.drop_index("a")
        assert 1 == len(files_of(path))
    assert 1 == len(files_of(path))
    with vecdb.open(path) as db:
        assert db["p"].wait_indexed(60)
        assert ["b", "c"] == list(db["p"].indexes)


def test_links_are_asked_for_the_points_of_a_filled_index(path: Path) -> None:
    with vecdb.open(path) as db:
        points = db.create_collection("p", dim=4)
        points.upsert(range(50), [V] * 50, [{"a": n % 3} for n in range(50)])
        points.create_index("a", "integer", m=8)
    with vecdb.open(path) as db:
        points = db["p"]
        points.upsert(range(50, 60), [V] * 10, [{"a": n % 5} for n in range(10)])
        assert points.wait_indexed(60)
        assert points.indexes["a"].m == 8
        assert points.info().dropped == ()
        assert built(points) == contents(points)


# ---- when ----


def test_an_index_is_saved_again_when_enough_has_changed(path: Path) -> None:
    with vecdb.open(path) as db:
        points = db.create_collection("p", dim=4)
        points.upsert(range(1000), [V] * 1000, [{"a": n % 5} for n in range(1000)])
        points.create_index("a", "keyword")
        points.checkpoint()
        first = [file.read_bytes() for file in files_of(path)]
        points.upsert(range(1000, 1200), [V] * 200, [{"a": 1}] * 200)
        points.checkpoint()
        assert first == [file.read_bytes() for file in files_of(path)]
        points.upsert(range(1200, 1300), [V] * 100, [{"a": 1}] * 100)
        points.checkpoint()
        second = [file.read_bytes() for file in files_of(path)]
        assert first[0] != second[0]
        points.set_payload({"a": 2}, ids=range(10))
    assert second == [file.read_bytes() for file in files_of(path)]
    with vecdb.open(path) as db:
        while "a" not in db["p"].info().indexes:  # what is not complete is not saved
            time.sleep(0.001)
        db["p"].set_payload({"a": 3}, ids=range(10))
    assert second[0] != files_of(path)[0].read_bytes()  # at close for less: 1 in 100
    with vecdb.open(path) as db:
        db["p"].delete(range(1300))
        db["p"].checkpoint()
        assert [] == files_of(path)


def test_small_indexes_are_not_saved(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    with vecdb.open(path) as db:
        points = db.create_collection("p", dim=4)
        points.upsert(range(900), [V] * 900, [{"a": "x"}] * 900)
        points.create_index("a", "geo")
        points.create_index("b", "keyword")
        assert points.count(F("a") == "x") == 900
    assert 1 == len(files_of(path))  # of the values; fewer points have none


def test_a_file_older_than_the_account_of_changes_is_dropped(path: Path, tmp_path: Path) -> None:
    with vecdb.open(path) as db:
        points = db.create_collection("p", dim=4)
        points.upsert(range(2000), [V] * 2000, [{"a": n % 5} for n in range(2000)])
        points.create_index("a", "keyword")
        points.checkpoint()
        old = [(file, file.read_bytes()) for file in files_of(path)]
        points.set_payload({"a": 7}, ids=range(1500))
        points.checkpoint()
    for file, content in old:
        file.write_bytes(content)
    with vecdb.open(path) as db:
        points = db["p"]
        assert points.wait_indexed(60)
        assert [file.stem for file, _ in old] == [one.split(":")[0] for one in points.info().dropped]
        assert "more was changed since" in points.info().dropped[0]
        assert points.count(F("a") == 7) == 1500
        assert built(points) == contents(points)


def test_a_file_outlives_a_kill_between_the_commit_and_its_successor(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    killed = tmp_path / "killed"
    with vecdb.open(path) as db:
        points = db.create_collection("p", dim=4)
        points.upsert(range(4800), [V] * 4800, [{"a": n % 5} for n in range(4800)])
        points.create_index("a", "keyword")
        points.checkpoint()
        before = {file: file.read_bytes() for file in files_of(path)}
        points.set_payload({"a": 7}, ids=range(1300))
        with monkeypatch.context() as patch:
            patch.setattr(saved_indexes.SavedIndexes, "save", lambda _, source, name, then, lsn: due.append(name.key))
            due: list[str] = []
            points.checkpoint()
        assert {"a"} == set(due)
        assert before == {file: file.read_bytes() for file in files_of(path)}
        shutil.copytree(path, killed)
    with vecdb.open(killed) as db:
        points = db["p"]
        assert points.wait_indexed(60)
        assert () == points.info().dropped
        assert 1300 == points.count(F("a") == 7)
        assert built(points) == contents(points)


# ---- while writes go on ----


def between_pieces(monkeypatch: pytest.MonkeyPatch, step: Callable[[], None]) -> list[int]:
    """
    Have `step` done before each piece of an index that is copied, pieces being small; the list returned counts the pieces.
    """
    monkeypatch.setattr(_index_copying, "_TAGS", 3)
    monkeypatch.setattr(_index_copying, "_ENTRIES", 8)
    monkeypatch.setattr(_index_copying, "_PAYLOADS", 5)
    pieces: list[int] = []

    def before(call: Callable[..., Any]) -> Callable[..., Any]:
        def stepped(*given: Any, **named: Any) -> Any:
            pieces.append(len(pieces))
            step()
            return call(*given, **named)

        return stepped

    for name in ("copy_tags", "copy_column", "copy_points"):
        monkeypatch.setattr(CoreIndex, name, before(getattr(CoreIndex, name)))
    return pieces


@pytest.mark.parametrize("seed", range(3))
def test_an_index_that_is_written_to_while_it_is_copied_is_saved_as_of_the_checkpoint(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    print(f"seed {seed}")
    rng, model = random.Random(seed), {}
    db = filled(path, rng, model)
    points = db["p"]
    then: dict[Any, Any] = {}
    log: dict[str, bytes] = {}
    for file in files_of(path):
        file.unlink()
    points._state.store.generation.saved_indexes._files.clear()
    points.upsert("last", V, {"a": "last"})
    model["last"] = {"a": "last"}

    def step() -> None:
        if not then:
            then.update(built(points))  # nothing has been written since the commit
            log.update((file.name, file.read_bytes()) for file in (path / "c-0" / "wal").glob("*.log"))
        if rng.random() < 0.05:
            write(rng, points, model)

    with monkeypatch.context() as patch:
        pieces = between_pieces(patch, step)
        points.checkpoint()
    assert len(pieces) > 50
    assert built(points) != then
    assert built(points) == contents(points)
    assert len(files_of(path)) > 5
    # The log comes on top of the files; without what was written since, there is what was there at the checkpoint.
    for name, expected in (("killed", built(points)), ("cut", then)):
        shutil.copytree(path, tmp_path / name)
        for segment in (tmp_path / name / "c-0" / "wal").glob("*.log") if name == "cut" else ():
            if segment.name in log:
                segment.write_bytes(log[segment.name])
            else:
                segment.unlink()
        with vecdb.open(tmp_path / name) as other:
            assert other["p"].wait_indexed(60)
            other["p"]._state.indexes.restore()
            assert other["p"].info().dropped == ()
            found = contents(other["p"])
            assert len(found) == len(files_of(path))  # those that were empty have no file
            assert {index: expected[index] for index in found} == found
    db.close()


# ---- damage ----


@pytest.fixture
def saved(path: Path) -> Path:
    """
    A database with a saved index of each form: tags with dense and sparse values, numbers, points.
    """
    with vecdb.open(path) as db:
        points = db.create_collection("p", dim=4)
        given = [{"a": ["x", n % 50, f"\u00e4{n}", n % 2 == 0][n % 4], "b": n * 2**52, "g": {"lat": n % 90, "lon": n}} for n in range(120)]
        points.upsert(range(120), [V] * 120, given)
        points.create_index("a", "keyword")
        points.create_index("b", "float")
        points.create_index("g", "geo")
    return path


def answers(points: Collection) -> list[int]:
    filters = [F("a") == "x", F("a") == 9, F("a") == True, F("a").is_empty(), F("b") < 50 * 2**52, F("b") == 2**52 + 1]  # noqa: E712
    return [points.count(one) for one in (*filters, F("g").geo_box((50, 0), (10, 100)), F("a") == "\u00e42")]


def test_damaged_files_are_dropped_and_never_change_an_answer(saved: Path, rng: random.Random) -> None:
    with vecdb.open(saved) as db:
        expected = answers(db["p"])
    for file in files_of(saved):
        whole = file.read_bytes()
        places = [20, 60, 80, 100, len(whole) - 1, *rng.sample(range(len(whole)), 2)]
        flipped = [whole[:at] + bytes([whole[at] ^ 1 << rng.randrange(8)]) + whole[at + 1 :] for at in places]
        for content in [*flipped, b"", whole[:71], whole[: len(whole) // 2], whole + b"\0"]:
            file.write_bytes(content)
            with vecdb.open(saved) as db:
                points = db["p"]
                assert expected == answers(points)
                (reason,) = points.info().dropped
                assert reason.startswith(file.stem)
        assert whole == file.read_bytes()  # saved anew


def test_files_of_others_are_dropped(saved: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    other = tmp_path / "other.vecdb"
    shutil.copytree(saved, tmp_path / "older.vecdb")
    with vecdb.open(saved) as db:
        db["p"].upsert(range(120), [V] * 120, [{"a": 1, "b": 2}] * 120)
        expected = answers(db["p"])
    with vecdb.open(other) as db:
        points = db.create_collection("p", dim=4)
        points.upsert(1, V, {"a": 1})
        points.create_index("a", "keyword")
    first, second = files_of(saved)[:2]
    mine = {file: file.read_bytes() for file in files_of(saved)}
    exchanges = [
        (first, second.read_bytes(), "which has another file"),
        (first, (directory_of(other) / files_of(other)[0].name).read_bytes(), "another collection"),
    ]
    for file, content, why in exchanges:
        file.write_bytes(content)
        with vecdb.open(saved) as db:
            assert expected == answers(db["p"])
            assert any(why in one for one in db["p"].info().dropped), db["p"].info().dropped
    assert mine.keys() == set(files_of(saved))
    # A newer file beside older points.
    older = tmp_path / "older.vecdb"
    for file, content in mine.items():
        (directory_of(older) / file.name).write_bytes(content)
    with vecdb.open(older) as db:
        points = db["p"]
        assert points.wait_indexed(60)
        assert len(mine) == len(points.info().dropped)
        assert built(points) == contents(points)


def test_a_verification_names_a_damaged_file(saved: Path) -> None:
    file = files_of(saved)[0]
    with vecdb.open(saved) as db:
        points = db["p"]
        assert points.wait_indexed(60)
        assert points.verify().notes == ()
        data = bytearray(file.read_bytes())
        data[-1] ^= 1
        file.write_bytes(data)
        report = points.verify()
        assert report.ok
        assert any(file.name in note and "built again" in note for note in report.notes)


def test_a_hostile_file_with_right_checksums_is_dropped(saved: Path) -> None:
    with vecdb.open(saved) as db:
        expected = answers(db["p"])
        base = db["p"]._state.contents.points.base
    folder = DerivedFiles(directory_of(saved), uuid=base.manifest.uuid, generation=base.generation)
    for file in files_of(saved):
        found = folder.load(file.stem)
        assert found is not None
        header, sections = decode(found.body)
        for number, content in sections.items():
            if set(content) <= {255}:
                continue  # as it is
            hostile = {one: np.frombuffer(part, np.uint8) for one, part in sections.items()}
            hostile[number] = np.full(len(content), 255, np.uint8)
            for given in (header, IndexHeader(IndexName(header.name.key + '"', header.name.kind), header.offsets)):
                name = file_name(given.name)
                folder.save(name, lsn=found.lsn, body=encode(given, list(hostile.items())))
                with vecdb.open(saved) as db:
                    assert db["p"].wait_indexed(60)
                    assert [name] == [one.split(":")[0] for one in db["p"].info().dropped], number
                    assert expected == answers(db["p"])
                assert file.exists()


def test_an_index_that_cannot_be_saved_does_not_fail_the_checkpoint(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Full(QuickSystem):
        def pwritev(self, fd: int, buffers: Any, offset: int) -> int:
            if "derived" in str(files.path_of(fd)):
                raise OSError(errno.ENOSPC, "injected")
            return super().pwritev(fd, buffers, offset)

    with vecdb.open(path) as db:
        points = db.create_collection("p", dim=4)
        points.upsert(range(50), [V] * 50, [{"a": n} for n in range(50)])
        points.create_index("a", "float")
        with monkeypatch.context() as patch:
            patch.setattr(files, "system", Full())
            points.checkpoint()
        assert "is not saved, so it will be built again" in caplog.text
        wal = points.info().wal
        assert wal["last_lsn"] == wal["checkpoint_lsn"]
        assert [] == files_of(path)
    assert 1 == len(files_of(path))


def test_closing_while_indexes_are_filled_keeps_their_files(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {file: file.read_bytes() for file in files_of(saved)}
    read = PayloadIndexes._read

    def slow(self: PayloadIndexes, *given: Any) -> Any:
        while not self._stopped:
            time.sleep(0.001)
        return read(self, *given)

    monkeypatch.setattr(PayloadIndexes, "_read", slow)
    with vecdb.open(saved) as db:
        assert len(db["p"]) == 120
    assert before == {file: file.read_bytes() for file in files_of(saved)}


def test_an_index_that_is_dropped_while_it_is_copied_is_not_saved(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with vecdb.open(saved) as db:
        points = db["p"]
        assert points.wait_indexed(60)
        expected = len(files_of(saved)) - 1
        points.set_payload({"b": 1.5, "a": "y"}, filter={})
        with monkeypatch.context() as patch:
            pieces = between_pieces(patch, lambda: points.drop_index("b") if "b" in points.indexes else None)
            points.checkpoint()
        assert pieces
        assert expected == len(files_of(saved))
        assert built(points) == contents(points)
