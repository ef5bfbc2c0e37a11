"""
How the state that a kill, a cut or damage left is held against the models that it may show.

Invariant: what a collection shows follows from the bytes of its directory, so that each content is opened once, however many states it is
part of; the database around it is opened in every state. Thread rule: one thread.
"""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Iterable
from pathlib import Path

from crash_life import Model, Points, check_search, difference, read_points, unclean, vector_of
from crash_medium import Image, repeatable

import vecdb

_LATE = {"n": 5, "late": True}


class Judge:
    """
    Opens databases, and remembers what each content of a collection's directory showed.
    """

    def __init__(self) -> None:
        self._shown: dict[bytes, Points] = {}
        self._shown_again: dict[bytes, Points] = {}

    def check(self, path: Path, image: Image, allowed: list[Model], chance: random.Random) -> Model:
        """
        Open the database at `path`, whose files are those of `image`, and hold it against the models it may show. Of a collection whose
        content was not met before: search, write, end it in an orderly way or not, and see that it is equal after another opening. Return
        the model it showed.
        """
        contents = contents_of(image, path.name)
        # Salts that follow from nothing else but this number: states that a recovery makes equal are equal in each byte.
        with repeatable(5):
            with vecdb.open(path, threads=1) as db:
                keys = {name: contents.get(directory_of(db, name), b"") for name in db}
                met = {name: self._shown[key] for name, key in keys.items() if key in self._shown}
                found = {name: met[name] if name in met else read_points(db[name]) for name in db}
                assert any(found == model for model in allowed), difference(found, allowed)
                after = {name: self._use(db[name], found[name], chance) for name in found if name not in met}
                if chance.random() < 0.7:
                    with unclean():
                        db.close()
            self._open_again(path, after)
        self._shown.update((keys[name], found[name]) for name in after)
        return found

    @staticmethod
    def _use(points: vecdb.Collection, shown: Points, chance: random.Random) -> Points:
        """
        Search, and write; return what is there then.
        """
        assert len(points) == len(shown)
        check_search(points, shown, chance)
        row = vector_of(7, points.dim)
        ids: list[int | str] = ["late", *[one for one in shown if isinstance(one, int)][:1]]
        points.upsert(ids, [row] * len(ids), [_LATE] * len(ids))
        return shown | {one: (_LATE, row.tobytes()) for one in ids}

    def _open_again(self, path: Path, expected: Model) -> None:
        """
        Open a database that was closed, and see that these collections show what is expected.
        """
        if not expected:
            return
        with unclean(), vecdb.open(path, threads=1) as db:
            for name, wanted in expected.items():
                number = directory_of(db, name)
                key = content_of((where[len(number) :], data) for where, data in _below(path / number, number))
                shown = self._shown_again.get(key)
                if shown is None:
                    shown = read_points(db[name])
                assert wanted == shown, f"after a second opening: {difference({name: shown}, [{name: wanted}])}"
                self._shown_again[key] = shown


def directory_of(db: vecdb.Database, name: str) -> str:
    """
    Return the name of a collection's directory.
    """
    return f"c-{db._live._catalog.names[name]}"


def contents_of(image: Image, name: str) -> dict[str, bytes]:
    """
    Return the digest of each collection's directory in a database of this name.
    """
    parts: dict[str, list[tuple[str, bytes | None]]] = {}
    for path, content in image.items():
        _, _, below = path.partition(f"{name}/")
        number, _, rest = below.partition("/")
        if number.startswith("c-"):
            parts.setdefault(number, []).append((rest and "/" + rest, content))
    return {number: content_of(part) for number, part in parts.items()}


def content_of(files: Iterable[tuple[str, bytes | None]]) -> bytes:
    """
    Return a digest of paths and what is there; None for a directory.
    """
    digest = hashlib.blake2b(digest_size=16)
    for path, content in sorted(files):
        digest.update(f"{path}\0{content is None}\0{len(content or b'')}\0".encode())
        digest.update(content or b"")
    return digest.digest()


def _below(root: Path, name: str) -> Iterable[tuple[str, bytes | None]]:
    """
    Yield what is at and below a directory, under this name, without LMDB's lock files.
    """
    yield name, None
    for entry in os.scandir(root):
        path = f"{name}/{entry.name}"
        if entry.is_dir(follow_symlinks=False):
            yield from _below(Path(entry.path), path)
        elif not entry.name.endswith("-lock"):
            yield path, Path(entry.path).read_bytes()
