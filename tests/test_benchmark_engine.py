"""
The benchmark's own arithmetic: what a recall counts, what its filters select, where two curves meet.
"""

from __future__ import annotations

import re
import struct
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
from engine import churn, core, data, filters, plot, regions, report, truth
from engine.cells import KINDS, MOST_LISTED, Spec, feasible, full, listed, parsed
from engine.curves import Sample, envelope, ladder, qps_at
from numpy.typing import NDArray

from vecdb.filters import matches, parse

ROOT = Path(__file__).resolve().parent.parent
POINTS, DIM, QUERIES = 1200, 12, 80
NONE = np.zeros(QUERIES, dtype=np.uint32)


@pytest.fixture(scope="module")
def small() -> data.Dataset:
    """
    A small clustered set.
    """
    return data.synthetic("small", data.Synthetic(POINTS, DIM, rank=6, clusters=30), queries=QUERIES, seed=3)


@pytest.fixture(scope="module")
def maker(small: data.Dataset) -> filters.CellMaker:
    """
    The cells of the small set.
    """
    return filters.CellMaker(small)


# ---- truth ----


def line_of(values: list[float]) -> NDArray[np.float32]:
    return np.array([[value, 0.0] for value in values], dtype=np.float32)


def recall_of(rows: NDArray[np.float32], hits: list[int], k: int, mask: NDArray[np.bool_] | None = None) -> truth.Score:
    query = np.array([[1.0, 0.0]], dtype=np.float32)
    one = np.zeros(1, dtype=np.uint32)
    mask_of = None if mask is None else lambda number: mask
    known = truth.exact(rows, query, k, one, mask_of)
    found = np.full((1, k), truth.NO_HIT, dtype=np.uint32)
    found[0, : len(hits)] = hits
    return truth.score(rows, query, found, known, one, mask_of)


def test_a_hit_that_ties_with_the_last_one_counts() -> None:
    rows = line_of([0.9, 0.5, 0.5, 0.5, 0.1])
    assert 1.0 == recall_of(rows, [0, 3], 2).mean
    assert 1.0 == recall_of(rows, [0, 1], 2).mean
    assert 0.5 == recall_of(rows, [0, 4], 2).mean


def test_recall_is_measured_against_what_there_is_to_find() -> None:
    rows = line_of([0.9, 0.8, 0.7, 0.6])
    mask = np.array([False, True, False, True])
    score = recall_of(rows, [1, 3], 3, mask)
    assert (1.0, 0.0, 0) == (score.mean, score.short, score.wrong)
    assert 1.0 == recall_of(rows, [], 3, np.zeros(4, dtype=bool)).mean


def test_hits_outside_of_the_filter_or_given_twice_are_wrong_and_not_found() -> None:
    rows = line_of([0.9, 0.8, 0.7, 0.6])
    outside = recall_of(rows, [0, 1], 2, np.array([False, True, True, True]))
    assert (0.5, 1.0, 1) == (outside.mean, outside.short, outside.wrong)
    twice = recall_of(rows, [0, 0], 2)
    assert (0.5, 1.0, 1) == (twice.mean, twice.short, twice.wrong)


def test_truth_equals_sorting_everything(small: data.Dataset, maker: filters.CellMaker) -> None:
    cell = maker.make(Spec(0.1, "tag", "own", 10))
    known = truth.exact(small.rows, small.queries, 10, cell.filter_of_query, cell.mask)
    for query, number in enumerate(cell.filter_of_query):
        products = small.rows[cell.mask(int(number))].astype(np.float64) @ small.queries[query].astype(np.float64)
        assert np.sort(products)[-10] == pytest.approx(known.threshold[query], abs=1e-12)


# ---- filters ----


