"""
What is left of a damaged generation: the points whose id and payload verify, with those of their vectors that do.

Invariant: nothing is given out that its checksum does not confirm. What two places tell (an id by its offset and an offset by its id, life
by a bitmap and by a payload) is taken from the one that is left. Thread rule: one thread; the files do not change meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vecdb.errors import Corruption
from vecdb.storage import files
from vecdb.storage.base_state import STATE_KEY, BaseState
from vecdb.storage.blocks import (
    IDS_PER_BLOCK,
    OFFSETS_PER_BITMAP,
    SUMS_PER_VALUE,
    bits_of,
    decode_ids,
    id_of_key,
    ids_of_block,
    key_u32,
    key_u32_u32,
    u32,
    unseal,
)
from vecdb.storage.codec import decode_payload
from vecdb.storage.effects import FieldRows, PointId
from vecdb.storage.findings import Findings
from vecdb.storage.framing import FieldSpec, Manifest
from vecdb.storage.page_walk import PageWalk
from vecdb.storage.points import FILE_NAME
from vecdb.storage.recovery import rows_path
from vecdb.storage.vectors import read_blocks, rows_per_block

_BATCH = 1024
_NAMED = 10  # points that a problem names


class Batch(NamedTuple):
    """
    Some points that are left.
    """

    ids: list[PointId]
    payloads: list[bytes]
    vectors: dict[int, FieldRows]


class Survivors:
    """
    The points of one generation's files; `applied_lsn` is None when nothing tells what the log has beyond them.
    """

    def __init__(self, root: Path, manifest: Manifest, walk: PageWalk, findings: Findings) -> None:
        self._root = root
        self._manifest = manifest
        self._walk = walk
        self._findings = findings
        self._where = str(root / FILE_NAME)
        state = dict(self._values(b"meta")).get(STATE_KEY)
        self._state: BaseState | None = None
        if state is not None:
            with findings.collecting():
                self._state = BaseState.decode(state, self._where)
        blocks = {key_u32.unpack(key)[0]: content for key, content in self._values(b"id_blocks") if len(key) == key_u32.size}
        self._ids: dict[int, list[PointId]] = {}
        self._found: dict[int, dict[int, PointId]] = {}
        for number, content in blocks.items():
            with findings.collecting():
                where = f"{self._where}, block {number} of ids"
                self._ids[number] = ids_of_block(decode_ids(content, first_offset=number * IDS_PER_BLOCK, where=where))
        ends = [number * IDS_PER_BLOCK + len(ids) for number, ids in self._ids.items()]
        self.next_offset = self._state.next_offset if self._state is not None else max(ends, default=0)
        self.applied_lsn = self._state.applied_lsn if self._state is not None else None
        self._alive = self._bitmaps(b"live")
        if len(self._ids) * IDS_PER_BLOCK < self.next_offset:
            self._ids_from_table()

    def _values(self, table: bytes) -> Iterator[tuple[bytes, bytes]]:
        """
        Yield (key, content) of the values of a table that verify.
        """
        for key, value in self._walk.entries(table):
            try:
                yield key, unseal(key, value, f"{self._where}, table {table.decode()}")
            except Corruption as error:
                self._findings.problem(str(error))

    def _ids_from_table(self) -> None:
        """
        Fill the blocks of ids that are lost from the table of offsets by id.
        """
        for key, content in self._values(b"ids"):
            offset = u32.unpack(content)[0]
            number, place = divmod(offset, IDS_PER_BLOCK)
            if number not in self._ids:
                self._found.setdefault(number, {})[place] = id_of_key(key)

    def _bitmaps(self, table: bytes, field: int | None = None) -> dict[int, NDArray[np.uint8]]:
        known: dict[int, bytes] = {}
        for key, content in self._values(table):
            if field is None and len(key) == key_u32.size:
                known[key_u32.unpack(key)[0]] = content
            elif field is not None and len(key) == key_u32_u32.size and key_u32_u32.unpack(key)[0] == field:
                known[key_u32_u32.unpack(key)[1]] = content
        return {
            number: bits_of(content, 0, OFFSETS_PER_BITMAP) for number, content in known.items() if len(content) == OFFSETS_PER_BITMAP // 8
        }

    def id_of(self, offset: int) -> PointId | None:
        """
        Return the id of an offset, None when it is lost or there is no such offset.
        """
        number, place = divmod(offset, IDS_PER_BLOCK)
        if number in self._ids:
            return self._ids[number][place] if place < len(self._ids[number]) else None
        return self._found.get(number, {}).get(place)

    def batches(self) -> Iterator[Batch]:
        """
        Yield the points that are left, in the order of their offsets.
        """
        rows = [
            _Rows(self._root, spec, self._state, self._row_of(spec), self._sums(spec), self._findings) for spec in self._manifest.fields
        ]
        try:
            waiting: list[tuple[int, PointId, bytes]] = []
            seen: set[PointId] = set()
            kept = 0
            for offset, one, payload in self._points():
                if one in seen:
                    self._findings.problem(f"{self._where}: the id {one!r} stands at two offsets; the second, {offset}, is dropped")
                    continue
                seen.add(one)
                waiting.append((offset, one, payload))
                kept += 1
                if len(waiting) == _BATCH:
                    yield self._batch(waiting, rows)
                    waiting = []
            if waiting:
                yield self._batch(waiting, rows)
            self._tell_lost(seen, kept)
            for field in rows:
                field.tell_lost()
        finally:
            for field in rows:
                field.close()

    def _points(self) -> Iterator[tuple[int, PointId, bytes]]:
        for key, payload in self._values(b"payloads"):
            if len(key) != key_u32.size:
                continue
            offset = key_u32.unpack(key)[0]
            alive = self._alive.get(offset // OFFSETS_PER_BITMAP)
            one = self.id_of(offset)
            if alive is not None and not alive[offset % OFFSETS_PER_BITMAP]:
                self._findings.problem(f"{self._where}: offset {offset} has a payload and is dead; it is left out")
            elif one is None:
                self._findings.problem(f"{self._where}: the point at offset {offset} has lost its id and is dropped")
            else:
                try:
                    decode_payload(payload)
                except Corruption as error:
                    self._findings.problem(f"{self._where}: point {one!r}: {error}")
                else:
                    yield offset, one, payload

    def _tell_lost(self, seen: set[PointId], kept: int) -> None:
        """
        Name points that lived and are not among the survivors.
        """
        lost: list[PointId] = []
        for number, alive in self._alive.items():
            for offset in (np.flatnonzero(alive) + number * OFFSETS_PER_BITMAP).tolist():
                one = self.id_of(offset)
                if one is not None and one not in seen:
                    lost.append(one)
        if self._state is not None and kept < self._state.live:
            named = ", ".join(map(repr, lost[:_NAMED])) + (" and more" if len(lost) > _NAMED else "")
            self._findings.problem(f"{self._where}: {self._state.live - kept} points are lost{f', of ids {named}' if lost else ''}")

    def _batch(self, points: list[tuple[int, PointId, bytes]], rows: list[_Rows]) -> Batch:
        offsets = np.array([offset for offset, _, _ in points], np.int64)
        ids = [one for _, one, _ in points]
        return Batch(ids, [payload for _, _, payload in points], {field.number: field.of(offsets, ids) for field in rows})

    def _row_of(self, spec: FieldSpec) -> NDArray[np.int64]:
        """
        Return the row of each offset: -1 where it has none, -2 where that is lost.
        """
        bitmaps = self._bitmaps(b"present", spec.number)
        starts = range(0, self.next_offset, OFFSETS_PER_BITMAP)
        lost = [number for number in range(len(starts)) if number not in bitmaps]
        known = sum(int(bits.sum(dtype=np.int64)) for bits in bitmaps.values())
        total = self._state.rows[spec.number].rows if self._state is not None and spec.number < len(self._state.rows) else None
        if len(lost) == 1 and total is not None:
            width = min(OFFSETS_PER_BITMAP, self.next_offset - lost[0] * OFFSETS_PER_BITMAP)
            if total - known in (0, width):
                bitmaps[lost[0]] = np.full(OFFSETS_PER_BITMAP, int(total > known), np.uint8)
                lost = []
        row_of = np.full(self.next_offset, -2, np.int64)
        before = 0
        for number, start in enumerate(starts):
            if number in lost:
                # Rows behind it can be counted from the end, where the end is known and nothing else is missing.
                if len(lost) > 1 or total is None:
                    break
                before = total - sum(int(bitmaps[later].sum(dtype=np.int64)) for later in range(number + 1, len(starts)))
                continue
            bits = bitmaps[number][: self.next_offset - start]
            row_of[start : start + len(bits)] = np.where(bits != 0, before + np.cumsum(bits, dtype=np.int64) - 1, -1)
            before += int(bits.sum(dtype=np.int64))
        return row_of

    def _sums(self, spec: FieldSpec) -> dict[int, int]:
        """
        Return the checksums of blocks that are left.
        """
        sums: dict[int, int] = {}
        for key, content in self._values(b"row_sums"):
            if len(key) == key_u32_u32.size and key_u32_u32.unpack(key)[0] == spec.number and len(content) % 4 == 0:
                first = key_u32_u32.unpack(key)[1] * SUMS_PER_VALUE
                sums.update(enumerate(np.frombuffer(content, "<u4").tolist(), first))
        return sums


class _Rows:
    """
    The vectors of one field that are left.
    """

    def __init__(
        self, root: Path, spec: FieldSpec, state: BaseState | None, row_of: NDArray[np.int64], sums: dict[int, int], findings: Findings
    ) -> None:
        self.number = spec.number
        self._dim = spec.dim
        self._row_of = row_of
        self._findings = findings
        self._path = rows_path(root, spec.number)
        self._lost: list[PointId] = []
        self._lost_count = 0
        self._fd = -1
        per_block = rows_per_block(spec.dim)
        rows = state.rows[spec.number].rows if state is not None and spec.number < len(state.rows) else int(row_of.max(initial=-1)) + 1
        self._good = np.zeros(rows, bool)
        if state is not None and spec.number < len(state.rows):
            sums[rows // per_block] = state.rows[spec.number].partial_crc
        with findings.collecting():
            self._fd = files.open_file(self._path)
            blocks = [sums.get(block, -1) for block in range(rows // per_block + 1)]
            for first, data, bad in read_blocks(self._fd, spec.dim, rows, blocks):
                self._good[first : first + len(data) // (spec.dim * 4)] = True
                for row in bad:
                    self._good[row : row + per_block] = False

    def of(self, offsets: NDArray[np.int64], ids: list[PointId]) -> FieldRows:
        """
        Return the vectors of some points.
        """
        rows = self._row_of[offsets]
        good = (rows >= 0) & (rows < len(self._good))
        good[good] = self._good[rows[good]]
        for place in np.flatnonzero((rows != -1) & ~good).tolist():
            self._lost_count += 1
            if len(self._lost) <= _NAMED:
                self._lost.append(ids[place])
        positions = np.flatnonzero(good).astype(np.uint32)
        out = np.empty((len(positions), self._dim), np.float32)
        for place, row in enumerate(rows[good].tolist()):
            out[place] = np.frombuffer(files.read_at(self._fd, self._dim * 4, row * self._dim * 4), "<f4")
        return FieldRows(positions, out)

    def tell_lost(self) -> None:
        """
        Name points that have lost their vector.
        """
        if self._lost_count:
            named = ", ".join(map(repr, self._lost[:_NAMED])) + (" and more" if self._lost_count > _NAMED else "")
            self._findings.problem(f"{self._path}: {self._lost_count} points have lost their vector, of ids {named}")

    def close(self) -> None:
        """
        Release the file.
        """
        if self._fd >= 0:
            files.close(self._fd)
