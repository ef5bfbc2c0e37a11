"""
Tables as rows: a DataFrame of pandas or polars, and whatever speaks Arrow's C interface, become (id, vector, payload).

One column has the ids, one the vectors, the others are the payload; a missing value (null, NaN, NaT, NA) leaves its key out. Read piece by
piece; nothing is converted ahead. Functions without state.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from vecdb._optional import is_frame, needed
from vecdb.errors import InvalidArgument

_PIECE = 1024  # rows


class Row(NamedTuple):
    """
    A point to be written, not checked yet.
    """

    id: Any
    vector: Any
    payload: Any


class Columns(NamedTuple):
    """
    The names of the columns of ids and of vectors (None: the table has no vectors).
    """

    id: str
    vector: str | None


class _Piece(NamedTuple):
    """
    Some rows of a table, by column; a missing value is None.
    """

    rows: int
    columns: dict[str, Sequence[Any]]


def is_table(data: object) -> bool:
    """
    Return whether data is a table that `rows_of` can read.
    """
    return any(is_frame(data, package) for package in ("pandas", "polars")) or _is_arrow(data)


def _is_arrow(data: object) -> bool:
    # Columns speak the stream interface too; they are refused when they are read.
    return hasattr(data, "__arrow_c_stream__") or hasattr(data, "__arrow_c_array__")


def length_of(data: object) -> int | None:
    """
    Return how many rows or items there are, None when only reading them tells.
    """
    try:
        return len(data)  # type: ignore[arg-type]
    except TypeError:
        return None


def rows_of(table: Any, names: Columns) -> Iterator[Row]:
    """
    Yield the rows of a table.
    """
    first = True
    for piece in _pieces(table, names.vector):
        if first:
            _check_names(piece.columns, names)
            first = False
        payloads = _payloads({name: column for name, column in piece.columns.items() if name not in names}, piece.rows)
        vectors = piece.columns[names.vector] if names.vector is not None else [None] * piece.rows
        yield from map(Row, piece.columns[names.id], vectors, payloads)


def dicts_of(table: Any, vector: str | None) -> Iterator[dict[str, Any]]:
    """
    Yield the rows of a table as dicts of what is not missing.
    """
    for piece in _pieces(table, vector):
        yield from _payloads(piece.columns, piece.rows)


def _check_names(columns: Iterable[str], names: Columns) -> None:
    for role, name in names._asdict().items():
        if name is not None and name not in columns:
            raise InvalidArgument(f"{role}={name!r} names no column of the table (there: {', '.join(map(repr, columns))})")


def _payloads(columns: dict[str, Sequence[Any]], count: int) -> list[dict[str, Any]]:
    payloads: list[dict[str, Any]] = [{} for _ in range(count)]
    for name, column in columns.items():
        for payload, value in zip(payloads, column, strict=True):
            if value is not None:
                payload[name] = value
    return payloads


def _pieces(table: Any, vector: str | None) -> Iterator[_Piece]:
    if is_frame(table, "pandas"):
        return _pandas_pieces(table)
    return _polars_pieces(table, vector) if is_frame(table, "polars") else _arrow_pieces(table, vector)


# ---- pandas ----


def _pandas_pieces(table: Any) -> Iterator[_Piece]:
    _check_unique(table.columns)
    for begin in range(0, max(1, len(table)), _PIECE):
        part = table.iloc[begin : begin + _PIECE]
        yield _Piece(len(part), {name: _pandas_column(part[name]) for name in table.columns})


def _pandas_column(column: Any) -> list[Any]:
    values: list[Any] = column.tolist()
    missing = column.isna().to_numpy(dtype=bool)
    return [None if gone else value for gone, value in zip(missing.tolist(), values, strict=True)] if missing.any() else values


# ---- polars ----


def _polars_pieces(table: Any, vector: str | None) -> Iterator[_Piece]:
    for begin in range(0, max(1, table.height), _PIECE):
        part = table.slice(begin, _PIECE)
        yield _Piece(part.height, {name: _polars_column(part[name], is_vector=name == vector) for name in table.columns})


def _polars_column(column: Any, *, is_vector: bool) -> Sequence[Any]:
    if is_vector and column.null_count() == 0 and hasattr(column.dtype, "shape"):
        rows: Sequence[Any] = column.to_numpy()  # an Array of fixed width
        return rows
    if (
        getattr(column.dtype, "time_unit", None) == "ns"
        and hasattr(column.dtype, "time_zone")
        and (column.dt.nanosecond() % 1000 != 0).any()
    ):
        return _present(list(column.to_numpy()))  # in UTC: a datetime has no nanoseconds
    return _present(column.to_list())


# ---- Arrow ----


def _arrow_pieces(table: Any, vector: str | None) -> Iterator[_Piece]:
    arrow = needed("pyarrow", f"reading a {type(table).__name__} through Arrow")
    try:
        if hasattr(table, "__arrow_c_stream__"):
            batches = arrow.RecordBatchReader.from_stream(table)
        else:
            batches = iter([arrow.record_batch(table)])
            table = None
        names = batches.schema.names if hasattr(batches, "schema") else None
    except (arrow.ArrowInvalid, arrow.ArrowTypeError, TypeError, ValueError) as error:
        raise InvalidArgument(f"data is a {type(table).__name__}, expected a table, a frame or an iterable of rows: {error}") from None
    if names is not None:
        _check_unique(names)
        yield _Piece(0, {name: [] for name in names})  # so that names are checked when there are no rows
    for batch in batches:
        _check_unique(batch.schema.names)
        for begin in range(0, batch.num_rows, _PIECE):
            part = batch.slice(begin, _PIECE)
            yield _Piece(
                part.num_rows,
                {name: _arrow_column(arrow, part.column(name), is_vector=name == vector) for name in batch.schema.names},
            )


def _arrow_column(arrow: Any, column: Any, *, is_vector: bool) -> Sequence[Any]:
    if is_vector and column.null_count == 0 and len(column) and _is_list(arrow.types, column.type):
        lengths = np.diff(column.offsets.to_numpy()) if hasattr(column, "offsets") else np.array([column.type.list_size])
        flat = column.flatten()
        if flat.null_count == 0 and (lengths == lengths[0]).all():
            rows: Sequence[Any] = flat.to_numpy(zero_copy_only=False).reshape(len(column), int(lengths[0]))
            return rows
    return _present(column.to_pylist())


def _is_list(types: Any, kind: Any) -> bool:
    return bool(types.is_fixed_size_list(kind) or types.is_list(kind) or types.is_large_list(kind))


# ---- what they share ----


def _check_unique(names: Iterable[Any]) -> None:
    seen: set[Any] = set()
    for name in names:
        if not isinstance(name, str):
            raise InvalidArgument(f"the table has a column named {name!r} of type {type(name).__name__}, expected str names")
        if name in seen:
            raise InvalidArgument(f"the table has two columns named {name!r}: rename one")
        seen.add(name)


def _present(values: list[Any]) -> list[Any]:
    """
    Return values with None for NaN, and without the null fields of objects, which a table of fixed columns cannot leave out.
    """
    return [None if value != value else _without_nulls(value) if isinstance(value, (dict, list)) else value for value in values]


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nulls(item) for name, item in value.items() if item is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value
