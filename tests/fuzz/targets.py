"""
The targets of fuzzing. Each takes any bytes and must end without an exception but vecdb's own, and without harm; `SEEDS` has bytes to begin
with. The first byte says whether the rest is taken as it is, or gets right checksums first, so that what stands behind them is reached.
"""

from __future__ import annotations

import json
import random
import struct
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from filter_samples import random_filter, random_payload
from numpy.typing import NDArray

from vecdb import Collection, VecdbError
from vecdb._crc import crc32c
from vecdb._labelled import Labelled, Options
from vecdb.filters import Node, matches, parse
from vecdb.index import CoreIndex
from vecdb.storage import files
from vecdb.storage.codec import decode_payload, encode_payload
from vecdb.storage.derived import DerivedFiles
from vecdb.storage.effects import Effects, FieldRows
from vecdb.storage.framing import FieldSpec
from vecdb.storage.log_reader import LogReader, segment_name
from vecdb.storage.segments import Kind, SegmentHeader, encode_group, encode_record
from vecdb.storage.system import System

UUID = bytes(range(16))
_DIMS = {0: 4, 1: 3}
_SALT = 0x5EED
_GRAPH_DIM, _GRAPH_ROWS = 1200, 40
_GRAPH_FIELD = FieldSpec(number=0, name="", dim=_GRAPH_DIM, metric="l2", m=4, ef_construction=10, quantization=None, seed=7)
_GRAPH_SECTIONS = 3


class _Quick(System):
    def sync_data(self, fd: int) -> None:
        pass

    def sync_directory(self, fd: int) -> None:
        pass


class FromBytes(random.Random):
    """
    Random choices that are read from data, so that a changed byte is a changed choice; the same ones each time when it is used up.
    """

    def __init__(self, data: bytes) -> None:
        super().__init__(0)
        self._data = data
        self._at = 0

    def getrandbits(self, k: int) -> int:
        count = (k + 7) // 8
        piece = self._data[self._at : self._at + count]
        self._at += count
        if len(piece) < count:
            return super().getrandbits(k)
        return int.from_bytes(piece, "little") & ((1 << k) - 1)

    def random(self) -> float:
        return self.getrandbits(16) / 65536


# ---- the log ----


@cache
def _directory() -> Path:
    files.system = _Quick()
    memory = Path("/dev/shm")
    return Path(tempfile.mkdtemp(prefix="vecdb-fuzz-", dir=memory if memory.is_dir() else None))


def _sealed_records(data: bytes) -> bytes:
    """
    Make records of data: eight bytes that choose the fields of a header, and as many of a body as one of them says.
    """
    segment, dcrc, at, lsn = bytearray(), 0, 0, 1
    while at + 8 <= len(data):
        lsn_step, durable, kind, flags, part, length, chain, tail = data[at : at + 8]
        lsn += lsn_step % 4
        body = data[at + 8 : at + 8 + length]
        record, dcrc = encode_record(
            [body],
            salt=_SALT,
            lsn=lsn,
            durable_lsn=durable,
            prev_dcrc=dcrc ^ (chain > 250),
            kind=kind % 5,
            flags=flags % 4,
            part=part % 3,
        )
        segment += b"".join(bytes(piece) for piece in record)
        if tail > 250:
            segment += bytes(512)
        at += 8 + length
    return bytes(segment)


def log(data: bytes) -> None:
    """
    Read a log of one segment, and decode the calls that it replays.
    """
    mode, rest = data[0] % 3 if data else 0, data[1:]
    header = SegmentHeader(UUID, 1, 1, 0, 0, _SALT).encode()
    if mode == 0:
        content = rest
    elif mode == 1:
        pieces, _ = encode_group([rest], salt=_SALT, first_lsn=1, durable_lsn=0, prev_dcrc=0, kind=Kind.CALL)
        content = header + b"".join(bytes(piece) for piece in pieces)
    else:
        content = header + _sealed_records(rest)
    path = _directory() / segment_name(1)
    path.write_bytes(content)

    def replay(lsn: int, body: memoryview) -> None:
        effects = Effects.decode(body, _DIMS)
        assert bytes(body) == b"".join(bytes(piece) for piece in effects.encode())

    LogReader(_directory(), uuid=UUID, generation=1, applied_lsn=0, clean_lsn=0, replay=replay).read()


