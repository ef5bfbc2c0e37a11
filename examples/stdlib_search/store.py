"""
Keep the collected documentation in a vecdb collection and answer questions from it: everything here that touches vecdb.

Invariant: a collection is used only when it holds as many points as its metadata announces and was made by this model and this Python;
a cut first run is continued, anything else is built anew. An index may be searched by several threads.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import operator
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import vecdb
from stdlib_search.collecting import Entry, Library, collect
from stdlib_search.embedding import Embedder
from vecdb import F

COLLECTION = "stdlib"
LAYOUT = 1  # of text and payload: raise it when either changes
BATCH = 256  # points embedded and written at once: what a cut run can lose
KINDS = ("module", "class", "function", "method")


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """
    Hold what a question may be narrowed to; None leaves it open.
    """

    kind: str | None = None
    module: str | None = None
    max_lines: int | None = None

    def __str__(self) -> str:
        """
        Describe the filter for a person.
        """
        parts = []
        if self.kind is not None:
            parts.append(f"kind is {self.kind}")
        if self.module is not None:
            parts.append(f"in module {self.module}")
        if self.max_lines is not None:
            parts.append(f"at most {self.max_lines} lines")
        return ", ".join(parts)

    def to_filter(self) -> Any:
        """
        Build the vecdb filter; None when nothing is narrowed.
        """
        conditions = []
        if self.kind is not None:
            conditions.append(F("kind") == self.kind)
        if self.module is not None:
            conditions.append(F("packages") == self.module)
        if self.max_lines is not None:
            conditions.append(F("lines") <= self.max_lines)
        return functools.reduce(operator.and_, conditions) if conditions else None


@dataclass(frozen=True)
class Answer:
    """
    Hold the hits for a question, best first, with how many points match and what it cost in seconds.
    """

    question: str
    wanted: Wanted
    hits: vecdb.Hits
    matching: int
    points: int
    embed_seconds: float
    search_seconds: float


@dataclass(frozen=True)
class Reporter:
    """
    Hold what is told while an index is made: a sentence; how many of how many points are there, first before any is embedded.
    """

    say: Callable[[str], None]
    progress: Callable[[int, int], None]


def packages_of(module: str) -> list[str]:
    """
    List a module and the packages around it, outermost first: a filter on one of them finds all that is inside.

    >>> packages_of("xml.etree.ElementTree")
    ['xml', 'xml.etree', 'xml.etree.ElementTree']
    """
    return list(itertools.accumulate(module.split("."), "{}.{}".format))


def payload_of(entry: Entry) -> dict[str, Any]:
    """
    Make the payload of an entry; `since` is there only when the docstring tells.
    """
    payload: dict[str, Any] = {
        "module": entry.module,
        "packages": packages_of(entry.module),
        "kind": entry.kind,
        "name": entry.name,
        "signature": entry.signature,
        "lines": entry.lines,
        "doc": entry.summary,
    }
    return payload if entry.since is None else payload | {"since": entry.since}


def _maker(embedder: Embedder) -> dict[str, Any]:
    python = f"{platform.python_implementation()} {platform.python_version()} on {sys.platform}"
    return {"layout": LAYOUT, "model": embedder.name, "python": python}


def _contents(library: Library) -> dict[str, Any]:
    digest = hashlib.sha256("\0".join(f"{entry.name}\0{entry.text}" for entry in library.entries).encode()).hexdigest()
    return {"points": len(library.entries), "contents": digest}


class StdlibIndex:
    """
    Answer questions from a finished collection; a context manager that closes the database.
    """

    def __init__(self, database: vecdb.Database, embedder: Embedder) -> None:
        """
        Take over an open database whose collection is finished.
        """
        self._database = database
        self._collection = database[COLLECTION]
        self._embedder = embedder

    def __enter__(self) -> StdlibIndex:
        """
        Return the index itself.
        """
        return self

    def __exit__(self, *_: object) -> None:
        """
        Close the database.
        """
        self._database.close()

    def __len__(self) -> int:
        """
        Count the points.
        """
        return len(self._collection)

    def ask(self, question: str, *, k: int, wanted: Wanted) -> Answer:
        """
        Find the k entries nearest to a question among those wanted.
        """
        started = time.perf_counter()
        query = self._embedder.embed([question])[0]
        embedded = time.perf_counter()
        chosen = wanted.to_filter()
        hits: vecdb.Hits = self._collection.search(query, k=k, filter=chosen)
        searched = time.perf_counter()
        matching = self._collection.count(chosen)
        return Answer(question, wanted, hits, matching, len(self), embedded - started, searched - embedded)


def open_index(path: str | os.PathLike[str], embedder: Embedder, *, reporter: Reporter, rebuild: bool = False) -> StdlibIndex:
    """
    Open the index at `path`; make it, or what is missing of it, first.

    A finished index is opened read-only: asking changes nothing. Raises vecdb.VecdbError when the path cannot be used.
    """
    finished = None if rebuild else _open_finished(path, embedder)
    if finished is not None:
        return StdlibIndex(finished, embedder)
    database = vecdb.open(path)
    try:
        _build(database, embedder, reporter, rebuild=rebuild)
    except BaseException:
        database.close()
        raise
    return StdlibIndex(database, embedder)


def _open_finished(path: str | os.PathLike[str], embedder: Embedder) -> vecdb.Database | None:
    try:
        database = vecdb.open(path, mode="r")
    except FileNotFoundError:
        return None
    if COLLECTION in database:
        collection = database[COLLECTION]
        metadata = collection.metadata
        if _maker(embedder).items() <= metadata.items() and len(collection) == metadata["points"]:
            return database
    database.close()
    return None


def _build(database: vecdb.Database, embedder: Embedder, reporter: Reporter, *, rebuild: bool) -> None:
    reporter.say("reading the documentation of the standard library ...")
    library = collect()
    metadata = _maker(embedder) | _contents(library)
    reporter.say(f"{len(library.entries):,} documented objects; modules that this system does not have: {len(library.failed)}")
    if COLLECTION in database:
        found = database[COLLECTION].metadata
        different = [key for key in metadata if found.get(key) != metadata[key]]
        if rebuild or different:
            reason = "asked to" if rebuild else f"the one at hand has another {', '.join(different)}"
            reporter.say(f"building the collection anew: {reason}")
            database.drop_collection(COLLECTION)
        else:
            reporter.say(f"continuing with {len(database[COLLECTION]):,} of {len(library.entries):,} points")
    if COLLECTION not in database:
        database.create_collection(COLLECTION, dim=embedder.dim, metric="cosine", metadata=metadata)
    _fill(database[COLLECTION], library, embedder, reporter)


def _fill(collection: vecdb.Collection, library: Library, embedder: Embedder, reporter: Reporter) -> None:
    """
    Embed and write what the collection lacks; each batch is durable before the next is embedded.
    """
    present = set(collection)
    missing = [entry for entry in library.entries if entry.name not in present]
    reporter.progress(len(collection), len(library.entries))
    for batch in _batches(missing):
        vectors = embedder.embed([entry.text for entry in batch])
        collection.upsert([entry.name for entry in batch], vectors, [payload_of(entry) for entry in batch])
        reporter.progress(len(collection), len(library.entries))


def _batches(entries: list[Entry]) -> Iterator[list[Entry]]:
    for start in range(0, len(entries), BATCH):
        yield entries[start : start + BATCH]
