"""
Resolution: what a call asks for becomes what it does, as `Effects` with offsets and whole payloads, which are logged and applied.

A call is resolved against the applied state overlaid with all calls that are queued and not yet applied, so that two threads that merge
keys into one point both count, and of two racing `add`s one fails. All of this runs under the collection's write lock; only
`Overlay.applied` is called without it; the overlay's own lock orders it with `queued`, and readers look up single keys.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vecdb.errors import AlreadyExists, NotFound
from vecdb.storage.codec import decode_payload, encode_payload
from vecdb.storage.effects import Effects, FieldRows
from vecdb.storage.store import Store
from vecdb.types import Payload, PointId

ReadRows = Callable[[int, NDArray[np.uint32]], tuple[NDArray[np.float32], NDArray[np.uint8]]]
"""
(field, offsets) -> (rows, which of the offsets have one).
"""

NO_OFFSETS: NDArray[np.uint32] = np.empty(0, dtype=np.uint32)


@dataclass(slots=True)
class Current:
    """
    One point as the next call will find it: its offset (None: no such point) and, where a queued call wrote it, its payload.
    """

    offset: int | None
    payload: bytes | None
    lsn: int


class Known(Protocol):
    """
    The points as a call that is resolved now will find them.
    """

    def offsets_of(self, ids: Sequence[PointId]) -> list[int | None]:
        """
        Return each id's offset; None where there will be no such point.
        """

    def payloads_of(self, ids: Sequence[PointId], offsets: Sequence[int]) -> list[bytes]:
        """
        Return the payloads of points that exist, at the offsets that `offsets_of` gave.
        """

    def rows_of(
        self, ids: Sequence[PointId], offsets: Sequence[int], field: int, read: ReadRows
    ) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """
        Return the vectors of points of the settled state, at the offsets that `offsets_of` gave; `read` gives those that are applied.
        """

    def existing(self, ids: Sequence[PointId]) -> Sequence[PointId]:
        """
        Return those ids, of points of the settled state, that exist.
        """


class Overlay:
    """
    What the queued, not yet applied calls will have made of the points they touch.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._points: dict[PointId, Current] = {}
        self._changing = Lock()

    def offsets_of(self, ids: Sequence[PointId]) -> list[int | None]:
        """
        Return each id's offset once all queued calls are applied; None where there will be no such point.
        """
        # The overlay is read first: an entry leaves it only after the store has taken it in.
        if not self._points:
            return self._store.offsets_of(ids)
        queued = [self._points.get(one) for one in ids]
        rest = iter(self._store.offsets_of([one for one, entry in zip(ids, queued, strict=True) if entry is None]))
        return [next(rest) if entry is None else entry.offset for entry in queued]

    def payloads_of(self, ids: Sequence[PointId], offsets: Sequence[int]) -> list[bytes]:
        """
        Return the payloads of points that exist, at the offsets that `offsets_of` gave.
        """
        queued = [self._points.get(one) for one in ids]
        unknown = [row for row, entry in enumerate(queued) if entry is None or entry.payload is None]
        found = [entry.payload if entry is not None else None for entry in queued]
        for row, payload in zip(unknown, self._store.payloads_of([offsets[row] for row in unknown]), strict=True):
            # An entry may have been applied, and the point replaced, only by a queued call: which would be in the overlay.
            assert payload is not None
            found[row] = payload
        return [payload for payload in found if payload is not None]

    def rows_of(
        self, ids: Sequence[PointId], offsets: Sequence[int], field: int, read: ReadRows
    ) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """
        Return the vectors of points: in a settled state all of them are applied.
        """
        return read(field, np.asarray(offsets, dtype=np.uint32))

    def existing(self, ids: Sequence[PointId]) -> Sequence[PointId]:
        """
        Return the ids: in a settled state nothing is queued.
        """
        return ids

    def queued(self, lsn: int, resolved: Resolved) -> None:
        """
        Take in a call that has been queued.
        """
        effects = resolved.effects
        with self._changing:
            for position, one in enumerate(effects.put_ids):
                self._points[one] = Current(effects.first_offset + position, effects.put_payloads[position], lsn)
            for one, offset, payload in zip(resolved.patch_ids, effects.patch_offsets.tolist(), effects.patch_payloads, strict=True):
                self._points[one] = Current(offset, payload, lsn)
            for one in effects.deleted_ids:
                self._points[one] = Current(None, None, lsn)

    def applied(self, lsn: int, ids: Sequence[PointId]) -> None:
        """
        Drop what calls up to lsn left here for these ids: the store has it now.
        """
        # Looking and dropping are one step: in between, a later call could have put its own entry there.
        with self._changing:
            for one in ids:
                entry = self._points.get(one)
                if entry is not None and entry.lsn <= lsn:
                    del self._points[one]