def selected(cell: filters.Cell, number: int) -> NDArray[np.bool_]:
    """
    Return what a program selects, by reading its words over the cell's tags, numbers and places.
    """
    words = [int(word) for word in cell.programs[number]]
    stack: list[NDArray[np.bool_]] = []

    def number_of(word: int) -> float:
        return float(struct.unpack("<d", struct.pack("<Q", word))[0])

    def points(members: NDArray[np.int64] | list[int]) -> NDArray[np.bool_]:
        made = np.zeros(POINTS, dtype=bool)
        made[members] = True
        return made

    while words:
        operation = words.pop(0)
        if operation == filters.OP_TAG:
            stack.append(points(cell.tags[words.pop(0)]))
        elif operation == filters.OP_OFFSETS:
            count = words.pop(0)
            stack.append(points(words[:count]))
            del words[:count]
        elif operation == filters.OP_RANGE:
            column, bounds, low, _, high, _ = words[:6]
            del words[:6]
            assert (filters.NUMBER, filters.BOUND_GTE | filters.BOUND_LTE) == (column, bounds)
            assert cell.numbers is not None
            stack.append((cell.numbers >= number_of(low)) & (cell.numbers <= number_of(high)))
        elif operation == filters.OP_GEO:
            assert [filters.PLACE, filters.GEO_BOX, 4] == words[:3]
            top, left, bottom, right = map(number_of, words[3:7])
            del words[:7]
            assert cell.places is not None
            stack.append(((cell.places >= [bottom, left]) & (cell.places <= [top, right])).all(axis=1))
        elif operation == filters.OP_NOT:
            stack.append(~stack.pop())
        else:
            assert operation in (filters.OP_AND, filters.OP_OR)
            sets = [stack.pop() for _ in range(words.pop(0))]
            stack.append(np.all(sets, axis=0) if operation == filters.OP_AND else np.any(sets, axis=0))
    assert 1 == len(stack)
    return stack[0]


@pytest.mark.parametrize("correlation", ["none", "own", "far"])
@pytest.mark.parametrize("kind", KINDS)
def test_mask_program_and_filter_select_the_same_points_of_the_wanted_share(maker: filters.CellMaker, kind: str, correlation: str) -> None:
    share = 0.1
    cell = maker.make(Spec(share, kind, correlation, 10))
    payloads = cell.payloads()
    for number in (0, len(cell.programs) - 1):
        mask = cell.mask(number)
        assert np.array_equal(selected(cell, number), mask)
        node = parse(cell.filters[number])
        assert [matches(node, payload, id=point, has_vector=lambda name: False) for point, payload in enumerate(payloads)] == mask.tolist()
    wanted = share * POINTS
    if kind in ("and2", "and3"):
        assert cell.cardinalities().mean() == pytest.approx(wanted, rel=0.1)
    else:
        assert cell.cardinalities().tolist() == pytest.approx([wanted] * len(cell.programs), abs=1)


@pytest.mark.parametrize("kind", KINDS)
def test_a_cell_never_repeats_one_bitmap(maker: filters.CellMaker, kind: str) -> None:
    cell = maker.make(Spec(0.1, kind, "none", 10))
    assert len({bitmap.tobytes() for bitmap in cell.bitmaps}) == len(cell.programs) >= 8
    assert len(np.unique(cell.filter_of_query)) == len(cell.programs)


def test_own_cells_are_near_and_far_cells_are_not(small: data.Dataset, maker: filters.CellMaker) -> None:
    best = {}
    for correlation in ("none", "own", "far"):
        cell = maker.make(Spec(0.1, "tag", correlation, 10))
        best[correlation] = truth.exact(small.rows, small.queries, 10, cell.filter_of_query, cell.mask).threshold.mean()
    assert best["far"] < best["none"] < best["own"]


def test_the_same_cell_comes_twice(maker: filters.CellMaker) -> None:
    spec = Spec(0.2, "or", "far", 10)
    assert np.array_equal(maker.make(spec).bitmaps, maker.make(spec).bitmaps)


def test_numbers_are_those_of_the_header() -> None:
    header = dict(re.findall(r"VECDB_(\w+) = (\d+)", (ROOT / "csrc" / "vecdb.h").read_text(encoding="utf-8")))
    for name in ("OP_TAG", "OP_RANGE", "OP_OFFSETS", "OP_AND", "OP_OR", "OP_NOT", "OP_GEO", "BOUND_GTE", "BOUND_LTE", "GEO_BOX"):
        assert int(header[name]) == getattr(filters, name), name
    assert (core.NO_CODES, core.EIGHT_BITS) == (int(header["NO_CODES"]), int(header["EIGHT_BITS"]))
    assert [int(header[f"PLAN_{name.upper()}"]) for name in core.STRATEGIES] == list(range(len(core.STRATEGIES)))


def test_queries_of_far_filters_take_turns() -> None:
    distances = np.tile(np.arange(40.0), (200, 1))
    assigned = regions.assign(distances, "far", np.random.default_rng(1))
    assert set(range(30, 40)) == set(assigned.tolist())
    assert {0} == set(regions.assign(distances, "own", np.random.default_rng(1)).tolist())


# ---- cells ----


def test_the_list_is_short_and_part_of_what_is_feasible() -> None:
    assert 0 < len(listed(200_000)) <= MOST_LISTED
    assert len(set(listed(200_000))) == len(listed(200_000))
    assert all(feasible(spec, 200_000) for spec in full(200_000))
    assert not feasible(Spec(0.0001, "tag", "none", 10), 1000)
    assert not feasible(Spec(0.005, "not", "none", 10), 200_000)


