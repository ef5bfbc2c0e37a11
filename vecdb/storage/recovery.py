"""
Creating the files of a collection, and opening them: the durable base goes to the core block by block;
docs/file_format.md argues the cases.

Invariant: nothing here works per point; what is loaded agrees with the counts of the base, or Corruption is raised;
no primary byte is changed but by the replay, which goes through the same `apply` as live writes. Thread rule: one
thread, before anybody else has the store.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vecdb.errors import Corruption, StorageError
from vecdb.storage import files
from vecdb.storage.base_state import BaseState, RowState
from vecdb.storage.blocks import IDS_PER_BLOCK, OFFSETS_PER_BITMAP, bits_of
from vecdb.storage.clean_close import check_clean_close
from vecdb.storage.derived import DerivedFiles
from vecdb.storage.framing import (
    Catalog,
    Current,
    IndexSpec,
    Manifest,
    read_current,
    read_declared,
    read_manifest,
    write_current,
    write_manifest,
)
from vecdb.storage.log_reader import segment_name
from vecdb.storage.points import FILE_NAME, PointsFile
from vecdb.storage.points_read import Snapshot
from vecdb.storage.saved_indexes import SavedIndexes
from vecdb.storage.segments import RECORD_HEADER, SEGMENT_HEADER
from vecdb.storage.store import Loader
from vecdb.storage.vectors import RowFile, rows_per_block
from vecdb.storage.wal import Log

logger = logging.getLogger("vecdb.storage")

INDEXES_NAME = "INDEXES"
COLLECTION = re.compile(r"c-(\d+)")
FIRST_GENERATION = 1
FIRST_LSN = 1


@dataclass(slots=True)
class Base:
    """
    The open files of a collection as of its last checkpoint; `saved_rows` is what each loaded graph covers,
    `close_lsn` the LSN of a clean close or 0.
    """

    manifest: Manifest
    generation: int
    points: PointsFile
    state: BaseState
    rows: list[RowFile]
    derived: DerivedFiles
    indexes: SavedIndexes
    close_lsn: int
    saved_rows: dict[int, int]

    def close(self) -> None:
        """
        Release the files: all of them, also when closing one fails.
        """
        with ExitStack() as stack:
            stack.callback(self.points.close)
            for rows in self.rows:
                stack.callback(rows.close)


def graph_name(field: int) -> str:
    """
    Return the name of the derived file that holds the graph of a field.
    """
    return f"graph-{field}"


def log_directory(directory: Path) -> Path:
    """
    Return where the log of a collection is.
    """
    return directory / "wal"


def create_collection(directory: Path, manifest: Manifest) -> None:
    """
    Make the files of an empty collection: built aside, synced, renamed, so that the directory is there complete or
    not at all.
    """
    aside = directory.with_name(f".{directory.name}.tmp")
    remove_tree(aside)
    generation = generation_directory(aside, FIRST_GENERATION)
    for path in (aside, log_directory(aside), generation, generation / "vectors", generation / "derived"):
        files.make_directory(path)
    state = BaseState(
        uuid=manifest.uuid,
        generation=FIRST_GENERATION,
        applied_lsn=FIRST_LSN - 1,
        next_offset=0,
        live=0,
        changed_from=FIRST_LSN - 1,
        rows=tuple(RowState(0, 0) for _ in manifest.fields),
    )
    PointsFile.create(generation / FILE_NAME, state)
    for spec in manifest.fields:
        RowFile.create(rows_path(generation, spec.number))
    Log.create(log_directory(aside), uuid=manifest.uuid, generation=FIRST_GENERATION, first_lsn=FIRST_LSN)
    for path in (generation / "vectors", generation / "derived", generation, log_directory(aside)):
        files.sync_directory(path)
    write_current(aside / "CURRENT", Current(FIRST_GENERATION))
    write_manifest(aside / "MANIFEST", manifest)
    files.rename(aside, directory)
    files.sync_directory(directory.parent)


def remove_tree(path: Path) -> None:
    """
    Remove a directory that nothing refers to, such as one left by an interrupted creation; does nothing when there is
    none.
    """
    if not files.exists(path):
        return
    for name in files.list_directory(path):
        child = path / name
        if files.is_directory(child):
            remove_tree(child)
        else:
            files.remove(child)
    files.remove_directory(path)


def generation_directory(directory: Path, generation: int) -> Path:
    """
    Return where a generation of a collection's files is.
    """
    return directory / f"gen-{generation}"


def written_but_unnamed(path: Path, catalog: Catalog) -> list[int]:
    """
    Return the numbers of collections that were written to although the catalog has not given out their numbers yet: an older catalog was
    put in its place. A creation that was cut leaves a directory too, but with an empty log.
    """
    found = [int(match[1]) for name in files.list_directory(path) if (match := COLLECTION.fullmatch(name))]
    return [number for number in sorted(found) if number >= catalog.next_number and _was_written(log_directory(path / f"c-{number}"))]


def _was_written(log: Path) -> bool:
    if not files.exists(log):
        return False
    segments = [name for name in files.list_directory(log) if name.endswith(".log")]
    if segments != [segment_name(FIRST_LSN)]:
        return True
    fd = files.open_file(log / segments[0])
    try:
        return any(files.read_at(fd, RECORD_HEADER, SEGMENT_HEADER))
    finally:
        files.close(fd)


def read_indexes(directory: Path, *, consequence: str) -> Mapping[str, IndexSpec]:
    """
    Return the declared payload indexes of a collection by key; none, with a logged warning that says the consequence, when the file cannot
    be read: no answer depends on it.
    """
    path = directory / INDEXES_NAME
    try:
        return read_declared(path).indexes if files.exists(path) else {}
    except (Corruption, StorageError) as error:
        logger.warning("%s: the declared payload indexes %s: %s", path, consequence, error)
        return {}


def settle_current(directory: Path, base: Base) -> None:
    """
    Bring the name CURRENT to the medium, which a killed process may have left in the page cache only; from here on everything rests on it.
    """
    if not base.close_lsn:
        files.sync_directory(directory)


def open_base(directory: Path, *, load: Loader, verify: bool) -> Base:
    """
    Open the files of the generation that CURRENT names; see `open_generation`.
    """
    manifest = read_manifest(directory / "MANIFEST")
    return open_generation(directory, manifest, read_current(directory / "CURRENT").generation, load=load, verify=verify)


def open_generation(directory: Path, manifest: Manifest, generation: int, *, load: Loader, verify: bool) -> Base:
    """
    Open the files of a generation as of its last checkpoint and give them to the core. With `verify`, every value of
    points.lmdb is read first.
    """
    root = generation_directory(directory, generation)
    close_lsn, compared = check_clean_close(root / FILE_NAME, whole=verify)
    points = PointsFile.open(root / FILE_NAME)
    rows: list[RowFile] = []
    try:
        with points.snapshot() as snapshot:
            state = snapshot.state()
            check_state(state, manifest, generation, points.path)
            if verify:
                snapshot.check_all()
            if not compared and state.live:
                # LMDB has no checksum of its pages, and that of the file, where there is one, would have to read all of it.
                snapshot.check_ids(state.live)
                points.doubted = True
            for spec, field_state in zip(manifest.fields, state.rows, strict=True):
                rows.append(RowFile.open(rows_path(root, spec.number), dim=spec.dim, state=field_state))
                load.map_rows(spec.number, rows[-1].fd, field_state.rows)
                load.expect_checksums(spec.number, snapshot.row_sums(spec.number, field_state.rows // rows_per_block(spec.dim)))
            load_points(snapshot, state, load)
            derived = DerivedFiles(root / "derived", uuid=manifest.uuid, generation=generation)
            derived.remove_leftovers()
            indexes = SavedIndexes.open(derived, snapshot, state)
        saved_rows = {spec.number: load_graph(derived, state, spec.number, load) for spec in manifest.fields}
    except BaseException:
        with ExitStack() as stack:
            stack.callback(points.close)
            for opened in rows:
                stack.callback(opened.close)
        raise
    return Base(manifest, generation, points, state, rows, derived, indexes, close_lsn, saved_rows)


def load_points(snapshot: Snapshot, state: BaseState, load: Loader) -> None:
    """
    Give ids, presence and tombstones of all offsets to the core, a block at a time; raises Corruption when they do
    not add up to the counts of the state.
    """
    live = 0
    rows = [0] * len(state.rows)
    for start in range(0, state.next_offset, OFFSETS_PER_BITMAP):
        number = start // OFFSETS_PER_BITMAP
        live_bits = bits_of(snapshot.live_bitmap(number), 0, OFFSETS_PER_BITMAP)
        present = np.stack([bits_of(snapshot.present_bitmap(field, number), 0, OFFSETS_PER_BITMAP) for field in range(len(rows))])
        live += int(live_bits.sum(dtype=np.int64))
        rows = [total + int(bits.sum(dtype=np.int64)) for total, bits in zip(rows, present, strict=True)]
        for first in range(start, min(start + OFFSETS_PER_BITMAP, state.next_offset), IDS_PER_BLOCK):
            ids = snapshot.id_block(first // IDS_PER_BLOCK)
            count = min(IDS_PER_BLOCK, state.next_offset - first)
            if len(ids.slots) != count:
                raise Corruption(
                    f"{snapshot.path}: the block of ids from offset {first} on has {len(ids.slots)} of them, expected "
                    f"{count}; restore a backup of the database"
                )
            low = first - start
            dead = np.flatnonzero(live_bits[low : low + count] == 0).astype(np.uint32) + np.uint32(first)
            load.load_block(ids, np.ascontiguousarray(present[:, low : low + count]), dead)
    counted = (live, rows)
    expected = (state.live, [field.rows for field in state.rows])
    if counted != expected:
        raise Corruption(
            f"{snapshot.path}: its bitmaps show {counted} live points and rows, its state says {expected}; restore a backup of the database"
        )


def load_graph(derived: DerivedFiles, state: BaseState, field: int, load: Loader) -> int:
    """
    Give a saved graph to the core and return the rows it covers; one that does not fit is dropped, and 0 returned.
    """
    found = derived.open(graph_name(field))
    if found is None:
        return 0
    try:
        if found.lsn > state.applied_lsn:
            raise Corruption(f"it is exact for LSN {found.lsn}, beyond the checkpoint at {state.applied_lsn}")
        return load.load_graph(field, derived.uuid, derived.generation, found.body)[1]
    except Corruption as error:
        derived.discard(graph_name(field), reason=str(error))
        return 0


def rows_path(generation: Path, field: int) -> Path:
    """
    Return where the rows of a field are.
    """
    return generation / "vectors" / f"{field}.f32"


def check_state(state: BaseState, manifest: Manifest, generation: int, path: Path) -> None:
    """
    Raise Corruption when points.lmdb is not of this collection and generation.
    """
    seen = (state.uuid.hex(), state.generation, len(state.rows))
    expected = (manifest.uuid.hex(), generation, len(manifest.fields))
    if seen != expected:
        raise Corruption(
            f"{path} belongs to (collection, generation, fields) {seen}, expected {expected}: files of different "
            "collections were mixed; restore a backup"
        )
