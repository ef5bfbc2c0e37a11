"""
points.lmdb.sum: what a clean close says of points.lmdb, since LMDB itself has no checksum.

Invariant: the file stands beside points.lmdb only while that is exactly what the last clean close left; a writer
removes it, durably, before its first change. So a difference is damage. Thread rule: used while opening and closing.
"""

from __future__ import annotations

import errno
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from vecdb._crc import crc32c
from vecdb.errors import Corruption, StorageError
from vecdb.storage import files

MAGIC = b"VDBCLEAN"
VERSION = 1
# A larger points.lmdb is compared in full only when asked for: opening must not read everything.
CHECKED_BYTES = 64 << 20

_layout = struct.Struct("<8sIIQQI4x")
_PIECE = 4 << 20


@dataclass(frozen=True, slots=True)
class CleanClose:
    """
    Length and CRC32C of points.lmdb, and the LSN of the log's CLOSE record.
    """

    length: int
    crc: int
    close_lsn: int

    def encode(self) -> bytes:
        """
        Return the bytes of the note.
        """
        fields = (self.length, self.close_lsn, self.crc)
        return _layout.pack(MAGIC, VERSION, crc32c(_layout.pack(MAGIC, VERSION, 0, *fields)), *fields)


class Compared(NamedTuple):
    """
    The LSN of the CLOSE record of the last clean close, 0 when the last one was not clean, and whether the file was compared with it byte
    by byte.
    """

    close_lsn: int
    whole: bool


def write_clean_close(points: Path, *, close_lsn: int) -> None:
    """
    Note the file as it is. REQUIRES: it is closed, and every byte of it synced.
    """
    length, crc = _sum(points)
    files.replace_file(_path(points), CleanClose(length, crc, close_lsn).encode())


def check_clean_close(points: Path, *, whole: bool) -> Compared:
    """
    Compare the file with what the last clean close noted.

    Raises Corruption. The checksum is compared when the file is small or `whole` is set.
    """
    path = _path(points)
    if not files.exists(path):
        return Compared(0, whole=False)
    noted = _read(path)
    fd = files.open_file(points)
    try:
        length = files.size(fd)
    finally:
        files.close(fd)
    if length != noted.length:
        raise Corruption(f"{points} has {length} bytes, after the last close it had {noted.length}; restore a backup of the database")
    whole = whole or length <= CHECKED_BYTES
    if whole and _sum(points)[1] != noted.crc:
        raise Corruption(f"{points} is not what the last close left: its checksum differs; restore a backup of the database")
    return Compared(noted.close_lsn, whole=whole)


def check_beside_writer(points: Path) -> int:
    """
    Do the same for a reader: what a writer that has begun or ended meanwhile makes of note and file says nothing.
    """
    while (before := _note(points)) is not None:
        try:
            return check_clean_close(points, whole=False).close_lsn
        except (Corruption, StorageError):
            if _note(points) == before:
                raise
    return 0


def _note(points: Path) -> bytes | None:
    try:
        return files.read_file(_path(points), 4096)
    except StorageError as error:
        if error.errno != errno.ENOENT:
            raise
        return None


def forget_clean_close(points: Path) -> None:
    """
    Remove the note, durably: points.lmdb is about to change. Where it is gone already, a killed process may have removed it in the page
    cache only.
    """
    if files.exists(_path(points)):
        files.remove(_path(points))
    files.sync_directory(points.parent)


def _path(points: Path) -> Path:
    return points.with_name(points.name + ".sum")


def _read(path: Path) -> CleanClose:
    data = files.read_file(path, 4096)
    if len(data) != _layout.size:
        raise Corruption(f"{path} has {len(data)} bytes, expected {_layout.size}; restore a backup of the database")
    magic, version, _, length, close_lsn, crc = _layout.unpack(data)
    noted = CleanClose(length, crc, close_lsn)
    if data != noted.encode():
        raise Corruption(f"{path} is damaged (magic {magic!r}, version {version}); restore a backup of the database")
    return noted


def _sum(path: Path) -> tuple[int, int]:
    fd = files.open_file(path)
    try:
        length, crc = 0, 0
        while piece := files.read_at(fd, _PIECE, length):
            crc = crc32c(piece, crc)
            length += len(piece)
        return length, crc
    finally:
        files.close(fd)
