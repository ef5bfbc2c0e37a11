"""
The small files MANIFEST, CATALOG, CURRENT and INDEXES: a frame with a checksum around JSON, and their typed contents.

Invariant: a file is replaced as one step, so what is read is a whole old or a whole new one; anything else is Corruption naming the file.
The frame is the same in every format version, so that a newer file is told from a damaged one. Thread rule: any thread; the writer's
lock orders the writes.

Frame: magic 8 bytes | format version u32 | body length u32 | CRC32C of those 16 bytes and the body u32 | body, JSON.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from vecdb._crc import crc32c
from vecdb.errors import Corruption, InvalidArgument, StorageError
from vecdb.storage import files

FORMAT = 1

_MAGIC_MANIFEST = b"VDBMANI\0"
_MAGIC_CATALOG = b"VDBCATL\0"
_MAGIC_CURRENT = b"VDBCURR\0"
_MAGIC_INDEXES = b"VDBINDX\0"
_HEADER = struct.Struct("<8sII")
_CRC = struct.Struct("<I")
_MAX_BODY = {_MAGIC_MANIFEST: 4 << 20, _MAGIC_CATALOG: 64 << 20, _MAGIC_CURRENT: 4096, _MAGIC_INDEXES: 4 << 20}
_MAX_NUMBER = (1 << 64) - 1
_MAX_DIM = 1 << 16

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class FieldSpec:
    """
    One vector field of a collection; `number` is what the log and the core know it by, `name` is "" for the only field of a collection
    made with dim=.
    """

    number: int
    name: str
    dim: int
    metric: str
    m: int
    ef_construction: int
    quantization: str | None
    seed: int


@dataclass(frozen=True, slots=True)
class Features:
    """
    Feature bits of a format. An unknown bit of the first set may be ignored, one of the second forbids writing, one of the third opening.
    """

    compatible: int = 0
    read_only_compatible: int = 0
    incompatible: int = 0


@dataclass(frozen=True, slots=True)
class Manifest:
    """
    What a collection is; written once. `uuid` has 16 bytes, `created` is an RFC 3339 time.
    """

    uuid: bytes
    fields: tuple[FieldSpec, ...]
    metadata: dict[str, Any]
    created: str
    features: Features = field(default_factory=Features)
    format: int = FORMAT


@dataclass(frozen=True, slots=True)
class Catalog:
    """
    The collections of a database: name -> directory number, and the number that the next one gets.
    """

    names: dict[str, int] = field(default_factory=dict)
    next_number: int = 0


@dataclass(frozen=True, slots=True)
class Current:
    """
    The generation of a collection's files that counts.
    """

    generation: int


@dataclass(frozen=True, slots=True)
class IndexSpec:
    """
    A payload index as it was declared; `m` None: links where searches ask for them.
    """

    kind: str
    m: int | None = None


@dataclass(frozen=True, slots=True)
class Declared:
    """
    The declared payload indexes of a collection, by key.
    """

    indexes: dict[str, IndexSpec] = field(default_factory=dict)


def write_manifest(path: Path, manifest: Manifest) -> None:
    """
    Write a collection's MANIFEST.
    """
    _write(path, _MAGIC_MANIFEST, manifest)


def read_manifest(path: Path, *, for_writing: bool = True) -> Manifest:
    """
    Read a collection's MANIFEST; raises Corruption, and StorageError when a newer vecdb wrote it and this one must not open it.
    """
    manifest = _read(path, _MAGIC_MANIFEST, Manifest)
    if manifest.features.incompatible:
        raise _newer(path, f"with features {manifest.features.incompatible:#x} that this one does not know")
    if for_writing and manifest.features.read_only_compatible:
        raise _newer(path, f"with features {manifest.features.read_only_compatible:#x} that this one can only read: open with mode='r'")
    numbers = [spec.number for spec in manifest.fields]
    names = {spec.name for spec in manifest.fields}
    dims = [spec.dim for spec in manifest.fields]
    if len(manifest.uuid) != 16 or numbers != list(range(len(numbers))) or len(names) != len(numbers) or not numbers:
        raise _damaged(path, f"describes fields {numbers} named {sorted(names)} and a uuid of {len(manifest.uuid)} bytes")
    if not all(0 < dim <= _MAX_DIM for dim in dims):
        raise _damaged(path, f"describes dims {dims}, expected 1 to {_MAX_DIM}")
    return manifest


def write_catalog(path: Path, catalog: Catalog) -> None:
    """
    Replace a database's CATALOG.
    """
    _write(path, _MAGIC_CATALOG, catalog)


def read_catalog(path: Path) -> Catalog:
    """
    Read a database's CATALOG.
    """
    catalog = _read(path, _MAGIC_CATALOG, Catalog)
    numbers = set(catalog.names.values())
    if len(numbers) != len(catalog.names) or not all(0 <= number < catalog.next_number for number in numbers):
        raise _damaged(
            path, f"gives the numbers {sorted(numbers)} to {len(catalog.names)} collections and says the next is {catalog.next_number}"
        )
    return catalog


def write_current(path: Path, current: Current) -> None:
    """
    Replace a collection's CURRENT.
    """
    _write(path, _MAGIC_CURRENT, current)


def read_current(path: Path) -> Current:
    """
    Read a collection's CURRENT.
    """
    current = _read(path, _MAGIC_CURRENT, Current)
    if not 0 <= current.generation <= _MAX_NUMBER:
        raise _damaged(path, f"names generation {current.generation}")
    return current


def write_declared(path: Path, declared: Declared) -> None:
    """
    Replace a collection's INDEXES.
    """
    _write(path, _MAGIC_INDEXES, declared)


def read_declared(path: Path) -> Declared:
    """
    Read a collection's INDEXES.
    """
    return _read(path, _MAGIC_INDEXES, Declared)


def _write(path: Path, magic: bytes, content: Manifest | Catalog | Current | Declared) -> None:
    body = msgspec.json.encode(content)
    if len(body) > _MAX_BODY[magic]:
        raise InvalidArgument(
            f"{path.name} would have {len(body):,} bytes, at most {_MAX_BODY[magic]:,} fit; use less metadata, or shorter or fewer names"
        )
    header = _HEADER.pack(magic, FORMAT, len(body))
    files.replace_file(path, header + _CRC.pack(crc32c(header + body)) + body)


def _read(path: Path, magic: bytes, kind: type[T]) -> T:
    start = _HEADER.size + _CRC.size
    data = files.read_file(path, start + _MAX_BODY[magic])
    if len(data) < start:
        raise _damaged(path, f"has {len(data)} bytes, expected at least {start}")
    seen, version, length = _HEADER.unpack_from(data)
    if seen != magic:
        raise _damaged(path, f"begins with {seen!r}, expected {magic!r}")
    if length != len(data) - start or _CRC.unpack_from(data, _HEADER.size)[0] != crc32c(data[: _HEADER.size] + data[start:]):
        raise _damaged(path, "does not match its length or checksum")
    if version > FORMAT:
        raise _newer(path, f"format {version}; this one reads formats up to {FORMAT}")
    try:
        return msgspec.json.decode(data[start:], type=kind)
    except (msgspec.DecodeError, RecursionError) as error:
        raise _damaged(path, f"has a body that is not a {kind.__name__.lower()}: {error}") from error


def _damaged(path: Path, seen: str) -> Corruption:
    return Corruption(f"{path} {seen}; restore it from a backup")


def _newer(path: Path, what: str) -> StorageError:
    return StorageError(f"{path} was written by a newer vecdb, {what}; upgrade vecdb")
