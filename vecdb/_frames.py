"""
Points as tables: one row a point, with its id, its vector, and a column for each payload key.

`_columns` decides the types; what one column cannot hold is refused where the format has typed columns. Functions without state.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from vecdb._columns import are_exact, int_width, objects, pandas_column
from vecdb._fields import Fields
from vecdb._optional import needed
from vecdb.errors import InvalidArgument
from vecdb.types import Point

ID, VECTOR = "id", "vector"


class Table(NamedTuple):
    """
    Points by column: `payload` has a value, or None where the key is missing, for each point.
    """

    ids: list[Any]
    vectors: list[Any] | None
    payload: dict[str, list[Any]]


def table_of(points: Iterable[Point], *, with_vectors: bool) -> Table:
    """
    Return points as columns; raises InvalidArgument when a payload key is called like a column that is not the payload's.
    """
    table = Table([], [] if with_vectors else None, {})
    for row, point in enumerate(points):
        table.ids.append(point.id)
        if table.vectors is not None:
            table.vectors.append(point.vector)
        for key, value in point.payload.items():
            if key == ID or (with_vectors and key == VECTOR):
                raise InvalidArgument(
                    f"the point {point.id!r} has a payload key {key!r}, which is the name of another column: rename it, or use scan()"
                )
            column = table.payload.get(key)
            if column is None:
                column = table.payload[key] = [None] * row
            column.append(value)
        for column in table.payload.values():
            if len(column) <= row:
                column.append(None)
    return table


def pandas_frame(table: Table) -> Any:
    """
    Return a pandas DataFrame.
    """
    pandas = needed("pandas", "to_pandas")
    columns = {ID: pandas_column(pandas, table.ids)}
    if table.vectors is not None:
        columns[VECTOR] = pandas.Series(objects(table.vectors), dtype=object)
    columns.update((key, pandas_column(pandas, values)) for key, values in table.payload.items())
    return pandas.DataFrame(columns)


def arrow_table(table: Table, fields: Fields) -> Any:
    """
    Return a pyarrow Table; raises InvalidArgument for a column whose values have no one Arrow type.
    """
    arrow = needed("pyarrow", "to_arrow")
    columns = {ID: _arrow_column(arrow, ID, table.ids)}
    if table.vectors is not None:
        columns[VECTOR] = _arrow_vectors(arrow, table.vectors, fields)
    columns.update((key, _arrow_column(arrow, key, values)) for key, values in table.payload.items())
    return arrow.table(columns)


def _arrow_column(arrow: Any, key: str, values: Sequence[Any]) -> Any:
    kinds = {type(value) for value in values} - {type(None)}
    if not values:
        return arrow.array([], arrow.null() if key != ID else arrow.int64())
    if kinds == {int} and (width := int_width(values)) is not None:
        return arrow.array(values, getattr(arrow, width)())
    if kinds == {int, float} and are_exact(values):
        return arrow.array([None if value is None else float(value) for value in values], arrow.float64())
    problem = f"values of the types {', '.join(sorted(kind.__name__ for kind in kinds))}"
    if len(kinds) <= 1:
        try:
            return arrow.array(values)
        except (arrow.ArrowInvalid, arrow.ArrowTypeError, arrow.ArrowNotImplementedError, OverflowError) as error:
            problem = str(error)
    what = "the ids have" if key == ID else f"payload key {key!r} has"
    raise InvalidArgument(f"{what} {problem}: a column of Arrow has one type, use to_pandas() or scan()")


def _arrow_vectors(arrow: Any, vectors: Sequence[Any], fields: Fields) -> Any:
    columns = [_arrow_rows(arrow, [fields.of(vector, spec) for vector in vectors], spec.dim) for spec in fields.specs]
    return arrow.StructArray.from_arrays(columns, [spec.name for spec in fields.specs]) if fields.are_named else columns[0]


def _arrow_rows(arrow: Any, vectors: Sequence[Any], dim: int) -> Any:
    present = np.array([vector is not None for vector in vectors], dtype=bool)
    rows = np.zeros((len(vectors), dim), dtype=np.float32)
    if present.any():
        rows[present] = [vector for vector in vectors if vector is not None]
    mask = None if present.all() else arrow.array(~present)
    return arrow.FixedSizeListArray.from_arrays(arrow.array(rows.ravel()), dim, mask=mask)
