"""
Payloads come back equal, and nothing that could not be read again is written.
"""

from __future__ import annotations

import datetime
import uuid
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vecdb.errors import Corruption, InvalidArgument
from vecdb.storage import codec
from vecdb.storage.codec import EMPTY_PAYLOAD, MAX_DEPTH, UNSET, decode_parts, decode_payload, decode_payloads, encode_payload

SCALARS = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text()
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4), max_leaves=20)


def nested(depth: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(depth - 1):
        value = {"a": value}
    return value


@given(st.dictionaries(st.text(), VALUES, max_size=6))
def test_a_payload_comes_back_equal_in_value_and_kind(payload: dict[str, Any]) -> None:
    decoded = decode_payload(encode_payload(payload))
    assert payload == decoded
    assert repr(payload) == repr(decoded)


def test_an_empty_payload_is_one_byte() -> None:
    assert EMPTY_PAYLOAD == encode_payload({}) == msgspec.msgpack.encode({})


@pytest.mark.parametrize("value", [2**64, -(2**63) - 1])
def test_an_int_beyond_64_bits_is_refused(value: int) -> None:
    with pytest.raises(InvalidArgument, match="int is outside"):
        encode_payload({"a": value})


@pytest.mark.parametrize(
    "value",
    [b"x", (1, 2), {1}, datetime.datetime(2024, 1, 1), datetime.date(2024, 1, 1), uuid.UUID(int=1), 1j, object(), {"b": {1: 2}}, [[b""]]],
)
def test_a_value_that_is_not_json_is_refused(value: object) -> None:
    with pytest.raises(InvalidArgument, match="cannot be stored"):
        encode_payload({"a": value})


def test_a_lone_surrogate_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="not valid Unicode"):
        encode_payload({"a": "\ud800"})


@pytest.mark.parametrize("payload", [[], None, "a", 1])
def test_what_is_not_a_dict_is_refused_both_ways(payload: Any) -> None:
    with pytest.raises(InvalidArgument, match="expected a dict"):
        encode_payload(payload)
    with pytest.raises(Corruption):
        decode_payload(msgspec.msgpack.encode(payload))


def test_depth_has_the_same_limit_both_ways() -> None:
    deepest, deeper = nested(MAX_DEPTH), nested(MAX_DEPTH + 1)
    assert deepest == decode_payload(encode_payload(deepest))
    with pytest.raises(InvalidArgument, match="nested deeper"):
        encode_payload(deeper)
    with pytest.raises(Corruption, match="nested deeper"):
        decode_payload(msgspec.msgpack.encode(deeper))


def test_hostile_depth_is_corruption_and_not_a_crash() -> None:
    with pytest.raises(Corruption):
        decode_payload(b"\x81\xa1a" + b"\x91" * 1_000_000 + b"\xc0")


def test_size_has_the_same_limit_both_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encode_payload({"a": "x" * 100})
    monkeypatch.setattr(codec, "MAX_BYTES", len(data))
    assert data == encode_payload({"a": "x" * 100})
    monkeypatch.setattr(codec, "MAX_BYTES", len(data) - 1)
    with pytest.raises(InvalidArgument, match="at most"):
        encode_payload({"a": "x" * 100})
    with pytest.raises(Corruption, match="at most"):
        decode_payload(data)


UNDECODABLE = pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x81",
        b"\x81\xa1a",
        b"\x80\x80",
        b"\x81\x01\x02",
        b"\x81\xa1a\xc4\x01x",
        b"\x81\xa1a\xd4\x05x",
        b"\x81\xa1a\xd6\xff\x00\x00\x00\x00",
        b"\x81\xa1a\xa1\xff",
        b"\x81\xa1a\xdb\xff\xff\xff\xff",
        b"\x81\xa1a\xdd\xff\xff\xff\xff",
        b"\xc1",
    ],
)


@UNDECODABLE
def test_bytes_that_are_no_payload_are_corruption(data: bytes) -> None:
    with pytest.raises(Corruption):
        decode_payload(data)
    with pytest.raises(Corruption):
        decode_parts([EMPTY_PAYLOAD, data], ("a",))


@given(st.binary(max_size=60))
def test_any_bytes_give_a_json_object_or_corruption(data: bytes) -> None:
    try:
        payload = decode_payload(data)
    except Corruption:
        return
    assert isinstance(payload, dict)
    assert codec._not_json(payload) is None


# ---- parts of payloads ----


@settings(max_examples=30)
@given(st.lists(st.dictionaries(st.sampled_from(["a", "", 'q"', "\n", "ä.b"]) | st.text(), VALUES, max_size=4), max_size=4))
def test_parts_are_what_whole_payloads_have_at_these_keys(payloads: list[dict[str, Any]]) -> None:
    raws = list(map(encode_payload, payloads))
    for names in ((), ("a",), ("", 'q"', "\n", "ä.b"), ("ä.b", "a", "")):
        expected = {name: [payload.get(name, UNSET) for payload in payloads] for name in names}
        found = decode_parts(raws, names)
        assert expected == found
        assert repr(expected) == repr(found)


@given(st.binary(max_size=60))
def test_parts_of_any_bytes_are_json_or_corruption(data: bytes) -> None:
    try:
        parts = decode_parts([data, EMPTY_PAYLOAD], ("a", "b"))
    except Corruption:
        return
    for name in ("a", "b"):
        one, none = parts[name]
        assert none is UNSET
        assert one is UNSET or codec._not_json({name: one}) is None


def test_parts_hold_the_limits_of_payloads(monkeypatch: pytest.MonkeyPatch) -> None:
    deepest, deeper = nested(MAX_DEPTH), nested(MAX_DEPTH + 1)
    assert {"a": [deepest["a"]]} == decode_parts([encode_payload(deepest)], ("a",))
    with pytest.raises(Corruption, match="nested deeper"):
        decode_parts([msgspec.msgpack.encode(deeper)], ("a",))
    bottomless = b"\x81\xa1a" + b"\x91" * 1_000_000 + b"\xc0"
    for name in ("a", "b"):
        with pytest.raises(Corruption):
            decode_parts([bottomless], (name,))
    raws = [encode_payload({"a": 1}), encode_payload({"a": "x" * 100})]
    monkeypatch.setattr(codec, "MAX_BYTES", 9)
    with pytest.raises(Corruption, match="at most 9"):
        decode_parts(raws, ("b",))


def test_where_a_key_comes_twice_parts_hold_what_whole_payloads_hold() -> None:
    twice = b"\x82\xa1a\x01\xa1a\x02"
    assert decode_payload(twice)["a"] == decode_parts([twice], ("a",))["a"][0] == 2


@given(st.lists(st.dictionaries(st.text(), VALUES, max_size=4), max_size=20))
def test_many_payloads_are_what_each_is_alone(payloads: list[dict[str, Any]]) -> None:
    raws = [encode_payload(payload) for payload in payloads]
    assert repr(list(map(decode_payload, raws))) == repr(decode_payloads(raws))


@pytest.mark.parametrize("value", [b"x", datetime.datetime(2026, 1, 2, tzinfo=datetime.timezone.utc), {1: 2}, [[b"x"]], {"a": {2: 3}}])
def test_what_is_not_json_is_corruption_at_every_depth_and_among_others(value: object) -> None:
    good, bad = encode_payload({"n": 1}), msgspec.msgpack.encode({"a": value})
    with pytest.raises(Corruption, match="a stored payload is not a JSON object: "):
        decode_payload(bad)
    with pytest.raises(Corruption, match="a stored payload is not a JSON object: "):
        decode_payloads([good, bad, good])
