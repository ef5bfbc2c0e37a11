"""
The core's index through `CoreIndex`, against numpy brute force.
"""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from vecdb._crc import crc32c
from vecdb.errors import Closed, Corruption, InvalidArgument
from vecdb.index import ALL, CoreIndex, lib
from vecdb.storage.framing import FieldSpec

DIM = 12
UUID = bytes(range(16))


def field(dim: int = DIM, metric: str = "l2", *, number: int = 0, m: int = 16, ef_construction: int = 100) -> FieldSpec:
    return FieldSpec(number=number, name="", dim=dim, metric=metric, m=m, ef_construction=ef_construction, quantization=None, seed=7)


def words(*values: int) -> NDArray[np.uint64]:
    return np.array(values, dtype=np.uint64)


def bits_of(value: float) -> int:
    return int(np.array([value], dtype=np.float64).view(np.uint64)[0])


def filled(rows: NDArray[np.float32], *, metric: str = "l2", threads: int = 0, spec: FieldSpec | None = None) -> CoreIndex:
    """
    An index of one field, where the point of offset o has the id o + 100.
    """
    core = CoreIndex([spec or field(rows.shape[1], metric)], threads=threads)
    core.append_rows(0, rows)
    count = len(rows)
    core.apply(
        first_offset=0,
        ids=np.arange(100, 100 + count, dtype=np.uint64),
        kinds=np.zeros(count, np.uint8),
        present=np.ones((1, count), np.uint8),
    )
    return core


def scores_by_numpy(metric: str, queries: NDArray[np.float32], rows: NDArray[np.float32]) -> NDArray[np.float64]:
    """
    The score of every row for every query, larger is better.
    """
    wide_queries, wide_rows = queries.astype(np.float64), rows.astype(np.float64)
    if metric == "l2":
        distances: NDArray[np.float64] = -np.linalg.norm(wide_queries[:, None, :] - wide_rows[None, :, :], axis=2)
        return distances
    products = wide_queries @ wide_rows.T
    if metric == "cosine":
        products /= np.linalg.norm(wide_queries, axis=1)[:, None] * np.linalg.norm(wide_rows, axis=1)[None, :]
    return products


@pytest.fixture
def random() -> np.random.Generator:
    seed = 20240
    print(f"seed {seed}")
    return np.random.default_rng(seed)


@pytest.mark.parametrize("metric", ["cosine", "dot", "l2"])
@pytest.mark.parametrize("threads", [1, 3])
def test_search_gives_what_numpy_gives(random: np.random.Generator, metric: str, threads: int) -> None:
    rows = random.standard_normal((700, DIM), dtype=np.float32)
    queries = random.standard_normal((40, DIM), dtype=np.float32)
    core = filled(rows, metric=metric)
    core.apply(first_offset=700, tags_added=(np.arange(0, 700, 3, dtype=np.uint32), np.full(234, 5, dtype=np.uint64)))
    dead = np.arange(0, 700, 7, dtype=np.uint32)
    core.apply(first_offset=700, tombstones=dead)
    allowed = np.zeros(700, dtype=bool)
    allowed[::3] = True
    allowed[dead] = False

    result = core.search(queries, 9, exact=True, threads=threads, program=words(lib.VECDB_OP_TAG, 5))

    scores = scores_by_numpy(metric, queries, rows)
    scores[:, ~allowed] = -np.inf
    expected = np.argsort(-scores, axis=1, kind="stable")[:, :9]
    np.testing.assert_array_equal(expected, result.offsets)
    np.testing.assert_array_equal(expected + 100, result.ids)
    found = np.take_along_axis(scores, expected, axis=1)
    np.testing.assert_allclose(-found if metric == "l2" else found, result.scores, rtol=1e-5, atol=1e-5)
    assert [9] * 40 == result.counts.tolist()
    assert (int(allowed.sum()), 600, "exact", 3) == (
        result.plan.cardinality,
        result.plan.total,
        result.plan.strategy,
        result.plan.version,
    )