@dataclass(slots=True)
class Resolved:
    """
    The effects of a call, and the ids of its payload changes (which the log knows by offset only).
    """

    effects: Effects
    patch_ids: list[PointId]

    @property
    def ids(self) -> list[PointId]:
        """
        All ids the call touches.
        """
        return [*self.effects.put_ids, *self.effects.deleted_ids, *self.patch_ids]

    @property
    def empty(self) -> bool:
        """
        Return whether the call changes nothing.
        """
        effects = self.effects
        return not (effects.put_ids or effects.deleted_ids or len(effects.patch_offsets))


def no_effects(next_offset: int) -> Effects:
    """
    Return effects that do nothing yet.
    """
    return Effects(next_offset, [], [], {}, NO_OFFSETS, [], NO_OFFSETS, [])


def _ascending(offsets: Sequence[int | None]) -> NDArray[np.uint32]:
    known = sorted([offset for offset in offsets if offset is not None])
    return np.asarray(known, dtype=np.uint32) if known else NO_OFFSETS


def last_of_each(ids: Sequence[PointId]) -> list[int] | None:
    """
    Return the rows to keep when an id occurs more than once (the last one wins), or None when all rows stay.
    """
    if len(set(ids)) == len(ids):
        return None
    last: dict[PointId, int] = {one: row for row, one in enumerate(ids)}
    return sorted(last.values())


def pick_rows(rows: FieldRows, keep: Sequence[int], count: int) -> FieldRows:
    """
    Return the vectors of the kept points only, numbered anew.
    """
    kept = np.asarray(keep, dtype=np.int64)
    if rows.positions is None:
        return FieldRows(None, np.ascontiguousarray(rows.rows[kept]))
    where = np.full(count, -1, dtype=np.int64)
    where[rows.positions] = np.arange(len(rows.positions))
    chosen = where[kept]
    return FieldRows(np.flatnonzero(chosen >= 0).astype(np.uint32), np.ascontiguousarray(rows.rows[chosen[chosen >= 0]]))


def resolve_upsert(
    overlay: Known,
    next_offset: int,
    ids: Sequence[PointId],
    vectors: dict[int, FieldRows],
    payloads: Sequence[bytes],
    *,
    must_be_new: bool,
) -> Resolved:
    """
    Replace or create whole points; with must_be_new, AlreadyExists names the first that exists.
    """
    keep = last_of_each(ids)
    if keep is not None:
        if must_be_new:
            twice = next(one for row, one in enumerate(ids) if row not in set(keep))
            raise AlreadyExists(f"id {twice!r} stands twice in one call of add: pass each id once, or use upsert (the last one wins)")
        vectors = {field: pick_rows(rows, keep, len(ids)) for field, rows in vectors.items()}
        ids, payloads = [ids[row] for row in keep], [payloads[row] for row in keep]
    offsets = overlay.offsets_of(ids)
    if must_be_new:
        for one, offset in zip(ids, offsets, strict=True):
            if offset is not None:
                raise AlreadyExists(f"a point with id {one!r} exists: use upsert to replace it, or update to change parts of it")
    return Resolved(Effects(next_offset, list(ids), list(payloads), vectors, _ascending(offsets), [], NO_OFFSETS, []), [])


def resolve_delete(overlay: Known, next_offset: int, ids: Sequence[PointId]) -> Resolved:
    """
    Delete the points among ids that exist.
    """
    unique = list(dict.fromkeys(ids))
    offsets = overlay.offsets_of(unique)
    effects = no_effects(next_offset)
    effects.deleted_ids = [one for one, offset in zip(unique, offsets, strict=True) if offset is not None]
    effects.tombstones = _ascending(offsets)
    return Resolved(effects, [])