def _log_seeds() -> list[bytes]:
    rows = np.arange(8, dtype=np.float32).reshape(2, 4)
    vectors = {0: FieldRows(None, rows), 1: FieldRows(np.array([1], np.uint32), rows[:1, :3].copy())}
    effects = Effects(0, [7, "seven"], [b"\x80", b"\x81\xa1a\x01"], vectors)
    more = Effects(5, tombstones=np.array([0, 3], np.uint32), deleted_ids=["gone", 4], patch_offsets=np.array([2], np.uint32))
    more.patch_payloads = [b"\x80"]
    bodies = [b"".join(bytes(piece) for piece in one.encode()) for one in (effects, more)]
    header = SegmentHeader(UUID, 1, 1, 0, 0, _SALT).encode()
    first, dcrc = encode_group([bodies[0]], salt=_SALT, first_lsn=1, durable_lsn=0, prev_dcrc=0, kind=Kind.CALL)
    second, _ = encode_group([bodies[1]], salt=_SALT, first_lsn=2, durable_lsn=1, prev_dcrc=dcrc, kind=Kind.CALL)
    whole = header + b"".join(bytes(piece) for piece in [*first, *second])
    records = b"".join(bytes([1, i, 1, 1, 0, 16, 0, 0]) + bytes(16) for i in range(3))
    return [b"\0" + whole, b"\0" + whole + bytes(1024), *(b"\1" + body for body in bodies), b"\2" + records]


# ---- derived files ----


@cache
def _graph_rows() -> NDArray[np.float32]:
    return np.random.default_rng(1).standard_normal((1100, _GRAPH_DIM)).astype(np.float32)


def _graph_core(rows: int) -> CoreIndex:
    core = CoreIndex([_GRAPH_FIELD], threads=0)
    core.append_rows(0, _graph_rows()[:rows])
    ids = np.arange(rows, dtype=np.uint64)
    core.apply(first_offset=0, ids=ids, kinds=np.zeros(rows, np.uint8), present=np.ones((1, rows), np.uint8))
    return core


@cache
def _graph_seed() -> bytes:
    core = _graph_core(len(_graph_rows()))
    core.wait_indexed(200_000)
    saved = core.save_graph(0, UUID, 1, 5, kept_rows=np.arange(len(_graph_rows())) < _GRAPH_ROWS)
    assert saved is not None
    core.close()
    return bytes(saved)


def _resealed_graph(data: bytes) -> bytes:
    """
    Give the sections and the header the checksums that belong to their bytes.
    """
    graph = bytearray(data)
    if len(graph) < 16:
        return data
    (end,) = struct.unpack_from("<I", graph, 12)
    table = end - 4 - _GRAPH_SECTIONS * 24
    if not 16 <= table <= end <= len(graph):
        return data
    for at in range(table, end - 4, 24):
        start, size = struct.unpack_from("<QQ", graph, at + 8)
        if start + size <= len(graph):
            struct.pack_into("<I", graph, at + 4, crc32c(graph[start : start + size]))
    struct.pack_into("<I", graph, end - 4, crc32c(graph[: end - 4]))
    return bytes(graph)


@cache
def _labelled_seed() -> tuple[bytes, bytes]:
    index = Labelled.create(_labelled_options())
    labels = np.arange(12, dtype=np.uint64)
    index.add(np.random.default_rng(2).standard_normal((12, 4)).astype(np.float32), labels, threads=1, replace_deleted=False)
    index.add_tags(labels[:8], 3)
    index.link_tags(np.array([3], np.uint64), m=4, threads=1)
    main = bytes(index.main_bytes())
    tags = index.tag_bytes(crc32c(main))
    assert tags is not None
    return main, bytes(tags)


def _labelled_options() -> Options:
    return Options(dim=4, inner_product=False, max_elements=20, m=4, ef_construction=20)


