"""
Verification of a collection's files: every byte of primary data is read, every cross reference followed, and what is wrong is listed.

Invariant: nothing is changed, and LMDB reads no page of points.lmdb before its structure was checked. Thread rule: one thread; points.lmdb
and the log do not change meanwhile, which the caller sees to.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vecdb.errors import Corruption
from vecdb.storage import files
from vecdb.storage.base_state import TABLES, BaseState
from vecdb.storage.blocks import IDS_PER_BLOCK, OFFSETS_PER_BITMAP, bits_of, ids_of_block
from vecdb.storage.clean_close import check_clean_close
from vecdb.storage.codec import decode_payload
from vecdb.storage.derived import DerivedFiles
from vecdb.storage.effects import Effects
from vecdb.storage.findings import Findings
from vecdb.storage.framing import FieldSpec, Manifest, read_catalog, read_current, read_declared, read_manifest
from vecdb.storage.index_file import decode
from vecdb.storage.log_reader import LogReader
from vecdb.storage.page_check import page_problems
from vecdb.storage.points import FILE_NAME, PointsFile
from vecdb.storage.points_read import Snapshot
from vecdb.storage.recovery import check_state, generation_directory, graph_name, log_directory, rows_path
from vecdb.storage.saved_indexes import PREFIX
from vecdb.storage.store import Advance
from vecdb.storage.vectors import read_blocks, rows_per_block


class FileVerification:
    """
    One verification of the files of one collection. `points` is the open points.lmdb of a live collection; without it, it is opened, and
    closed at the end.
    """

    def __init__(
        self, directory: Path, findings: Findings, *, points: PointsFile | None = None, advance: Advance = lambda count: None
    ) -> None:
        self._directory = directory
        self._findings = findings
        self._live_points = points
        self._advance = advance
        self._manifest: Manifest | None = None
        self._generation: int | None = None
        self._state: BaseState | None = None
        self._live: NDArray[np.bool_] | None = None
        self._close_lsn = 0

    def run(self) -> None:
        """
        Check everything but the log.
        """
        found = self._findings
        with found.collecting():
            self._manifest = read_manifest(self._directory / "MANIFEST", for_writing=False)
        with found.collecting():
            self._generation = read_current(self._directory / "CURRENT").generation
        declared = self._directory / "INDEXES"
        if files.exists(declared):
            try:
                read_declared(declared)
            except Corruption as error:
                found.note(str(error))
        if self._manifest is None or self._generation is None:
            return
        root = generation_directory(self._directory, self._generation)
        with found.collecting():
            self._points_file(root, self._manifest)
        self._derived(root, self._manifest)

    def pinned(self, generation: int, snapshot: Snapshot) -> None:
        """
        Check the base of a reader beside a writer: the values of its snapshot, what they refer to, and the rows.
        """
        with self._findings.collecting():
            self._manifest = read_manifest(self._directory / "MANIFEST", for_writing=False)
        if self._manifest is not None:
            self._generation = generation
            with self._findings.collecting():
                self._snapshot(snapshot, generation_directory(self._directory, generation), self._manifest)

    def log(self, end: int | None = None) -> None:
        """
        Check the log behind the checkpoint; `end` is the LSN that a live log ends with. REQUIRES: `run`.
        """
        manifest, state = self._manifest, self._state
        if manifest is None or state is None or self._live is None:
            return
        replay = _Replay(state, self._live, manifest)
        with self._findings.collecting():
            reader = LogReader(
                log_directory(self._directory),
                uuid=manifest.uuid,
                generation=state.generation,
                applied_lsn=state.applied_lsn,
                clean_lsn=self._close_lsn,
                replay=replay.take,
            )
            last = reader.read().last_lsn
            if end is not None and last != end:
                raise Corruption(f"{log_directory(self._directory)} reads up to LSN {last}, but {end} was written; restore a backup")
        self._findings.counts["calls in the log"] += replay.calls

    # ---- points.lmdb ----

    def _points_file(self, root: Path, manifest: Manifest) -> None:
        path = root / FILE_NAME
        if not files.exists(path):
            raise Corruption(f"{path} is missing; restore a backup of the database")
        problems = page_problems(path)
        for problem in problems:
            self._findings.problem(problem)
        if problems:
            self._findings.readable = False
            return
        if self._live_points is not None:
            with self._live_points.snapshot() as snapshot:
                self._snapshot(snapshot, root, manifest)
            return
        self._close_lsn = check_clean_close(path, whole=True).close_lsn
        points = PointsFile.open(path)
        try:
            with points.snapshot() as snapshot:
                self._snapshot(snapshot, root, manifest)
        finally:
            points.close()

    def _snapshot(self, snapshot: Snapshot, root: Path, manifest: Manifest) -> None:
        found = self._findings
        for table in TABLES:
            for damaged in snapshot.damaged_values(table):
                found.problem(damaged)
            found.counts["values"] += snapshot.entries(table)
        state = snapshot.state()
        assert self._generation is not None
        check_state(state, manifest, self._generation, snapshot.path)
        with found.collecting():
            self._live = _bits(snapshot.live_bitmap, state.next_offset, f"{snapshot.path}, table live")
            _expect(snapshot.path, "live points", int(self._live.sum()), state.live)
            self._check_points(snapshot, state, self._live)
        for spec in manifest.fields:
            with found.collecting():
                self._check_rows(snapshot, state, spec, root)
        with found.collecting():
            self._check_changed(snapshot, state)
        self._state = state
        found.counts["points"] += state.live

    def _check_points(self, snapshot: Snapshot, state: BaseState, live: NDArray[np.bool_]) -> None:
        """
        Ids of live offsets lead to them, and there are no others; each live offset has a payload that decodes, and no other has one.
        """
        found = self._findings
        for first in range(0, state.next_offset, IDS_PER_BLOCK):
            last = min(first + IDS_PER_BLOCK, state.next_offset)
            offsets = np.flatnonzero(live[first:last]) + first
            with found.collecting():
                ids = ids_of_block(snapshot.id_block(first // IDS_PER_BLOCK))
                _expect(snapshot.path, f"ids from offset {first} on", len(ids), last - first)
                alive = [ids[offset - first] for offset in offsets.tolist()]
                leads = snapshot.offsets_of(alive)
                for point_id, offset in zip(alive, offsets.tolist(), strict=True):
                    if leads.get(point_id) != offset:
                        found.problem(f"{snapshot.path}: offset {offset} has the id {point_id!r}, which leads to {leads.get(point_id)}")
            with found.collecting():
                payloads = snapshot.payloads_between(first, last)
                if payloads.keys() != set(offsets.tolist()):
                    wrong = sorted(payloads.keys() ^ set(offsets.tolist()))
                    found.problem(f"{snapshot.path}: {len(wrong)} offsets from {wrong[0]} on have a payload and no point, or no payload")
                for offset, payload in payloads.items():
                    with found.collecting():
                        _decode(payload, offset, snapshot.path)
            self._advance(len(offsets))
        _expect(snapshot.path, "ids", snapshot.entries(b"ids"), state.live)
        _expect(snapshot.path, "payloads", snapshot.entries(b"payloads"), state.live)
        _expect(snapshot.path, "blocks of ids", snapshot.entries(b"id_blocks"), -(-state.next_offset // IDS_PER_BLOCK))

    def _check_rows(self, snapshot: Snapshot, state: BaseState, spec: FieldSpec, root: Path) -> None:
        """
        As many vectors as bits say that there are, each block of them as it was written.
        """
        found, rows = self._findings, state.rows[spec.number]
        where = f"{snapshot.path}, table present, field {spec.number}"
        present = _bits(lambda number: snapshot.present_bitmap(spec.number, number), state.next_offset, where)
        _expect(snapshot.path, f"vectors of field {spec.number}", int(present.sum()), rows.rows)
        sums = [*snapshot.row_sums(spec.number, rows.rows // rows_per_block(spec.dim)).tolist(), rows.partial_crc]
        path = rows_path(root, spec.number)
        if not files.exists(path):
            raise Corruption(f"{path} is missing, expected {rows.rows} vectors; restore a backup of the database")
        fd = files.open_file(path)
        try:
            for _, data, bad in read_blocks(fd, spec.dim, rows.rows, sums):
                for row in bad:
                    last = min(row + rows_per_block(spec.dim), rows.rows) - 1
                    found.problem(f"{path}: the vectors from row {row} to {last} are not what was written")
                found.counts["bytes of vectors"] += len(data)
        finally:
            files.close(fd)
        found.counts["vectors"] += rows.rows

    @staticmethod
    def _check_changed(snapshot: Snapshot, state: BaseState) -> None:
        changed = snapshot.changed_since(state.changed_from)
        if state.changed_from > state.applied_lsn or (changed is not None and len(changed) and int(changed[-1]) >= state.next_offset):
            raise Corruption(f"{snapshot.path}: the list of changed offsets is not of this file; restore a backup of the database")

    def _derived(self, root: Path, manifest: Manifest) -> None:
        derived = DerivedFiles(root / "derived", uuid=manifest.uuid, generation=self._generation or 0)
        damages = [derived.damage(graph_name(spec.number)) for spec in manifest.fields]
        for damage in damages + [derived.damage(name, decode) for name in derived.names(PREFIX)]:
            if damage is not None:
                self._findings.note(damage)


class _Replay:
    """
    Follows the calls in the log over what the checkpoint says.
    """

    def __init__(self, state: BaseState, live: NDArray[np.bool_], manifest: Manifest) -> None:
        self.calls = 0
        self._next = state.next_offset
        self._live = bytearray(live.tobytes())
        self._dims = {spec.number: spec.dim for spec in manifest.fields}

    def take(self, lsn: int, body: memoryview) -> None:
        effects = Effects.decode(body, self._dims)
        if effects.first_offset != self._next:
            raise Corruption(f"the call at LSN {lsn} begins at offset {effects.first_offset}, expected {self._next}")
        touched = np.concatenate([effects.tombstones, effects.patch_offsets]).astype(np.int64)
        if len(touched) and (touched.max() >= len(self._live) or not np.frombuffer(self._live, np.uint8)[touched].all()):
            raise Corruption(f"the call at LSN {lsn} changes an offset that belongs to no point")
        for payload in (*effects.put_payloads, *effects.patch_payloads):
            decode_payload(payload)
        np.frombuffer(self._live, np.uint8)[effects.tombstones] = 0
        self._next += len(effects.put_ids)
        self._live.extend(b"\1" * len(effects.put_ids))
        self.calls += 1


def _bits(bitmap: Callable[[int], bytes], count: int, where: str) -> NDArray[np.bool_]:
    """
    Return the bits below count; one beyond it is Corruption.
    """
    parts = [bits_of(bitmap(first // OFFSETS_PER_BITMAP), 0, OFFSETS_PER_BITMAP) for first in range(0, count, OFFSETS_PER_BITMAP)]
    bits = np.concatenate(parts).astype(bool) if parts else np.empty(0, bool)
    if bits[count:].any():
        raise Corruption(f"{where}: a bit of an offset from {count} on is set, but no such offset was given out")
    return bits[:count]


def _expect(path: Path, what: str, seen: int, expected: int) -> None:
    if seen != expected:
        raise Corruption(f"{path}: it has {seen} {what}, expected {expected}; restore a backup of the database")


def _decode(payload: bytes, offset: int, path: Path) -> None:
    try:
        decode_payload(payload)
    except Corruption as error:
        raise Corruption(f"{path}: offset {offset}: {error}") from error


def verify_database(path: Path) -> None:
    """
    Check the files of a database that is not open; raises Corruption that names what was found. REQUIRES: the writer's lock.
    """
    findings = Findings()
    with findings.collecting():
        for number in sorted(read_catalog(path / "CATALOG").names.values()):
            verification = FileVerification(path / f"c-{number}", findings)
            verification.run()
            verification.log()
    raise_if_damaged(path, findings.problems)


def raise_if_damaged(path: Path | None, problems: Sequence[str]) -> None:
    """
    Raise Corruption when there are problems.
    """
    if problems:
        more = f"; {len(problems) - 1} problems more: {'; '.join(problems[1:4])}" if len(problems) > 1 else ""
        raise Corruption(f"{path} is damaged: {problems[0]}{more}. Restore a backup, or open it with salvage=True to keep what verifies")
