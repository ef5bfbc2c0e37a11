"""
The reads of a collection: points by id, one page or all of them, counts and facets.

Each call reads one state; none holds up a write. Any thread may read.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

from vecdb import _convert as convert
from vecdb._convert import flag, whole
from vecdb._cursor import Order, Position
from vecdb._facet import facet
from vecdb._frames import Table, arrow_table, pandas_frame, table_of
from vecdb._handle import Held
from vecdb._indexing import as_key
from vecdb._query import FilterLike
from vecdb._scan import Scan
from vecdb._scroll import page_by_id, page_by_value
from vecdb.errors import NotFound
from vecdb.filters import parse
from vecdb.types import FacetHit, Page, Point, PointId

if TYPE_CHECKING:
    import pandas
    import pyarrow

_MAX_LIMIT = 2**31 - 1


class Reading(Held):
    """
    The part of `Collection` that reads.
    """

    def __len__(self) -> int:
        """
        Return the number of points, those without a vector included.
        """
        self._handle.check()
        return self._state.whole(lambda: self._state.store.live_count)

    def __contains__(self, id: object) -> bool:
        """
        Return whether a point has this id.
        """
        self._handle.check()
        if not convert.is_one_id(id):
            return False
        one = convert.as_id(id)
        return self._state.whole(lambda: self._state.store.offsets_of([one])[0] is not None)

    def __iter__(self) -> Iterator[PointId]:
        """
        Iterate over the ids of one state, ascending: ints, then strs by their UTF-8.
        """
        self._handle.check()
        return self._checked(self._state.whole(self._state.store.iterate_ids))

    def _checked(self, ids: Iterator[PointId]) -> Iterator[PointId]:
        """
        Yield ids while the handle is open; this generator keeps the collection alive, and with it its database.
        """
        self._handle.check()
        for one in ids:
            yield one
            self._handle.check()

    def get(self, id: object) -> Point | None:
        """
        Return the point with this id, or None.

        >>> import vecdb
        >>> vecdb.Collection(dim=2).get("nobody") is None
        True
        """
        self._handle.check()
        return self._queries.points([convert.as_id(id)], with_vectors=True)[0]

    def get_many(self, ids: object, *, with_vectors: bool = True) -> list[Point | None]:
        """
        Return the points with these ids, in their order; None where there is none.

        >>> import vecdb
        >>> points = vecdb.Collection(dim=2)
        >>> points.upsert(1, [0.0, 1.0])
        >>> [point and point.id for point in points.get_many([2, 1])]
        [None, 1]
        """
        self._handle.check()
        return self._queries.points(convert.as_ids(ids), with_vectors=flag(with_vectors, "with_vectors"))

    def __getitem__(self, id: object) -> Point:
        """
        Return the point with this id; raise NotFound when it does not exist.
        """
        found = self.get(id)
        if found is None:
            raise NotFound(f"no point with id {id!r} in collection {self._state.name!r}: get(id) gives None instead of an error")
        return found

    def count(self, filter: FilterLike = None) -> int:
        """
        Return how many points match a filter, exactly; without one, all points.

        >>> import vecdb
        >>> from vecdb import F
        >>> points = vecdb.Collection(dim=2)
        >>> points.upsert([1, 2, 3], None, [{"n": 1}, {"n": 2}, {"n": 3}])
        >>> points.count(F("n") >= 2)
        2
        """
        self._handle.check()
        return self._queries.count(filter)

    # ---- many points ----

    def scroll(
        self,
        *,
        filter: FilterLike = None,
        limit: int = 100,
        after: str | None = None,
        order_by: str | None = None,
        with_vectors: bool = True,
    ) -> Page:
        """
        Return a page of the points that match: at most `limit` of them, and in `next` what continues as `after`, None at the end.

        Points come by ascending id (ints, then strs), or by the number or time at `order_by` ("price", or "-price" for the largest first),
        ties by id; points without such a value are left out, of several values the first in that direction counts, and numbers come before
        times. `next` is a str fit for a URL. Writes between two pages neither repeat nor skip a point they leave alone. Raises
        InvalidArgument, InvalidFilter.

        >>> import vecdb
        >>> points = vecdb.Collection(dim=2)
        >>> points.upsert([1, 2, 3], None, [{"price": 5}, {"price": 3}, {}])
        >>> page = points.scroll(limit=1, order_by="price")
        >>> [point.id for point in page.points], [point.id for point in points.scroll(order_by="price", after=page.next).points]
        ([2], [1])
        """
        self._handle.check()
        node = parse(filter)
        most = whole(limit, "limit", 1, _MAX_LIMIT)
        order = None if order_by is None else Order.parse(order_by)
        position = None if after is None else Position.decode(after, None if order is None else order.text)
        read = partial(self._queries.points_at, with_vectors=flag(with_vectors, "with_vectors"))
        # One more than asked for tells whether there is a next page.
        if order is None:
            points = page_by_id(self._state, self._queries, node, None if position is None else position.id, most + 1, read)
            last = Position(points[most - 1].id) if len(points) > most else None
        else:
            found = page_by_value(self._state, self._queries, node, order, position, most + 1, read)
            points = [point for point, _ in found]
            last = Position(points[most - 1].id, order.text, found[most - 1][1]) if len(points) > most else None
        return Page(points[:most], None if last is None else last.encode())

    def scan(self, *, filter: FilterLike = None, batch_size: int = 1000, with_vectors: bool = True) -> Iterator[Point]:
        """
        Iterate over all points that match, ascending by id, of the one state at this call, whatever is written meanwhile.

        Points are read `batch_size` at a time. While a scan is open, the file on disk keeps what it still needs.

        >>> import vecdb
        >>> points = vecdb.Collection(dim=2)
        >>> points.upsert([2, 1], [[0.0, 1.0], [1.0, 0.0]])
        >>> [(point.id, point.vector.tolist()) for point in points.scan()]
        [(1, [1.0, 0.0]), (2, [0.0, 1.0])]
        """
        self._handle.check()
        size, vectors = whole(batch_size, "batch_size", 1, _MAX_LIMIT), flag(with_vectors, "with_vectors")
        return self._scanned(Scan.begin(self._state, self._queries, filter), size, with_vectors=vectors)

    def _scanned(self, scan: Scan, size: int, *, with_vectors: bool) -> Iterator[Point]:
        for batch in scan.batches(size, with_vectors=with_vectors):
            yield from batch
            self._handle.check()

    def to_pandas(self, *, filter: FilterLike = None, with_vectors: bool = True) -> pandas.DataFrame:
        """
        Return the points that match, of one state, as a pandas DataFrame: id, vector (float32 arrays), one column a payload key.

        Where a key is missing or null the column has a missing value. Ints stay ints ("Int64" where some are missing); numbers are floats
        where a column has floats. `upload` takes it back. Needs pandas; raises InvalidArgument for a payload key "id" or "vector".

        >>> import vecdb
        >>> points = vecdb.Collection(dim=2)
        >>> points.upsert([1, 2], [[0.0, 1.0], None], [{"n": 1}, {}])
        >>> print(points.to_pandas(with_vectors=False))
           id     n
        0   1     1
        1   2  <NA>
        """
        frame: pandas.DataFrame = pandas_frame(self._table(filter, with_vectors=with_vectors))
        return frame

    def to_arrow(self, *, filter: FilterLike = None, with_vectors: bool = True) -> pyarrow.Table:
        """
        Return the points that match, of one state, as an Arrow table: id, vector (a list of dim float32), one column a payload key.

        `upload` takes it back. Needs pyarrow; raises InvalidArgument for a payload key "id" or "vector", and for a column that has no one
        type: ids that are int and str, or such values of a key.

        >>> import vecdb
        >>> points = vecdb.Collection(dim=2)
        >>> points.upsert([1, 2], [[0.0, 1.0], None], [{"n": 1}, {}])
        >>> table = points.to_arrow()
        >>> table.column_names, table["n"].to_pylist(), str(table["vector"].type)
        (['id', 'vector', 'n'], [1, None], 'fixed_size_list<item: float>[2]')
        """
        table: pyarrow.Table = arrow_table(self._table(filter, with_vectors=with_vectors), self._fields)
        return table

    def _table(self, filter: FilterLike, *, with_vectors: bool) -> Table:
        return table_of(self.scan(filter=filter, with_vectors=with_vectors), with_vectors=with_vectors)

    def facet(self, key: str, *, filter: FilterLike = None, limit: int | None = 10) -> list[FacetHit]:
        """
        Return the values at a payload key with the exact number of points that match and have them, most first; limit None gives all.

        Values are str, int, float and bool, each with its type; an array counts each of its values once. Ties come by value.

        >>> import vecdb
        >>> points = vecdb.Collection(dim=2)
        >>> points.upsert([1, 2, 3], None, [{"tags": ["red", "new"]}, {"tags": "red"}, {}])
        >>> points.facet("tags")
        [FacetHit(value='red', count=2), FacetHit(value='new', count=1)]
        """
        self._handle.check()
        most = None if limit is None else whole(limit, "limit", 1, _MAX_LIMIT)
        return facet(self._state, self._queries, as_key(key), parse(filter), most)
