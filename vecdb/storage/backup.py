"""
A collection as of one moment, and its files elsewhere: pinned while writers wait for a commit, copied while they go on.

Invariant: what is written is the state of that moment, whole, every byte of it checked against its checksum on the way; the source is not
changed but by a checkpoint. Thread rule: one thread; `pin` under the write lock with checkpoints standing still.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vecdb.storage import files
from vecdb.storage.blocks import IDS_PER_BLOCK
from vecdb.storage.collection_writer import CollectionWriter
from vecdb.storage.derived import DerivedFiles
from vecdb.storage.disk import DiskStore
from vecdb.storage.effects import FieldRows, PointId
from vecdb.storage.framing import Current, Declared, Manifest, write_current, write_declared, write_manifest
from vecdb.storage.generation_copy import GenerationCopy
from vecdb.storage.memory import MemoryStore
from vecdb.storage.reader import ReaderStore
from vecdb.storage.recovery import FIRST_GENERATION, generation_directory, graph_name, log_directory
from vecdb.storage.store import Advance, Predecessor
from vecdb.storage.wal import Log


class DiskPin:
    """
    The moment of a collection on disk. REQUIRES, when it is made: everything applied is committed, and no compaction until it is closed.
    """

    def __init__(self, store: DiskStore) -> None:
        self._store = store
        self._source = generation_directory(store.directory, store.generation.base.generation)
        self._snapshot = store.generation.base.points.snapshot()

    def write(self, directory: Path, manifest: Manifest, core: Predecessor, advance: Advance) -> None:
        """
        Write the collection into a directory that must not exist.
        """
        log = log_directory(directory)
        files.make_directory(directory)
        generation = generation_directory(directory, FIRST_GENERATION)
        copy = GenerationCopy(self._snapshot, manifest, self._source, generation, FIRST_GENERATION)
        copy.write(advance)
        lsn = copy.state.applied_lsn
        derived = DerivedFiles(generation / "derived", uuid=manifest.uuid, generation=FIRST_GENERATION)
        for field, kept in enumerate(copy.kept):
            with core.still():
                graph = core.save_kept_graph(field, manifest.uuid, FIRST_GENERATION, lsn, kept)
            if graph is not None:
                derived.save(graph_name(field), lsn=lsn, body=graph)
        Log.create(log, uuid=manifest.uuid, generation=FIRST_GENERATION, first_lsn=lsn + 1)
        write_manifest(directory / "MANIFEST", manifest)
        write_current(directory / "CURRENT", Current(FIRST_GENERATION))
        write_indexes(directory, self._store)

    def close(self) -> None:
        """
        Let go of the moment.
        """
        self._snapshot.close()


class _PointsPin:
    """
    The moment of a collection whose points are written one by one: the offsets that live, and ids and payloads in their order.
    """

    def __init__(self, store: MemoryStore | ReaderStore) -> None:
        self._store = store

    def write(self, directory: Path, manifest: Manifest, core: Predecessor, advance: Advance) -> None:
        """
        Write the collection into a directory that must not exist.
        """
        writer = CollectionWriter(directory, manifest)
        try:
            kept = self._write_points(writer, manifest, core, advance)
            for field, rows in enumerate(kept):
                with core.still():
                    graph = core.save_kept_graph(field, manifest.uuid, FIRST_GENERATION, writer.store.info().last_lsn, rows)
                if graph is not None:
                    writer.save_graph(field, graph)
        finally:
            writer.close()
        write_indexes(directory, self._store)

    def _write_points(self, writer: CollectionWriter, manifest: Manifest, core: Predecessor, advance: Advance) -> list[NDArray[np.bool_]]:
        """
        Return which rows of each field were kept.
        """
        live = self._live()
        ids = self._ids()
        kept: list[list[NDArray[np.bool_]]] = [[np.empty(0, bool)] for _ in manifest.fields]
        done = 0
        for first in range(0, len(live), IDS_PER_BLOCK):
            alive = live[first : first + IDS_PER_BLOCK]
            count = int(np.count_nonzero(alive))
            vectors: dict[int, FieldRows] = {}
            for spec in manifest.fields:
                rows, has = core.get_rows(spec.number, np.arange(first, first + len(alive), dtype=np.uint32))
                kept[spec.number].append(alive[has != 0])
                positions = np.flatnonzero(has[alive]).astype(np.uint32)
                vectors[spec.number] = FieldRows(positions, np.ascontiguousarray(rows[alive & (has != 0)]))
            if count:
                writer.upsert(ids[done : done + count], self._payloads(done, done + count), vectors)
            done += count
            advance(count)
        return [np.concatenate(parts) for parts in kept]

    def _live(self) -> NDArray[np.bool_]:
        """
        Return which offsets live.
        """
        raise NotImplementedError

    def _ids(self) -> list[PointId]:
        """
        Return the ids of those, in their order.
        """
        raise NotImplementedError

    def _payloads(self, first: int, last: int) -> list[bytes]:
        """
        Return the encoded payloads of the places [first, last) in that order.
        """
        raise NotImplementedError


class MemoryPin(_PointsPin):
    """
    The moment of a collection in memory.
    """

    def __init__(self, store: MemoryStore) -> None:
        super().__init__(store)
        self._points, self._lives = store.generation.begin_next(None)

    def _live(self) -> NDArray[np.bool_]:
        return self._lives

    def _ids(self) -> list[PointId]:
        ids: list[PointId] = [0] * len(self._points.ids)
        for one, offset in self._points.ids.items():
            ids[offset] = one
        return ids

    def _payloads(self, first: int, last: int) -> list[bytes]:
        return [self._points.payloads[offset] for offset in range(first, last)]

    def close(self) -> None:
        """
        Let go of the moment.
        """
        self._points.forget()


class ReaderPin(_PointsPin):
    """
    The state of a reader. REQUIRES: no refresh until it is closed.
    """

    def __init__(self, store: ReaderStore) -> None:
        super().__init__(store)
        self._view = store.view()
        self._next_offset = store.next_offset
        self._places: list[tuple[int, PointId]] = []

    def _live(self) -> NDArray[np.bool_]:
        self._places = sorted((offset, one) for one, offset in self._view.points())
        live = np.zeros(self._next_offset, bool)
        live[[offset for offset, _ in self._places]] = True
        return live

    def _ids(self) -> list[PointId]:
        return [one for _, one in self._places]

    def _payloads(self, first: int, last: int) -> list[bytes]:
        return self._view.payloads_of([offset for offset, _ in self._places[first:last]])

    def close(self) -> None:
        """
        Let go of the state.
        """
        self._view.close()


def write_indexes(directory: Path, store: DiskStore | MemoryStore | ReaderStore) -> None:
    """
    Write the declarations of payload indexes, if there are any.
    """
    declared = store.read_indexes()
    if declared:
        write_declared(directory / "INDEXES", Declared(dict(declared)))
