"""
How a collection's live state is put together: options checked, core, store and indexes made and joined.

Used by `Collection` (memory) and `Database` (both). No state of its own.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vecdb._contents import CoreLoader
from vecdb._convert import whole
from vecdb._state import CollectionState
from vecdb.errors import InvalidArgument
from vecdb.index import CoreIndex
from vecdb.storage.disk import DiskStore
from vecdb.storage.framing import FieldSpec, read_manifest
from vecdb.storage.memory import MemoryStore

MAX_DIM = 65536
METRICS = ("cosine", "dot", "l2")
QUANTIZATIONS = ("auto", "sq8", None)


def field_options(
    dim: object, *, metric: object, m: object, ef_construction: object, quantization: object, seed: object, name: str = ""
) -> FieldSpec:
    """
    Return the options of a vector field, or raise InvalidArgument naming the one that is out of range.
    """
    if metric not in METRICS:
        raise InvalidArgument(f"metric is {metric!r}, expected one of {', '.join(map(repr, METRICS))}")
    if quantization not in QUANTIZATIONS:
        raise InvalidArgument(f"quantization is {quantization!r}, expected 'auto', 'sq8' or None")
    return FieldSpec(
        number=0,
        name=name,
        dim=whole(dim, "dim", 1, MAX_DIM),
        metric=str(metric),
        m=whole(m, "m", 2, 256),
        ef_construction=whole(ef_construction, "ef_construction", 1, 10_000),
        quantization=None if quantization is None else str(quantization),
        seed=whole(seed, "seed", 0, 2**63 - 1),
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


def disk_state(name: str, directory: Path, *, durability: str, threads: int, writable: bool) -> CollectionState:
    """
    Return the state of a collection on disk, recovered.
    """
    manifest = read_manifest(directory / "MANIFEST", for_writing=writable)
    core = CoreIndex(manifest.fields, threads=0)
    loader = CoreLoader(core, len(manifest.fields))
    write_lock = threading.RLock()
    try:
        store = DiskStore.open(directory, durability=durability, write_lock=write_lock, load=loader, graphs=loader)
        state = CollectionState(name, manifest.fields, manifest.metadata, loader, store, write_lock, writable=writable, threads=threads)
        state.start()
    except BaseException:
        core.close()
        raise
    return state
