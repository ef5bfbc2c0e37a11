"""
Derived files: whatever can be computed again from the primary data, kept so that opening is fast.

Invariant: a derived file never costs an answer. It names the collection, the generation and the LSN it is exact for;
one that does not verify is removed with a logged warning, and what it held is built again. Written aside, synced,
renamed. Thread rule: saved by one checkpoint at a time, loaded while opening.
"""

from __future__ import annotations

import logging
import struct
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
    The derived files of one generation; `lsns` maps the names of those that are known good to their LSNs.
    """

    def __init__(self, directory: Path, *, uuid: bytes, generation: int) -> None:
        self._directory = directory
        self.uuid = uuid
        self.generation = generation
        self.lsns: dict[str, int] = {}
        self._sizes: dict[str, int] = {}

    def oldest(self) -> int | None:
        """
        Return the smallest LSN of all files; None when there is none.
        """
        return min(self.lsns.values(), default=None)

    def size(self) -> int:
        """
        Return the bytes of all files together.
        """
        return sum(self._sizes.values())

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
        self.lsns[name] = lsn
        self._sizes[name] = _header.size + len(body)

    def load(self, name: str) -> DerivedFile | None:
        """
        Return the file of this name; None when there is none that verifies.
        """
        path = self._path(name)
        if not files.exists(path):
            return None
        try:
            found = self._parse(path, memoryview(files.read_file(path, MAX_BYTES)))
        except (Corruption, StorageError) as error:
            self.discard(name, reason=str(error))
            return None
        self.lsns[name] = found.lsn
        self._sizes[name] = _header.size + len(found.body)
        return found

    def damage(self, name: str) -> str | None:
        """
        Return what is wrong with the file of this name, without touching it; None when it is sound, or absent.
        """
        path = self._path(name)
        try:
            if files.exists(path):
                self._parse(path, memoryview(files.read_file(path, MAX_BYTES)))
        except (Corruption, StorageError) as error:
            return f"{path}: {error}; it is built again when the database is opened"
        return None

    def discard(self, name: str, *, reason: str) -> None:
        """
        Remove the file of this name; what it held will be built again.
        """
        self.lsns.pop(name, None)
        self._sizes.pop(name, None)
        logger.warning("%s is dropped and will be built again: %s", self._path(name), reason)
        files.remove(self._path(name))

    def _path(self, name: str) -> Path:
        return self._directory / (name + SUFFIX)

    def _parse(self, path: Path, data: memoryview) -> DerivedFile:
        if len(data) < _header.size:
            raise Corruption(f"it has {len(data)} bytes, expected at least {_header.size}")
        magic, version, _, uuid, generation, lsn, length, body_crc = _header.unpack_from(data)
        if magic != MAGIC or data[: _header.size] != _encode_header(uuid, generation, lsn, length, body_crc, version=version):
            raise Corruption("its header is damaged")
        if version != VERSION:
            raise Corruption(f"it has format {version}, this vecdb reads {VERSION}")
        if uuid != self.uuid or generation != self.generation:
            raise Corruption("it belongs to another collection or generation")
        body = data[_header.size :]
        if len(body) != length or crc32c(body) != body_crc:
            raise Corruption(f"its content of {len(body)} bytes is not the {length} bytes that were written")
        return DerivedFile(lsn, body)


def _encode_header(uuid: bytes, generation: int, lsn: int, length: int, body_crc: int, *, version: int = VERSION) -> bytes:
    fields = (uuid, generation, lsn, length, body_crc)
    return _header.pack(MAGIC, version, crc32c(_header.pack(MAGIC, version, 0, *fields)), *fields)
