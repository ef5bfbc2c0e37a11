"""
Writing the next generation of a collection: what lives in a snapshot of the present one, renumbered, without tombstones.

Invariant: every byte that is copied is checked against its checksum first, so that damage is found here and never given a new one. Nothing
refers to the new files before CURRENT does. Thread rule: one thread; writes to the old generation may go on meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vecdb.errors import Corruption
from vecdb.storage import files
from vecdb.storage.base_state import STATE_KEY, BaseState, RowState
from vecdb.storage.blocks import (
    IDS_PER_BLOCK,
    OFFSETS_PER_BITMAP,
    SUMS_PER_VALUE,
    bits_of,
    encode_ids,
    ids_of_block,
    key_u32,
    key_u32_u32,
    seal,
    u32,
)
from vecdb.storage.effects import PointId
from vecdb.storage.framing import FieldSpec, Manifest
from vecdb.storage.points import FILE_NAME, PointsFile
from vecdb.storage.points_read import Snapshot
from vecdb.storage.points_write import RowsFrozen
from vecdb.storage.recovery import rows_path
from vecdb.storage.renumbering import Renumbering
from vecdb.storage.store import Advance
from vecdb.storage.vectors import RowFile, read_blocks, rows_per_block

# A transaction of LMDB keeps what it changes in memory until its end.
_ENTRIES_PER_TRANSACTION = 1 << 16


class GenerationCopy:
    """
    Copies one snapshot. `kept[field]` says which rows of the old file live, for the graph.
    """

    def __init__(self, snapshot: Snapshot, manifest: Manifest, source: Path, target: Path, number: int) -> None:
        self.state = snapshot.state()
        self._snapshot = snapshot
        self._manifest = manifest
        self._source = source
        self._target = target
        self._number = number
        live = self._bits(snapshot.live_bitmap)
        self.renumbering = Renumbering(live)
        self._live = live
        self._present = [self._bits(partial(snapshot.present_bitmap, spec.number)) for spec in manifest.fields]
        self.kept = [live[present] for present in self._present]
        if self.renumbering.count != self.state.live:
            raise Corruption(
                f"{snapshot.path}: its bitmap shows {self.renumbering.count} live points, its state says {self.state.live}; "
                "restore a backup of the database"
            )

    def write(self, advance: Advance) -> None:
        """
        Write all files of the generation but the derived ones, synced; `advance` is told how many points are done.
        """
        for path in (self._target, self._target / "vectors", self._target / "derived"):
            files.make_directory(path)
        rows = [self._copy_rows(spec) for spec in self._manifest.fields]
        points = self._create_points()
        try:
            self._copy_points(points, rows, advance)
        finally:
            points.close()
        for path in (self._target / "vectors", self._target / "derived", self._target, self._target.parent):
            files.sync_directory(path)

    def _bits(self, bitmap: Callable[[int], bytes]) -> NDArray[np.bool_]:
        count = self.state.next_offset
        parts = [bits_of(bitmap(first // OFFSETS_PER_BITMAP), 0, OFFSETS_PER_BITMAP) for first in range(0, count, OFFSETS_PER_BITMAP)]
        return np.concatenate(parts)[:count].astype(bool) if parts else np.empty(0, bool)

    # ---- rows ----

    def _copy_rows(self, spec: FieldSpec) -> RowsFrozen:
        path = rows_path(self._target, spec.number)
        RowFile.create(path)
        with ExitStack() as stack:
            target = RowFile.open(path, dim=spec.dim, state=RowState(0, 0))
            stack.callback(target.close)
            fd = files.open_file(rows_path(self._source, spec.number))
            stack.callback(files.close, fd)
            kept = self._checked_kept(spec)
            for first, data, bad in read_blocks(fd, spec.dim, len(kept), self._sums(spec)):
                if bad:
                    raise Corruption(f"{files.path_of(fd)}: the vectors from row {bad[0]} on are not what was written; restore a backup")
                rows = np.frombuffer(data, "<f4").reshape(-1, spec.dim)
                chosen = rows[kept[first : first + len(rows)]]
                target.reserve(target.rows + len(chosen))
                target.append(chosen)
            frozen = target.freeze()
            target.sync()
        return frozen

    def _checked_kept(self, spec: FieldSpec) -> NDArray[np.bool_]:
        kept, rows = self.kept[spec.number], self.state.rows[spec.number].rows
        if len(kept) != rows:
            raise Corruption(
                f"{self._snapshot.path}: its bitmaps show {len(kept)} vectors of field {spec.number}, its state says {rows}; "
                "restore a backup of the database"
            )
        return kept

    def _sums(self, spec: FieldSpec) -> list[int]:
        state = self.state.rows[spec.number]
        return [*self._snapshot.row_sums(spec.number, state.rows // rows_per_block(spec.dim)).tolist(), state.partial_crc]

    # ---- points.lmdb ----

    def _new_state(self, rows: tuple[RowState, ...]) -> BaseState:
        old = self.state
        live = self.renumbering.count
        return BaseState(old.uuid, self._number, old.applied_lsn, live, live, old.applied_lsn, rows)

    def _create_points(self) -> PointsFile:
        path = self._target / FILE_NAME
        PointsFile.create(path, self._new_state(tuple(RowState(0, 0) for _ in self._manifest.fields)))
        return PointsFile.open(path)

    def _copy_points(self, points: PointsFile, rows: list[RowsFrozen], advance: Advance) -> None:
        self._put(points, b"ids", self._ids(), lambda count: None)
        self._put(points, b"payloads", self._payloads(), advance)
        self._put(points, b"id_blocks", self._id_blocks(), lambda count: None)
        with points.write() as (txn, tables):
            for key, bits in self._bitmaps((), np.ones(self.renumbering.count, bool)):
                txn.put(key, bits, db=tables[b"live"])
            for field, present in enumerate(self._present):
                for key, bits in self._bitmaps((field,), present[self._live]):
                    txn.put(key, bits, db=tables[b"present"])
                sums = rows[field].new_sums.astype("<u4")
                for start in range(0, len(sums), SUMS_PER_VALUE):
                    key = key_u32_u32.pack(field, start // SUMS_PER_VALUE)
                    txn.put(key, seal(key, sums[start : start + SUMS_PER_VALUE].tobytes()), db=tables[b"row_sums"])
            state = self._new_state(tuple(frozen.state for frozen in rows))
            txn.put(STATE_KEY, seal(STATE_KEY, state.encode()), db=tables[b"meta"])

    def _put(self, points: PointsFile, table: bytes, entries: Iterable[tuple[bytes, bytes]], advance: Advance) -> None:
        """
        Append ascending entries, a transaction for every so many of them.
        """
        entries = iter(entries)
        while part := list(islice(entries, _ENTRIES_PER_TRANSACTION)):
            with points.write() as (txn, tables), txn.cursor(db=tables[table]) as cursor:
                cursor.putmulti(part, append=True)
            advance(len(part))

    def _ids(self) -> Iterator[tuple[bytes, bytes]]:
        seen = np.zeros(self.renumbering.count, bool)
        ranks = np.cumsum(self._live, dtype=np.int64) - 1
        for key, _, offset in self._snapshot.ids_from(b"\0"):
            if offset >= len(self._live) or not self._live[offset]:
                raise Corruption(f"{self._snapshot.path}: the id {key.hex()} leads to the dead offset {offset}; restore a backup")
            new = int(ranks[offset])
            seen[new] = True
            yield key, seal(key, u32.pack(new))
        if not seen.all():
            raise Corruption(f"{self._snapshot.path}: {int((~seen).sum())} live offsets have no id; restore a backup of the database")

    def _payloads(self) -> Iterator[tuple[bytes, bytes]]:
        new = 0
        for first in range(0, len(self._live), IDS_PER_BLOCK):
            last = min(first + IDS_PER_BLOCK, len(self._live))
            found = self._snapshot.payloads_between(first, last)
            if np.flatnonzero(self._live[first:last]).tolist() != [offset - first for offset in found]:
                raise Corruption(
                    f"{self._snapshot.path}: the payloads of offsets {first} to {last - 1} are not those of the live ones; restore a backup"
                )
            for payload in found.values():
                key = key_u32.pack(new)
                yield key, seal(key, payload)
                new += 1

    def _id_blocks(self) -> Iterator[tuple[bytes, bytes]]:
        waiting: list[PointId] = []
        number = 0
        for first in range(0, len(self._live), IDS_PER_BLOCK):
            ids = ids_of_block(self._snapshot.id_block(first // IDS_PER_BLOCK))
            waiting += [ids[place] for place in np.flatnonzero(self._live[first : first + len(ids)]).tolist()]
            last = first + IDS_PER_BLOCK >= len(self._live)
            while len(waiting) >= IDS_PER_BLOCK or (last and waiting):
                key = key_u32.pack(number)
                yield key, seal(key, encode_ids(waiting[:IDS_PER_BLOCK]))
                del waiting[:IDS_PER_BLOCK]
                number += 1

    def _bitmaps(self, prefix: tuple[int, ...], bits: NDArray[np.bool_]) -> Iterator[tuple[bytes, bytes]]:
        for number, first in enumerate(range(0, len(bits), OFFSETS_PER_BITMAP)):
            padded = np.zeros(OFFSETS_PER_BITMAP, bool)
            part = bits[first : first + OFFSETS_PER_BITMAP]
            padded[: len(part)] = part
            key = (key_u32_u32 if prefix else key_u32).pack(*prefix, number)
            yield key, seal(key, np.packbits(padded, bitorder="little").tobytes())
