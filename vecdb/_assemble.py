"""
How a collection's live state is put together: options checked, core, store and indexes made and joined.

Used by `Collection` (memory) and `Database` (both). No state of its own.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from vecdb._arguments import is_one_of
from vecdb._contents import CoreLoader
from vecdb._convert import whole
from vecdb._state import CollectionState
from vecdb.errors import InvalidArgument
from vecdb.index import CoreIndex
from vecdb.storage.disk import DiskStore
from vecdb.storage.framing import FieldSpec, read_manifest
from vecdb.storage.memory import MemoryStore
from vecdb.storage.reader import ReaderStore
from vecdb.types import VectorConfig

MAX_DIM = 65536
METRICS = ("cosine", "dot", "l2")
QUANTIZATIONS = ("auto", "sq8")
MAX_VECTOR_NAME = 255
MAX_VECTORS = 64
DEFAULTS: dict[str, Any] = {"metric": "cosine", "m": 16, "ef_construction": 200, "quantization": "auto", "seed": 100}


def field_options(
    dim: object,
    *,
    metric: object,
    m: object,
    ef_construction: object,
    quantization: object,
    seed: object,
    name: str = "",
    number: int = 0,
) -> FieldSpec:
    """
    Return the options of a vector field, or raise InvalidArgument naming the one that is out of range.
    """
    if not is_one_of(metric, METRICS):
        raise InvalidArgument(f"metric is {metric!r}, expected one of {', '.join(map(repr, METRICS))}")
    if quantization is not None and not is_one_of(quantization, QUANTIZATIONS):
        raise InvalidArgument(f"quantization is {quantization!r}, expected 'auto', 'sq8' or None")
    return FieldSpec(
        number=number,
        name=name,
        dim=whole(dim, "dim", 1, MAX_DIM),
        metric=str(metric),
        m=whole(m, "m", 2, 256),
        ef_construction=whole(ef_construction, "ef_construction", 1, 10_000),
        quantization=None if quantization is None else str(quantization),
        seed=whole(seed, "seed", 0, 2**63 - 1),
    )


def all_field_options(dim: object, vectors: object, **options: object) -> list[FieldSpec]:
    """
    Return the options of the vector fields of a collection: of the one that `dim` and the options describe, or of the named ones.
    """
    if vectors is None:
        if dim is None:
            raise InvalidArgument("dim is missing: pass dim=, the number of components of a vector, or vectors= for named ones")
        return [field_options(dim, **{**DEFAULTS, **options})]
    given = [name for name, value in {"dim": dim, **options}.items() if value is not None and value != DEFAULTS.get(name)]
    if given:
        raise InvalidArgument(f"{given[0]} and vectors are given: with named vectors each VectorConfig has its own {given[0]}")
    if not isinstance(vectors, Mapping) or not vectors:
        raise InvalidArgument(f"vectors are {vectors!r}, expected a dict from names to vecdb.VectorConfig, with at least one")
    specs: list[FieldSpec] = []
    for number, (name, config) in enumerate(vectors.items()):
        if not isinstance(name, str) or not 0 < len(name) <= MAX_VECTOR_NAME or not name.isprintable():
            raise InvalidArgument(f"a vector is named {name!r}, expected a str of 1 to {MAX_VECTOR_NAME} printable characters")
        if not isinstance(config, VectorConfig):
            raise InvalidArgument(f"vectors[{name!r}] is a {type(config).__name__}, expected a vecdb.VectorConfig")
        try:
            specs.append(field_options(**{one.name: getattr(config, one.name) for one in fields(config)}, name=name, number=number))
        except InvalidArgument as error:
            raise InvalidArgument(f"vectors[{name!r}]: {error}") from None
    if len(specs) > MAX_VECTORS:
        raise InvalidArgument(f"there are {len(specs)} named vectors, at most {MAX_VECTORS}")
    return specs


def check_agreement(
    name: str, configs: Mapping[str, VectorConfig], given: Mapping[str, Any], vectors: Mapping[str, VectorConfig] | None
) -> None:
    """
    Raise InvalidArgument unless the options that are given are those of a collection that exists.
    """
    if vectors is not None:
        all_field_options(given.get("dim"), vectors, **{option: value for option, value in given.items() if option != "dim"})
        for other in {**configs, **vectors}:
            if configs.get(other) != vectors.get(other):
                raise InvalidArgument(
                    f"collection {name!r} exists with vectors[{other!r}]={configs.get(other)}, got {vectors.get(other)}: leave vectors "
                    "out, or use another name for the collection"
                )
        return
    if given and "" not in configs:
        raise InvalidArgument(f"collection {name!r} exists with named vectors, got {next(iter(given))}: leave it out, or pass vectors=")
    if given:
        options = asdict(configs[""])
        spec = field_options(**{**options, **given})
        for option, value in options.items():
            if getattr(spec, option) != value:
                raise InvalidArgument(
                    f"collection {name!r} exists with {option}={value!r}, got {getattr(spec, option)!r}: leave the option out, "
                    "or use another name"
                )


def thread_count(threads: object) -> int:
    """
    Return how many threads to use: what is given, else $VECDB_NUM_THREADS, else all usable cores.
    """
    if threads is None:
        from_environment = os.environ.get("VECDB_NUM_THREADS")
        if from_environment is None:
            return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        if not from_environment.isdecimal():
            raise InvalidArgument(f"VECDB_NUM_THREADS is {from_environment!r}, expected a whole number from 1")
        threads = int(from_environment)
    return whole(threads, "threads", 1, 1024)


def memory_state(name: str, fields: Sequence[FieldSpec], metadata: dict[str, Any], *, threads: int | None) -> CollectionState:
    """
    Return the state of a new collection without files.
    """
    count = thread_count(threads)
    store = MemoryStore()
    loader = CoreLoader(CoreIndex(fields, threads=0), len(fields))
    state = CollectionState(name, fields, metadata, loader, store, threading.RLock(), writable=True, threads=count)
    state.start()
    return state


def disk_state(name: str, directory: Path, *, durability: str, threads: int) -> CollectionState:
    """
    Return the state of a collection on disk, recovered.
    """
    manifest = read_manifest(directory / "MANIFEST")
    core = CoreIndex(manifest.fields, threads=0)
    loader = CoreLoader(core, len(manifest.fields))
    write_lock = threading.RLock()
    try:
        store = DiskStore.open(directory, durability=durability, write_lock=write_lock, load=loader, graphs=loader)
        state = CollectionState(name, manifest.fields, manifest.metadata, loader, store, write_lock, writable=True, threads=threads)
        state.start()
    except BaseException:
        core.close()
        raise
    return state


def reader_state(name: str, directory: Path, *, threads: int, exclude_writers: Callable[[], None]) -> CollectionState:
    """
    Return the state of a collection that another process may write; `exclude_writers` as in `open_reading`.
    """
    manifest = read_manifest(directory / "MANIFEST", for_writing=False)
    core = CoreIndex(manifest.fields, threads=0)
    loader = CoreLoader(core, len(manifest.fields))
    try:
        store = ReaderStore.open(directory, manifest, load=loader, exclude_writers=exclude_writers)
        state = CollectionState(name, manifest.fields, manifest.metadata, loader, store, threading.RLock(), writable=False, threads=threads)
        state.start()
    except BaseException:
        core.close()
        raise
    return state
