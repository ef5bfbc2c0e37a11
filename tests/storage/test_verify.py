"""
Verification lists whatever is wrong with the files, changes nothing, and is silent only about bytes that carry nothing.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vecdb.errors import Corruption
from vecdb.storage import verify
from vecdb.storage.base_state import STATE_KEY, TABLES
from vecdb.storage.blocks import id_key, key_u32, key_u32_u32, key_u64_u32, seal, u32, with_bits
from vecdb.storage.effects import Effects
from vecdb.storage.findings import MOST_PROBLEMS, Findings
from vecdb.storage.framing import Declared, IndexSpec, write_declared
from vecdb.storage.points import PointsFile
from vecdb.storage.points_read import Snapshot
from vecdb.storage.verify import FileVerification, raise_if_damaged

Open = Callable[..., Any]
DIMS = (40, 3)


def findings_of(directory: Path) -> Findings:
    findings = Findings()
    verification = FileVerification(directory, findings)
    verification.run()
    verification.log()
    return findings


@pytest.fixture
def stored(tmp_path: Path, open_collection: Open, worlds: Any) -> tuple[Path, Any]:
    """
    The files of a collection that was not closed: a base with a graph and tombstones, and calls in the log behind it.
    """
    home = tmp_path / "c-0"
    collection = open_collection(home, dims=DIMS)
    collection.upsert([*range(700), *map(str, range(50))])
    collection.delete([3, "7", 250])
    collection.store.checkpoint()
    collection.compact()
    collection.delete([5, 6])
    collection.patch([4], {"patched": True})
    collection.store.checkpoint()
    collection.core.indexed[0] = 100
    collection.compact()
    collection.upsert([1, "new"], version=1)
    collection.delete([8])
    collection.patch([300], {"patched": 2})
    write_declared(home / "INDEXES", Declared({"n": IndexSpec("integer")}))
    copy = tmp_path / "stored"
    worlds[0](home, copy)
    return copy, collection.model


def test_sound_files_are_sound(stored: tuple[Path, Any]) -> None:
    directory, model = stored
    before = {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}
    findings = findings_of(directory)
    assert ([], []) == (findings.problems, findings.notes)
    assert (len(model), 3) == (findings.counts["points"], findings.counts["calls in the log"])
    after = {path: path.read_bytes() for path in directory.rglob("*") if path.is_file() and not path.name.endswith("-lock")}
    assert before == after


def test_an_open_collection_is_verified_beside_writes(tmp_path: Path, open_collection: Open) -> None:
    collection = open_collection(tmp_path / "c-0", dims=DIMS)
    collection.upsert(list(range(500)))
    collection.store.checkpoint()
    collection.upsert([1, "a"], version=1)
    findings = Findings()
    collection.store.verify(findings, lambda count: collection.upsert([2], version=3))
    assert [] == findings.problems
    assert 0 < findings.counts["calls in the log"]
    collection.store.checkpoint()
    collection.check()


def assert_reported_or_harmless(directory: Path, path: Path, at: int, bit: int, open_collection: Open, model: Any) -> bool:
    """
    Flip a bit, verify, flip it back; what is not reported must not change what an opening finds. True when it was reported.
    """
    data = bytearray(path.read_bytes())
    data[at] ^= 1 << bit
    path.write_bytes(data)
    try:
        findings = findings_of(directory)
        if findings.problems or findings.notes:
            return True
        other = directory.with_name("opened")
        shutil.copytree(directory, other, ignore=shutil.ignore_patterns("*-lock"))
        collection = open_collection(other, dims=DIMS)
        collection.model = model
        collection.check()
        collection.close()
        shutil.rmtree(other)
        return False
    finally:
        data[at] ^= 1 << bit
        path.write_bytes(data)


def files_of(directory: Path) -> dict[str, Path]:
    found = {path.name: path for path in directory.rglob("*") if path.is_file() and not path.name.endswith("-lock")}
    segments = sorted(name for name in found if name.endswith(".log"))
    found["segment"] = found[segments[-1]]
    return found


@pytest.mark.parametrize("name", ["MANIFEST", "CURRENT", "INDEXES", "graph-0.derived", "segment", "points.lmdb"])
def test_every_flipped_byte_of_a_header_is_reported_or_harmless(
    stored: tuple[Path, Any], open_collection: Open, rng: random.Random, name: str
) -> None:
    directory, model = stored
    path = files_of(directory)[name]
    size = path.stat().st_size
    places = list(range(min(size, 200)))
    if name == "points.lmdb":
        # Both meta pages, and the headers of the pages behind them.
        places = [*range(16), *range(16, 152, 3), *range(4096, 4112), *range(4112, 4248, 3)]
        places += [page * 4096 + byte for page in range(2, size // 4096) for byte in (0, 10, 12, 14)]
    reported = sum(assert_reported_or_harmless(directory, path, at, rng.randrange(8), open_collection, model) for at in places)
    assert reported >= (len(places) if name in ("MANIFEST", "CURRENT", "INDEXES") else len(places) // 8)


@pytest.mark.parametrize("name", ["graph-0.derived", "segment", "points.lmdb", "0.f32", "1.f32"])
def test_a_sample_of_flipped_bytes_is_reported_or_harmless(
    stored: tuple[Path, Any], open_collection: Open, rng: random.Random, name: str
) -> None:
    directory, model = stored
    path = files_of(directory)[name]
    for _ in range(60):
        at = rng.randrange(path.stat().st_size)
        assert_reported_or_harmless(directory, path, at, rng.randrange(8), open_collection, model)


def test_every_flipped_byte_of_a_record_is_reported(stored: tuple[Path, Any], open_collection: Open, rng: random.Random) -> None:
    directory, model = stored
    path = files_of(directory)["segment"]
    used = len(path.read_bytes().rstrip(b"\0"))
    for at in rng.sample(range(64, used), 150):
        assert assert_reported_or_harmless(directory, path, at, rng.randrange(8), open_collection, model), f"byte {at}"


def test_every_damaged_block_of_vectors_is_named(stored: tuple[Path, Any]) -> None:
    directory, _ = stored
    path = files_of(directory)["0.f32"]
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    data[256 * 40 * 4 + 5] ^= 1
    path.write_bytes(data)
    assert 2 == len(findings_of(directory).problems)
    assert all("0.f32: the vectors from row" in problem for problem in findings_of(directory).problems)


def test_a_short_or_missing_file_is_reported(stored: tuple[Path, Any]) -> None:
    directory, _ = stored
    found = files_of(directory)
    for name in ("MANIFEST", "CURRENT", "segment", "points.lmdb", "0.f32"):
        data = found[name].read_bytes()
        # A shorter segment that is the last one looks like an unfinished write.
        for shorter in (b"", data[: len(data) // 2]) if name != "segment" else (b"",):
            found[name].write_bytes(shorter)
            assert findings_of(directory).problems, (name, len(shorter))
        found[name].unlink()
        assert findings_of(directory).problems, name
        found[name].write_bytes(data)
    assert [] == findings_of(directory).problems


def change(directory: Path, table: bytes, key: bytes, content: bytes | None) -> None:
    """
    Replace, or remove, a value, with a right checksum.
    """
    points = PointsFile.open(files_of(directory)["points.lmdb"])
    with points.write() as (txn, tables):
        if content is None:
            assert txn.delete(key, db=tables[table])
        else:
            txn.put(key, seal(key, content), db=tables[table])
    points.close()


def state_of(directory: Path) -> Any:
    points = PointsFile.open(files_of(directory)["points.lmdb"])
    with points.snapshot() as snapshot:
        state = snapshot.state()
    points.close()
    return state


def bitmap_of(directory: Path, read: Callable[[Snapshot], bytes]) -> bytes:
    points = PointsFile.open(files_of(directory)["points.lmdb"])
    with points.snapshot() as snapshot:
        bitmap = read(snapshot)
    points.close()
    return bitmap


def array(*values: int) -> Any:
    return np.array(values, np.uint32)


@pytest.mark.parametrize(
    ("table", "key", "content", "expected"),
    [
        (b"ids", id_key(10), None, r"10, which leads to None"),
        (b"ids", id_key(10), u32.pack(0), r"10, which leads to 0"),
        (b"ids", id_key("nobody"), u32.pack(0), r"ids, expected"),
        (b"payloads", key_u32.pack(10), None, r"1 offsets from 10 on have a payload and no point, or no payload"),
        (b"payloads", key_u32.pack(10), b"no payload", r"offset 10: a stored payload cannot be decoded"),
        (b"payloads", key_u32.pack(100_000), b"\x80", r"payloads, expected"),
        (b"id_blocks", key_u32.pack(0), None, r"is missing"),
        (b"id_blocks", key_u32.pack(0), b"short", r"a block of ids has 5 bytes"),
        (b"live", key_u32.pack(0), None, r"is missing"),
        (b"live", key_u32.pack(0), b"\xff" * 8192, r"no such offset was given out"),
        (b"present", key_u32_u32.pack(0, 0), bytes(8192), r"0 vectors of field 0, expected"),
        (b"row_sums", key_u32_u32.pack(0, 0), bytes(4), r"block checksums, expected|not what was written"),
        (b"changed", key_u64_u32.pack(2**40, 0), u32.pack(2**30), r"list of changed offsets"),
        (b"meta", STATE_KEY, b"", r"the state has 0 bytes"),
    ],
)
def test_what_does_not_fit_together_is_reported(
    stored: tuple[Path, Any], table: bytes, key: bytes, content: bytes | None, expected: str
) -> None:
    directory, _ = stored
    assert table in TABLES
    change(directory, table, key, content)
    with pytest.raises(Corruption, match=expected):
        raise_if_damaged(directory, [" ".join(findings_of(directory).problems)])


def test_a_dead_bit_is_reported(stored: tuple[Path, Any]) -> None:
    directory, _ = stored
    bitmap = bitmap_of(directory, lambda snapshot: snapshot.live_bitmap(0))
    change(directory, b"live", key_u32.pack(0), with_bits(bitmap, ones=array(), zeros=array(12)))
    assert any("live points, expected" in problem for problem in findings_of(directory).problems)


def test_a_call_that_does_not_fit_is_reported(stored: tuple[Path, Any]) -> None:
    directory, _ = stored
    state = state_of(directory)
    manifest = verify.read_manifest(directory / "MANIFEST")
    live = np.ones(state.next_offset, bool)
    live[3] = False
    for effects in (
        Effects(first_offset=state.next_offset + 1),
        Effects(first_offset=state.next_offset, tombstones=array(3)),
        Effects(first_offset=state.next_offset, patch_offsets=array(state.next_offset), patch_payloads=[b"\x80"]),
        Effects(first_offset=state.next_offset, patch_offsets=array(4), patch_payloads=[b"wrong"]),
    ):
        replay = verify._Replay(state, live, manifest)
        body = b"".join(bytes(piece) for piece in effects.encode())
        with pytest.raises(Corruption):
            replay.take(9, memoryview(body))


def test_no_more_problems_are_kept_than_anybody_reads() -> None:
    findings = Findings()
    for number in range(MOST_PROBLEMS + 5):
        findings.problem(str(number))
    problems, _, _ = findings.finish()
    assert (MOST_PROBLEMS + 1, "and 5 problems more") == (len(problems), problems[-1])


def test_pages_in_wrong_places_do_not_end_the_process(stored: tuple[Path, Any], rng: random.Random) -> None:
    directory, _ = stored
    path = files_of(directory)["points.lmdb"]
    data = path.read_bytes()
    found = 0
    for _ in range(40):
        changed = bytearray(data)
        first, second = rng.sample(range(len(data) // 4096), 2)
        changed[first * 4096 : (first + 1) * 4096] = data[second * 4096 : (second + 1) * 4096]
        path.write_bytes(changed)
        found += bool(findings_of(directory).problems)
        path.write_bytes(data)
    assert 20 < found
    assert [] == findings_of(directory).problems
