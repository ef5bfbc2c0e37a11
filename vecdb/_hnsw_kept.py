"""
What an index of `vecdb.hnsw` is made of and how it is kept: space, options, files, pickles.

Invariant: a saved main file and its tag file describe one state: while they are produced no change runs. Changes run in parallel with
each other.
"""

from __future__ import annotations

import operator
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vecdb import _hnsw_common as common
from vecdb._atomic import read_whole, replace_all
from vecdb._crc import crc32c
from vecdb._labelled import InvalidUse, Labelled, Options

_STATE_VERSION = 1


def tag_path(path: Path) -> Path:
    """
    Return where the tags of the index at path are kept.
    """
    return path.with_name(path.name + ".tags")


class KeptIndex:
    """
    The state of an `Index`, with everything that makes, saves or loads it.
    """

    def __init__(
        self,
        space: str | KeptIndex | Mapping[str, Any] | None = None,
        dim: int | None = None,
        *,
        index: KeptIndex | None = None,
        params: Mapping[str, Any] | None = None,
    ) -> None:
        source = space if index is None else index
        if isinstance(source, KeptIndex):
            params = source.__getstate__()[0]
        elif isinstance(source, Mapping):
            params = source
        if params is not None:
            self.__setstate__((params,))
            return
        if not isinstance(source, str) or dim is None:
            raise TypeError("expected Index(space, dim) such as Index('l2', 128), Index(index) or Index(params)")
        self._start(common.Space(source, operator.index(dim)))

    def _start(self, space: common.Space) -> None:
        self._space = space
        self._core: Labelled | None = None
        self._ef = 10
        self._seed = 100
        self._allow_replace_deleted = False
        self._next_label = 0
        self._quiet = threading.Condition()
        self._changes = 0
        self.num_threads: int = os.cpu_count() or 1

    @property
    def space(self) -> str:
        """
        Name of the space: "l2", "ip" or "cosine".
        """
        return self._space.name

    @property
    def dim(self) -> int:
        """
        Numbers in one vector.
        """
        return self._space.dim

    @property
    def ef(self) -> int:
        """
        Width of the search beam: larger finds more of the true neighbours, slower. It is raised to k where it is smaller.
        """
        return self._ef

    @ef.setter
    def ef(self, value: int) -> None:
        self._ef = common.natural(value, "ef")

    @property
    def max_elements(self) -> int:
        """
        How many points there is room for; 0 before init_index.
        """
        return 0 if self._core is None else int(self._core.stats().max_elements)

    @property
    def element_count(self) -> int:
        """
        How many points there are, deleted ones included.
        """
        return 0 if self._core is None else int(self._core.stats().count)

    @property
    def ef_construction(self) -> int:
        """
        Width of the search beam while points are inserted; 0 before init_index.
        """
        return 0 if self._core is None else int(self._core.stats().ef_construction)

    @property
    def M(self) -> int:  # noqa: N802 - hnswlib's name
        """
        Links of a point in the upper layers; twice as many in the lowest. 0 before init_index.
        """
        return 0 if self._core is None else int(self._core.stats().m)

    def init_index(
        self,
        max_elements: int,
        M: int = 16,  # noqa: N803 - hnswlib's name
        ef_construction: int = 200,
        random_seed: int = 100,
        allow_replace_deleted: bool = False,  # noqa: FBT001, FBT002 - hnswlib's signature
    ) -> None:
        """
        Make room for max_elements points.

        RuntimeError when the index has been initiated before.

        >>> from vecdb.hnsw import Index
        >>> index = Index("ip", 4)
        >>> index.init_index(max_elements=10, M=8)
        >>> index.get_max_elements(), index.M
        (10, 8)
        """
        if self._core is not None:
            raise InvalidUse("The index is already initiated.")
        seed = common.natural(random_seed, "random_seed")
        self._core = Labelled.create(
            Options(
                dim=self.dim,
                inner_product=self._space.inner_product,
                max_elements=common.natural(max_elements, "max_elements"),
                m=common.links(M, "M"),
                ef_construction=common.natural(ef_construction, "ef_construction"),
                seed=seed,
                allow_replace_deleted=bool(allow_replace_deleted),
            )
        )
        self._seed = seed
        self._allow_replace_deleted = bool(allow_replace_deleted)
        self._next_label = 0

    def index_file_size(self) -> int:
        """
        Return the size in bytes of the main file that save_index would write.
        """
        return self._initiated().main_size()

    def save_index(self, path_to_index: str | os.PathLike[str]) -> None:
        """
        Write the index in hnswlib's format to path_to_index, and tags and their links to the same path with ".tags" added.

        Both files are complete on disk before they replace older ones; without tags an older tag file is removed.
        """
        core = self._initiated()
        with self._unchanging():
            main = core.main_bytes()
            tags = core.tag_bytes(crc32c(main.data))
        path = Path(path_to_index)
        replace_all([(tag_path(path), None if tags is None else tags.data), (path, main.data)])

    def load_index(
        self,
        path_to_index: str | os.PathLike[str],
        max_elements: int = 0,
        allow_replace_deleted: bool = False,  # noqa: FBT001, FBT002 - hnswlib's signature
    ) -> None:
        """
        Replace the content by a saved index, one that hnswlib wrote included; max_elements below the saved count means the saved one.

        RuntimeError when a file is missing, damaged, of another dimension, or when the tag file belongs to another main file; the index
        is unchanged then.
        """
        path = Path(path_to_index)
        main = read_whole(path, missing_ok=False) or b""
        tags = read_whole(tag_path(path), missing_ok=True)
        with self._unchanging():
            self._load(
                main, tags, max_elements=common.natural(max_elements, "max_elements"), allow_replace_deleted=bool(allow_replace_deleted)
            )

    def __getstate__(self) -> tuple[dict[str, Any]]:
        """
        Return everything, tags and links included, as a dict in a tuple.
        """
        with self._unchanging():
            main = None if self._core is None else self._core.main_bytes()
            tags = None if self._core is None or main is None else self._core.tag_bytes(crc32c(main.data))
            state = {
                "ser_version": _STATE_VERSION,
                "space": self.space,
                "dim": self.dim,
                "ef": self._ef,
                "num_threads": self.num_threads,
                "seed": self._seed,
                "next_label": self._next_label,
                "allow_replace_deleted": self._allow_replace_deleted,
                "main": None if main is None else main.tobytes(),
                "tags": None if tags is None else tags.tobytes(),
            }
        return (state,)

    def __setstate__(self, wrapped: tuple[Mapping[str, Any]]) -> None:
        """
        Become the index that the state describes.
        """
        (state,) = wrapped
        if state["ser_version"] != _STATE_VERSION:
            raise InvalidUse(f"Unpickle Error: Invalid serialization version! It is {state['ser_version']}, expected {_STATE_VERSION}")
        self._start(common.Space(state["space"], state["dim"]))
        self._ef = state["ef"]
        self._seed = state["seed"]
        self.num_threads = state["num_threads"]
        if state["main"] is not None:
            self._load(state["main"], state["tags"], max_elements=0, allow_replace_deleted=state["allow_replace_deleted"])
        self._next_label = state["next_label"]

    def _load(self, main: bytes, tags: bytes | None, *, max_elements: int, allow_replace_deleted: bool) -> None:
        options = Options(
            dim=self.dim,
            inner_product=self._space.inner_product,
            max_elements=max_elements,
            seed=self._seed,
            allow_replace_deleted=allow_replace_deleted,
        )
        core = Labelled.load(options, main, tags)
        self._core = core
        self._allow_replace_deleted = allow_replace_deleted
        self._next_label = int(core.stats().count)

    def _initiated(self) -> Labelled:
        if self._core is None:
            raise InvalidUse("The index is not initiated: call init_index or load_index first")
        return self._core

    @contextmanager
    def _changing(self) -> Iterator[None]:
        with self._quiet:
            self._changes += 1
        try:
            yield
        finally:
            with self._quiet:
                self._changes -= 1
                self._quiet.notify_all()

    @contextmanager
    def _unchanging(self) -> Iterator[None]:
        with self._quiet:
            self._quiet.wait_for(lambda: self._changes == 0)
            yield
