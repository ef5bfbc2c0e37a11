"""
MANIFEST, CATALOG and CURRENT: what is written is read, damage is reported, a newer format is named.
"""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path

import pytest

from vecdb._crc import crc32c
from vecdb.errors import Corruption, InvalidArgument, StorageError
from vecdb.storage.framing import (
    Catalog,
    Current,
    Features,
    FieldSpec,
    Manifest,
    read_catalog,
    read_current,
    read_manifest,
    write_catalog,
    write_current,
    write_manifest,
)

FIELD = FieldSpec(number=0, name="", dim=384, metric="cosine", m=16, ef_construction=200, quantization="auto", seed=2**63)
MANIFEST = Manifest(uuid=bytes(range(16)), fields=(FIELD,), metadata={"model": "é", "n": [1, None]}, created="2024-05-01T00:00:00Z")


def test_contents_are_read_as_they_were_written(tmp_path: Path) -> None:
    manifest = replace(MANIFEST, fields=(FIELD, replace(FIELD, number=1, name="image", quantization=None)))
    write_manifest(tmp_path / "MANIFEST", manifest)
    assert manifest == read_manifest(tmp_path / "MANIFEST")
    catalog = Catalog({"shop": 0, "é": 7}, 8)
    write_catalog(tmp_path / "CATALOG", catalog)
    assert catalog == read_catalog(tmp_path / "CATALOG")
    write_current(tmp_path / "CURRENT", Current(1))
    write_current(tmp_path / "CURRENT", Current(2))
    assert Current(2) == read_current(tmp_path / "CURRENT")


def test_each_flipped_bit_and_each_truncation_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "MANIFEST"
    write_manifest(path, MANIFEST)
    good = path.read_bytes()
    for byte in range(len(good)):
        bad = bytearray(good)
        bad[byte] ^= 1 << byte % 8
        path.write_bytes(bad)
        with pytest.raises(Corruption, match="MANIFEST"):
            read_manifest(path)
        path.write_bytes(good[:byte])
        with pytest.raises(Corruption, match="MANIFEST"):
            read_manifest(path)
    path.write_bytes(good + b"\0")
    with pytest.raises(Corruption):
        read_manifest(path)


def test_one_small_file_is_not_taken_for_another(tmp_path: Path) -> None:
    write_current(tmp_path / "CATALOG", Current(1))
    with pytest.raises(Corruption, match="begins with"):
        read_catalog(tmp_path / "CATALOG")


def framed(body: bytes, version: int = 1) -> bytes:
    header = struct.pack("<8sII", b"VDBMANI\0", version, len(body))
    return header + struct.pack("<I", crc32c(header + body)) + body


def test_a_newer_format_is_named(tmp_path: Path) -> None:
    (tmp_path / "MANIFEST").write_bytes(framed(b"{}", version=3))
    with pytest.raises(StorageError, match="newer vecdb, format 3"):
        read_manifest(tmp_path / "MANIFEST")


def test_unknown_features_are_refused_as_far_as_they_must_be(tmp_path: Path) -> None:
    path = tmp_path / "MANIFEST"
    write_manifest(path, replace(MANIFEST, features=Features(compatible=1)))
    assert 1 == read_manifest(path).features.compatible
    write_manifest(path, replace(MANIFEST, features=Features(read_only_compatible=2)))
    assert 2 == read_manifest(path, for_writing=False).features.read_only_compatible
    with pytest.raises(StorageError, match="features 0x2"):
        read_manifest(path)
    write_manifest(path, replace(MANIFEST, features=Features(incompatible=4)))
    with pytest.raises(StorageError, match="features 0x4"):
        read_manifest(path, for_writing=False)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b'{"uuid":"AAAA","fields":[],"metadata":{},"created":""}',
        b'{"uuid":"AAAAAAAAAAAAAAAAAAAAAA==","fields":[],"metadata":{},"created":""}',
        b'{"uuid":"AAAAAAAAAAAAAAAAAAAAAA==","fields":[{"number":0}],"metadata":{},"created":""}',
        b'{"uuid":"AAAAAAAAAAAAAAAAAAAAAA==","fields":7,"metadata":{},"created":""}',
        b'{"uuid":"AAAAAAAAAAAAAAAAAAAAAA==","fields":[],"metadata":' + b"[" * 100_000,
        b'{"uuid":"\xff',
    ],
)
def test_a_body_with_a_right_checksum_and_wrong_content_is_reported(tmp_path: Path, body: bytes) -> None:
    (tmp_path / "MANIFEST").write_bytes(framed(body))
    with pytest.raises(Corruption, match="MANIFEST"):
        read_manifest(tmp_path / "MANIFEST")


@pytest.mark.parametrize("fields", [(replace(FIELD, number=1),), (FIELD, replace(FIELD, number=1)), (replace(FIELD, dim=0),)])
def test_fields_must_be_numbered_named_and_have_a_dim(tmp_path: Path, fields: tuple[FieldSpec, ...]) -> None:
    write_manifest(tmp_path / "MANIFEST", replace(MANIFEST, fields=fields))
    with pytest.raises(Corruption, match="describes"):
        read_manifest(tmp_path / "MANIFEST")


@pytest.mark.parametrize("catalog", [Catalog({"a": 0, "b": 0}, 1), Catalog({"a": 1}, 1), Catalog({"a": -1}, 1)])
def test_a_catalog_gives_each_collection_a_number_of_its_own(tmp_path: Path, catalog: Catalog) -> None:
    write_catalog(tmp_path / "CATALOG", catalog)
    with pytest.raises(Corruption, match="numbers"):
        read_catalog(tmp_path / "CATALOG")


def test_too_much_metadata_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="less metadata"):
        write_manifest(tmp_path / "MANIFEST", replace(MANIFEST, metadata={"text": "x" * (5 << 20)}))
    assert [] == list(tmp_path.iterdir())
