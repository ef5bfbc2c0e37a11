"""
One generation of a collection in memory: its points, the core and the payload indexes, and how a call changes all three.

Invariant: between two calls of `apply` the three describe the same points. A reader takes the contents of a collection once and uses them
to its end: when a compaction puts others in their place, these stay as they were. No part refers to the whole, so that memory and files go
with the last reader. Thread rule: any thread reads; `apply` under the collection's apply lock.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vecdb._index_entries import IndexChanges
from vecdb._payload_index import PayloadIndexes
from vecdb._payload_parts import PayloadParts
from vecdb.filters import IndexKey, Node, Program
from vecdb.index import CoreIndex
from vecdb.storage.blocks import IdBlock, id_block
from vecdb.storage.codec import decode_parts, decode_payload
from vecdb.storage.effects import Effects
from vecdb.storage.framing import FieldSpec
from vecdb.storage.index_file import IndexName, Sections
from vecdb.storage.saved_indexes import Then
from vecdb.storage.store import Generation, SavingGeneration
from vecdb.types import Payload

_FEW = 8  # numbers that Python looks through sooner than numpy is called


class CoreLoader:
    """
    Feeds the core while a store is opened or compacted, and gives the store the graphs and the payload indexes to save.
    """

    def __init__(self, core: CoreIndex, fields: int) -> None:
        self.core = core
        self.fields = fields
        self.wide_ids = False
        self.map_rows = core.map_rows
        self.append_rows = core.append_rows
        self.expect_checksums = core.expect_checksums
        self.load_graph = core.load_graph
        self.save_graph = core.save_graph
        self.indexes: PayloadIndexes | None = None  # those of the contents that were made of it

    def load_block(self, ids: IdBlock, present: NDArray[np.uint8], dead: NDArray[np.uint32]) -> None:
        """
        Take the next offsets.
        """
        self.wide_ids |= has_wide_ids(ids)
        self.core.apply(
            first_offset=ids.first_offset,
            ids=ids.slots,
            kinds=ids.kinds,
            id_bytes=ids.text,
            present=np.ascontiguousarray(present),
            tombstones=dead,
        )

    def indexed_rows(self, field: int) -> int:
        """
        Return how many rows the graph of the field covers.
        """
        return self.core.field_stats(field).indexed_rows

    def index_entries(self) -> Mapping[IndexName, int | None]:
        """
        Return how many entries each payload index has; None of one that is in the making.
        """
        return {} if self.indexes is None else self.indexes.index_entries()

    def copy_index(self, name: IndexName, then: Then) -> Sections | None:
        """
        Return what a complete payload index held at a checkpoint; see `storage.saved_indexes.IndexSource`.
        """
        return None if self.indexes is None else self.indexes.copy_index(name, then)


def has_wide_ids(ids: IdBlock) -> bool:
    """
    Return whether some id does not fit an int64.
    """
    return bool(ids.text) or (len(ids.slots) > 0 and max(ids.slots.tolist() if len(ids.slots) <= _FEW else [ids.slots.max()]) >= 2**63)


class StoredPayloads:
    """
    The payloads of a generation, decoded.
    """

    def __init__(self, points: Generation) -> None:
        self._points = points

    def iterate(self, first: int, last: int) -> Iterator[tuple[int, Payload]]:
        """
        Yield (offset, payload) of the live offsets in [first, last).
        """
        for offset, raw in self._points.iterate_payloads(first, last):
            yield offset, decode_payload(raw)

    def between(self, first: int, last: int, names: tuple[str, ...]) -> PayloadParts:
        """
        Return what the payloads of the live offsets in [first, last) have at some keys.
        """
        return _parts(self._points.iterate_payloads(first, last), names)

    def of(self, offsets: Sequence[int], names: tuple[str, ...]) -> PayloadParts:
        """
        Return what the payloads of those of the offsets that live have at some keys.
        """
        raws = self._points.payloads_of(offsets)
        return _parts(((offset, raw) for offset, raw in zip(offsets, raws, strict=True) if raw is not None), names)


def _parts(found: Iterable[tuple[int, bytes]], names: tuple[str, ...]) -> PayloadParts:
    rows = list(found)
    return PayloadParts([offset for offset, _ in rows], decode_parts([raw for _, raw in rows], names))


class Lowered(NamedTuple):
    """
    The program of a filter, the payload indexes that it uses, and the generation of the indexes that it is good for.
    """

    node: Node
    wanted: frozenset[IndexKey]
    generation: int
    program: Program


class Contents:
    """
    The points, core and payload indexes of one generation.
    """

    def __init__(self, fields: Sequence[FieldSpec], loader: CoreLoader, points: SavingGeneration, apply_lock: threading.Lock) -> None:
        self.core = loader.core
        self.points = points
        self.payloads = StoredPayloads(points)
        self.programs: OrderedDict[Node, Lowered] = OrderedDict()
        """
        Programs made of filters; least recently used first.
        """
        self.latest: Lowered | None = None
        """
        What was used last: callers repeat their filters, and to know one again costs less than to look it up.
        """
        self.wide_ids = loader.wide_ids  # some id, now or once, was a str or did not fit an int64
        self.indexes = PayloadIndexes(
            loader.core, self.payloads, apply_lock, lambda: points.next_offset, fields=[field.number for field in fields]
        )
        self.indexes.expect(points.saved_indexes)
        loader.indexes = self.indexes
        self._fields = tuple(fields)
        self._all_present: NDArray[np.uint8] = np.empty((0, 0), dtype=np.uint8)

    def apply(self, lsn: int, effects: Effects) -> None:
        """
        Take one call: rows and payloads first, then the core in one step.
        """
        index_changes = self._index_changes(effects)._asdict() if self.indexes else {}
        self.points.apply(lsn, effects)
        self._add_rows(effects)
        block = id_block(effects.first_offset, effects.put_ids)
        self.wide_ids = self.wide_ids or has_wide_ids(block)
        self.core.apply(
            first_offset=effects.first_offset,
            ids=block.slots,
            kinds=block.kinds,
            id_bytes=block.text,
            present=self._present(effects),
            tombstones=effects.tombstones if len(effects.tombstones) else None,
            **index_changes,
        )

    def _index_changes(self, effects: Effects) -> IndexChanges:
        puts = ((effects.first_offset + row, decode_payload(raw)) for row, raw in enumerate(effects.put_payloads))
        patches = (
            (offset, old, decode_payload(new))
            for (offset, old), new in zip(self._before(effects.patch_offsets), effects.patch_payloads, strict=True)
        )
        return self.indexes.changes(puts, patches, self._before(effects.tombstones))

    def _before(self, offsets: NDArray[np.uint32]) -> Iterator[tuple[int, Payload]]:
        listed = offsets.tolist()
        for offset, raw in zip(listed, self.points.payloads_of(listed), strict=True):
            yield offset, decode_payload(raw) if raw is not None else {}

    def _add_rows(self, effects: Effects) -> None:
        for field in self._fields:
            given = effects.put_vectors.get(field.number)
            if given is None or not len(given.rows):
                continue
            descriptor, rows = self.points.row_file(field.number)
            if descriptor < 0:
                self.core.append_rows(field.number, given.rows)
            else:
                self.core.map_rows(field.number, descriptor, rows)

    def _present(self, effects: Effects) -> NDArray[np.uint8]:
        shape = len(self._fields), len(effects.put_ids)
        given = [effects.put_vectors.get(field.number) for field in self._fields]
        if all(rows is not None and rows.positions is None for rows in given):
            if self._all_present.shape != shape:  # calls are often of one size
                self._all_present = np.ones(shape, dtype=np.uint8)
            return self._all_present
        present = np.zeros(shape, dtype=np.uint8)
        for number, rows in enumerate(given):
            if rows is not None:
                present[number, slice(None) if rows.positions is None else rows.positions] = 1
        return present