def test_fewer_matches_than_k_give_fewer_hits(random: np.random.Generator) -> None:
    core = filled(random.standard_normal((50, DIM), dtype=np.float32))
    result = core.search(np.zeros((2, DIM), np.float32), 10, program=words(lib.VECDB_OP_OFFSETS, 3, 4, 9, 49))
    assert [3, 3] == result.counts.tolist()
    assert {4, 9, 49} == set(result.offsets[1, :3].tolist())
    empty = core.search(np.zeros((1, DIM), np.float32), 10, program=words(lib.VECDB_OP_NONE))
    assert (0, "empty") == (int(empty.counts[0]), empty.plan.strategy)
    assert core.search(np.zeros((0, DIM), np.float32), 10).offsets.shape == (0, 10)


def test_count_and_select_follow_tags_and_columns(random: np.random.Generator) -> None:
    core = filled(random.standard_normal((300, DIM), dtype=np.float32))
    values = random.integers(0, 50, 300).astype(np.float64)
    offsets = np.arange(300, dtype=np.uint32)
    rests = np.zeros(300, np.int32)
    column = np.full(300, 2, np.uint32)
    core.apply(first_offset=300, column_added=(column, offsets, values, rests))
    between = words(lib.VECDB_OP_RANGE, 2, lib.VECDB_BOUND_GTE | lib.VECDB_BOUND_LT, bits_of(10.0), 0, bits_of(20.0), 0)
    expected = np.flatnonzero((values >= 10) & (values < 20))
    assert (len(expected), 2) == core.count(between)
    np.testing.assert_array_equal(expected, core.select(between)[0])

    core.apply(first_offset=300, column_removed=(column[:150], offsets[:150], values[:150], rests[:150]))
    np.testing.assert_array_equal(expected[expected >= 150], core.select(between)[0])
    core.drop_column(2)
    assert core.count(between)[0] == 0
    np.testing.assert_array_equal(offsets, core.select(ALL)[0])

    tags = (np.array([4, 5], np.uint32), np.array([9, 9], np.uint64))
    core.apply(first_offset=300, tags_added=tags)
    assert [4, 5] == core.select(words(lib.VECDB_OP_ANY_TAG, 2, 8, 9))[0].tolist()
    core.apply(first_offset=300, tags_removed=(tags[0][:1], tags[1][:1]))
    assert [5] == core.select(words(lib.VECDB_OP_TAG, 9))[0].tolist()
    core.drop_tags(np.array([9], np.uint64))
    assert [] == core.select(words(lib.VECDB_OP_TAG, 9))[0].tolist()


def test_points_are_found_by_area_until_they_are_removed_or_their_column_is_dropped() -> None:
    core = filled(np.zeros((300, DIM), dtype=np.float32))
    offsets = np.arange(300, dtype=np.uint32)
    column = np.full(300, 2, dtype=np.uint32)
    lats, lons = offsets % 90 + 0.5, offsets % 180 + 0.5
    core.apply(first_offset=300, geo_added=(column, offsets, lats, lons))
    box = words(lib.VECDB_OP_GEO, 2, lib.VECDB_GEO_BOX, 4, *map(bits_of, (60.0, 20.0, 40.0, 100.0)))
    inside = np.flatnonzero((lats > 40) & (lats < 60) & (lons > 20) & (lons < 100))
    assert core.select(box)[0].tolist() == inside.tolist()
    assert core.count(words(lib.VECDB_OP_GEO, 3, lib.VECDB_GEO_BOX, 4, *map(bits_of, (60.0, 20.0, 40.0, 100.0))))[0] == 0
    core.apply(first_offset=300, geo_removed=(column[:150], offsets[:150], lats[:150], lons[:150]))
    assert core.select(box)[0].tolist() == [offset for offset in inside if offset >= 150]
    with pytest.raises(InvalidArgument, match=r"geo_added\[1\] is a point with a degree that is not finite"):
        core.apply(first_offset=300, geo_added=(column[:2], offsets[:2], np.array([0.0, np.nan]), lons[:2]))
    with pytest.raises(InvalidArgument, match="expected a latitude in"):
        core.count(words(lib.VECDB_OP_GEO, 2, lib.VECDB_GEO_RADIUS, 3, *map(bits_of, (91.0, 0.0, 5.0))))
    held = core.stats().column_bytes
    core.drop_column(2)
    assert core.count(box)[0] == 0
    assert core.stats().column_bytes < held


