"""
The writes of a collection: arguments checked at the edge, resolved under the write lock, durable on return.

Every write here is one call of `CollectionState.write`. Any thread may write.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from vecdb import _convert as convert
from vecdb._arguments import items
from vecdb._handle import Held
from vecdb._query import FilterLike
from vecdb._resolve import Known, Resolved, resolve_delete, resolve_payloads, resolve_update, resolve_upsert
from vecdb.errors import InvalidArgument, NotFound
from vecdb.filters import parse
from vecdb.storage.codec import encode_flat, encode_payload
from vecdb.storage.effects import FieldRows
from vecdb.types import Payload, Point, PointId


class Writing(Held):
    """
    The part of `Collection` that writes.
    """

    def upsert(self, ids: object, vectors: object, payloads: object = None) -> None:
        """
        Write points, replacing those that exist: the whole batch, durable on return, or nothing.

        `ids`: one id or n of them; `vectors`: (n, dim) numbers, None for points without one (or 1-D for one id); `payloads`: n dicts or
        None. With named vectors a dict of such arrays, where a name left out is absent. Of an id that stands twice the last wins. Raises
        InvalidArgument naming the row at fault.

        >>> import vecdb
        >>> points = vecdb.Collection(dim=2)
        >>> points.upsert(1, [0.0, 1.0], {"colour": "red"})
        >>> points[1].payload
        {'colour': 'red'}
        """
        self._put(ids, vectors, payloads, must_be_new=False)

    def add(self, ids: object, vectors: object, payloads: object = None) -> None:
        """
        Write new points as `upsert` does, but raise AlreadyExists, with nothing written, when one exists or stands twice.

        >>> import vecdb
        >>> points = vecdb.Collection(dim=2)
        >>> points.add([1, 2], [[0, 1], [1, 0]])
        >>> points.add([2, 3], [[0, 1], [1, 0]])
        Traceback (most recent call last):
        vecdb.errors.AlreadyExists: a point with id 2 exists: use upsert to replace it, or update to change parts of it
        """
        self._put(ids, vectors, payloads, must_be_new=True)

    def _put(self, ids: object, vectors: object, payloads: object, *, must_be_new: bool) -> None:
        self._handle.check_writable()
        single = convert.is_one_id(ids)
        known = convert.as_ids(ids)
        rows = self._rows(vectors, len(known), single=single)
        given = convert.listed_payloads(payloads, len(known), single=single)
        encoded = [
            encode_flat(payload) or encode_payload(convert.as_payload(payload, f"payloads[{row}]")) for row, payload in enumerate(given)
        ]
        self._state.write(lambda overlay, offset: resolve_upsert(overlay, offset, known, rows, encoded, must_be_new=must_be_new))

    def _rows(self, vectors: object, count: int, *, single: bool) -> dict[int, FieldRows]:
        """
        Return checked rows; in a block they are the block's own, since the caller may change an array before it ends.
        """
        checked = self._fields.rows(vectors, count, single=single)
        if self._state.blocks.open is None:
            return checked
        return {field: FieldRows(given.positions, given.rows.copy()) for field, given in checked.items()}

    def upsert_points(self, points: Iterable[Point]) -> None:
        """
        Write Point objects as `upsert` does.

        Raises InvalidArgument for a point that was read with `with_vectors=False`: writing it back would drop its vector.

        >>> import vecdb
        >>> points = vecdb.Collection(dim=2)
        >>> points.upsert_points([vecdb.Point("a", [0.0, 1.0], {"n": 1})])
        >>> len(points)
        1
        """
        given = [points] if isinstance(points, Point) else items(points)
        if given is None:
            raise InvalidArgument(f"points are a {type(points).__name__}, expected an iterable of vecdb.Point")
        for row, point in enumerate(given):
            if not isinstance(point, Point):
                raise InvalidArgument(f"points[{row}] is a {type(point).__name__}, expected a vecdb.Point")
            if not point.has_vector_data:
                raise InvalidArgument(
                    f"points[{row}] (id {point.id!r}) was read with with_vectors=False: read it with its vector, or use set_payload"
                )
        self.upsert([point.id for point in given], [point.vector for point in given], [point.payload for point in given])

    def update(self, ids: object, vectors: object = None, payloads: object = None) -> None:
        """
        Change existing points row by row: a vector replaces the old one, payload keys are merged, None leaves as it is.

        Raises NotFound, with nothing written, when an id does not exist.

        >>> import vecdb
        >>> points = vecdb.Collection(dim=2)
        >>> points.upsert("a", [0.0, 1.0], {"n": 1, "colour": "red"})
        >>> points.update("a", payloads={"n": 2})
        >>> points["a"].payload
        {'n': 2, 'colour': 'red'}
        """
        self._handle.check_writable()
        single = convert.is_one_id(ids)
        known = convert.as_ids(ids)
        rows = self._rows(vectors, len(known), single=single)
        merged: list[Payload] | None = None
        if payloads is not None:
            given = convert.listed_payloads(payloads, len(known), single=single)
            merged = [convert.as_payload(payload, f"payloads[{row}]") for row, payload in enumerate(given)]

        def resolve(overlay: Known, offset: int) -> Resolved:
            if len(self._fields.specs) > 1:
                self._state.settle()  # the vectors that stay are read from the core
            core = self._state.core
            return resolve_update(
                overlay, offset, known, rows, merged, fields=[spec.number for spec in self._fields.specs], read=core.get_rows
            )

        self._state.write(resolve)

    def set_payload(self, payload: Mapping[str, Any], *, ids: object = None, filter: FilterLike = None, replace: bool = False) -> int:
        """
        Merge one payload into many points, or replace theirs by it; return how many points.

        Exactly one of `ids` and `filter`; all points are `filter={}`. Raises NotFound for an id that does not exist.

        >>> import vecdb
        >>> points = vecdb.Collection(dim=2)
        >>> points.upsert([1, 2], None, [{"n": 1}, {"n": 2}])
        >>> points.set_payload({"seen": True}, filter={})
        2
        """
        self._handle.check_writable()
        if payload is None:
            raise InvalidArgument("payload is None, expected a dict: {} with replace=True empties the payloads")
        given = convert.as_payload(payload)
        whole = convert.flag(replace, "replace")
        return self._change_payloads(ids, filter, lambda _, old: dict(given) if whole else {**old, **given})

    def delete_payload(self, keys: str | Sequence[str], *, ids: object = None, filter: FilterLike = None) -> int:
        """
        Remove top-level keys from the payloads of points; return how many points matched.

        >>> import vecdb
        >>> points = vecdb.Collection(dim=2)
        >>> points.upsert(1, None, {"n": 1, "m": 2})
        >>> points.delete_payload("m", ids=1), points[1].payload
        (1, {'n': 1})
        """
        self._handle.check_writable()
        given = [keys] if isinstance(keys, str) else items(keys)
        if given is None or not all(isinstance(key, str) for key in given):
            raise InvalidArgument(f"keys are {keys!r}, expected a str or several")
        gone = frozenset(given)
        return self._change_payloads(ids, filter, lambda _, old: {key: value for key, value in old.items() if key not in gone})

    def _change_payloads(self, ids: object, filter: FilterLike, change: Callable[[int, dict[str, Any]], dict[str, Any]]) -> int:
        chosen = self._chooser(ids, filter)
        resolved = self._state.write(lambda overlay, offset: resolve_payloads(overlay, offset, chosen(overlay), change))
        return len(resolved.patch_ids)

    def _chooser(self, ids: object, filter: FilterLike) -> Callable[[Known], Sequence[PointId]]:
        """
        Return what gives, under the write lock, the ids that a call with `ids` or `filter` means.
        """
        if (ids is None) == (filter is None):
            raise InvalidArgument(
                f"expected exactly one of ids and filter, got {'neither' if ids is None else 'both'}: filter={{}} means all points"
            )
        if ids is not None:
            known = convert.as_ids(ids)
            return lambda _: known
        node = parse(filter)

        def by_filter(overlay: Known) -> Sequence[PointId]:
            self._state.settle()
            return overlay.existing(self._queries.matching_ids(node))

        return by_filter

    def delete(self, ids: object = None, *, filter: FilterLike = None) -> int:
        """
        Delete points by ids or by filter; return how many existed.

        >>> import vecdb
        >>> points = vecdb.Collection(dim=2)
        >>> points.upsert([1, 2], None, [{"n": 1}, {"n": 2}])
        >>> points.delete([2, 3])
        1
        """
        self._handle.check_writable()
        chosen = self._chooser(ids, filter)
        resolved = self._state.write(lambda overlay, offset: resolve_delete(overlay, offset, chosen(overlay)))
        return len(resolved.effects.deleted_ids)

    @contextmanager
    def batch(self) -> Iterator[None]:
        """
        Make this thread's writes in a with block one: atomic, durable when the block ends, discarded when it raises.

        Each write sees the block's writes before it, so that its errors and results come at once; searches, reads and filters see the state
        before the block. A block is at most 2 GiB; the write that would pass that raises InvalidArgument. Blocks do not nest.

        >>> import vecdb
        >>> points = vecdb.Collection(dim=2)
        >>> with points.batch():
        ...     points.upsert("a", [0.0, 1.0], {"stock": 3})
        ...     points.update("a", payloads={"stock": 2})
        ...     len(points)
        0
        >>> points["a"].payload
        {'stock': 2}
        """
        self._handle.check_writable()
        with self._state.block(self._handle.check_writable):
            yield

    def __delitem__(self, id: object) -> None:
        """
        Delete one point; raise NotFound when it does not exist.
        """
        one = convert.as_id(id)
        if not self.delete(one):
            raise NotFound(f"no point with id {one!r} in collection {self._state.name!r}")
