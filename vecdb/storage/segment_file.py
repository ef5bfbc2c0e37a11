"""
A segment that is being written: prepared aside (filled with zeros and synced, so that a record never needs space), published under its name
once its header is durable.

Invariant: a file under a segment's name has a durable header and nothing but zeros and records behind it; files are never recycled.
Thread rule: prepared by whoever places calls, or ahead of that by any thread; published and written by whoever leads.
"""

from __future__ import annotations

import contextlib
import secrets
from pathlib import Path

from vecdb.errors import StorageError
from vecdb.storage import files
from vecdb.storage.log_reader import segment_name
from vecdb.storage.segments import RESERVE, SEGMENT_HEADER, SegmentHeader

SMALLEST = 256 << 10
LARGEST = 16 << 20
_ASIDE = ".tmp"
_PAGE = 4096


class SegmentFile:
    """
    An open segment: descriptor, length, and the salt of its checksums; while it is aside, the path it has there.
    """

    def __init__(self, aside: Path, fd: int, size: int) -> None:
        self.fd = fd
        self.size = size
        self.salt: int = secrets.randbits(32)
        self._aside = aside

    @classmethod
    def prepare(cls, aside: Path, size: int, *, piece: int = LARGEST) -> SegmentFile:
        """
        Make the file aside, all zeros, synced after each `piece` bytes; raises StorageError, and leaves nothing, when there is no room.
        """
        if files.exists(aside):
            files.remove(aside)
        fd = files.create_file(aside)
        segment = cls(aside, fd, size)
        try:
            for start in range(0, size, piece):
                files.write_zeros(fd, min(piece, size - start), start)
                files.sync_data(fd)
        except BaseException:
            segment.discard()
            raise
        return segment

    def publish(self, header: SegmentHeader) -> None:
        """
        Write the header, sync what is in the file, and give it its name; repeated after an interrupt, it goes on where it was.
        """
        path = self._aside.with_name(segment_name(header.first_lsn))
        if files.exists(self._aside):
            files.write_at(self.fd, [header.encode()], 0)
            files.sync_data(self.fd)
            files.rename(self._aside, path)
        elif not files.is_at(self.fd, path):
            raise StorageError(f"{self._aside} is gone: something else removed a file of an open database; close it and open it again")
        files.sync_directory(path.parent)

    def close(self) -> None:
        """
        Close the descriptor; idempotent.
        """
        fd, self.fd = self.fd, -1
        if fd >= 0:
            files.close(fd)

    def discard(self) -> None:
        """
        Close and remove a file that was not published. What cannot be removed now is removed when the log is next opened for writing.
        """
        with contextlib.suppress(StorageError):
            self.close()
        with contextlib.suppress(StorageError):
            files.remove(self._aside)


def aside_of(directory: Path, first_lsn: int) -> Path:
    """
    Return the path of a segment of known first LSN until it is published.
    """
    return directory / (segment_name(first_lsn) + _ASIDE)


def remove_unpublished(directory: Path) -> None:
    """
    Remove what an earlier process prepared and never published.
    """
    for name in files.list_directory(directory):
        if name.endswith(_ASIDE):
            files.remove(directory / name)


def pays_to_leave(used: int) -> bool:
    """
    Return whether a segment of which so many bytes are used is worth leaving at a checkpoint.
    """
    return used > SMALLEST // 2


def size_after_switch(size: int) -> int:
    """
    Return the length of the segment after one of `size` bytes that a checkpoint has made obsolete.
    """
    return max(SMALLEST, min(LARGEST, size) // 2)


def next_size(size: int, used: int, needed: int) -> int:
    """
    Return the length of the segment after one of `size` bytes, of which `used` were: longer after a full one, shorter after a nearly
    empty one, and in any case long enough for a group of `needed` bytes.

    >>> next_size(SMALLEST, SMALLEST, 0) // SMALLEST
    2
    """
    target = 2 * size if 2 * used > size else size // 2 if 8 * used < size else size
    return max(SMALLEST, min(LARGEST, target), -(-least_size(needed) // _PAGE) * _PAGE)


def least_size(needed: int) -> int:
    """
    Return the length that a segment must have for a group of `needed` bytes.
    """
    return SEGMENT_HEADER + needed + RESERVE
