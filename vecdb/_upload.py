"""
Upload: rows of many kinds, read lazily, written in batches.

Invariant: what an error or Ctrl-C leaves behind is a whole number of batches, each written and durable before the next item is asked for.
Threads: any; an upload belongs to the thread that called it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from vecdb._convert import whole
from vecdb._progress import check_progress, progress_bar
from vecdb._tables import Columns, Row, dicts_of, is_table, length_of, rows_of
from vecdb._workers import check_picklable, transformed
from vecdb._writing import Writing
from vecdb.errors import InvalidArgument
from vecdb.filters import Node
from vecdb.types import Point

_MAX_WORKERS = 1024


class Uploading(Writing):
    """
    The part of `Collection` that takes in much at once, in batches.
    """

    def upload(
        self,
        data: Any,
        *,
        id: str = "id",
        vector: str | None = "vector",
        batch_size: int = 1000,
        transform: Callable[[Any], Any] | None = None,
        workers: int = 0,
        progress: bool = False,
    ) -> int:
        """
        Write many points in batches, as `upsert` does, and return how many rows were read.

        `data`: Points, (id, vector) or (id, vector, payload) tuples, dicts, a DataFrame of pandas or polars, an Arrow table or record batch
        reader (anything with `__arrow_c_stream__`; needs pyarrow), or any iterable of these, consumed lazily. In tables and dicts `id` and
        `vector` name the columns (vector=None: points without), the others are the payload; in tables missing values leave the key out.
        `transform` turns one item into a row, in `workers` spawned processes (0: in this thread), which look a bounded number of items
        ahead; of a table an item is a row as a dict. Each batch is durable before the next item is asked for; after an error the batches
        before it stay, and running it again is safe. `progress=True` shows a bar (needs tqdm). Raises InvalidArgument naming the rows.

        >>> import vecdb
        >>> points = vecdb.Collection(dim=2)
        >>> points.upload((n, [1.0, n], {"n": n}) for n in range(5))
        5
        >>> points.upload([{"id": "a", "vector": [0.5, 1.0], "colour": "red"}]), points["a"].payload
        (1, {'colour': 'red'})
        """
        self._handle.check_writable()
        names = Columns(_name(id, "id"), None if vector is None else _name(vector, "vector"))
        size, processes = whole(batch_size, "batch_size", 1, 2**31 - 1), whole(workers, "workers", 0, _MAX_WORKERS)
        shown = check_progress(progress)
        if transform is not None and not callable(transform):
            raise InvalidArgument(f"transform is a {type(transform).__name__}, expected a function of one item, or None")
        items = _transformed(data, names, transform, processes)
        with progress_bar(length_of(data), "upload", shown=shown) as advance:
            return self._upload(_rows(items, names), size, advance)

    def _upload(self, rows: Iterator[Row], size: int, advance: Callable[[int], None]) -> int:
        count = 0
        batch: list[Row] = []
        try:
            for row in rows:
                batch.append(row)
                if len(batch) == size:
                    self._write_batch(batch, count)
                    advance(len(batch))
                    count += len(batch)
                    batch = []
            if batch:
                self._write_batch(batch, count)
                advance(len(batch))
        finally:
            if hasattr(rows, "close"):
                rows.close()  # ends the workers at once, not when the generator is collected
        return count + len(batch)

    def _write_batch(self, batch: list[Row], first: int) -> None:
        ids, vectors, payloads = zip(*batch, strict=True)
        try:
            self.upsert(list(ids), list(vectors), list(payloads))
        except InvalidArgument as error:
            raise InvalidArgument(f"upload, rows {first} to {first + len(batch) - 1}: {error} (rows before these were written)") from None


def _name(value: object, argument: str) -> str:
    if not isinstance(value, str):
        raise InvalidArgument(f"{argument} is {value!r}, expected the name of a column")
    return value


def _transformed(data: Any, names: Columns, transform: Callable[[Any], Any] | None, workers: int) -> Iterator[Any]:
    """
    Return the items of data, or what transform makes of them; a table stays one item unless it is transformed.
    """
    if isinstance(data, Point) or is_table(data):
        items: Iterable[Any] = [data]
    elif isinstance(data, (str, bytes, Mapping, Node)) or not isinstance(data, Iterable) or getattr(data, "ndim", 1) == 0:
        raise InvalidArgument(f"data is a {type(data).__name__}, expected Points, tuples, dicts, a table, or an iterable of these")
    else:
        items = data
    if transform is None:
        return iter(items)
    rows = (one for item in items for one in (dicts_of(item, names.vector) if is_table(item) else (item,)))
    return transformed(rows, check_picklable(transform), workers) if workers else map(transform, rows)


def _rows(items: Iterator[Any], names: Columns) -> Iterator[Row]:
    """
    Yield a row for each item, and those of each table among the items.
    """
    number = 0
    try:
        for item in items:
            if is_table(item):
                for row in rows_of(item, names):
                    yield row
                    number += 1
                continue
            yield _row(item, number, names)
            number += 1
    finally:
        if hasattr(items, "close"):
            items.close()


def _row(item: Any, number: int, names: Columns) -> Row:
    if isinstance(item, Point):
        if not item.has_vector_data:
            raise InvalidArgument(f"upload, row {number} (id {item.id!r}) was read with with_vectors=False: read it with its vector")
        return Row(item.id, item.vector, item.payload)
    if isinstance(item, (tuple, list)) and len(item) in (2, 3):
        return Row(item[0], item[1], item[2] if len(item) == 3 else None)
    if isinstance(item, Mapping):
        for role, name in names._asdict().items():
            if name is not None and name not in item:
                raise InvalidArgument(f"upload, row {number} has no key {name!r} ({role}), only {', '.join(map(repr, list(item)[:8]))}")
        payload = {key: value for key, value in item.items() if key not in names}
        return Row(item[names.id], None if names.vector is None else item[names.vector], payload)
    raise InvalidArgument(
        f"upload, row {number} is a {type(item).__name__}, expected a Point, (id, vector) or (id, vector, payload), or a dict"
    )
