"""
Reading what is left of a damaged points.lmdb, in Python: its tables page by page, with whatever is wrong left out and told.

Invariant: every number is checked against the file before it is used, no page is visited twice, and nothing is believed of a value but its
bytes, which its checksum has to confirm. Thread rule: one thread; the file does not change meanwhile.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from vecdb.storage import files
from vecdb.storage.findings import Findings

_MAGIC, _VERSION = 0xBEEFC0DE, 1
_BRANCH, _LEAF, _OVERFLOW, _META = 0x01, 0x02, 0x04, 0x08
_BIG, _SUBTABLE = 0x01, 0x02
_NO_PAGE = (1 << 64) - 1
_MAX_DEPTH = 32
_PAGE_SIZES = (4096, 8192, 16384, 32768)

_page = struct.Struct("<QHHHH")  # number, pad, flags, lower, upper; an overflow page has its count of pages where lower and upper are
_count = struct.Struct("<I")
_meta = struct.Struct("<II16x")
_table = struct.Struct("<IHH5Q")  # pad, flags, depth, branch pages, leaf pages, overflow pages, entries, root
_tail = struct.Struct("<QQ")  # last page, transaction
_node = struct.Struct("<HHHH")  # low and high half of a size or page, flags (of a branch: the page's highest part), size of the key
_u64 = struct.Struct("<Q")


class _Meta(NamedTuple):
    txn: int
    root: int
    page_size: int


class PageWalk:
    """
    The tables of a file; a context manager.
    """

    def __init__(self, path: Path, findings: Findings) -> None:
        self._path = path
        self._findings = findings
        self._fd = files.open_file(path)
        self._size = files.size(self._fd)
        self._page_size = 4096
        self.tables: dict[bytes, int] = {}

    def __enter__(self) -> PageWalk:
        """
        Find the tables.
        """
        for meta in sorted(self._metas(), reverse=True):
            self._page_size = meta.page_size
            for name, flags, value in self._nodes(meta.root):
                if flags & _SUBTABLE and len(value) == _table.size:
                    self.tables[bytes(name)] = _table.unpack(value)[7]
            if self.tables:
                return self
        self._lost("no page leads to its tables")
        return self

    def __exit__(self, *_: object) -> None:
        """
        Release the file.
        """
        files.close(self._fd)

    def entries(self, table: bytes) -> Iterator[tuple[bytes, bytes]]:
        """
        Yield (key, value) of a table, in the order of keys, as far as pages can be read.
        """
        root = self.tables.get(table)
        if root is None:
            self._lost(f"table {table.decode()} cannot be found")
            return
        for key, flags, value in self._nodes(root):
            if not flags & _SUBTABLE:
                yield bytes(key), bytes(value)

    def _lost(self, what: str) -> None:
        self._findings.problem(f"{self._path}: {what}")

    def _metas(self) -> Iterator[_Meta]:
        for page_size in _PAGE_SIZES:
            for place in (0, page_size):
                data = files.read_at(self._fd, 192, place)
                if len(data) < 192:
                    continue
                _, _, flags, _, _ = _page.unpack_from(data)
                magic, version = _meta.unpack_from(data, 16)
                size = _table.unpack_from(data, 40)[0]
                root = _table.unpack_from(data, 88)[7]
                _, txn = _tail.unpack_from(data, 136)
                if flags & _META and (magic, version, size) == (_MAGIC, _VERSION, page_size):
                    yield _Meta(txn, root, page_size)

    def _nodes(self, root: int) -> Iterator[tuple[memoryview, int, memoryview]]:
        """
        Yield (key, flags, value) of the leaves below a page, in order.
        """
        seen: set[int] = set()
        waiting = [(root, 1)] if root != _NO_PAGE else []
        while waiting:
            number, depth = waiting.pop()
            if number in seen or depth > _MAX_DEPTH:
                self._lost(f"page {number} is led to twice")
                continue
            seen.add(number)
            page = self._read(number)
            if page is None:
                continue
            flags, nodes = page
            if flags & _BRANCH:
                pages = [low | high << 16 | top << 32 for low, high, top, _, _ in nodes]
                waiting += [(below, depth + 1) for below in reversed(pages)]
                continue
            for low, high, kind, key_size, data in nodes:
                value = self._value(low | high << 16, kind, data[key_size:])
                if value is not None:
                    yield data[:key_size], kind, value

    def _read(self, number: int) -> tuple[int, list[tuple[int, int, int, int, memoryview]]] | None:
        """
        Return the flags and nodes of a branch or leaf page, None when it is none; each node with the bytes behind its header.
        """
        start = number * self._page_size
        data = files.read_at(self._fd, self._page_size, start) if number >= 2 and start + self._page_size <= self._size else b""
        if len(data) == self._page_size:
            own, _, flags, lower, upper = _page.unpack_from(data)
            if own == number and flags in (_BRANCH, _LEAF) and 16 <= lower <= upper <= self._page_size and lower % 2 == 0:
                nodes = []
                for place in struct.unpack_from(f"<{(lower - 16) // 2}H", data, 16):
                    if upper <= place <= self._page_size - _node.size:
                        low, high, kind, key_size = _node.unpack_from(data, place)
                        if place + _node.size + key_size <= self._page_size:
                            nodes.append((low, high, kind, key_size, memoryview(data)[place + _node.size :]))
                            continue
                    self._lost(f"page {number} has a node outside of it")
                return flags, nodes
        self._lost(f"page {number} cannot be read, and what it leads to is lost")
        return None

    def _value(self, size: int, kind: int, rest: memoryview) -> memoryview | None:
        if not kind & _BIG:
            return rest[:size] if size <= len(rest) else None
        if len(rest) < _u64.size:
            return None
        start = _u64.unpack_from(rest)[0] * self._page_size
        head = files.read_at(self._fd, 16, start) if 0 < start <= self._size - 16 else b""
        if len(head) < 16 or not _page.unpack_from(head)[2] & _OVERFLOW or start + 16 + size > self._size:
            self._lost(f"page {start // self._page_size}, which holds a long value, cannot be read")
            return None
        if size > _count.unpack_from(head, 12)[0] * self._page_size - 16:
            return None
        return memoryview(files.read_at(self._fd, size, start + 16))
