"""
The memtable holds the effects of calls in a form that overrules what lies below.
"""

from __future__ import annotations

import numpy as np

from vecdb.storage.effects import Effects, FieldRows
from vecdb.storage.memtable import DEAD, Memtable


def offsets(*values: int) -> np.ndarray:
    return np.array(values, np.uint32)


def put(first: int, ids: list[int | str], **more: object) -> Effects:
    return Effects(first_offset=first, put_ids=ids, put_payloads=[f"p{first + i}".encode() for i in range(len(ids))], **more)  # type: ignore[arg-type]


def test_puts_get_consecutive_offsets() -> None:
    table = Memtable(100, fields=1)
    assert not table
    table.apply(put(100, ["a", 1]))
    table.apply(put(102, ["1"]))
    assert {"a": 100, 1: 101, "1": 102} == table.ids
    assert {100: b"p100", 101: b"p101", 102: b"p102"} == table.payloads
    assert ["a", 1, "1"] == table.new_ids
    assert 103 == table.next_offset
    assert table


def test_a_replaced_point_has_its_new_offset_and_the_old_one_is_dead() -> None:
    table = Memtable(5, fields=1)
    table.apply(put(5, ["a", "b"]))
    table.apply(put(7, ["a"], tombstones=offsets(5)))
    assert {"a": 7, "b": 6} == table.ids
    assert {5: None, 6: b"p6", 7: b"p7"} == table.payloads
    assert [5] == table.tombstones().tolist()


def test_a_deleted_point_stays_known_as_dead() -> None:
    table = Memtable(5, fields=1)
    table.apply(Effects(first_offset=5, deleted_ids=["old"], tombstones=offsets(3)))
    assert {"old": DEAD} == table.ids
    assert {3: None} == table.payloads
    assert 5 == table.next_offset


def test_a_patch_keeps_the_offset() -> None:
    table = Memtable(5, fields=1)
    table.apply(put(5, ["a"]))
    table.apply(Effects(first_offset=6, patch_offsets=offsets(2, 5), patch_payloads=[b"x", b"y"]))
    assert {5: b"y", 2: b"x"} == table.payloads
    assert [2, 5] == table.changed().tolist()
    assert [] == table.tombstones().tolist()


def test_presence_is_by_offset() -> None:
    table = Memtable(10, fields=2)
    rows = np.zeros((2, 3), np.float32)
    table.apply(put(10, ["a", "b", "c"], put_vectors={0: FieldRows(offsets(0, 2), rows)}))
    table.apply(put(13, ["d", "e"], put_vectors={0: FieldRows(None, rows), 1: FieldRows(offsets(1), rows[:1])}))
    assert [10, 12, 13, 14] == table.present_offsets(0).tolist()
    assert [14] == table.present_offsets(1).tolist()


def test_ids_sort_ints_first_and_text_by_its_utf8() -> None:
    table = Memtable(0, fields=1)
    ids: list[int | str] = ["b", 10, "a", 2**64 - 1, "\U0001f600", "\uffff", 9, "aa", "B"]
    table.apply(put(0, ids))
    expected = [9, 10, 2**64 - 1, "B", "a", "aa", "b", "\uffff", "\U0001f600"]
    assert expected == [point_id for _, point_id, _ in table.sorted_ids()]
    table.apply(put(9, [3]))
    assert [3, *expected] == [point_id for _, point_id, _ in table.sorted_ids()]


def test_a_range_of_payloads_is_the_same_by_either_way_of_looking() -> None:
    table = Memtable(0, fields=1)
    table.apply(put(0, list(range(50))))
    table.apply(Effects(first_offset=50, tombstones=offsets(20)))
    expected = {offset: table.payloads[offset] for offset in range(18, 23)}
    assert expected == table.payloads_between(18, 23)
    assert table.payloads == table.payloads_between(0, 1000)
    assert {49: b"p49"} == table.payloads_between(49, 1000)
