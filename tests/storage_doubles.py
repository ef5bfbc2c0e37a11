"""
Doubles for the seam of `vecdb.storage.files`: some that fail calls, and one that knows what is on the medium and what only in the page
cache, so that a test can cut the power.

The model of a medium: a sync of a file makes its writes so far durable; a sync of a directory makes its names so far durable; of what came
after, any 512-byte sector may hold any of its later versions, and the names are as they were or as they are.
"""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Callable, Sequence
from pathlib import Path

from vecdb.storage.system import Buffer, System

SECTOR = 512


class Stopped(BaseException):
    """
    The process is dead: no call after this one has an effect.
    """


class QuickSystem(System):
    """
    Syncs nothing: no test cuts this machine's power.
    """

    def start_writing(self, fd: int, offset: int, count: int) -> None:
        os.fstat(fd)

    def sync_data(self, fd: int) -> None:
        os.fstat(fd)

    def sync_directory(self, fd: int) -> None:
        os.fstat(fd)


class CountingSystem(QuickSystem):
    """
    Calls `before(name, number)` before each call that changes something or reads; `calls` lists the names.
    """

    CALLS = (
        "open",
        "close",
        "pread",
        "map",
        "pwritev",
        "sync_data",
        "sync_directory",
        "rename",
        "unlink",
        "mkdir",
        "listdir",
        "fstat",
        "lstat",
    )

    def __init__(self) -> None:
        self.calls: list[str] = []

    def before(self, name: str) -> None:
        """
        Do what the double is for; raising keeps the call from happening.
        """

    def __getattribute__(self, name: str) -> object:
        method = super().__getattribute__(name)
        if name not in CountingSystem.CALLS:
            return method

        def call(*arguments: object) -> object:
            self.before(name)
            self.calls.append(name)
            return method(*arguments)

        return call


class FaultySystem(CountingSystem):
    """
    Fails call number `at` (from 0) of those named in `names` with `error`, and every later one of them when sticky.
    """

    def __init__(self, *, at: int, error: int, sticky: bool, names: Sequence[str] = CountingSystem.CALLS) -> None:
        super().__init__()
        self.at = at
        self.error = error
        self.sticky = sticky
        self.names = frozenset(names)
        self.seen = 0
        self.failed: list[str] = []

    def before(self, name: str) -> None:
        if name not in self.names:
            return
        number, self.seen = self.seen, self.seen + 1
        if number == self.at or (self.sticky and number > self.at):
            self.failed.append(name)
            raise OSError(self.error, os.strerror(self.error))


class ShortWrites(QuickSystem):
    """
    Accepts at most a few bytes a write.
    """

    def __init__(self, most: int) -> None:
        self.most = most

    def pwritev(self, fd: int, buffers: Sequence[Buffer], offset: int) -> int:
        data = b"".join(buffers)[: self.most]
        return os.pwrite(fd, data, offset)


class FullDisk(QuickSystem):
    """
    Takes no byte beyond what the files have already: growing one raises ENOSPC while `full`.
    """

    def __init__(self) -> None:
        self.full = False

    def pwritev(self, fd: int, buffers: Sequence[Buffer], offset: int) -> int:
        if self.full and offset + sum(map(len, buffers)) > os.fstat(fd).st_size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return os.pwritev(fd, buffers, offset)


class _Inode:
    """
    A file's durable bytes and the writes since.
    """

    def __init__(self) -> None:
        self.durable = bytearray()
        self.pending: list[tuple[int, bytes]] = []

    def cached(self) -> bytearray:
        data = bytearray(self.durable)
        for offset, written in self.pending:
            _put(data, offset, written)
        return data

    def torn(self, rng: random.Random) -> bytearray:
        """
        Return what may be on the medium after a cut: each sector in the version of some moment since the last sync.
        """
        writes: dict[int, list[tuple[int, bytes]]] = {}
        for offset, written in self.pending:
            for sector in range(offset // SECTOR, (offset + len(written) - 1) // SECTOR + 1):
                start, end = max(offset, sector * SECTOR), min(offset + len(written), (sector + 1) * SECTOR)
                writes.setdefault(sector, []).append((start, written[start - offset : end - offset]))
        data = bytearray(self.durable)
        likely = rng.choice((0.0, 0.1, 0.5, 0.9, 1.0))
        for versions in writes.values():
            kept = rng.randint(1, len(versions)) if rng.random() < likely else 0
            for start, part in versions[:kept]:
                _put(data, start, part)
        return data


def _put(data: bytearray, offset: int, written: bytes) -> None:
    if len(data) < offset:
        data.extend(bytes(offset - len(data)))
    data[offset : offset + len(written)] = written


class World(System):
    """
    A real directory tree below `root`, of which is known what a power cut would leave. Stops after call number `stop_after`.
    """

    CHANGES = ("open", "pwritev", "sync_data", "sync_directory", "rename", "unlink", "mkdir")

    def __init__(self, root: Path) -> None:
        self.root = root
        self.count = 0
        self.stop_after: int | None = None
        self.on_change: Callable[[], None] | None = None
        self._inodes: dict[int, _Inode] = {}
        self._names: dict[Path, int] = {}
        self._durable_names: dict[Path, int] = {}
        self._next = 0
        self._open: dict[int, int] = {}

    def _step(self) -> None:
        if self.stop_after is not None and self.count >= self.stop_after:
            raise Stopped
        self.count += 1

    def _happened(self) -> None:
        if self.on_change is not None:
            self.on_change()

    def open(self, path: Path, flags: int, mode: int) -> int:
        created = flags & os.O_CREAT and not path.exists()
        if created or self.stop_after == self.count:
            self._step()
        fd = super().open(path, flags, mode)
        if created:
            self._inodes[self._next] = _Inode()
            self._names[path] = self._next
            self._next += 1
        self._open[fd] = self._names.get(path, -1)
        if created:
            self._happened()
        return fd

    def pwritev(self, fd: int, buffers: Sequence[Buffer], offset: int) -> int:
        self._step()
        data = b"".join(buffers)
        self._inodes[self._open[fd]].pending.append((offset, data))
        written = super().pwritev(fd, [data], offset)
        assert len(data) == written
        self._happened()
        return written

    def start_writing(self, fd: int, offset: int, count: int) -> None:
        assert offset + count <= os.fstat(fd).st_size  # what is not synced may be on the medium anyway

    def sync_data(self, fd: int) -> None:
        self._step()
        inode = self._inodes[self._open[fd]]
        inode.durable, inode.pending = inode.cached(), []
        self._happened()

    def sync_directory(self, fd: int) -> None:
        self._step()
        self._durable_names = dict(self._names)
        self._happened()

    def rename(self, source: Path, target: Path) -> None:
        self._step()
        super().rename(source, target)
        self._names[target] = self._names.pop(source)
        self._happened()

    def unlink(self, path: Path) -> None:
        self._step()
        super().unlink(path)
        del self._names[path]
        self._happened()

    def mkdir(self, path: Path, mode: int) -> None:
        self._step()
        super().mkdir(path, mode)

    def after_cut(self, target: Path, rng: random.Random) -> None:
        """
        Write below target what a power cut at this moment may leave.
        """
        names = rng.choice((self._names, self._durable_names))
        self._write(target, names, lambda inode: inode.torn(rng))

    def after_kill(self, target: Path) -> None:
        """
        Write below target what the page cache holds.
        """
        self._write(target, self._names, _Inode.cached)

    def _write(self, target: Path, names: dict[Path, int], content: Callable[[_Inode], bytearray]) -> None:
        for path, number in names.items():
            copy = target / path.relative_to(self.root)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(content(self._inodes[number]))
