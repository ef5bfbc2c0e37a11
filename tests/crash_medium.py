"""
A medium with a page cache, replayed from recorded file calls, so that the state at every point between two calls can be rebuilt as a
process kill or a power cut would leave it.

The model: a sync of a file makes its writes and its length so far durable; a sync of a directory its names so far. Of what came after, any
512-byte sector may hold any of its later versions, the length may be any that the file had, and each later change of a name may have
happened or not, one by one; a rename happens as a whole. LMDB writes its file itself: a commit is found by comparing the file before and
after, and becomes the calls that LMDB makes: pages, sync, meta page, sync.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

from storage_doubles import SECTOR, QuickSystem

from vecdb.storage import points, segment_file
from vecdb.storage.base_state import BaseState
from vecdb.storage.points import PointsFile
from vecdb.storage.system import Buffer

PAGE = 4096
_LOCK_SUFFIX = "-lock"

Image = dict[str, bytes | None]
"""
Relative path to content; None for a directory.
"""


@dataclass(frozen=True, slots=True)
class Event:
    """
    A call that changed something: what it was, the path or the number of the file, and what else belongs to it.
    """

    call: str
    path: str = ""
    target: str = ""
    file: int = -1
    offset: int = 0
    data: bytes = b""


@dataclass(slots=True)
class _File:
    """
    A file: what the page cache has, what is durable, and the writes in between.
    """

    cached: bytearray = field(default_factory=bytearray)
    durable: bytes = b""
    pending: list[tuple[int, bytes]] = field(default_factory=list)

    def copy(self) -> _File:
        return _File(self.cached[:], self.durable, self.pending[:])

    def write(self, offset: int, data: bytes) -> None:
        _put(self.cached, offset, data)
        self.pending.append((offset, data))

    def sync(self) -> None:
        self.durable, self.pending = bytes(self.cached), []

    def torn(self, rng: random.Random) -> bytes:
        """
        Return what may be on the medium: each sector as of some moment since the last sync, the length likewise.
        """
        if not self.pending:
            return self.durable
        versions: dict[int, list[tuple[int, bytes]]] = {}
        for offset, written in self.pending:
            for sector in range(offset // SECTOR, (offset + len(written) - 1) // SECTOR + 1):
                start, end = max(offset, sector * SECTOR), min(offset + len(written), (sector + 1) * SECTOR)
                versions.setdefault(sector, []).append((start, written[start - offset : end - offset]))
        data = bytearray(self.durable)
        likely = rng.choice((0.0, 0.1, 0.5, 0.9, 1.0))
        for parts in versions.values():
            kept = rng.randint(1, len(parts)) if rng.random() < likely else 0
            for start, part in parts[:kept]:
                _put(data, start, part)
        if rng.random() < 0.3:
            data.extend(bytes(len(self.cached) - len(data)))
        return bytes(data)


def _put(data: bytearray, offset: int, written: bytes) -> None:
    if len(data) < offset:
        data.extend(bytes(offset - len(data)))
    data[offset : offset + len(written)] = written


@dataclass(slots=True)
class _Directory:
    """
    Names, those that are durable, and the changes in between; a name leads to the number of a file or directory.
    """

    names: dict[str, int] = field(default_factory=dict)
    durable: dict[str, int] = field(default_factory=dict)
    pending: list[tuple[str, str, int]] = field(default_factory=list)

    def copy(self) -> _Directory:
        return _Directory(dict(self.names), dict(self.durable), self.pending[:])

    def change(self, kind: str, name: str, node: int = -1, target: str = "") -> None:
        _rename(self.names, kind, name, node, target)
        self.pending.append((f"{kind}/{target}", name, node))

    def sync(self) -> None:
        self.durable, self.pending = dict(self.names), []

    def torn(self, rng: random.Random) -> dict[str, int]:
        """
        Return the names that may be on the medium.
        """
        likely = rng.choice((0.0, 0.5, 1.0))
        names = dict(self.durable)
        for change, name, node in self.pending:
            if rng.random() < likely:
                kind, _, target = change.partition("/")
                _rename(names, kind, name, node, target)
        return names


def _rename(names: dict[str, int], kind: str, name: str, node: int, target: str) -> None:
    if kind == "add":
        names[name] = node
    else:
        names.pop(name, None)
    if kind == "rename":
        names[target] = node


class Medium:
    """
    A tree of files below one directory.
    """

    def __init__(self) -> None:
        self._nodes: dict[int, _File | _Directory] = {0: _Directory()}

    @staticmethod
    def of(image: Image) -> Medium:
        """
        Return a medium on which everything is durable.
        """
        medium = Medium()
        for number, (path, content) in enumerate(image.items()):
            if content is None:
                medium.apply(Event("mkdir", path, file=number + 1))
            else:
                medium.apply(Event("create", path, file=number + 1))
                medium.apply(Event("write", file=number + 1, data=content))
        for node in medium._nodes.values():
            node.sync()
        return medium

    def copy(self) -> Medium:
        """
        Return a copy of its own.
        """
        made = Medium()
        made._nodes = {number: node.copy() for number, node in self._nodes.items()}
        return made

    def apply(self, event: Event) -> None:
        """
        Let a call happen.
        """
        if event.call in ("write", "sync"):
            file = self._nodes[event.file]
            assert isinstance(file, _File)
            file.write(event.offset, event.data) if event.call == "write" else file.sync()
            return
        directory, name = self._parent(event.path)
        if event.call == "sync_directory":
            self._directory(event.path).sync()
        elif event.call == "rename":
            target, new = self._parent(event.target)
            assert target is directory, "a rename between directories is not part of the model"
            directory.change("rename", name, directory.names[name], new)
        elif event.call in ("create", "mkdir"):
            self._nodes[event.file] = _File() if event.call == "create" else _Directory()
            directory.change("add", name, event.file)
        else:
            directory.change("remove", name)

    def _parent(self, path: str) -> tuple[_Directory, str]:
        above, _, name = path.rpartition("/")
        return self._directory(above), name

    def _directory(self, path: str) -> _Directory:
        node = self._nodes[0]
        for name in filter(None, path.split("/")):
            assert isinstance(node, _Directory)
            node = self._nodes[node.names[name]]
        assert isinstance(node, _Directory)
        return node

    @property
    def next_number(self) -> int:
        """
        A number that no file has, or had.
        """
        return max(self._nodes) + 1

    def numbers(self) -> dict[str, int]:
        """
        Return the number of each path.
        """
        return dict(self._walk(0, "", lambda directory: directory.names))

    def after_kill(self) -> Image:
        """
        Return what the page cache holds.
        """
        return self._image(lambda directory: directory.names, lambda file: bytes(file.cached))

    def after_loss(self) -> Image:
        """
        Return what is durable, and nothing else.
        """
        return self._image(lambda directory: directory.durable, lambda file: file.durable)

    def after_cut(self, rng: random.Random) -> Image:
        """
        Return what a power cut may leave.
        """
        return self._image(lambda directory: directory.torn(rng), lambda file: file.torn(rng))

    def _image(self, names: Callable[[_Directory], dict[str, int]], content: Callable[[_File], bytes]) -> Image:
        nodes = ((path, self._nodes[number]) for path, number in self._walk(0, "", names))
        return {path: content(node) if isinstance(node, _File) else None for path, node in nodes}

    def _walk(self, number: int, above: str, names: Callable[[_Directory], dict[str, int]]) -> Iterator[tuple[str, int]]:
        node = self._nodes[number]
        if isinstance(node, _Directory):
            for name, child in names(node).items():
                yield above + name, child
                yield from self._walk(child, f"{above}{name}/", names)


class Recorder(QuickSystem):
    """
    Real files below `root`, and the list of the calls that changed them; the calls go to `events`.
    """

    def __init__(self, root: Path, medium: Medium) -> None:
        self.root = root
        self.events: list[Event] = []
        self._numbers: dict[int, int] = {}
        self._lmdb: dict[int, bytes] = {}
        self._next = medium.next_number
        for path, number in medium.numbers().items():
            real = root / path
            self._numbers[real.stat().st_ino] = number
            if path.endswith(points.FILE_NAME):
                self._lmdb[number] = real.read_bytes()

    def _name(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix() if path != self.root else ""

    def _new(self, call: str, path: Path) -> int:
        number, self._next = self._next, self._next + 1
        self._numbers[path.stat().st_ino] = number
        self.events.append(Event(call, self._name(path), file=number))
        return number

    def open(self, path: Path, flags: int, mode: int) -> int:
        created = flags & os.O_CREAT and not path.exists()
        fd = super().open(path, flags, mode)
        if created:
            self._new("create", path)
        return fd

    def pwritev(self, fd: int, buffers: Sequence[Buffer], offset: int) -> int:
        data = b"".join(buffers)
        self.events.append(Event("write", file=self._numbers[os.fstat(fd).st_ino], offset=offset, data=data))
        return super().pwritev(fd, [data], offset)

    def sync_data(self, fd: int) -> None:
        self.events.append(Event("sync", file=self._numbers[os.fstat(fd).st_ino]))

    def sync_directory(self, fd: int) -> None:
        self.events.append(Event("sync_directory", self._name(Path(f"/proc/self/fd/{fd}").readlink())))

    def rename(self, source: Path, target: Path) -> None:
        super().rename(source, target)
        self.events.append(Event("rename", self._name(source), self._name(target)))

    def unlink(self, path: Path) -> None:
        super().unlink(path)
        if not path.name.endswith(_LOCK_SUFFIX):
            self.events.append(Event("unlink", self._name(path)))

    def mkdir(self, path: Path, mode: int) -> None:
        super().mkdir(path, mode)
        self._new("mkdir", path)

    def rmdir(self, path: Path) -> None:
        super().rmdir(path)
        self.events.append(Event("rmdir", self._name(path)))

    def committed(self, path: Path) -> None:
        """
        Take in what LMDB has written.
        """
        inode = path.stat().st_ino
        number = self._numbers[inode] if inode in self._numbers else self._new("create", path)
        before, after = self._lmdb.get(number, b""), path.read_bytes()
        self._lmdb[number] = after
        changed = [at for at in range(0, len(after), PAGE) if before[at : at + PAGE] != after[at : at + PAGE]]
        for pages in ([at for at in changed if at >= 2 * PAGE], [at for at in changed if at < 2 * PAGE]):
            self.events += [Event("write", file=number, offset=at, data=after[at : at + PAGE]) for at in pages]
            if pages:
                self.events.append(Event("sync", file=number))


@contextmanager
def lmdb_seen(recorder: Recorder) -> Iterator[None]:
    """
    Tell the recorder of each commit of LMDB for the time of a with block.
    """
    create, write = PointsFile.create, PointsFile.write

    def created(path: Path, state: BaseState) -> None:
        create(path, state)
        recorder.committed(path)

    @contextmanager
    def written(self: PointsFile) -> Iterator[Any]:
        try:
            with write(self) as transaction:
                yield transaction
        finally:
            recorder.committed(self.path)

    with mock.patch.object(PointsFile, "create", staticmethod(created)), mock.patch.object(PointsFile, "write", written):
        yield


def repeatable(first: int) -> AbstractContextManager[Any]:
    """
    Let the salts of segments follow from `first`, so that the same calls give the same bytes.
    """
    chance = random.Random(first)
    return mock.patch.object(segment_file, "secrets", SimpleNamespace(randbits=chance.getrandbits))


def materialise(image: Image, target: Path) -> None:
    """
    Write the files of an image below a directory that does not exist.
    """
    target.mkdir()
    for path, content in image.items():
        if content is None:
            (target / path).mkdir(mode=0o700)
        else:
            fd = os.open(f"{target}/{path}", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            os.write(fd, content)
            os.close(fd)


def image_of(root: Path) -> Image:
    """
    Return what is below a directory, without LMDB's lock files.
    """
    found = sorted(path for path in root.rglob("*") if not path.name.endswith(_LOCK_SUFFIX))
    return {path.relative_to(root).as_posix(): None if path.is_dir() else path.read_bytes() for path in found}
