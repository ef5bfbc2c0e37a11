"""
Tables in and out: pandas, polars and Arrow; each part is left out where its package is missing.
"""

from __future__ import annotations

import datetime
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vecdb
from vecdb import Collection, F, Point

ROWS: list[tuple[Any, Any, dict[str, Any]]] = [
    (1, [1.0, 2.0], {"n": 1, "price": 1.5, "tags": ["a", "b"], "ok": True, "name": "x"}),
    (2, None, {"n": 2**53 + 1, "price": 2.5, "name": "é"}),
    (2**62, [0.0, 4.0], {"price": 3.5, "tags": [], "ok": False}),
]


def filled() -> Collection:
    points = Collection(dim=2)
    points.upload(ROWS)
    return points


def contents(points: Collection) -> list[Point]:
    return list(points.scan())


def uploaded(data: Any, **options: Any) -> list[Point]:
    points = Collection(dim=2)
    count = points.upload(data, **options)
    assert count == len(points)
    return contents(points)


def test_a_frame_of_pandas_comes_back() -> None:
    pandas = pytest.importorskip("pandas")
    points = filled()
    frame = points.to_pandas()
    assert list(frame.columns) == ["id", "vector", "n", "price", "tags", "ok", "name"]
    assert [str(frame[name].dtype) for name in ("id", "n", "price", "ok")] == ["int64", "Int64", "float64", "boolean"]
    assert frame["vector"][0].dtype == np.float32
    assert frame["n"][1] == 2**53 + 1
    assert frame["n"][2] is pandas.NA
    assert contents(points) == uploaded(frame)
    without = points.to_pandas(filter=F("price") > 2, with_vectors=False)
    assert list(without.columns) == ["id", "n", "price", "name", "tags", "ok"]
    assert [point.id for point in uploaded(without, vector=None)] == [2, 2**62]


def test_pandas_columns_keep_their_kinds() -> None:
    pytest.importorskip("pandas")
    points = Collection(dim=2)
    payloads: list[dict[str, Any]] = [
        {"mixed": 1, "numbers": 1, "wide": 2**63, "exact": 2**53 + 1, "deep": {"a": None}},
        {"mixed": "1", "numbers": 2.5, "wide": 3, "exact": 0.5, "deep": {"b": [1]}},
        {"mixed": True, "numbers": 3, "wide": 2**64 - 1, "exact": -1},
    ]
    points.upsert(["a", 1, 2], None, payloads)
    frame = points.to_pandas(with_vectors=False)
    dtypes = {name: str(dtype) for name, dtype in frame.dtypes.items()}
    assert dtypes == {"id": "object", "mixed": "object", "numbers": "float64", "wide": "uint64", "exact": "object", "deep": "object"}
    back = {point.id: point.payload for point in uploaded(frame, vector=None)}
    assert back == {"a": payloads[0], 1: payloads[1], 2: payloads[2]}
    assert [type(back[one]["mixed"]) for one in ("a", 1, 2)] == [int, str, bool]


def test_missing_values_of_pandas_leave_the_key_out() -> None:
    pandas = pytest.importorskip("pandas")
    moment = pandas.Timestamp("2026-01-02T03:04:05Z")
    frame = pandas.DataFrame(
        {
            "id": ["a", "b"],
            "vector": [np.zeros(2) + 1, None],
            "float": [1.5, math.nan],
            "int": pandas.array([1, None], dtype="Int64"),
            "time": [moment, pandas.NaT],
            "object": [None, pandas.NA],
            "text": pandas.array(["x", None], dtype="string"),
            "kind": pandas.Categorical(["red", None]),
        }
    )
    assert uploaded(frame) == [
        Point("a", np.ones(2, dtype=np.float32), {"float": 1.5, "int": 1, "time": "2026-01-02T03:04:05Z", "text": "x", "kind": "red"}),
        Point("b", None, {}),
    ]
    assert uploaded(frame.iloc[:0]) == []
    renamed = frame.rename(columns={"id": "key", "vector": "v"})
    assert [point.id for point in uploaded(renamed, id="key", vector="v")] == ["a", "b"]
    assert uploaded(iter([frame.iloc[:1], frame.iloc[1:]])) == uploaded(frame)