def test_ids_of_both_kinds_come_back_and_break_ties() -> None:
    texts = ["b", "", "ä" * 100, "a"]
    encoded = [text.encode() for text in texts]
    starts = np.cumsum([0] + [len(text) for text in encoded])
    slots = [int(start) << 16 | len(text) for start, text in zip(starts, encoded, strict=False)]
    core = CoreIndex([field()], threads=0)
    core.append_rows(0, np.zeros((6, DIM), np.float32))
    core.apply(
        first_offset=0,
        ids=np.array([*slots, 2**64 - 1, 3], dtype=np.uint64),
        kinds=np.array([1, 1, 1, 1, 0, 0], dtype=np.uint8),
        id_bytes=b"".join(encoded),
        present=np.ones((1, 6), np.uint8),
    )
    assert [*texts, 2**64 - 1, 3] == core.get_ids(np.arange(6, dtype=np.uint32))
    result = core.search(np.zeros((1, DIM), np.float32), 6)
    assert [[3, 2**64 - 1, "", "a", "b", "ä" * 100]] == core.decode_ids(result.ids, result.kinds, result.counts)
    cut = core.search(np.zeros((1, DIM), np.float32), 2)
    assert [[3, 2**64 - 1]] == core.decode_ids(cut.ids, cut.kinds, cut.counts)


def test_absent_vectors_are_never_hits_and_read_as_zeros(random: np.random.Generator) -> None:
    core = CoreIndex([field(), field(5, "dot", number=1)], threads=0)
    present = np.ones((2, 200), np.uint8)
    present[1] = random.random(200) < 0.4
    where = np.flatnonzero(present[1])
    rows = random.standard_normal((len(where), 5), dtype=np.float32)
    core.append_rows(0, random.standard_normal((200, DIM), dtype=np.float32))
    core.append_rows(1, rows)
    core.apply(first_offset=0, ids=np.arange(200, dtype=np.uint64), kinds=np.zeros(200, np.uint8), present=present)
    query = random.standard_normal((1, 5), dtype=np.float32)
    result = core.search(query, 200, field=1)
    expected = where[np.argsort(-scores_by_numpy("dot", query, rows)[0], kind="stable")]
    np.testing.assert_array_equal(expected, result.offsets[0, : int(result.counts[0])])
    read, is_there = core.get_rows(1, np.arange(200, dtype=np.uint32))
    np.testing.assert_array_equal(present[1], is_there)
    np.testing.assert_array_equal(rows, read[where])
    assert not read[present[1] == 0].any()
    stats = core.field_stats(1)
    assert (len(where), len(where), 0) == (stats.rows, stats.live_rows, stats.indexed_rows)


def test_mapped_rows_are_searched_and_checked(random: np.random.Generator, tmp_path: Path) -> None:
    dim = 64
    per_block = lib.vecdb_rows_per_block(dim)
    rows = random.standard_normal((3 * per_block, dim), dtype=np.float32)
    path = tmp_path / "rows.f32"
    path.write_bytes(rows.tobytes())
    blocks = rows.reshape(3, -1)
    crcs = np.array([crc32c(block.tobytes()) for block in blocks], dtype=np.uint32)
    crcs[2] ^= 1
    core = CoreIndex([field(dim)], threads=0)
    with path.open("rb") as file:
        core.map_rows(0, file.fileno(), len(rows))
    core.expect_checksums(0, crcs)
    core.apply(
        first_offset=0,
        ids=np.arange(len(rows), dtype=np.uint64),
        kinds=np.zeros(len(rows), np.uint8),
        present=np.ones((1, len(rows)), np.uint8),
    )
    good = np.arange(2 * per_block, dtype=np.uint32)
    np.testing.assert_array_equal(rows[: 2 * per_block], core.get_rows(0, good)[0])
    with pytest.raises(Corruption):
        core.get_rows(0, np.array([2 * per_block], np.uint32))
    with pytest.raises(Corruption):
        core.search(np.zeros((1, dim), np.float32), 3)
    with pytest.raises(Corruption):
        core.verify()