def test_names_of_cells_are_read_back() -> None:
    for spec in full(200_000):
        assert spec == parsed(spec.name)
    with pytest.raises(ValueError, match="no cell 'tag 10%'"):
        parsed("tag 10%")


# ---- curves ----


def test_speed_at_a_sample_is_the_sample_and_between_two_lies_between() -> None:
    curve = [Sample(10, 0.90, 1000.0), Sample(20, 0.99, 100.0)]
    assert qps_at(curve, 0.90) == pytest.approx(1000.0)
    assert qps_at(curve, 0.99) == pytest.approx(100.0)
    # Misses of 10 % and 1 %: half of the way, by their logarithms, is at 10^-1.5.
    assert qps_at(curve, 1 - 10**-1.5) == pytest.approx(10**2.5)


def test_speed_is_never_extrapolated() -> None:
    curve = [Sample(10, 0.96, 1000.0), Sample(20, 0.98, 500.0)]
    assert 1000.0 == qps_at(curve, 0.5)
    assert qps_at(curve, 0.99) is None
    assert qps_at([], 0.5) is None


def test_a_recall_of_one_can_be_interpolated_to() -> None:
    speed = qps_at([Sample(10, 0.9, 1000.0), Sample(20, 1.0, 10.0)], 0.95)
    assert speed == pytest.approx(100.0)


def test_samples_that_others_beat_are_left_out() -> None:
    kept = envelope([Sample(1, 0.9, 100.0), Sample(2, 0.95, 200.0), Sample(3, 0.99, 50.0), Sample(4, 0.97, 40.0)])
    assert [2, 3] == [one.ef for one in kept]


def test_the_ladder_rises_from_least_to_most() -> None:
    steps = list(ladder(10, 4000))
    assert (10, 4000) == (steps[0], steps[-1])
    assert sorted(set(steps)) == steps
    assert [100] == sorted({*ladder(100, 100)})


# ---- churn, data, report ----


def test_rounds_keep_the_number_of_points_and_insert_only_what_is_not_there() -> None:
    cluster = np.random.default_rng(1).integers(0, 4, 600)
    for begin, rounds in (churn.at_random(600, rounds=5, seed=1), churn.by_cluster(cluster, rounds=5)):
        live = set(begin.tolist())
        for leave, come in rounds:
            assert live.issuperset(leave.tolist())
            assert live.isdisjoint(come.tolist())
            live = (live - set(leave.tolist())) | set(come.tolist())
    begin, rounds = churn.at_random(600, rounds=5, seed=1)
    assert [len(begin) * 0.2] * 5 == [len(leave) for leave, _ in rounds]


def test_the_generator_is_seeded_and_its_vectors_have_length_one(small: data.Dataset) -> None:
    again = data.synthetic("small", data.Synthetic(POINTS, DIM, rank=6, clusters=30), queries=QUERIES, seed=3)
    assert np.array_equal(small.rows, again.rows)
    assert np.allclose(1, np.linalg.norm(np.concatenate([small.rows, small.queries]), axis=1), atol=1e-5)
    assert (POINTS, DIM, QUERIES) == (*small.rows.shape, len(small.queries))


def test_dimension_of_uniform_noise_is_near_its_own_and_of_clusters_below() -> None:
    noise = data.unit(np.random.default_rng(2).standard_normal((5000, 8)))
    assert 5 < data.difficulty(data.Dataset("noise", noise[200:], noise[:200])).dimension < 9


def test_results_are_appended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "RESULTS", tmp_path / "RESULTS.md")
    table = report.Table("figures", ["what", "value"], [["a", 0.5], ["b", None]], picture=tmp_path / "pictures" / "a.svg")
    report.record("one", ["machine: x"], [table])
    first = (tmp_path / "RESULTS.md").read_text(encoding="utf-8")
    report.record("two", ["machine: x"], [table])
    both = (tmp_path / "RESULTS.md").read_text(encoding="utf-8")
    assert both.startswith(first)
    assert "| a | 0.500 |\n| b | – |" in first
    assert "(pictures/a.svg)" in first
    assert ["## one", "## two"] == [row for row in both.splitlines() if row.startswith("## ")]


def test_the_picture_drawn_by_hand_is_well_formed() -> None:
    text = plot.svg("a < b", {"x & y": [Sample(1, 0.9, 1000.0), Sample(2, 0.99, 100.0)], "z": [Sample(0, 0.95, 3000.0)]})
    root = ElementTree.fromstring(text)
    space = "{http://www.w3.org/2000/svg}"
    assert [2, 1] == [len(line.attrib["points"].split()) for line in root.findall(f"{space}polyline")]