def test_a_wrong_table_is_refused() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"id": [1], "vector": [[1.0, 2.0]], "n": [1]})
    with pytest.raises(vecdb.InvalidArgument, match="id='key' names no column"):
        uploaded(frame, id="key")
    with pytest.raises(vecdb.InvalidArgument, match="vector='v' names no column"):
        uploaded(frame, vector="v")
    with pytest.raises(vecdb.InvalidArgument, match="column named 0"):
        uploaded(pandas.DataFrame([[1, [1.0, 2.0]]]))
    with pytest.raises(vecdb.InvalidArgument, match="two columns named 'n'"):
        uploaded(pandas.concat([frame, frame["n"]], axis=1))
    with pytest.raises(vecdb.InvalidArgument, match=r"rows 0 to 0.*'n'"):
        uploaded(frame.assign(n=[{1, 2}]))


def test_a_payload_key_cannot_share_a_column() -> None:
    pytest.importorskip("pandas")
    points = Collection(dim=2)
    points.upsert("a", [1, 2], {"vector": 1})
    with pytest.raises(vecdb.InvalidArgument, match="'vector'"):
        points.to_pandas()
    assert points.to_pandas(with_vectors=False)["vector"].tolist() == [1]


def test_an_arrow_table_comes_back(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    points = filled()
    table = points.to_arrow()
    assert table.schema.field("vector").type == arrow.list_(arrow.float32(), 2)
    assert table["id"].to_pylist() == [1, 2, 2**62]
    assert [str(table.schema.field(name).type) for name in ("id", "n", "price", "ok", "name")] == [
        "int64",
        "int64",
        "double",
        "bool",
        "string",
    ]
    for data in (table, table.to_reader(), table.to_batches(), table.to_batches()[0], iter([table.slice(0, 1), table.slice(1)])):
        assert contents(points) == uploaded(data)
    parquet.write_table(table, tmp_path / "points.parquet")
    assert contents(points) == uploaded(parquet.read_table(tmp_path / "points.parquet"))
    assert contents(points) == uploaded(parquet.ParquetFile(tmp_path / "points.parquet").iter_batches(batch_size=2))
    assert points.to_arrow(filter=F("n") == 1, with_vectors=False).column_names == ["id", "n", "price", "tags", "ok", "name"]
    empty = Collection(dim=2).to_arrow()
    assert empty.column_names == ["id", "vector"]
    assert uploaded(empty) == []


def test_arrow_vectors_may_be_lists_of_any_kind() -> None:
    arrow = pytest.importorskip("pyarrow")
    rows = [[float(n), 1.0] for n in range(3000)]
    for kind in (arrow.list_(arrow.float64()), arrow.large_list(arrow.float16()), arrow.list_(arrow.float32(), 2)):
        cast = np.float16 if "half" in str(kind) else np.float64
        table = arrow.table({"id": range(3000), "vector": arrow.array([np.asarray(row, dtype=cast) for row in rows], kind)})
        found = uploaded(table.slice(5))
        assert [point.vector.tolist() for point in found[:3]] == [[5.0, 1.0], [6.0, 1.0], [7.0, 1.0]]
        assert len(found) == 2995
    ragged = arrow.table({"id": [1, 2], "vector": [[1.0, 2.0], [1.0]]})
    with pytest.raises(vecdb.InvalidArgument, match=r"vectors\[1\] has shape \(1,\)"):
        uploaded(ragged)


def test_arrow_nulls_and_nans_leave_the_key_out() -> None:
    arrow = pytest.importorskip("pyarrow")
    table = arrow.table(
        {
            "id": ["a", "b"],
            "vector": [None, [1.0, 2.0]],
            "x": [math.nan, 1.0],
            "deep": [{"p": 1, "q": None}, None],
            "list": [[1, None], []],
            "day": [datetime.date(2026, 1, 2), None],
        }
    )
    assert uploaded(table) == [
        Point("a", None, {"deep": {"p": 1}, "list": [1, None], "day": "2026-01-02"}),
        Point("b", np.array([1, 2], dtype=np.float32), {"x": 1.0, "list": []}),
    ]


def test_what_arrow_cannot_hold_is_refused() -> None:
    arrow = pytest.importorskip("pyarrow")
    points = Collection(dim=2)
    points.upsert([1, "a"], None, [{"v": 1}, {"v": "1"}])
    with pytest.raises(vecdb.InvalidArgument, match="the ids have values of the types int, str"):
        points.to_arrow()
    with pytest.raises(vecdb.InvalidArgument, match="payload key 'v' has"):
        Collection.to_arrow(points_of([{"v": 1}, {"v": "1"}]))
    with pytest.raises(vecdb.InvalidArgument, match="payload key 'v'"):
        points_of([{"v": [1]}, {"v": [["x"]]}]).to_arrow()
    with pytest.raises(vecdb.InvalidArgument, match="data is a Int64Array"):
        uploaded(arrow.array([1, 2]))


def points_of(payloads: list[dict[str, Any]]) -> Collection:
    points = Collection(dim=2)
    points.upsert(range(len(payloads)), None, payloads)
    return points


def test_polars_frames_are_read() -> None:
    polars = pytest.importorskip("polars")
    frame = polars.DataFrame(
        {
            "id": [1, 2],
            "vector": [[1.0, 2.0], [3.0, 4.0]],
            "x": [1.5, math.nan],
            "s": ["x", None],
            "deep": [{"a": 1, "b": None}, {"a": None, "b": "y"}],
            "when": [datetime.datetime(2026, 1, 2), None],
        }
    )
    expected = [
        Point(1, np.array([1, 2], dtype=np.float32), {"x": 1.5, "s": "x", "deep": {"a": 1}, "when": "2026-01-02T00:00:00Z"}),
        Point(2, np.array([3, 4], dtype=np.float32), {"deep": {"b": "y"}}),
    ]
    assert expected == uploaded(frame)
    assert expected == uploaded(frame.with_columns(polars.col("vector").cast(polars.Array(polars.Float32, 2))))
    assert uploaded(frame.head(0)) == []


def test_nanoseconds_of_polars_are_kept() -> None:
    polars = pytest.importorskip("polars")
    fine = polars.Series([1577836800123456789, None], dtype=polars.Datetime("ns"))
    zoned = fine.dt.replace_time_zone("Europe/Berlin")
    frame = polars.DataFrame({"id": [1, 2], "vector": [[1.0, 0.0]] * 2, "fine": fine, "zoned": zoned})
    expected = {"fine": "2020-01-01T00:00:00.123456789Z", "zoned": "2019-12-31T23:00:00.123456789Z"}
    assert [expected, {}] == [point.payload for point in uploaded(frame)]


def test_a_table_is_transformed_row_by_row() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"text": ["a", "bb"], "n": [1.0, math.nan]})
    found = uploaded(frame, transform=lambda row: (row["text"], [len(row["text"]), 1.0], {"row": row}))
    assert [point.payload["row"] for point in found] == [{"text": "a", "n": 1.0}, {"text": "bb"}]


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for package, call in (("pandas", Collection.to_pandas), ("pyarrow", Collection.to_arrow)):
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(ImportError, match=f"pip install {package}"):
            call(Collection(dim=2))
    monkeypatch.setitem(sys.modules, "tqdm", None)
    with pytest.raises(vecdb.InvalidArgument, match="pip install tqdm"):
        Collection(dim=2).upload([], progress=True)


class Speaks:
    """
    Something else that speaks Arrow.
    """

    def __init__(self, table: Any) -> None:
        self.table = table

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        """
        Return the stream.
        """
        return self.table.__arrow_c_stream__(requested_schema)


def test_whatever_speaks_arrow_is_a_table() -> None:
    pytest.importorskip("pyarrow")
    assert uploaded(Speaks(filled().to_arrow())) == contents(filled())