def test_a_saved_graph_is_loaded_by_another_index(random: np.random.Generator) -> None:
    spec = field(300, m=6, ef_construction=30)
    rows = random.standard_normal((4500, 300), dtype=np.float32)
    core = filled(rows, spec=spec)
    assert core.save_graph(0, UUID, 3, 77) is None
    assert core.wait_indexed(200_000)
    saved = core.save_graph(0, UUID, 3, 77)
    assert saved is not None

    twin = filled(rows, spec=spec)
    with pytest.raises(Corruption, match="generation is 3, expected 4"):
        twin.load_graph(0, UUID, 4, saved)
    damaged = bytearray(saved)
    damaged[len(damaged) // 2] ^= 4
    with pytest.raises(Corruption, match="checksum"):
        twin.load_graph(0, UUID, 3, bytes(damaged))
    assert twin.field_stats(0).indexed_rows == 0
    assert (77, 4500) == twin.load_graph(0, UUID, 3, saved)
    assert twin.field_stats(0).indexed_rows == 4500
    queries = random.standard_normal((20, 300), dtype=np.float32)
    mine, other = core.search(queries, 5, ef=40), twin.search(queries, 5, ef=40)
    np.testing.assert_array_equal(mine.offsets, other.offsets)
    assert mine.plan.ef == other.plan.ef
    again = twin.save_graph(0, UUID, 3, 77)
    assert again is not None
    assert bytes(saved) == bytes(again)


def test_a_compacted_graph_covers_the_kept_rows_in_their_order(random: np.random.Generator) -> None:
    spec = field(300, m=6, ef_construction=30)
    rows = random.standard_normal((4500, 6), dtype=np.float32) @ random.standard_normal((6, 300), dtype=np.float32)
    core = filled(rows, spec=spec)
    kept = np.ones(4500, dtype=np.bool_)
    kept[np.arange(0, 4500, 9)] = False
    kept[4490:] = False
    assert core.save_graph(0, UUID, 3, 77, kept_rows=kept) is None
    assert core.wait_indexed(200_000)
    saved = core.save_graph(0, UUID, 4, 78, kept_rows=kept)
    assert saved is not None

    compacted = filled(rows[kept], spec=spec)
    assert (78, int(kept.sum())) == compacted.load_graph(0, UUID, 4, saved)
    assert compacted.field_stats(0).indexed_rows == kept.sum()
    queries = rows[kept][::100].copy()
    found = compacted.search(queries, 1, ef=60)
    assert found.plan.strategy == "graph"
    hits = found.offsets[:, 0] == np.arange(0, int(kept.sum()), 100)
    assert hits.mean() > 0.95
    assert compacted.wait_indexed(200_000)
    report = compacted.check_graph(0)
    assert (int(kept.sum()), 0, 0, 0) == report


def test_a_graph_reports_dead_and_unreachable_rows(random: np.random.Generator) -> None:
    rows = random.standard_normal((4500, 300), dtype=np.float32)
    core = filled(rows, spec=field(300, m=6, ef_construction=30))
    assert (0, 0, 0, 0) == core.check_graph(0)
    assert core.wait_indexed(200_000)
    assert (4500, 0, 0, 0) == core.check_graph(0)
    core.apply(first_offset=4500, tombstones=np.arange(100, dtype=np.uint32))
    assert (4400, 100) == core.check_graph(0)[:2]
    assert (100, 0) == (core.field_stats(0).dead_in_graph, core.field_stats(0).unreachable)
    with pytest.raises(InvalidArgument, match="field 1"):
        core.check_graph(1)


def test_a_plan_tells_what_a_search_does(random: np.random.Generator) -> None:
    core = filled(random.standard_normal((80, DIM), dtype=np.float32))
    plan = core.plan(10)
    assert ("exact", 80, 80, 0, 0) == (plan.strategy, plan.cardinality, plan.total, plan.ef, plan.tail)
    assert plan.cost_graph_ns == np.inf
    assert plan == core.search(np.zeros((1, DIM), np.float32), 10).plan


def test_background_threads_index_and_end(random: np.random.Generator) -> None:
    spec = field(400, m=4, ef_construction=10)
    rows = random.standard_normal((3500, 400), dtype=np.float32)
    core = filled(rows, spec=spec)
    assert core.field_stats(0).indexed_rows == 0
    core.set_threads(2)
    assert core.wait_indexed(200_000)
    assert core.field_stats(0).indexed_rows == 3500
    assert core.help(100) == 0


def test_linked_tags_are_searched_over_their_own_links(random: np.random.Generator) -> None:
    centres = random.standard_normal((30, 400), dtype=np.float32)
    rows = (centres[random.integers(30, size=4000)] + 0.4 * random.standard_normal((4000, 400))).astype(np.float32)
    core = filled(rows, spec=field(400, m=6, ef_construction=24))
    offsets = np.arange(0, 4000, 3, dtype=np.uint32)
    core.apply(first_offset=4000, tags_added=(offsets, np.full(len(offsets), 5, dtype=np.uint64)))
    core.link_tags(0, words(5, 6), m=8)
    assert core.wait_indexed(200_000)
    stats = core.field_stats(0)
    assert (1, len(offsets)) == (stats.linked_tags, stats.linked_rows)
    assert stats.link_bytes > 0
    tagged = words(lib.VECDB_OP_TAG, 5)
    found = core.search(rows[:50], 10, ef=40, program=tagged)
    assert found.plan.strategy == "tag"
    truth = core.search(rows[:50], 10, exact=True, program=tagged)
    hits = sum(len(set(a) & set(b)) for a, b in zip(found.offsets.tolist(), truth.offsets.tolist(), strict=True))
    assert hits >= 450
    core.unlink_tags(0, words(5))
    assert core.plan(10, ef=40, program=tagged).strategy != "tag"
    assert core.field_stats(0).link_bytes == 0
    with pytest.raises(InvalidArgument, match="m is 1, expected 0 or 2"):
        core.link_tags(0, words(5), m=1)


def test_wrong_calls_raise_and_change_nothing(random: np.random.Generator) -> None:
    core = filled(random.standard_normal((10, DIM), dtype=np.float32))
    with pytest.raises(InvalidArgument, match="first_offset is 9, expected 10"):
        core.apply(first_offset=9)
    with pytest.raises(InvalidArgument, match="k is 0"):
        core.search(np.zeros((1, DIM), np.float32), 0)
    with pytest.raises(InvalidArgument, match="operation 77"):
        core.count(words(77))
    with pytest.raises(InvalidArgument, match="offset 10 was never handed out"):
        core.get_ids(np.array([10], np.uint32))
    assert core.stats().version == 1


def test_a_closed_index_raises_closed_and_lets_running_calls_end(random: np.random.Generator) -> None:
    core = filled(random.standard_normal((20_000, 64), dtype=np.float32))
    queries = random.standard_normal((200, 64), dtype=np.float32)
    results: list[int] = []
    handle = core._open()  # what a running call holds

    core.close()
    core.close()

    with pytest.raises(Closed):
        core.count()
    core._handle = handle
    thread = threading.Thread(target=lambda: results.append(int(core.search(queries, 5, exact=True).counts.sum())))
    thread.start()
    while not results and thread.is_alive():
        core.close()
    thread.join()
    assert results == [1000]
