"""
Writing points into the files of a new collection, by the store's own calls but without a core: for backups of what is in memory, and for
what a salvage has kept.

Invariant: everything is on the medium when `close` has returned; before that nothing refers to the files. Thread rule: one thread.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vecdb.storage.blocks import IdBlock
from vecdb.storage.derived import DerivedFiles
from vecdb.storage.disk import DiskStore
from vecdb.storage.effects import Effects, FieldRows, PointId
from vecdb.storage.framing import Manifest
from vecdb.storage.index_file import IndexName
from vecdb.storage.recovery import FIRST_GENERATION, generation_directory, graph_name
from vecdb.storage.saved_indexes import Then


class _NoCore:
    """
    Takes what is meant for the core.
    """

    def __init__(self, fields: int) -> None:
        self.fields = fields

    def map_rows(self, field: int, fd: int, rows: int) -> None:
        pass

    def append_rows(self, field: int, rows: NDArray[np.float32]) -> None:
        pass

    def expect_checksums(self, field: int, crcs: NDArray[np.uint32]) -> None:
        pass

    def load_block(self, ids: IdBlock, present: NDArray[np.uint8], dead: NDArray[np.uint32]) -> None:
        pass

    def load_graph(self, field: int, uuid: bytes, generation: int, data: memoryview) -> tuple[int, int]:
        return 0, 0

    def indexed_rows(self, field: int) -> int:
        return 0

    def save_graph(self, field: int, uuid: bytes, generation: int, lsn: int) -> memoryview | None:
        return None

    def index_entries(self) -> Mapping[IndexName, int | None]:
        return {}

    def copy_index(self, name: IndexName, then: Then) -> None:
        return None


class CollectionWriter:
    """
    A new collection that is being filled.
    """

    def __init__(self, directory: Path, manifest: Manifest) -> None:
        self._directory = directory
        self._manifest = manifest
        nothing = _NoCore(len(manifest.fields))
        DiskStore.create(directory, manifest)
        # What is written is synced as a whole, by the checkpoint of `close`.
        self.store = DiskStore.open(directory, durability="os", write_lock=threading.RLock(), load=nothing, graphs=nothing)
        self.store.start(self.store.apply)

    def upsert(self, ids: Sequence[PointId], payloads: Sequence[bytes], vectors: dict[int, FieldRows]) -> None:
        """
        Write points, replacing those that exist; each id stands once.
        """
        old = sorted(offset for offset in self.store.offsets_of(ids) if offset is not None)
        self._write(Effects(self.store.next_offset, list(ids), list(payloads), vectors, np.array(old, np.uint32)))

    def delete(self, ids: Sequence[PointId]) -> None:
        """
        Delete those of the points that exist.
        """
        found = [(one, offset) for one, offset in zip(ids, self.store.offsets_of(ids), strict=True) if offset is not None]
        dead = np.array(sorted(offset for _, offset in found), np.uint32)
        if found:
            self._write(Effects(self.store.next_offset, tombstones=dead, deleted_ids=[one for one, _ in found]))

    def set_payloads(self, ids: Sequence[PointId], payloads: Sequence[bytes]) -> None:
        """
        Replace the payloads of those of the points that exist.
        """
        found = {offset: payload for offset, payload in zip(self.store.offsets_of(ids), payloads, strict=True) if offset is not None}
        if found:
            offsets = sorted(found)
            effects = Effects(self.store.next_offset, patch_offsets=np.array(offsets, np.uint32))
            effects.patch_payloads = [found[offset] for offset in offsets]
            self._write(effects)

    def _write(self, effects: Effects) -> None:
        self.store.reserve(effects)
        self.store.commit(self.store.enqueue(effects))

    def save_graph(self, field: int, body: memoryview) -> None:
        """
        Keep a graph of the points written so far. REQUIRES: it covers no other rows; and that nothing is written after it.
        """
        self.store.checkpoint()
        generation = generation_directory(self._directory, FIRST_GENERATION)
        derived = DerivedFiles(generation / "derived", uuid=self._manifest.uuid, generation=FIRST_GENERATION)
        derived.save(graph_name(field), lsn=self.store.info().checkpoint_lsn, body=body)

    def close(self) -> None:
        """
        Bring everything to the medium and release the files.
        """
        self.store.checkpoint()
        self.store.close()
