"""
Derived files: whatever can be computed again from the primary data, kept so that opening is fast.

Invariant: a derived file never costs an answer. It names the collection, the generation and the LSN it is exact for;
one that does not verify is removed with a logged warning, and what it held is built again. Written aside, synced,
renamed. Thread rule: one thread at a time works on the file of a name; names are independent.
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from vecdb._crc import crc32c
from vecdb.errors import Corruption, StorageError
from vecdb.storage import files

logger = logging.getLogger("vecdb.storage")

MAGIC = b"VDBDERIV"
VERSION = 1
SUFFIX = ".derived"
ASIDE_SUFFIX = ".tmp"
MAX_BYTES = 1 << 40

_header = struct.Struct("<8sII16sQQQI4x")


@dataclass(frozen=True, slots=True)
class DerivedFile:
    """
    The content of a derived file and the LSN it is exact for.
    """

    lsn: int
    body: memoryview


class DerivedFiles:
    """
    The derived files of one generation; `dropped` says which did not verify, and why.
    """

    def __init__(self, directory: Path, *, uuid: bytes, generation: int) -> None:
        self._directory = directory
        self.uuid = uuid
        self.generation = generation
        self.dropped: list[str] = []
        self._sizes: dict[str, int] = {}

    def size(self) -> int:
        """
        Return the bytes of all files together.
        """
        return sum(tuple(self._sizes.values()))

    def names(self, prefix: str) -> list[str]:
        """
        Return the names that begin so, in order.
        """
        found = files.list_directory(self._directory)
        return sorted(name.removesuffix(SUFFIX) for name in found if name.startswith(prefix) and name.endswith(SUFFIX))

    def remove_leftovers(self) -> None:
        """
        Remove what an interrupted save left aside.
        """
        for name in files.list_directory(self._directory):
            if name.endswith(ASIDE_SUFFIX):
                files.remove(self._directory / name)

    def save(self, name: str, *, lsn: int, body: memoryview) -> None:
        """
        Replace the file of this name.
        """
        head = _encode_header(self.uuid, self.generation, lsn, len(body), crc32c(body))
        aside = self._path(name).with_suffix(ASIDE_SUFFIX)
        if files.exists(aside):
            files.remove(aside)
        fd = files.create_file(aside)
        try:
            files.write_at(fd, [head, body], 0)
            files.sync_data(fd)
        finally:
            files.close(fd)
        files.rename(aside, self._path(name))
        files.sync_directory(self._directory)
        self._sizes[name] = _header.size + len(body)

    def peek(self, name: str, count: int) -> DerivedFile | None:
        """
        Return the first `count` bytes of the file of this name, which `load` has yet to verify; None when its header does not.
        """
        path = self._path(name)
        try:
            fd = files.open_file(path)
            try:
                size = files.size(fd)
                data = memoryview(files.read_at(fd, _header.size + count, 0))
            finally:
                files.close(fd)
            lsn, length, _ = self._parse_header(data)
            if size != _header.size + length:
                raise Corruption(f"it has {size} bytes, expected {_header.size + length}")
        except (Corruption, StorageError) as error:
            self.discard(name, reason=str(error))
            return None
        self._sizes[name] = size
        return DerivedFile(lsn, data[_header.size :])

    def load(self, name: str) -> DerivedFile | None:
        """
        Return the file of this name; None when there is none that verifies.
        """
        return self._found(name, lambda path: self._parse(memoryview(files.read_file(path, MAX_BYTES))))

    def open(self, name: str) -> DerivedFile | None:
        """
        Return the file of this name, shown in place; None when there is none with a sound header. REQUIRES: whoever uses its content
        compares all of it with checksums in it.
        """
        return self._found(name, lambda path: self._parse_headed(files.map_file(path, MAX_BYTES))[0])

    def _found(self, name: str, read: Callable[[Path], DerivedFile]) -> DerivedFile | None:
        path = self._path(name)
        if not files.exists(path):
            return None
        try:
            found = read(path)
        except (Corruption, StorageError) as error:
            self.discard(name, reason=str(error))
            return None
        self._sizes[name] = _header.size + len(found.body)
        return found

    def damage(self, name: str, check: Callable[[memoryview], object] | None = None) -> str | None:
        """
        Return what is wrong with the file of this name, without touching it; None when it is sound, or absent. `check` raises Corruption
        for content that is not sound.
        """
        path = self._path(name)
        try:
            if files.exists(path):
                found = self._parse(memoryview(files.read_file(path, MAX_BYTES)))
                if check is not None:
                    check(found.body)
        except (Corruption, StorageError) as error:
            return f"{path}: {error}; it is built again when the database is opened"
        return None

    def discard(self, name: str, *, reason: str) -> None:
        """
        Remove the file of this name; what it held will be built again.
        """
        logger.warning("%s is dropped and will be built again: %s", self._path(name), reason)
        self.dropped.append(f"{name}: {reason}")
        self.forget(name)

    def forget(self, name: str) -> None:
        """
        Remove the file of this name, which is of no more use, if it is there.
        """
        self._sizes.pop(name, None)
        if files.exists(self._path(name)):
            files.remove(self._path(name))

    def _path(self, name: str) -> Path:
        return self._directory / (name + SUFFIX)

    def _parse(self, data: memoryview) -> DerivedFile:
        found, body_crc = self._parse_headed(data)
        if crc32c(found.body) != body_crc:
            raise Corruption(f"its content of {len(found.body)} bytes is not what was written")
        return found

    def _parse_headed(self, data: memoryview) -> tuple[DerivedFile, int]:
        """
        Return the file, and the checksum that its content should have.
        """
        lsn, length, body_crc = self._parse_header(data)
        body = data[_header.size :]
        if len(body) != length:
            raise Corruption(f"its content of {len(body)} bytes is not the {length} bytes that were written")
        return DerivedFile(lsn, body), body_crc

    def _parse_header(self, data: memoryview) -> tuple[int, int, int]:
        """
        Return the LSN, the length and the checksum of the body.
        """
        if len(data) < _header.size:
            raise Corruption(f"it has {len(data)} bytes, expected at least {_header.size}")
        magic, version, _, uuid, generation, lsn, length, body_crc = _header.unpack_from(data)
        if magic != MAGIC or data[: _header.size] != _encode_header(uuid, generation, lsn, length, body_crc, version=version):
            raise Corruption("its header is damaged")
        if version != VERSION:
            raise Corruption(f"it has format {version}, this vecdb reads {VERSION}")
        if uuid != self.uuid or generation != self.generation:
            raise Corruption("it belongs to another collection or generation")
        return lsn, length, body_crc


def _encode_header(uuid: bytes, generation: int, lsn: int, length: int, body_crc: int, *, version: int = VERSION) -> bytes:
    fields = (uuid, generation, lsn, length, body_crc)
    return _header.pack(MAGIC, version, crc32c(_header.pack(MAGIC, version, 0, *fields)), *fields)
