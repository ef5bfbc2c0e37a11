"""
Make the golden database of the present file format: python tests/golden/make.py

It writes `format-<n>.tar.xz`, the files as a kill leaves them, and `format-<n>.json`, what they hold. Both are made once for each format
that is released, and never again: later versions of vecdb must read them.
"""

from __future__ import annotations

import io
import json
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import vecdb
from vecdb.storage.framing import FORMAT

HERE = Path(__file__).resolve().parent
_CITIES = ["London", "Zürich", "東京", "", None]
Points = dict[int | str, dict[str, Any]]


def payload_of(number: int) -> dict[str, Any]:
    """
    Return a payload: together they have every kind of value.
    """
    return {
        "n": number,
        "city": _CITIES[number % len(_CITIES)],
        "price": number / 4,
        "big": 2**63 + number,
        "new": number % 3 == 0,
        "tags": ["odd" if number % 2 else "even", number % 7],
        "when": f"2024-02-{1 + number % 28:02d}T12:00:00Z",
        "where": {"lat": number % 90, "lon": -(number % 180)},
        "parts": [{"kind": "a", "size": number % 5}, {"kind": "b", "size": number % 3}],
        "text": f"number {number} of the articles",
    }


def _vector(random: np.random.Generator, dim: int) -> list[float]:
    return [float(value) / 8 for value in random.integers(1, 40, dim) * random.choice([-1, 1], dim)]


def fill_plain(collection: vecdb.Collection, points: Points, first: int, count: int) -> None:
    """
    Write points of one vector each, ints and strs as ids, some without a vector.
    """
    random = np.random.default_rng(first + 1)
    for number in range(first, first + count):
        one: int | str = number if number % 2 else f"id-{number}"
        vector = None if number % 10 == 3 else _vector(random, 6)
        points[one] = {"vector": vector, "payload": payload_of(number)}
    new = list(points)[-count:]
    collection.upsert(new, [points[one]["vector"] for one in new], [points[one]["payload"] for one in new])


def change_plain(collection: vecdb.Collection, points: Points) -> None:
    """
    Replace, change and delete some of them.
    """
    ids = list(points)
    for one in ids[::11]:
        points[one] = {"vector": [1.0, 0.5, 0.25, 0.0, -1.0, 2.0], "payload": {"replaced": True}}
        collection.upsert(one, points[one]["vector"], points[one]["payload"])
    changed = ids[5::13]
    collection.set_payload({"seen": [1, None]}, ids=changed)
    for one in changed:
        points[one]["payload"] = {**points[one]["payload"], "seen": [1, None]}
    gone = ids[7::17]
    collection.delete(gone)
    for one in gone:
        del points[one]


def fill_named(collection: vecdb.Collection, points: Points) -> None:
    """
    Write points with two named vectors, each of which some lack.
    """
    random = np.random.default_rng(3)
    for number in range(40):
        title = _vector(random, 4) if number % 3 else None
        image = _vector(random, 3) if number % 4 else None
        points[number] = {"vector": {"title": title, "image": image}, "payload": payload_of(number)}
    vectors = {name: [point["vector"][name] for point in points.values()] for name in ("title", "image")}
    collection.upsert(list(points), vectors, [point["payload"] for point in points.values()])


def make(path: Path) -> dict[str, Any]:
    """
    Make the database and return what it holds; it is left open, as a kill would find it.
    """
    plain: Points = {}
    named: Points = {}
    database = vecdb.open(path)
    articles = database.create_collection("articles", dim=6, metric="l2", metadata={"made": "for ever"})
    fill_plain(articles, plain, 0, 150)
    change_plain(articles, plain)
    articles.create_index("city")
    vectors = {"title": vecdb.VectorConfig(4, metric="cosine"), "image": vecdb.VectorConfig(3, metric="dot", quantization=None)}
    pictures = database.create_collection("pictures ∞", vectors=vectors)
    fill_named(pictures, named)
    articles.checkpoint()
    fill_plain(articles, plain, 150, 50)  # in the log alone, as all of the other collection
    change_plain(articles, plain)
    held = {"articles": [[one, point["vector"], point["payload"]] for one, point in plain.items()]}
    held["pictures ∞"] = [[one, point["vector"], point["payload"]] for one, point in named.items()]
    return {"format": FORMAT, "collections": held}


def main() -> None:
    """
    Write both files, unless they are there.
    """
    target = HERE / f"format-{FORMAT}.tar.xz"
    if target.exists():
        raise SystemExit(f"{target} exists, and stays as it is: a new format gets a new one")
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "golden.vecdb"
        held = make(path)
        with tarfile.open(target, "w:xz") as archive:
            for file in sorted(path.rglob("*")):
                name = str(file.relative_to(path))
                entry = tarfile.TarInfo(name)
                if file.is_dir():
                    entry.type, entry.mode = tarfile.DIRTYPE, 0o700
                    archive.addfile(entry)
                elif "derived" not in file.parts and file.name != "LOCK":
                    data = file.read_bytes()
                    entry.size, entry.mode = len(data), 0o600
                    archive.addfile(entry, io.BytesIO(data))
    (HERE / f"format-{FORMAT}.json").write_text(json.dumps(held, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
