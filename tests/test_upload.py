"""
upload: rows of every kind, lazily, in whole batches, whatever goes wrong in the middle.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transforms

import vecdb
from vecdb import Collection, Point
from vecdb._workers import _AHEAD, CHUNK


@pytest.fixture
def pairs() -> Collection:
    return Collection(dim=2)


def numbered(count: int) -> Iterator[tuple[int, list[float], dict[str, int]]]:
    return ((n, [1.0, n], {"n": n}) for n in range(count))


def test_rows_may_be_points_tuples_and_dicts(pairs: Collection) -> None:
    vector = np.array([1, 2], dtype=np.float32)
    rows = [
        Point("a", vector, {"n": 1}),
        ("b", vector),
        (3, None, {"n": 3}),
        ("d", [1, 2], None),
        ["e", (1, 2), {"n": 5}],
        {"id": "f", "vector": vector, "n": 6, "nothing": None},
    ]
    assert pairs.upload(rows) == 6
    assert [point.payload for point in pairs.scan()] == [{"n": 3}, {"n": 1}, {}, {}, {"n": 5}, {"n": 6, "nothing": None}]
    assert [point.vector is None for point in pairs.scan()] == [True] + [False] * 5
    assert pairs.upload(Point("g", vector)) == 1
    assert pairs.upload([]) == 0
    assert pairs.upload([{"key": 9, "v": vector, "id": "not the id"}], id="key", vector="v") == 1
    assert pairs[9].payload == {"id": "not the id"}
    assert pairs.upload([{"id": 10, "vector": "free for the payload"}], vector=None) == 1
    assert pairs[10] == Point(10, None, {"vector": "free for the payload"})


def test_json_lines_are_an_iterable_of_dicts(pairs: Collection, tmp_path: Path) -> None:
    file = tmp_path / "points.jsonl"
    file.write_text("".join(json.dumps({"id": n, "vector": [1, n], "n": n}) + "\n" for n in range(10)))
    with file.open() as lines:
        assert pairs.upload(map(json.loads, lines), batch_size=3) == 10
    assert pairs[7] == Point(7, np.array([1, 7], dtype=np.float32), {"n": 7})


def test_each_batch_is_written_before_the_next_item_is_asked_for(pairs: Collection) -> None:
    seen: list[int] = []

    def items() -> Iterator[tuple[int, list[float]]]:
        for n in range(10):
            seen.append(len(pairs))
            yield n, [1.0, n]
        seen.append(len(pairs))

    assert pairs.upload(items(), batch_size=4) == 10
    assert seen == [0, 0, 0, 0, 4, 4, 4, 4, 8, 8, 8]
    assert len(pairs) == 10


def test_an_error_leaves_the_batches_before_it(pairs: Collection) -> None:
    def items() -> Iterator[tuple[int, list[float]]]:
        for n in range(10):
            if n == 9:
                raise LookupError("no more")
            yield n, [1.0, n]

    with pytest.raises(LookupError):
        pairs.upload(items(), batch_size=4)
    assert list(pairs) == list(range(8))
    rows = [*numbered(6), (6, [1.0, float("nan")])]
    with pytest.raises(vecdb.InvalidArgument, match=r"rows 4 to 6: vectors\[2\] holds NaN"):
        pairs.upload(rows, batch_size=4)
    assert pairs.upload(numbered(10), batch_size=4) == 10
    assert len(pairs) == 10


@pytest.mark.parametrize("workers", [0, 2])
def test_ctrl_c_leaves_whole_batches(pairs: Collection, workers: int) -> None:
    def items() -> Iterator[int]:
        for n in range(2000):
            if n == 1000:
                signal.raise_signal(signal.SIGINT)
            yield n

    with pytest.raises(KeyboardInterrupt):
        pairs.upload(items(), batch_size=100, transform=transforms.row, workers=workers)
    assert len(pairs) % 100 == 0
    assert list(pairs) == list(range(len(pairs)))
    assert pairs.upload(range(2000), batch_size=100, transform=transforms.row) == 2000
    assert list(pairs) == list(range(2000))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (5, "row 1 is a int"),
        ((1,), "row 1 is a tuple"),
        ({"id": 1}, "row 1 has no key 'vector'"),
        ({"vector": [1, 2]}, "row 1 has no key 'id'"),
        (Point(1, None, {}, has_vector_data=False), "with_vectors=False"),
        ("ab", "row 1 is a str"),
    ],
)
def test_a_wrong_row_is_named(pairs: Collection, row: Any, message: str) -> None:
    with pytest.raises(vecdb.InvalidArgument, match=message):
        pairs.upload([("x", [1, 2]), row])


@pytest.mark.parametrize(
    "options",
    [{"batch_size": 0}, {"workers": -1}, {"transform": 3}, {"id": 3}, {"vector": 3}, {"progress": 1}],
)
def test_wrong_options_are_refused(pairs: Collection, options: dict[str, Any]) -> None:
    with pytest.raises(vecdb.InvalidArgument):
        pairs.upload(numbered(3), **options)
    assert len(pairs) == 0


@pytest.mark.parametrize("data", ["text", b"bytes", {"id": 1}, 7, vecdb.F("a") == 1])
def test_what_is_no_data_is_refused(pairs: Collection, data: Any) -> None:
    with pytest.raises(vecdb.InvalidArgument, match="data is a"):
        pairs.upload(data)


def test_a_transform_makes_rows_in_this_thread(pairs: Collection) -> None:
    assert pairs.upload(range(5), transform=lambda n: (f"id {n}", [1.0, n])) == 5
    assert pairs["id 3"].vector.tolist() == [1.0, 3.0]


def test_workers_share_the_work_in_order(pairs: Collection) -> None:
    ahead: list[int] = []

    def items() -> Iterator[int]:
        for n in range(1500):
            ahead.append(n - len(pairs))
            yield n

    assert pairs.upload(items(), transform=transforms.row, workers=2, batch_size=50) == 1500
    assert list(pairs) == list(range(1500))
    assert len({point.payload["pid"] for point in pairs.scan()}) in (1, 2)
    assert transforms.os.getpid() not in {point.payload["pid"] for point in pairs.scan()}
    assert max(ahead) <= (_AHEAD * 2 + 1) * CHUNK + 50


def test_a_transform_is_sent_once_to_each_worker(pairs: Collection, tmp_path: Path) -> None:
    noting = transforms.Noting(tmp_path / "arrivals")
    assert pairs.upload(range(1000), transform=noting, workers=2) == 1000
    arrivals = noting.path.read_text().split()
    assert len(arrivals) == len(set(arrivals)) <= 2


def test_a_transform_that_cannot_be_sent_is_refused_before_the_first_item(pairs: Collection) -> None:
    asked: list[int] = []
    items = (asked.append(n) for n in range(3))
    with pytest.raises(vecdb.InvalidArgument, match="cannot be sent to worker processes"):
        pairs.upload(items, transform=lambda n: n, workers=1)
    assert asked == []


def test_an_error_in_a_worker_is_raised_here(pairs: Collection) -> None:
    with pytest.raises(LookupError, match="300 is not there"):
        pairs.upload(range(1000), transform=transforms.fail_at_300, workers=1, batch_size=50)
    assert list(pairs) == list(range(len(pairs)))
    assert len(pairs) % 50 == 0


def test_a_worker_that_dies_is_reported(pairs: Collection) -> None:
    with pytest.raises(RuntimeError, match="a worker process of upload ended"):
        pairs.upload(range(1000), transform=transforms.exit_at_40, workers=1, batch_size=10)
    assert list(pairs) == list(range(len(pairs)))


def test_progress_is_shown_where_it_is_asked_for(pairs: Collection, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("tqdm")
    pairs.upload(list(numbered(30)), batch_size=10)
    assert capsys.readouterr().err == ""
    pairs.upload(list(numbered(30)), batch_size=10, progress=True)
    assert "30/30" in capsys.readouterr().err


def test_upload_in_a_batch_is_part_of_it(pairs: Collection) -> None:
    with pairs.batch():
        assert pairs.upload(numbered(30), batch_size=7) == 30
        assert len(pairs) == 0
    assert len(pairs) == 30


def test_a_read_only_handle_takes_no_upload(path: Path) -> None:
    with vecdb.open(path) as db:
        db.create_collection("p", dim=2)
        with vecdb.open(path, mode="r") as reader, pytest.raises(vecdb.ReadOnly):
            reader["p"].upload(numbered(3))
