"""
What the tests of a store share: a stand-in for the core, a small collection over a store with a model beside it, and
a file system that copies the world after each call.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from vecdb._crc import crc32c
from vecdb.errors import Corruption
from vecdb.storage import files
from vecdb.storage.blocks import IdBlock, ids_of_block
from vecdb.storage.codec import decode_payload, encode_payload
from vecdb.storage.disk import DiskStore
from vecdb.storage.effects import Effects, FieldRows, PointId
from vecdb.storage.framing import FieldSpec, Manifest
from vecdb.storage.index_file import IndexName
from vecdb.storage.memory import MemoryStore
from vecdb.storage.saved_indexes import Then
from vecdb.storage.vectors import rows_per_block

Model = dict[PointId, tuple[dict[str, Any], dict[int, bytes]]]


def make_manifest(*dims: int) -> Manifest:
    fields = tuple(FieldSpec(i, str(i), dim, "l2", 16, 200, None, 1) for i, dim in enumerate(dims))
    return Manifest(uuid=bytes(range(16)), fields=fields, metadata={}, created="2024-01-01T00:00:00Z")


def _graph_bytes(lsn: int, rows: int) -> memoryview:
    content = b"thegraph" + struct.pack("<QQ", lsn, rows)
    return memoryview(content + struct.pack("<I", crc32c(content)))


class Core:
    """
    Takes what a store gives to the core, and checks it as the core would.
    """

    def __init__(self, dims: tuple[int, ...]) -> None:
        self.dims = dims
        self.fields = len(dims)
        self.ids: list[PointId] = []
        self.present: list[list[int]] = [[] for _ in dims]
        self.dead: set[int] = set()
        self.mapped: dict[int, tuple[int, int]] = {}
        self.sums: dict[int, NDArray[np.uint32]] = {}
        self.graph_rows: dict[int, int] = {}
        self.indexed: dict[int, int] = {}
        self.calls: list[str] = []

    def map_rows(self, field: int, fd: int, rows: int) -> None:
        assert os.fstat(fd).st_size >= rows * self.dims[field] * 4
        self.mapped[field] = (fd, rows)
        self.calls.append("map_rows")

    def expect_checksums(self, field: int, crcs: NDArray[np.uint32]) -> None:
        self.sums[field] = crcs
        self.calls.append("expect_checksums")

    def load_block(self, ids: IdBlock, present: NDArray[np.uint8], dead: NDArray[np.uint32]) -> None:
        assert ids.first_offset == len(self.ids)
        assert present.shape == (len(self.dims), len(ids.slots))
        self.ids += ids_of_block(ids)
        for field, bits in enumerate(present):
            self.present[field] += bits.tolist()
        self.dead |= set(dead.tolist())
        self.calls.append("load_block")

    def load_graph(self, field: int, uuid: bytes, generation: int, data: memoryview) -> tuple[int, int]:
        self.calls.append("load_graph")
        if len(data) != 28 or bytes(data[:8]) != b"thegraph" or struct.pack("<I", crc32c(data[:24])) != data[24:]:
            raise Corruption("not a graph")
        lsn, rows = struct.unpack("<QQ", data[8:24])
        assert rows <= self.mapped[field][1]
        self.graph_rows[field] = self.indexed[field] = rows
        return lsn, rows

    def indexed_rows(self, field: int) -> int:
        return self.indexed.get(field, 0)

    def save_graph(self, field: int, uuid: bytes, generation: int, lsn: int) -> memoryview | None:
        return _graph_bytes(lsn, self.indexed_rows(field))

    def index_entries(self) -> dict[IndexName, int | None]:
        return {}

    def copy_index(self, name: IndexName, then: Then) -> None:
        return None

    def append_rows(self, field: int, rows: NDArray[np.float32]) -> None:
        assert rows.shape[1] == self.dims[field]

    def still(self) -> AbstractContextManager[None]:
        return nullcontext()

    def get_rows(self, field: int, offsets: NDArray[np.uint32]) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        present = np.array([self.present[field][offset] for offset in offsets], np.uint8)
        return np.zeros((len(offsets), self.dims[field]), np.float32), present

    def save_kept_graph(self, field: int, uuid: bytes, generation: int, lsn: int, kept: NDArray[np.bool_]) -> memoryview | None:
        live = [offset not in self.dead for offset, present in enumerate(self.present[field]) if present]
        assert all(was or not lives for was, lives in zip(kept.tolist(), live, strict=False))
        if field not in self.indexed:
            return None
        return _graph_bytes(lsn, int(kept[: self.indexed[field]].sum()))

    def take(self, effects: Effects) -> None:
        assert effects.first_offset == len(self.ids)
        self.ids += effects.put_ids
        for field in range(len(self.dims)):
            bits = np.zeros(len(effects.put_ids), np.uint8)
            if (vectors := effects.put_vectors.get(field)) is not None:
                bits[slice(None) if vectors.positions is None else vectors.positions] = 1
            self.present[field] += bits.tolist()
        self.dead |= set(effects.tombstones.tolist())


class StoredCollection:
    """
    A small collection over a store, and a dict that says what it must hold.
    """

    def __init__(self, path: Path | None, *, dims: tuple[int, ...] = (4,), durability: str = "fsync", verify: bool = False) -> None:
        self.dims = dims
        self.core = Core(dims)
        self.lock = threading.RLock()
        self.model: Model = {}
        self.applied: list[int] = []
        self.store: Any = None
        if path is None:
            self.store = MemoryStore()
        else:
            if not path.exists():
                DiskStore.create(path, make_manifest(*dims))
            self.store = DiskStore.open(path, durability=durability, write_lock=self.lock, load=self.core, graphs=self.core, verify=verify)
        self.store.start(self.apply)

    def apply(self, lsn: int, effects: Effects) -> None:
        self.store.apply(lsn, effects)
        self.core.take(effects)
        self.applied.append(lsn)

    def write(self, effects: Effects) -> None:
        with self.lock:
            self.store.reserve(effects)
            ticket = self.store.enqueue(effects)
        self.store.commit(ticket)

    def vectors(self, ids: list[PointId], version: int) -> dict[int, FieldRows]:
        """
        Vectors that tell id, version and field; field 0 has one for every point, the others for every second.
        """
        found = {}
        for field, dim in enumerate(self.dims):
            rows = np.array([[hash((i, version)) % 1000, version, field] * dim for i in ids], np.float32).reshape(len(ids), -1)[:, :dim]
            positions = None if field == 0 else np.arange(0, len(ids), 2, dtype=np.uint32)
            found[field] = FieldRows(positions, np.ascontiguousarray(rows if positions is None else rows[positions]))
        return found

    def upsert(self, ids: list[PointId], version: int = 0) -> None:
        with self.lock:
            old = [offset for offset in self.store.offsets_of(ids) if offset is not None]
            vectors = self.vectors(ids, version)
            payloads = [{"id": point_id, "version": version} for point_id in ids]
            effects = Effects(
                first_offset=self.store.next_offset,
                put_ids=list(ids),
                put_payloads=[encode_payload(payload) for payload in payloads],
                put_vectors=vectors,
                tombstones=np.array(sorted(old), np.uint32),
            )
            self.write(effects)
        for row, (point_id, payload) in enumerate(zip(ids, payloads, strict=True)):
            self.model[point_id] = (
                payload,
                {f: v.rows[row if f == 0 else row // 2].tobytes() for f, v in vectors.items() if f == 0 or row % 2 == 0},
            )

    def delete(self, ids: list[PointId]) -> None:
        with self.lock:
            found = [(i, offset) for i, offset in zip(ids, self.store.offsets_of(ids), strict=True) if offset is not None]
            tombstones = np.array(sorted(offset for _, offset in found), np.uint32)
            self.write(Effects(first_offset=self.store.next_offset, deleted_ids=[i for i, _ in found], tombstones=tombstones))
        for point_id, _ in found:
            del self.model[point_id]

    def patch(self, ids: list[PointId], payload: dict[str, Any]) -> None:
        with self.lock:
            offsets = np.array(self.store.offsets_of(ids), np.uint32)
            self.write(
                Effects(first_offset=self.store.next_offset, patch_offsets=offsets, patch_payloads=[encode_payload(payload)] * len(ids))
            )
        for point_id in ids:
            self.model[point_id] = (payload, self.model[point_id][1])

    def contents(self) -> Model:
        """
        Read everything, by every way of reading, and check that these agree.
        """
        ids = list(self.store.iterate_ids())
        offsets = self.store.offsets_of(ids)
        payloads = self.store.payloads_of(offsets)
        assert len(ids) == self.store.live_count
        assert ids == [self.core.ids[offset] for offset in offsets]
        assert sorted(offsets) == sorted(set(range(self.store.next_offset)) - self.core.dead)
        assert dict(zip(offsets, payloads, strict=True)) == dict(self.store.iterate_payloads(0, self.store.next_offset))
        with contextlib.closing(self.store.view()) as view:
            assert list(zip(ids, offsets, strict=True)) == list(view.points())
            assert payloads == view.payloads_of(offsets)
        assert [None] * len(self.core.dead) == self.store.payloads_of(sorted(self.core.dead))
        rows = [np.cumsum([0, *bits]) for bits in self.core.present]
        contents: Model = {}
        for point_id, offset, payload in zip(ids, offsets, payloads, strict=True):
            vectors = {}
            for field, dim in enumerate(self.dims):
                fd, count = self.store.row_file(field)
                if fd >= 0:
                    assert count == rows[field][-1]
                    if self.core.present[field][offset]:
                        vectors[field] = os.pread(fd, dim * 4, int(rows[field][offset]) * dim * 4)
            contents[point_id] = (decode_payload(payload), vectors)
        for field, sums in self.core.sums.items():
            size = rows_per_block(self.dims[field]) * self.dims[field] * 4
            assert sums.tolist() == [crc32c(os.pread(self.core.mapped[field][0], size, i * size)) for i in range(len(sums))]
        return contents

    def compact(self, *, advance: Callable[[int], None] = lambda count: None, before_the_end: Callable[[], None] = lambda: None) -> None:
        """
        Compact, as a collection does it.
        """
        core = Core(self.dims)
        with self.store.compact(core, core, self.core, advance) as compaction:

            def apply(lsn: int, effects: Effects) -> None:
                compaction.points.apply(lsn, effects)
                core.take(effects)

            compaction.follow(apply)
            before_the_end()
            with compaction.standing_still(), self.lock:
                self.store.drain()
                compaction.follow(apply)
                compaction.commit()
                compaction.install()
                self.core = core

    def check(self) -> None:
        assert self.model == self.contents()

    def close(self) -> None:
        self.store.close()


class RecordingSystem(files.System):
    """
    Keeps what every file (by its inode) held when it was last synced, and calls `after` behind each call that changes
    something. One call at a time: the log's next segment is made by a thread of its own.
    """

    def __init__(self) -> None:
        self.after: Callable[[str], None] = lambda call: None
        self.synced: dict[int, bytes] = {}
        self._one_at_a_time = threading.RLock()

    def pwritev(self, fd: int, buffers: Any, offset: int) -> int:
        with self._one_at_a_time:
            status = os.fstat(fd)
            if status.st_ino not in self.synced:
                self.synced[status.st_ino] = os.pread(fd, status.st_size, 0)
            done = super().pwritev(fd, buffers, offset)
            self.after(f"pwritev {files.path_of(fd)}")
            return done

    def sync_data(self, fd: int) -> None:
        with self._one_at_a_time:
            self.after(f"before sync_data {files.path_of(fd)}")
            super().sync_data(fd)
            status = os.fstat(fd)
            self.synced[status.st_ino] = os.pread(fd, status.st_size, 0)
            self.after(f"sync_data {files.path_of(fd)}")

    def sync_directory(self, fd: int) -> None:
        with self._one_at_a_time:
            super().sync_directory(fd)
            self.after("sync_directory")

    def rename(self, source: Path, target: Path) -> None:
        with self._one_at_a_time:
            super().rename(source, target)
            self.after(f"rename {target}")

    def unlink(self, path: Path) -> None:
        with self._one_at_a_time:
            self.synced.pop(os.lstat(path).st_ino, None)
            super().unlink(path)
            self.after(f"unlink {path}")


def copy_world(source: Path, target: Path) -> None:
    """
    Copy a collection as a crash of the process would leave it. LMDB's lock files are left out: closing one would drop
    the locks of the live environment.
    """
    shutil.copytree(source, target, ignore=lambda _, names: [name for name in names if name.endswith("-lock")])


def lose_unsynced(source: Path, target: Path, synced: dict[int, bytes], choose: Callable[[], bool]) -> None:
    """
    In a copied world, take back writes that were never synced, page by page, where `choose` says so.
    """
    for path in source.rglob("*"):
        copied = target / path.relative_to(source)
        old = synced.get(path.stat().st_ino)
        if old is None or not copied.is_file():
            continue
        new = copied.read_bytes()
        pages = [
            old[i : i + 4096].ljust(min(4096, len(new) - i), b"\0") if choose() else new[i : i + 4096] for i in range(0, len(new), 4096)
        ]
        length = len(old) if len(old) < len(new) and choose() else len(new)
        copied.write_bytes(b"".join(pages)[:length])


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch) -> RecordingSystem:
    recording = RecordingSystem()
    monkeypatch.setattr(files, "system", recording)
    return recording


@pytest.fixture
def open_collection() -> Iterator[Callable[..., StoredCollection]]:
    """
    Open collections that are released at the end of the test.
    """
    opened: list[StoredCollection] = []

    def open_one(path: Path | None, **options: Any) -> StoredCollection:
        opened.append(StoredCollection(path, **options))
        return opened[-1]

    yield open_one
    for collection in opened:
        collection.close()


@pytest.fixture
def worlds() -> tuple[Callable[..., None], Callable[..., None]]:
    return copy_world, lose_unsynced


@pytest.fixture
def rng() -> random.Random:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    return random.Random(seed)
