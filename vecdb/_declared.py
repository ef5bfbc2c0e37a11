"""
The declared payload indexes of a collection: which there are, kept in the store, built ahead and never dropped for want of memory.

Invariant: a key is declared exactly when the store has it, but while `create` or `drop` run; no answer depends on it. What was declared
before is filled from its file, or built, by a thread of its own after opening. Threads: any thread; a lock makes `create` and `drop`
follow one another.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType

from vecdb._background import BackgroundThread, rest
from vecdb._contents import Contents
from vecdb._index_kinds import KINDS, LINKED_KINDS, MAX_M, MIN_M, kind_of, parts_of
from vecdb._interrupt import uninterrupted
from vecdb._one_index import PayloadIndex
from vecdb._payload_index import BLOCK, PayloadIndexes
from vecdb.errors import AlreadyExists, Closed, InvalidArgument, NotFound, VecdbError
from vecdb.filters import KeyPath, elements
from vecdb.storage.framing import IndexSpec
from vecdb.storage.store import Store
from vecdb.types import IndexInfo

_log = logging.getLogger(__name__)

_LOOKED_AT = 1000  # values of a key that decide its kind


class DeclaredIndexes:
    """
    The declarations of one collection, and the building of what they name.
    """

    def __init__(self, name: str, contents: Contents, store: Store) -> None:
        self._name = name
        self._contents = contents
        self._store = store
        self._lock = threading.Lock()
        self._specs: Mapping[str, IndexSpec] = MappingProxyType({})  # replaced as a whole, so that readers need no lock
        self._builder: BackgroundThread | None = None
        self._coming: PayloadIndexes | None = None
        self._closed = False

    # ---- opening and closing ----

    def start(self) -> None:
        """
        Take over what the store has; build it, and fill the indexes that are saved, in the background.
        """
        self._specs = MappingProxyType({key: spec for key, spec in self._store.read_indexes().items() if self._is_known(key, spec)})
        self._declare(self._indexes)
        if self._specs or self._indexes:
            self._builder = BackgroundThread(self._build_all, name="vecdb-indexes")
            self._builder.start()

    @property
    def _indexes(self) -> PayloadIndexes:
        return self._contents.indexes

    def _declare(self, indexes: PayloadIndexes) -> None:
        for text, spec in self._specs.items():
            key = KeyPath.parse(text)
            indexes.keep(parts_of(key, spec.kind))
            if spec.m is not None:
                indexes.link(key, spec.m)

    def _is_known(self, text: str, spec: IndexSpec) -> bool:
        try:
            known = str(KeyPath.parse(text)) == text and spec.kind in KINDS
        except InvalidArgument:
            known = False
        known = known and (spec.m is None or (spec.kind in LINKED_KINDS and MIN_M <= spec.m <= MAX_M))
        if not known:
            _log.warning("collection %r: the declared index %r (%s) means nothing to this vecdb and is left out", self._name, text, spec)
        return known

    def _build_all(self) -> None:
        for text in self._specs:
            rest()
            spec = self._specs.get(text)
            if spec is None:
                continue  # dropped meanwhile
            try:
                with self._indexes.use(parts_of(KeyPath.parse(text), spec.kind)):
                    pass
            except Closed:
                return
            except VecdbError as error:
                # The first filter on the key builds it, and gives the reason to whoever asked.
                _log.warning("collection %r: the index of key %r could not be built ahead: %s", self._name, text, error)
        try:
            self._indexes.restore()  # what filters had built
        except Closed:
            return
        except VecdbError as error:
            _log.warning("collection %r: what filters had indexed could not be read: %s", self._name, error)

    def wait(self, seconds: float) -> bool:
        """
        Wait at most so long for what is built in the background after opening; return whether it is done.
        """
        builder = self._builder
        if builder is None or builder is threading.current_thread():
            return True
        builder.join(seconds)
        return not builder.is_alive()

    def close(self) -> None:
        """
        End what is being built, and write nothing more to the store.
        """
        self._indexes.stop()
        if (coming := self._coming) is not None:
            coming.stop()
        with self._lock:
            self._closed = True
        if self._builder is not None and self._builder is not threading.current_thread():
            self._builder.join()

    # ---- compaction ----

    @contextmanager
    def unchanged(self) -> Iterator[None]:
        """
        Have `create` and `drop`, and the end of the collection, wait for the end of a with block.
        """
        with self._lock:
            self._check_open()
            yield

    def build_in(self, contents: Contents) -> None:
        """
        Build, in the contents that are to follow, what was declared and what is there already. REQUIRES: `unchanged`.
        """
        self._declare(contents.indexes)
        wanted = {(index.key, index.kind) for index in self._indexes.all() if index.complete}
        for text, spec in self._specs.items():
            wanted.update(parts_of(KeyPath.parse(text), spec.kind))
        self._coming = contents.indexes
        try:
            with contents.indexes.use(wanted):
                pass
        finally:
            self._coming = None

    def move_to(self, contents: Contents) -> None:
        """
        Speak of other contents from now on. REQUIRES: `unchanged`.
        """
        self._contents = contents

    # ---- declaring ----

    def create(self, key: KeyPath, kind: str | None, m: int | None) -> None:
        """
        Declare the index of a key, and return when it is built and the declaration durable; see `Collection.create_index`.
        """
        text = str(key)
        with self._lock:
            before = self._specs.get(text)
            if before is not None and kind not in (None, before.kind):
                raise AlreadyExists(
                    f"key {text!r} has an index of kind {before.kind!r}, got kind {kind!r}: leave kind out, or drop_index({text!r}) first"
                )
            spec = IndexSpec(
                kind or (before.kind if before is not None else kind_of(self._first_elements(key))),
                m if m is not None or before is None else before.m,
            )
            check_m(spec.kind, m)
            parts = parts_of(key, spec.kind)
            try:
                self._indexes.keep(parts)
                with self._indexes.use(parts), uninterrupted():
                    if spec != before:
                        self._replace({**self._specs, text: spec})
                    if spec.m is not None:
                        self._indexes.link(key, spec.m)
            except BaseException:
                if text not in self._specs:
                    self._indexes.unkeep(parts)
                raise

    def _first_elements(self, key: KeyPath) -> list[object]:
        found: list[object] = []
        for payload in self._all_payloads():
            found.extend(elements(payload, key))
            if len(found) >= _LOOKED_AT:
                break
        return found

    def _all_payloads(self) -> Iterator[Mapping[str, object]]:
        first, end = 0, self._store.next_offset
        while first < end:
            self._check_open()
            for _, payload in self._contents.payloads.iterate(first, min(first + BLOCK, end)):
                yield payload
            first += BLOCK

    def drop(self, key: KeyPath) -> None:
        """
        Forget the declaration of a key, its indexes and its links.
        """
        text = str(key)
        with self._lock:
            spec = self._specs.get(text)
            if spec is None and not any(index.key == key for index in self._indexes.all()):
                known = ", ".join(map(repr, self.infos())) or "none"
                raise NotFound(f"collection {self._name!r} has no index of key {text!r} (there: {known})")
            if spec is not None:
                with uninterrupted():
                    self._replace({other: one for other, one in self._specs.items() if other != text})
                    self._indexes.unkeep(parts_of(key, spec.kind))
            self._indexes.drop(key)

    def _replace(self, specs: dict[str, IndexSpec]) -> None:
        self._check_open()
        self._store.write_indexes(specs)
        self._specs = MappingProxyType(specs)

    def _check_open(self) -> None:
        if self._closed:
            raise Closed(f"collection {self._name!r} is closed: open the database again")

    # ---- what there is ----

    def infos(self) -> dict[str, IndexInfo]:
        """
        Return what is known of the index of each key, declared or built by a filter, by key in order.
        """
        specs = self._specs
        found: dict[str, list[PayloadIndex]] = {text: [] for text in specs}
        for index in self._indexes.all():
            found.setdefault(str(index.key), []).append(index)
        return {text: _info(specs.get(text), found[text]) for text in sorted(found)}


def _info(spec: IndexSpec | None, indexes: list[PayloadIndex]) -> IndexInfo:
    wanted = {index.kind for index in indexes} if spec is None else set(KINDS[spec.kind])
    return IndexInfo(
        kind=None if spec is None else spec.kind,
        m=None if spec is None else spec.m,
        entries=sum(index.entries for index in indexes),
        bytes=sum(index.bytes for index in indexes),
        complete=wanted <= {index.kind for index in indexes if index.complete},
    )


def check_m(kind: str, m: int | None) -> None:
    """
    Raise InvalidArgument when links are asked for among the points of a kind that cannot have them.
    """
    if m is not None and kind not in LINKED_KINDS:
        raise InvalidArgument(
            f"m is {m}, but an index of kind {kind!r} has no values or ranges whose points could be linked: leave m out, or use one of "
            f"{', '.join(map(repr, sorted(LINKED_KINDS)))}"
        )
