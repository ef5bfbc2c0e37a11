"""
points.lmdb gives back what a checkpoint wrote, notices every changed value, and turns LMDB's errors into this
library's.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vecdb.errors import Corruption, InternalError, StorageError
from vecdb.storage import blocks, points_write
from vecdb.storage import points as points_file
from vecdb.storage.base_state import TABLES, BaseState, RowState
from vecdb.storage.blocks import (
    IDS_PER_BLOCK,
    OFFSETS_PER_BITMAP,
    bits_of,
    decode_ids,
    encode_ids,
    id_block,
    id_key,
    id_of_key,
    ids_of_block,
    seal,
    unseal,
    unseal_each,
)
from vecdb.storage.effects import Effects, FieldRows, PointId
from vecdb.storage.lmdb_errors import MAP_SIZE, lmdb_errors
from vecdb.storage.memtable import Memtable
from vecdb.storage.points import PointsFile
from vecdb.storage.points_read import Snapshot
from vecdb.storage.points_write import Frozen, RowsFrozen, write_checkpoint

u16 = struct.Struct("<H")
IDS = st.integers(0, 2**64 - 1) | st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)
EMPTY = BaseState(uuid=bytes(16), generation=1, applied_lsn=0, next_offset=0, live=0, changed_from=0, rows=(RowState(0, 0),))


def offsets(*values: int) -> Any:
    return np.array(values, np.uint32)


@pytest.fixture
def points(tmp_path: Path) -> Iterator[PointsFile]:
    PointsFile.create(tmp_path / "points.lmdb", EMPTY)
    opened = PointsFile.open(tmp_path / "points.lmdb")
    yield opened
    opened.close()


class Writer:
    """
    Checkpoints into a points file, one memtable each.
    """

    def __init__(self, points: PointsFile) -> None:
        self.points = points
        self.lsn = 0
        self.next = 0
        self.live = 0
        self.rows = 0

    def put(
        self,
        ids: list[PointId],
        *,
        dead: tuple[int, ...] = (),
        deleted: tuple[PointId, ...] = (),
        patched: tuple[int, ...] = (),
        keep: int | None = None,
    ) -> BaseState:
        table = Memtable(self.next, fields=1)
        rows = np.zeros((len(ids), 2), np.float32)
        table.apply(
            Effects(
                first_offset=self.next,
                put_ids=ids,
                put_payloads=[b"payload of %d" % (self.next + i) for i in range(len(ids))],
                put_vectors={0: FieldRows(None, rows)},
                tombstones=offsets(*dead),
                deleted_ids=list(deleted),
                patch_offsets=offsets(*patched),
                patch_payloads=[b"patched %d" % offset for offset in patched],
            )
        )
        self.lsn += 10
        self.next += len(ids)
        self.live += len(ids) - len(dead)
        self.rows += len(ids)
        state = RowsFrozen(RowState(self.rows, 0), 0, np.empty(0, np.uint32))
        return write_checkpoint(self.points, Frozen(self.lsn, table, self.live, (state,)), oldest_derived=keep)


@given(st.lists(IDS, unique_by=lambda point_id: (type(point_id), point_id)))
def test_keys_sort_as_ids_do_and_come_back(ids: list[PointId]) -> None:
    keys = sorted(map(id_key, ids))
    ints = sorted(point_id for point_id in ids if isinstance(point_id, int))
    texts = sorted((point_id for point_id in ids if isinstance(point_id, str)), key=lambda text: text.encode())
    assert [*ints, *texts] == [id_of_key(key) for key in keys]


@given(st.lists(IDS, min_size=1, max_size=50))
def test_a_block_of_ids_comes_back(ids: list[PointId]) -> None:
    block = decode_ids(encode_ids(ids), first_offset=8, where="here")
    assert ids == ids_of_block(block)
    again = id_block(8, ids)
    assert (again.slots.tolist(), again.kinds.tolist(), again.text) == (block.slots.tolist(), block.kinds.tolist(), block.text)


@given(st.binary(max_size=80))
def test_any_bytes_are_a_block_of_ids_or_corruption(content: bytes) -> None:
    try:
        block = decode_ids(content, first_offset=0, where="here")
    except Corruption:
        return
    assert 0 < len(block.slots) == len(block.kinds) <= IDS_PER_BLOCK


def test_a_value_under_another_key_is_corruption() -> None:
    sealed = seal(b"key", b"content")
    assert b"content" == unseal(b"key", sealed, "here")
    with pytest.raises(Corruption, match=r"here, key 6b6579"):
        unseal(b"key", sealed[:-1] + b"T", "here")
    for key, value in ((b"kez", sealed), (b"key", b""), (b"key", sealed[:-1]), (b"ke", seal(b"k", b"eycontent"))):
        with pytest.raises(Corruption):
            unseal(key, value, "here")


@pytest.mark.parametrize("others", [1, 100])
def test_many_values_are_checked_as_each_is(others: int) -> None:
    keys, contents = [b"a", b"bb", *[b"c"] * others], [b"one", b"", *[b"three"] * others]
    values = [seal(key, content) for key, content in zip(keys, contents, strict=True)]
    assert contents == unseal_each([*zip(keys, values, strict=True)], "here")
    assert [] == unseal_each([], "here")
    for wrong in (values[1][:-1], b"", values[0], values[1] + b"x"):
        with pytest.raises(Corruption, match="here, key 6262"):
            unseal_each([*zip(keys, [values[0], wrong, *values[2:]], strict=True)], "here")


def test_a_checkpoint_can_be_read_back(points: PointsFile) -> None:
    writer = Writer(points)
    writer.put([5, "five", 2**64 - 1])
    state = writer.put(["six", 5], dead=(0, 1), deleted=("five",), patched=(2,))
    with points.snapshot() as snapshot:
        assert state == snapshot.state()
        assert {5: 4, 2**64 - 1: 2, "six": 3} == snapshot.offsets_of([5, "five", 2**64 - 1, "six", "5"])
        assert [None, None, b"patched 2", b"payload of 3", b"payload of 4", *[None] * 5] == snapshot.payloads_of(range(10))
        assert {2: b"patched 2", 3: b"payload of 3"} == snapshot.payloads_between(1, 4)
        assert [(5, 4), (2**64 - 1, 2), ("six", 3)] == [(point_id, offset) for _, point_id, offset in snapshot.ids_from(b"\0")]
        assert [5, "five", 2**64 - 1, "six", 5] == ids_of_block(snapshot.id_block(0))
        assert [0, 0, 1, 1, 1, 0, 0, 0] == bits_of(snapshot.live_bitmap(0), 0, 8).tolist()
        assert [1, 1, 1, 1, 1, 0, 0, 0] == bits_of(snapshot.present_bitmap(0, 0), 0, 8).tolist()
        snapshot.check_all()


@pytest.mark.parametrize(
    "sizes", [(IDS_PER_BLOCK,), (IDS_PER_BLOCK - 1, 1, 1), (10, 2 * IDS_PER_BLOCK), (OFFSETS_PER_BITMAP - 3, 7), (1, 0, 1)]
)
def test_blocks_and_bitmaps_join_at_any_size_of_checkpoint(points: PointsFile, sizes: tuple[int, ...]) -> None:
    writer = Writer(points)
    ids: list[PointId] = []
    for size in sizes:
        new: list[PointId] = [f"id {len(ids) + i}" if i % 3 else len(ids) + i for i in range(size)]
        ids += new
        writer.put(new)
    with points.snapshot() as snapshot:
        count = len(ids)
        assert ids == [point_id for number in range(-(-count // IDS_PER_BLOCK)) for point_id in ids_of_block(snapshot.id_block(number))]
        live = np.concatenate([bits_of(snapshot.live_bitmap(i), 0, OFFSETS_PER_BITMAP) for i in range(-(-count // OFFSETS_PER_BITMAP))])
        assert count == int(live.sum()) == int(live[:count].sum())


def test_checksums_of_rows_join_across_values(points: PointsFile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(points_write, "SUMS_PER_VALUE", 4)
    monkeypatch.setattr("vecdb.storage.points_read.SUMS_PER_VALUE", 4)
    table = Memtable(0, fields=1)
    first = 0
    for lsn, count in enumerate([0, 3, 1, 6, 2], start=1):
        sums = np.arange(first, first + count, dtype=np.uint32)
        write_checkpoint(points, Frozen(lsn, table, 0, (RowsFrozen(RowState(0, 0), first, sums),)), oldest_derived=None)
        first += count
    with points.snapshot() as snapshot:
        assert list(range(12)) == snapshot.row_sums(0, 12).tolist()
        assert [] == snapshot.row_sums(0, 0).tolist()
        for blocks_expected in (11, 13):
            with pytest.raises(Corruption):
                snapshot.row_sums(0, blocks_expected)


def test_a_missing_payload_of_a_live_offset_is_corruption_and_of_a_dead_one_is_not(points: PointsFile) -> None:
    writer = Writer(points)
    writer.put([1, 2, 3], dead=(1,), deleted=(2,))
    with points.write() as (txn, tables):
        txn.delete((2).to_bytes(4, "big"), db=tables[b"payloads"])
    with points.snapshot() as snapshot:
        assert [b"payload of 0", None, None] == snapshot.payloads_of([0, 1, 77])
        with pytest.raises(Corruption, match="payload of the live offset 2 is missing"):
            snapshot.payloads_of([0, 2])


def test_every_changed_bit_of_every_value_is_noticed(points: PointsFile, rng: random.Random) -> None:
    writer = Writer(points)
    writer.put([1, "a", 3])
    writer.put([4], dead=(0,), deleted=(1,), patched=(1,), keep=0)
    seen = set()
    for table in TABLES:
        with points.snapshot() as snapshot:
            values = list(snapshot._scan(table, b"\0"))
        for key, value in values:
            seen.add(table)
            for position in {0, len(value) - 1, *(rng.randrange(len(value)) for _ in range(5))}:
                changed = bytearray(value)
                changed[position] ^= 1 << rng.randrange(8)
                with points.write() as (txn, tables):
                    txn.put(key, bytes(changed), db=tables[table])
                with points.snapshot() as snapshot, pytest.raises(Corruption, match=f"table {table.decode()}, key {key.hex()}"):
                    snapshot.check_all()
            with points.write() as (txn, tables):
                txn.put(key, value, db=tables[table])
    assert set(TABLES) - {b"row_sums"} == seen


def test_a_missing_value_is_corruption_naming_its_key(points: PointsFile) -> None:
    Writer(points).put([1])
    with points.write() as (txn, tables):
        for table in (b"id_blocks", b"live", b"present", b"meta"):
            txn.drop(tables[table], delete=False)
    with points.snapshot() as snapshot:
        for read in (lambda: snapshot.id_block(0), lambda: snapshot.live_bitmap(0), lambda: snapshot.present_bitmap(0, 0), snapshot.state):
            with pytest.raises(Corruption, match="is missing"):
                read()


def test_changes_are_listed_since_an_lsn_that_the_list_reaches(points: PointsFile) -> None:
    writer = Writer(points)
    writer.put(list(range(100)), keep=0)
    writer.put([], dead=(7, 3), deleted=(7, 3), keep=0)
    writer.put([200], patched=(9,), keep=0)
    with points.snapshot() as snapshot:
        assert [3, 7, 9] == snapshot.changed_since(0).tolist()  # type: ignore[union-attr]
        assert [9] == snapshot.changed_since(20).tolist()  # type: ignore[union-attr]
        assert [] == snapshot.changed_since(30).tolist()  # type: ignore[union-attr]
    writer.put([], patched=(10,), keep=20)
    with points.snapshot() as snapshot:
        assert snapshot.changed_since(19) is None
        assert [9, 10] == snapshot.changed_since(20).tolist()  # type: ignore[union-attr]
    writer.put([], patched=(11,), keep=None)
    with points.snapshot() as snapshot:
        assert snapshot.changed_since(49) is None
        assert [] == snapshot.changed_since(50).tolist()  # type: ignore[union-attr]


def test_the_list_of_changes_is_given_up_when_it_grows_too_long(points: PointsFile) -> None:
    writer = Writer(points)
    writer.put(list(range(5000)), keep=0)
    writer.put([], patched=tuple(range(1400)), keep=0)
    with points.snapshot() as snapshot:
        assert list(range(1400)) == snapshot.changed_since(0).tolist()  # type: ignore[union-attr]
    writer.put([], patched=tuple(range(1400)), keep=0)
    with points.snapshot() as snapshot:
        assert snapshot.changed_since(0) is None
        assert [] == snapshot.changed_since(30).tolist()  # type: ignore[union-attr]


def test_a_count_that_disagrees_with_the_bits_aborts_the_checkpoint(points: PointsFile) -> None:
    writer = Writer(points)
    before = writer.put([1, 2])
    writer.live += 1
    with pytest.raises(InternalError, match="counts 4"):
        writer.put([3])
    with points.snapshot() as snapshot:
        assert before == snapshot.state()
        assert {} == snapshot.offsets_of([3])


def test_a_checkpoint_that_is_there_already_is_not_written_twice(points: PointsFile) -> None:
    writer = Writer(points)
    state = writer.put([1, 2])
    frozen = Frozen(state.applied_lsn, Memtable(0, fields=1), 0, ())
    assert state == write_checkpoint(points, frozen, oldest_derived=None)


def test_a_checkpoint_that_does_not_follow_is_refused(points: PointsFile) -> None:
    writer = Writer(points)
    writer.put([1, 2])
    writer.next = 5
    with pytest.raises(InternalError, match="ends at offset 2"):
        writer.put([3])


def test_opening_and_closing_leaves_every_byte(points: PointsFile) -> None:
    Writer(points).put([1, 2])
    before = points.path.read_bytes()
    points.close()
    reopened = PointsFile.open(points.path)
    with reopened.snapshot() as snapshot:
        snapshot.check_all()
    reopened.close()
    assert before == points.path.read_bytes()


def test_a_file_without_our_tables_is_corruption(tmp_path: Path) -> None:
    lmdb.open(str(tmp_path / "points.lmdb"), subdir=False, lib_version=0).close()
    with pytest.raises(Corruption, match="a table is missing"):
        PointsFile.open(tmp_path / "points.lmdb")


@pytest.mark.parametrize(
    ("error", "kind", "advice"),
    [
        (lmdb.CorruptedError("x"), Corruption, "restore a backup"),
        (lmdb.InvalidError("x"), Corruption, "restore a backup"),
        (lmdb.MapFullError("x"), StorageError, f"limit of {MAP_SIZE >> 30} GiB"),
        (lmdb.PanicError("x"), StorageError, "open it again"),
        (lmdb.ReadersFullError("x"), StorageError, "close some"),
        (lmdb.DiskError("x"), StorageError, "free space"),
    ],
)
def test_errors_of_lmdb_name_the_path_and_what_to_do(error: lmdb.Error, kind: type[Exception], advice: str) -> None:
    with pytest.raises(kind, match=advice) as caught, lmdb_errors(Path("/db/points.lmdb")):
        raise error
    assert "/db/points.lmdb" in str(caught.value)
    assert error is caught.value.__cause__


def test_a_state_of_wrong_length_is_corruption() -> None:
    content = EMPTY.encode()
    assert EMPTY == BaseState.decode(content, "here")
    for wrong in (b"", content[:-1], content + b"\0", content[:40]):
        with pytest.raises(Corruption, match="here"):
            BaseState.decode(wrong, "here")


def test_the_format_keeps_its_numbers() -> None:
    assert (4096, 65536, 4096, 16384) == (blocks.IDS_PER_BLOCK, blocks.OFFSETS_PER_BITMAP, blocks.SUMS_PER_VALUE, blocks.CHANGES_PER_VALUE)


def test_a_new_file_is_synced_by_force_after_its_first_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    open_environment = points_file._open_environment

    class Recorded:
        def __init__(self, env: lmdb.Environment) -> None:
            self.env = env

        def __getattr__(self, name: str) -> Any:
            calls.append(name)
            return getattr(self.env, name)

    monkeypatch.setattr(points_file, "_open_environment", lambda path, *, create: Recorded(open_environment(path, create=create)))
    PointsFile.create(tmp_path / "points.lmdb", EMPTY)
    assert ["sync", "close"] == calls[-2:]
    assert "begin" == calls[0]


DAMAGES = {
    "a key changed in its place": lambda page, at: page[:at] + bytes([page[at] ^ 1]) + page[at + 1 :],
    "a key changed out of its order": lambda page, at: page[: at - 3] + b"\xff" + page[at - 2 :],
    "the last entry cut off": lambda page, at: page[:12] + u16.pack(u16.unpack_from(page, 12)[0] - 2) + page[14:],
    "all entries cut off": lambda page, at: page[:12] + u16.pack(16) + page[14:],
    "an entry twice": lambda page, at: page[:16] + page[18:20] + page[18:],
}


def look_for(snapshot: Snapshot, ids: Sequence[PointId]) -> None:
    snapshot.check_ids(len(ids))
    snapshot.offsets_of(ids)


@pytest.mark.parametrize("damage", DAMAGES)
def test_no_damage_to_a_page_of_ids_hides_one(tmp_path: Path, points: PointsFile, damage: str) -> None:
    """
    Whoever opens a file that nothing vouches for finds the damage at once, or looking for the id that it hides.
    """
    ids = [1000 + 2 * number for number in range(20)]
    Writer(points).put(ids)
    points.close()
    key = id_key(ids[7])
    data = (tmp_path / "points.lmdb").read_bytes()
    # Pages of earlier transactions hold no ids: the table was empty.
    (start,) = {at - at % 4096 for at in range(len(data)) if data.startswith(key, at) and data[at - 2 : at] == u16.pack(len(key))}
    page = data[start : start + 4096]
    (tmp_path / "points.lmdb").write_bytes(data[:start] + DAMAGES[damage](page, page.index(key) + len(key) - 1) + data[start + 4096 :])
    opened = PointsFile.open(tmp_path / "points.lmdb")
    opened.doubted = True
    try:
        with opened.snapshot() as snapshot, pytest.raises(Corruption, match="table ids"):
            look_for(snapshot, ids)
    finally:
        opened.close()


def test_a_damaged_key_hides_no_id_from_a_reader(tmp_path: Path, points: PointsFile) -> None:
    Writer(points).put([5, 7, 9, "b"])
    points.close()
    data = (tmp_path / "points.lmdb").read_bytes()
    key = id_key(7)
    assert data.count(u16.pack(len(key)) + key) == 1
    at = data.index(u16.pack(len(key)) + key) + 2 + len(key) - 1
    (tmp_path / "points.lmdb").write_bytes(data[:at] + bytes([8]) + data[at + 1 :])
    opened = PointsFile.open_reading(tmp_path / "points.lmdb", beside_writer=True)
    opened.doubted = True
    try:
        snapshot = opened.pin().snapshot()
        assert {5: 0, 9: 2, "b": 3} == snapshot.offsets_of([4, 5, 9, "a", "b"])
        for missing in (7, 8):
            with pytest.raises(Corruption, match="table ids"):
                snapshot.offsets_of([missing])
        del snapshot
    finally:
        opened.close()


def test_an_absent_id_is_proven_absent_where_pages_are_doubted(points: PointsFile) -> None:
    Writer(points).put([5, 7, "b"])
    points.doubted = True
    with points.snapshot() as snapshot:
        snapshot.check_ids(3)
        assert {7: 1} == snapshot.offsets_of([4, 6, 7, 8, "a", "c"])
        for count in (2, 4):
            with pytest.raises(Corruption, match=rf"3 ids, expected {count}"):
                snapshot.check_ids(count)


@pytest.mark.parametrize(
    ("ids", "last"), [([], -1), (["a", "b"], -1), ([0], 0), ([7, 5, 2**64 - 1], 2**64 - 1), ([3, "\0", 4], 4)], ids=str
)
def test_the_last_int_id_stands_before_the_strs(points: PointsFile, ids: list[PointId], last: int) -> None:
    Writer(points).put(ids)
    with points.snapshot() as snapshot:
        assert last == snapshot.last_int_id()


def test_an_int_whose_key_is_damaged_to_that_of_a_str_does_not_hide(tmp_path: Path, points: PointsFile) -> None:
    Writer(points).put([5, 7])
    points.close()
    data = (tmp_path / "points.lmdb").read_bytes()
    (tmp_path / "points.lmdb").write_bytes(data.replace(id_key(7), b"\x01" + id_key(7)[1:]))
    opened = PointsFile.open(tmp_path / "points.lmdb")
    try:
        with opened.snapshot() as snapshot, pytest.raises(Corruption, match="table ids"):
            snapshot.last_int_id()
    finally:
        opened.close()