def resolve_payloads(overlay: Known, next_offset: int, ids: Sequence[PointId], change: Callable[[int, Payload], Payload]) -> Resolved:
    """
    Change the payloads of existing points: change(row, old) gives the new one; an id that stands twice is changed twice.
    """
    order, offsets = _existing(overlay, ids)
    current = {one: decode_payload(raw) for one, raw in zip(order, overlay.payloads_of(order, offsets), strict=True)}
    for row, one in enumerate(ids):
        current[one] = change(row, current[one])
    effects = no_effects(next_offset)
    ascending = sorted(zip(offsets, order, strict=True), key=lambda pair: pair[0])
    effects.patch_offsets = np.asarray([offset for offset, _ in ascending], dtype=np.uint32)
    effects.patch_payloads = [encode_payload(current[one]) for _, one in ascending]
    return Resolved(effects, [one for _, one in ascending])


def resolve_update(
    overlay: Known,
    next_offset: int,
    ids: Sequence[PointId],
    vectors: Mapping[int, FieldRows],
    payloads: Sequence[Payload] | None,
    *,
    fields: Sequence[int],
    read: ReadRows,
) -> Resolved:
    """
    Update existing points row by row: a vector that is given replaces the old one, payload keys are merged.

    A point of which some vector changes gets a new offset, and takes its other vectors along; the others keep theirs.
    """
    changed = resolve_payloads(overlay, next_offset, ids, lambda row, old: {**old, **payloads[row]} if payloads is not None else old)
    newest: dict[int, dict[PointId, int]] = {}
    for field, given in vectors.items():
        rows = range(len(ids)) if given.positions is None else given.positions.tolist()
        newest[field] = {ids[row]: position for position, row in enumerate(rows)}
    moving = frozenset().union(*newest.values())
    if not moving:
        return changed
    effects = changed.effects
    moved = [one in moving for one in changed.patch_ids]
    offsets, encoded = effects.patch_offsets.tolist(), effects.patch_payloads
    effects.put_ids = [one for one, moves in zip(changed.patch_ids, moved, strict=True) if moves]
    effects.put_payloads = [payload for payload, moves in zip(encoded, moved, strict=True) if moves]
    dying = [offset for offset, moves in zip(offsets, moved, strict=True) if moves]
    for field in fields:
        rows_of_field = _carried(overlay, effects.put_ids, dying, field, vectors.get(field), newest.get(field, {}), read)
        if rows_of_field is not None:
            effects.put_vectors[field] = rows_of_field
    effects.tombstones = np.asarray(dying, dtype=np.uint32)
    effects.patch_offsets = np.asarray([offset for offset, moves in zip(offsets, moved, strict=True) if not moves], dtype=np.uint32)
    effects.patch_payloads = [payload for payload, moves in zip(encoded, moved, strict=True) if not moves]
    return Resolved(effects, [one for one, moves in zip(changed.patch_ids, moved, strict=True) if not moves])


def _carried(
    overlay: Known,
    ids: Sequence[PointId],
    offsets: Sequence[int],
    field: int,
    given: FieldRows | None,
    newest: Mapping[PointId, int],
    read: ReadRows,
) -> FieldRows | None:
    """
    Return a field's vectors of points that move: the new one where one is given, else the one they have.
    """
    stays = [place for place, one in enumerate(ids) if one not in newest]
    if not stays and given is not None:
        return FieldRows(None, np.ascontiguousarray(given.rows[[newest[one] for one in ids]]))
    old, present = overlay.rows_of([ids[place] for place in stays], [offsets[place] for place in stays], field, read)
    rows = np.zeros((len(ids), old.shape[1]), dtype=np.float32)
    has_one = np.ones(len(ids), dtype=bool)
    rows[stays], has_one[stays] = old, present.astype(bool)
    for place, one in enumerate(ids):
        if given is not None and one in newest:
            rows[place] = given.rows[newest[one]]
    positions = np.flatnonzero(has_one)
    if not len(positions):
        return None
    return FieldRows(None if len(positions) == len(ids) else positions.astype(np.uint32), np.ascontiguousarray(rows[positions]))


def _existing(overlay: Known, ids: Sequence[PointId]) -> tuple[list[PointId], list[int]]:
    """
    Return the distinct ids and their offsets; NotFound names the first that does not exist.
    """
    order = list(dict.fromkeys(ids))
    offsets: list[int] = []
    for one, offset in zip(order, overlay.offsets_of(order), strict=True):
        if offset is None:
            raise NotFound(f"no point with id {one!r}: use upsert to create it")
        offsets.append(offset)
    return order, offsets