def derived(data: bytes) -> None:
    """
    Load a file of derived data: its frame, a graph, hnswlib's format, a file of tags; search in what was taken.
    """
    mode, rest = data[0] % 5 if data else 0, data[1:]
    if mode == 0:
        directory = _directory() / "derived"
        directory.mkdir(exist_ok=True)
        (directory / "graph-0.derived").write_bytes(rest)
        DerivedFiles(directory, uuid=UUID, generation=1).load("graph-0")
    elif mode in (1, 2):
        core = _graph_core(_GRAPH_ROWS)
        try:
            core.load_graph(0, UUID, 1, _resealed_graph(rest) if mode == 2 else rest)
            core.check_graph(0)
            found = core.search(_graph_rows()[:2], 5, ef=10)
            assert len(found.offsets) == 2
            core.wait_indexed(10_000)
        finally:
            core.close()
    else:
        main, _ = _labelled_seed()
        index = Labelled.load(_labelled_options(), *((rest, None) if mode == 3 else (main, rest)))
        index.search(np.ones((1, 4), np.float32), k=1, ef=10, threads=1, program=np.empty(0, np.uint64))


def _derived_seeds() -> list[bytes]:
    directory = _directory() / "seeds"
    directory.mkdir(exist_ok=True)
    DerivedFiles(directory, uuid=UUID, generation=1).save("graph-0", lsn=5, body=memoryview(b"a body"))
    main, tags = _labelled_seed()
    frame = (directory / "graph-0.derived").read_bytes()
    return [b"\0" + frame, b"\1" + _graph_seed(), b"\2" + _graph_seed(), b"\3" + main, b"\4" + tags]


# ---- filters ----


@cache
def _collection() -> tuple[Collection, list[tuple[int, dict[str, Any]]]]:
    rng = random.Random(8)
    points = [(i, random_payload(rng)) for i in range(12)]
    collection = Collection(dim=2)
    collection.upsert([one for one, _ in points], np.ones((12, 2)), [payload for _, payload in points])
    return collection, points


def _any_json(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return msgspec.msgpack.decode(data)


def filters(data: bytes) -> None:
    """
    Parse a filter, print it, parse that, and compare what it selects with the reference evaluator.
    """
    mode, rest = data[0] % 3 if data else 0, data[1:]
    if mode == 0:
        try:
            given = _any_json(rest)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            return
    else:
        choices = FromBytes(rest)
        given = random_filter(choices, depth=2)
        if mode == 2:  # something else at some place of it
            _spoil(given, choices)
    node: Node = parse(given)
    assert node.to_dict() == parse(node.to_dict()).to_dict()
    repr(node)
    collection, points = _collection()
    expected = [one for one, payload in points if matches(node, payload, id=one, has_vector=lambda name: name == "")]
    assert len(expected) == collection.count(given)


def _spoil(value: Any, choices: FromBytes) -> None:
    other: list[Any] = [None, -1, 1e308, "", "a[", [], {}, True, [{}], {"key": "a"}, 2**70, float("nan"), "\ud800"]
    while isinstance(value, (dict, list)) and value:
        key = choices.choice(sorted(value)) if isinstance(value, dict) else choices.randrange(len(value))
        if choices.random() < 0.3:
            value[key] = choices.choice(other)
            return
        value = value[key]


def _filter_seeds() -> list[bytes]:
    rng = random.Random(3)
    samples = [b"\0" + json.dumps(random_filter(rng)).encode() for _ in range(20)]
    return samples + [bytes([mode]) + rng.randbytes(200) for mode in (1, 2) for _ in range(20)]


# ---- payloads ----


def payload(data: bytes) -> None:
    """
    Decode a payload; what is taken must be encoded and decoded to the same.
    """
    found = decode_payload(data)
    encoded = encode_payload(found)
    assert encoded == encode_payload(decode_payload(encoded))  # bytes, since a NaN is not equal to itself


def _payload_seeds() -> list[bytes]:
    rng = random.Random(4)
    deep: Any = 1
    for _ in range(70):
        deep = {"a": [deep]}
    return [*(encode_payload(random_payload(rng)) for _ in range(20)), msgspec.msgpack.encode(deep), msgspec.msgpack.encode({1: 2})]


TARGETS: dict[str, tuple[Callable[[bytes], None], Callable[[], list[bytes]]]] = {
    "log": (log, _log_seeds),
    "derived": (derived, _derived_seeds),
    "filters": (filters, _filter_seeds),
    "payload": (payload, _payload_seeds),
}


def run_one(name: str, data: bytes) -> bool:
    """
    Give data to a target; True when it was taken, False when it was refused by an error of vecdb's own.
    """
    try:
        TARGETS[name][0](data)
    except VecdbError:
        return False
    return True
