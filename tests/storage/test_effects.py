"""
The bytes of a call: read as they were written, whatever the mixture; hostile bytes are Corruption and nothing else.
"""

from __future__ import annotations

import random
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vecdb.errors import Corruption, InvalidArgument
from vecdb.storage import effects as module
from vecdb.storage.effects import Effects, FieldRows

DIMS = {0: 3, 5: 1}


def encoded(effects: Effects) -> bytes:
    return b"".join(effects.encode())


def decoded(data: bytes) -> Effects:
    return Effects.decode(memoryview(data), DIMS)


def plain(effects: Effects) -> dict[str, Any]:
    """
    Return the parts as Python values, which can be compared.
    """
    return {
        "first_offset": effects.first_offset,
        "put_ids": effects.put_ids,
        "put_payloads": effects.put_payloads,
        "put_vectors": {
            number: (None if vectors.positions is None else vectors.positions.tolist(), vectors.rows.tolist())
            for number, vectors in effects.put_vectors.items()
        },
        "tombstones": effects.tombstones.tolist(),
        "deleted_ids": effects.deleted_ids,
        "patch_offsets": effects.patch_offsets.tolist(),
        "patch_payloads": effects.patch_payloads,
    }


ids = st.lists(st.one_of(st.integers(0, 2**64 - 1), st.text(st.characters(codec="utf-8"), min_size=1, max_size=100)), max_size=12)


@st.composite
def calls(draw: st.DrawFn) -> Effects:
    put_ids = draw(ids)
    puts = len(put_ids)
    first = draw(st.integers(0, 1000))
    below = first + puts
    vectors = {}
    for number, dim in DIMS.items():
        positions = draw(st.sampled_from(["none", "all", "some"]))
        if positions == "none":
            continue
        chosen = None if positions == "all" else sorted(draw(st.sets(st.integers(0, puts - 1)))) if puts else []
        count = puts if chosen is None else len(chosen)
        rows = np.arange(count * dim, dtype=np.float32).reshape(count, dim) / 7
        vectors[number] = FieldRows(None if chosen is None else np.array(chosen, np.uint32), rows)
    offsets = sorted(draw(st.sets(st.integers(0, below - 1), max_size=8))) if below else []
    patches = draw(st.permutations(offsets))
    return Effects(
        first_offset=first,
        put_ids=put_ids,
        put_payloads=draw(st.lists(st.binary(max_size=20), min_size=puts, max_size=puts)),
        put_vectors=vectors,
        tombstones=np.array(offsets, np.uint32),
        deleted_ids=draw(ids),
        patch_offsets=np.array(patches, np.uint32),
        patch_payloads=[bytes([i]) * i for i in range(len(patches))],
    )


@settings(max_examples=200, deadline=None)
@given(calls())
def test_a_call_is_read_as_it_was_written(effects: Effects) -> None:
    data = encoded(effects)
    assert 0 == len(data) % 8
    assert plain(effects) == plain(decoded(data))


def sample() -> Effects:
    return Effects(
        first_offset=10,
        put_ids=[1, "zwölf", 2**64 - 1],
        put_payloads=[b"", b"abc", b"payload"],
        put_vectors={
            0: FieldRows(None, np.ones((3, 3), np.float32)),
            5: FieldRows(np.array([0, 2], np.uint32), np.ones((2, 1), np.float32)),
        },
        tombstones=np.array([1, 4, 12], np.uint32),
        deleted_ids=["gone", 7],
        patch_offsets=np.array([3], np.uint32),
        patch_payloads=[b"patched"],
    )


def assert_sound(data: bytes) -> None:
    """
    Decode bytes that may be anything: Corruption, or parts that agree with each other.
    """
    try:
        effects = decoded(data)
    except Corruption:
        return
    end = effects.first_offset + len(effects.put_ids)
    assert len(effects.put_ids) == len(effects.put_payloads)
    assert all(isinstance(i, int) or 0 < len(i.encode()) <= 480 for i in [*effects.put_ids, *effects.deleted_ids])
    for number, vectors in effects.put_vectors.items():
        positions = range(len(effects.put_ids)) if vectors.positions is None else vectors.positions.tolist()
        assert (len(positions), DIMS[number]) == vectors.rows.shape
        assert all(p < len(effects.put_ids) for p in positions)
    assert sorted(set(effects.tombstones.tolist())) == effects.tombstones.tolist()
    assert all(offset < end for offset in [*effects.tombstones.tolist(), *effects.patch_offsets.tolist()])
    assert len(effects.patch_offsets) == len(effects.patch_payloads)


def test_each_truncation_is_reported() -> None:
    data = encoded(sample())
    for length in range(len(data)):
        with pytest.raises(Corruption):
            decoded(data[:length])
    with pytest.raises(Corruption, match="behind its end"):
        decoded(data + bytes(8))


def test_hostile_bytes_give_corruption_or_sound_effects_and_no_other_error() -> None:
    data = encoded(sample())
    for byte in range(len(data)):
        for value in (0, 1, 0x7F, 0x80, 0xFF, data[byte] ^ 1):
            assert_sound(data[:byte] + bytes([value]) + data[byte + 1 :])
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    for _ in range(3000):
        bad = bytearray(data)
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(0, len(bad), 4)
            bad[at : at + 4] = struct.pack("<I", rng.choice((0, 1, 2, 2**31, 2**32 - 1, rng.randrange(2**32))))
        assert_sound(bytes(bad))
        assert_sound(rng.randbytes(rng.randint(0, 200)))


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_give_corruption_or_sound_effects(data: bytes) -> None:
    assert_sound(data)


def test_counts_that_no_memory_could_hold_are_refused_without_asking_for_it() -> None:
    for place in range(8):
        header = [0] * 8
        header[place] = 2**32 - 1
        if place:
            with pytest.raises(Corruption):
                decoded(struct.pack("<8I", *header) + bytes(64))


def test_vectors_must_fit_the_collection() -> None:
    effects = sample()
    with pytest.raises(Corruption, match="field 5"):
        Effects.decode(memoryview(encoded(effects)), {0: 3})
    with pytest.raises(Corruption, match="dim 3"):
        Effects.decode(memoryview(encoded(effects)), {0: 4, 5: 1})


def test_more_than_2_gib_is_refused_before_it_is_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    size = len(encoded(sample()))
    monkeypatch.setattr(module, "MAX_CALL_BYTES", size)
    assert size == len(encoded(sample()))
    monkeypatch.setattr(module, "MAX_CALL_BYTES", size - 1)
    with pytest.raises(InvalidArgument, match="split it"):
        sample().encode()


def test_rows_are_referred_to_and_not_copied_unless_they_are_few() -> None:
    for dim, copied in ((3, True), (3000, False)):
        rows = np.zeros((50, dim), np.float32)
        pieces = Effects(0, list(range(50)), [b""] * 50, {0: FieldRows(None, rows)}).encode()
        assert copied == (len(pieces) == 1)
        rows[:] = 1
        assert copied == (b"".join(pieces).count(np.float32(1).tobytes()) < 50 * dim)
