"""
Database: a directory (or a piece of memory) of named collections, and `open`.

A Database is a handle on a live database that other handles may share; closing one leaves the others alone. Any thread may use it.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from vecdb import _convert as convert
from vecdb import _registry
from vecdb._arguments import is_one_of
from vecdb._assemble import all_field_options, check_agreement, thread_count
from vecdb._backing_up import backup
from vecdb._live import LiveDatabase, OpenCollection, check_name
from vecdb._progress import check_progress
from vecdb.collection import Collection
from vecdb.errors import Closed, InvalidArgument, ReadOnly
from vecdb.types import MetricName, Report, VectorConfig

Mode = Literal["a", "r", "x"]
Durability = Literal["fsync", "os"]

MEMORY = ":memory:"
DEFAULT_TIMEOUT = 5.0
_UNSET: Any = object()


class Database:
    """
    Named collections in one directory, or in memory; made by `vecdb.open`.

    >>> import vecdb
    >>> with vecdb.open(":memory:") as db:
    ...     products = db.create_collection("products", dim=3)
    ...     list(db)
    ['products']
    """

    def __init__(self, live: LiveDatabase, mode: Mode) -> None:
        self._live = live
        self._mode = mode
        # Giving the handle back when it is collected keeps a forgotten database from holding its files for ever.
        self._release = weakref.finalize(self, _registry.forget, live)
        self._release.atexit = False
        self._is_closed = False

    # ---- collections ----

    def create_collection(
        self,
        name: str,
        dim: int | None = None,
        *,
        metric: MetricName = "cosine",
        m: int = 16,
        ef_construction: int = 200,
        quantization: str | None = "auto",
        metadata: Mapping[str, Any] | None = None,
        vectors: Mapping[str, VectorConfig] | None = None,
        seed: int = 100,
    ) -> Collection:
        """
        Create a collection of points with vectors of dim components, or with named vectors; its options are those of `Collection`.

        Raises AlreadyExists when there is one of this name, InvalidArgument for options out of range.

        >>> import vecdb
        >>> vecdb.open(":memory:").create_collection("films", dim=4, metric="l2").metric
        'l2'
        """
        self._check_writable()
        fields = all_field_options(dim, vectors, metric=metric, m=m, ef_construction=ef_construction, quantization=quantization, seed=seed)
        return self._collection(self._live.create(name, fields, convert.as_payload(metadata, "metadata")))

    def get_or_create_collection(
        self,
        name: str,
        dim: int = _UNSET,
        *,
        metric: MetricName = _UNSET,
        m: int = _UNSET,
        ef_construction: int = _UNSET,
        quantization: str | None = _UNSET,
        metadata: Mapping[str, Any] | None = None,
        vectors: Mapping[str, VectorConfig] | None = None,
        seed: int = _UNSET,
    ) -> Collection:
        """
        Return the collection of this name, created when there is none; options that are given must agree with it.

        Raises InvalidArgument when an option differs; `metadata` is not compared.

        >>> import vecdb
        >>> db = vecdb.open(":memory:")
        >>> db.get_or_create_collection("films", dim=4).name, db.get_or_create_collection("films").dim
        ('films', 4)
        """
        given = {
            option: value
            for option, value in (
                ("dim", dim),
                ("metric", metric),
                ("m", m),
                ("ef_construction", ef_construction),
                ("quantization", quantization),
                ("seed", seed),
            )
            if value is not _UNSET
        }
        self._check()
        with self._live.lock:
            if isinstance(name, str) and name in self._live.names():
                found = self[name]
                check_agreement(name, found.vectors, given, vectors)
                return found
            if "dim" not in given and vectors is None:
                raise InvalidArgument(
                    f"no collection {name!r} exists, and dim was not given: pass dim=, the number of components of its vectors"
                )
            options: dict[str, Any] = given
            return self.create_collection(name, metadata=metadata, vectors=vectors, **options)

    def drop_collection(self, name: str) -> None:
        """
        Delete a collection with all its points and files; handles on it raise Closed from now on.

        Raises NotFound when there is none of this name.

        >>> import vecdb
        >>> db = vecdb.open(":memory:")
        >>> _ = db.create_collection("films", dim=4)
        >>> db.drop_collection("films"); len(db)
        0
        """
        self._check_writable()
        if not isinstance(name, str):
            check_name(name)
        self._live.drop(name)

    def __getitem__(self, name: str) -> Collection:
        """
        Return the collection of this name; raise NotFound when there is none.
        """
        self._check()
        if not isinstance(name, str):
            check_name(name)
        return self._collection(self._live.collection(name))

    def __contains__(self, name: object) -> bool:
        """
        Return whether there is a collection of this name.
        """
        self._check()
        return isinstance(name, str) and name in self._live.names()

    def __iter__(self) -> Iterator[str]:
        """
        Iterate over the names of the collections, sorted.
        """
        self._check()
        return iter(self._live.names())

    def __len__(self) -> int:
        """
        Return the number of collections.
        """
        self._check()
        return len(self._live.names())

    def __bool__(self) -> bool:
        """
        Return True: a database without collections is still a database.
        """
        return True

    def _collection(self, opened: OpenCollection) -> Collection:
        # The collection keeps this handle alive through its checks, so that an unnamed database is not closed under it.
        return Collection._of(opened.state, opened.queries, _Handle(self, opened))

    def backup(self, target: str | os.PathLike[str], *, progress: bool = False) -> None:
        """
        Write a copy of the database, all collections as of one moment, to a path that must not exist; opening it is the restore.

        Works while the database is searched and written, from a read-only handle, and for a database in memory, which is so saved
        to disk. Writers wait at the moment itself, for a sync of the disk, and while a graph is copied in memory; the rest is
        copied while they go on. Every byte is checked on the way. The copy has no tombstones, as after `compact`. The target
        appears when it is complete and synced, and not at all after an error or a crash. `progress=True` shows a bar (needs tqdm).
        Raises AlreadyExists, StorageError, and Corruption when stored bytes are not what was written.

        >>> import tempfile, vecdb
        >>> db = vecdb.open(":memory:")
        >>> db.create_collection("films", dim=2).upsert("alien", [0.0, 1.0])
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     db.backup(f"{directory}/films.vecdb")
        ...     with vecdb.open(f"{directory}/films.vecdb") as copy:
        ...         list(copy["films"])
        ['alien']
        """
        self._check()
        shown = check_progress(progress)
        backup(self._live, _as_path(target, "target"), progress=shown)

    @property
    def report(self) -> Report | None:
        """
        What opening it with `salvage=True` found damaged, lost and set aside; None when nothing was, or it was not asked for.

        >>> import vecdb
        >>> vecdb.open(":memory:").report is None
        True
        """
        return self._live.report

    # ---- life ----

    def refresh(self) -> bool:
        """
        Move a read-only handle on to the writer's newest state; return whether there was something new.

        Collection objects move along, all handles on the database in this process do; a collection that was dropped raises Closed. Every
        write that was acknowledged before is seen, each whole. It may be called for each request, beside searches of other threads:
        where nothing is new it costs some system calls, and otherwise what was written since; only a reader that was left behind by more
        than a checkpoint, or by a compaction, opens the collection anew, while the old state serves. A handle that writes, or shares its
        process with the writer, is always at the newest state. Raises StorageError, Corruption; an older state is then shown, as whole.

        >>> import vecdb
        >>> vecdb.open(":memory:").refresh()
        False
        """
        self._check()
        return self._live.refresh()

    def close(self) -> None:
        """
        Give the handle back; the last handle checkpoints and releases the files. Idempotent.

        >>> import vecdb
        >>> db = vecdb.open(":memory:")
        >>> db.close(); db.close()
        >>> list(db)
        Traceback (most recent call last):
        vecdb.errors.Closed: this handle on database :memory: is closed: open it again
        """
        self._is_closed = True
        if self._release.detach() is not None:
            _registry.detach(self._live)

    def __enter__(self) -> Database:
        """
        Return the database; the with block closes it.
        """
        self._check()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """
        Close the handle.
        """
        self.close()

    def __repr__(self) -> str:
        """
        Return path, mode and collections.
        """
        where = str(self._live.path or MEMORY)
        if self._is_closed:
            return f"<vecdb.Database {where!r}: closed>"
        names = self._live.names()
        shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
        return f"<vecdb.Database {where!r}, mode {self._mode!r}: {shown or 'no collections'}>"

    def __reduce__(self) -> tuple[Callable[..., Database], tuple[str, str]]:
        """
        Pickle the path; the copy is opened read-only where it is unpickled.
        """
        if self._live.path is None:
            raise TypeError("a database in memory cannot be pickled: its points exist in this process only; use a path")
        return open, (str(self._live.path), "r")

    def _check(self) -> None:
        if self._is_closed:
            raise Closed(f"this handle on database {self._live.path or MEMORY} is closed: open it again")
        self._live.check()

    def _check_writable(self) -> None:
        self._check()
        if self._mode == "r":
            raise ReadOnly(f"database {self._live.path or MEMORY} was opened with mode='r': open it with mode='a' to write")


class _Handle:
    """
    What a collection asks before each call: whether it may be read, and written, through this database handle.
    """

    def __init__(self, database: Database, opened: OpenCollection) -> None:
        self._database = database
        self._live = database._live
        self._state = opened.state

    def check(self) -> None:
        # One frame where nothing is wrong: every search begins with it.
        if self._database._is_closed or not self._live.is_usable or not self._state.is_usable:
            self._database._check()
            self._state.check_open()

    def check_writable(self) -> None:
        self._database._check_writable()
        self._state.check_writable()

    def close(self) -> None:
        """
        Do nothing: a collection of a database is closed with it.
        """

    def reduce(self) -> tuple[Any, ...]:
        return _reopen, (self._database, self._state.name)


def _reopen(database: Database, name: str) -> Collection:
    return database[name]


def _as_path(path: object, name: str) -> Path:
    where = os.fspath(path) if isinstance(path, (str, os.PathLike)) else None
    if not isinstance(where, str) or not where or "\0" in where:
        raise InvalidArgument(f"{name} is {path!r}, expected a non-empty str or os.PathLike")
    return Path(where).absolute()


def open(
    path: str | os.PathLike[str],
    mode: Mode = "a",
    *,
    durability: Durability | None = None,
    timeout: float = DEFAULT_TIMEOUT,
    threads: int | None = None,
    verify: bool = False,
    salvage: bool = False,
) -> Database:
    """
    Open a database, created if absent, and return a handle on it.

    `path`: a directory, or ":memory:" to keep everything in RAM. `mode`: "a" reads and writes, "r" only reads, also beside a writer in
    another process, at one state until `Database.refresh`; "x" must create.
    `durability`: "fsync" (default) survives power loss, "os" only the death of the process. `timeout`: seconds to wait for another
    process's lock, then Locked. `threads`: for indexing and batch searches, default all usable cores or $VECDB_NUM_THREADS. `verify=True`
    checks every byte before anything is opened, as `Collection.verify` does, and raises Corruption that names what is damaged.
    `salvage=True`, after Corruption, checks every byte too, replaces what is damaged by what verifies of it, and sets the damaged files
    aside in `salvaged-<n>`; `Database.report`, and a RuntimeWarning, say what is lost. It needs mode "a" and no other handle. Raises
    StorageError (MissingDatabase with mode "r"), AlreadyExists with mode "x", Corruption.

    >>> import vecdb
    >>> with vecdb.open(":memory:") as db:
    ...     len(db)
    0
    """
    if not is_one_of(mode, ("a", "r", "x")):
        raise InvalidArgument(f"mode is {mode!r}, expected 'a', 'r' or 'x'")
    if durability is not None and not is_one_of(durability, ("fsync", "os")):
        raise InvalidArgument(f"durability is {durability!r}, expected 'fsync' or 'os'")
    seconds = convert.number(timeout, "timeout")
    if seconds < 0:
        raise InvalidArgument(f"timeout is {timeout!r}, expected seconds from 0")
    checked, salvaged = convert.flag(verify, "verify"), convert.flag(salvage, "salvage")
    if salvaged and mode != "a":
        raise InvalidArgument(f"salvage=True with mode={mode!r}: it writes, so it needs mode='a'")
    count = thread_count(threads)
    where = _as_path(path, "path")
    if os.fspath(path) == MEMORY:
        return Database(_registry.attach_memory(threads=count), mode)
    live = _registry.attach(where, mode=mode, durability=durability, timeout=seconds, threads=count, verify=checked, salvage=salvaged)
    return Database(live, mode)
