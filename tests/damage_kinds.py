"""
What may be damaged: small databases, left in three ways, and each damage to each of their files.

Invariant: the cases of a database are a function of its files. One thread at a time.
"""

from __future__ import annotations

import os
import random
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

from crash_life import DIM, NAME, Life, Model, Points, vector_of
from crash_medium import PAGE, Image, image_of, repeatable
from crash_states import copy_of
from storage_doubles import SECTOR

from vecdb.storage import checkpoint

BASES = ("closed", "killed", "idle")
POINTS = "points.lmdb"


@dataclass(frozen=True, slots=True)
class Base:
    """
    A database as it was left, what it holds, what it may hold without calls at the end of its log, and the files as they were before.
    """

    image: Image
    model: Model
    prefixes: list[Model]
    older: dict[str, list[bytes]]
    untouched: dict[str, Points] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Case:
    """
    One damage to one file of a base: a bit of a byte flipped, cut to a length, a sector zeroed, removed, or an older version put back.
    """

    base: str
    path: str
    kind: str
    place: int = 0
    bit: int = 0

    def apply(self, base: Base) -> Image:
        image = dict(base.image)
        data = bytearray(image[self.path] or b"")
        if self.kind == "removed":
            del image[self.path]
            return image
        if self.kind == "flipped":
            data[self.place] ^= 1 << self.bit
        elif self.kind == "cut":
            del data[self.place :]
        elif self.kind == "zeroed":
            data[self.place : self.place + SECTOR] = bytes(len(data[self.place : self.place + SECTOR]))
        else:
            data[:] = base.older[self.path][self.place]
        image[self.path] = bytes(data)
        return image


# ---- the database ----


def make_bases(home: Path) -> dict[str, Base]:
    """
    Make the database, in a process that is of no further use, and return its states.
    """
    chance = random.Random(7)
    bases: dict[str, Base] = {}
    history: list[Image] = []
    with repeatable(7), mock.patch.object(os, "urandom", chance.randbytes), mock.patch.object(checkpoint, "GRAPH_LEAST_ROWS", 4):
        life = Life(home / NAME, {})
        life.create()
        life.points.create_index("n", "integer")
        for number in range(8):
            life.upsert()
            if number in (1, 4):
                life.checkpoint()
                history.append(image_of(home))
            if number == 2:
                life.db.create_collection("b", dim=DIM, metric="l2").upsert(1, vector_of(1), {"n": 1})
                life.model["b"] = {1: ({"n": 1}, vector_of(1).tobytes())}
        life.update()
        life.delete()
        life.payload()
        life.points._state.core.set_threads(1)
        life.points.wait_indexed()
        life.compact()
        history.append(image_of(home))
        life.upsert()
        life.checkpoint()
        history.append(image_of(home))
        life.close()
        life.upsert()
        life.db.close()
        history.append(image_of(home))
        bases["closed"] = Base(image_of(home), copy_of(life.model), [], older_versions(history))
        life.close()
        prefixes = [copy_of(life.model)]
        for write in (life.upsert, life.update, life.delete, life.payload, life.upsert):
            write()
            history.append(image_of(home))
            prefixes.append(copy_of(life.model))
        for name in ("killed", "idle"):
            if name == "idle":
                life.idle()
            image = image_of(home)
            lock = next(path for path in home.rglob(POINTS + "-lock"))
            image[lock.relative_to(home).as_posix()] = lock.read_bytes()
            bases[name] = Base(image, life.model, prefixes, older_versions(history))
    return bases


def older_versions(history: Sequence[Image]) -> dict[str, list[bytes]]:
    """
    Return the distinct contents that each file had.
    """
    older: dict[str, dict[bytes, None]] = {}
    for image in history:
        for path, content in image.items():
            if content is not None:
                older.setdefault(path, {})[content] = None
    return {path: list(contents) for path, contents in older.items()}


def groups_of(name: str, base: Base) -> Iterator[Sequence[Case]]:
    """
    Return every damage to a base, a sequence a file of flipped bytes, and of what else may happen to it.
    """
    for path, content in base.image.items():
        if content is None:
            continue
        yield Flips(name, path, len(content), sorted(set(header_bytes(path, content))))
        step = max(1, len(content) // 200)
        others = [Case(name, path, "cut", length) for length in range(0, len(content), step)]
        others += [Case(name, path, "zeroed", place) for place in range(0, len(content), SECTOR)]
        others += [Case(name, path, "removed")]
        others += [Case(name, path, "older", i) for i, older in enumerate(base.older.get(path, ())) if older != content]
        yield others


class Flips(Sequence[Case]):
    """
    A flipped bit in each byte of a file, each of the eight in those of its headers; made when they are asked for, since they are many.
    """

    def __init__(self, base: str, path: str, length: int, headers: Sequence[int]) -> None:
        self._base, self._path, self._headers = base, path, headers
        known = set(headers)
        self._others = [place for place in range(length) if place not in known]

    def __len__(self) -> int:
        return 8 * len(self._headers) + len(self._others)

    def __getitem__(self, number: Any) -> Any:
        if isinstance(number, slice):
            return [self[one] for one in range(*number.indices(len(self)))]
        place, bit = divmod(number, 8)
        if place < len(self._headers):
            return Case(self._base, self._path, "flipped", self._headers[place], bit)
        place = self._others[number - 8 * len(self._headers)]
        # Which bit of a byte that is no header's: any, and always the same.
        return Case(self._base, self._path, "flipped", place, zlib.crc32(f"{self._base} {self._path} {place}".encode()) % 8)


def header_bytes(path: str, content: bytes) -> Iterator[int]:
    """
    Return the places of the bytes that headers are made of: of files, records, and pages.
    """
    if path.endswith(POINTS):
        for page in range(0, len(content), PAGE):
            yield from range(page, page + (152 if page < 2 * PAGE else 16))
    elif path.endswith(".log"):
        yield from range(64)
        for place in range(64, len(content), 8):
            if content[place : place + 4] == b"VWAL":
                yield from range(place, place + 40)
    else:
        yield from range(min(len(content), 276 if path.endswith(".derived") else 40 if path.endswith(".sum") else 20))
