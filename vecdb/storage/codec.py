"""
Payloads as bytes: a dict of JSON kinds to MessagePack and back.

Invariant: what `encode_payload` takes, `decode_payload` gives back equal, and both hold the same limits, so that
nothing can be written that cannot be read. Decoding trusts nothing: kinds that are not JSON's, keys that are not str,
and nesting beyond the limit are refused. Pure functions; any thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import chain
from operator import attrgetter
from typing import Any, Final, cast

import msgspec

from vecdb.errors import Corruption, InvalidArgument

MAX_DEPTH = 64
MAX_BYTES = 64 << 20

EMPTY_PAYLOAD = b"\x80"

_SCALARS = frozenset((str, int, float, bool, type(None)))
_KEYS = frozenset((str,))
UNSET: Final = msgspec.UNSET
"""
Stands where a payload has no such key.
"""
_PLAIN = _SCALARS | {type(UNSET)}
_UNDECODABLE = (msgspec.DecodeError, RecursionError, UnicodeDecodeError)
_encoder = msgspec.msgpack.Encoder()
_Scalar = str | int | float | bool | None
_decoder = msgspec.msgpack.Decoder(dict[str, Any])
# Refuses what is deeper than most payloads are, JSON or not, at no price beyond that of decoding.
_shallow = msgspec.msgpack.Decoder(dict[str, _Scalar | list[_Scalar] | dict[str, _Scalar]])


def encode_payload(payload: dict[str, Any]) -> bytes:
    """
    Return the payload's bytes.

    Raises InvalidArgument for a value that is not of a JSON kind, an int beyond 64 bits, text that is not UTF-8,
    nesting deeper than 64 and more than 64 MiB.

    >>> decode_payload(encode_payload({"city": "London", "tags": [1, 2.5, None]}))
    {'city': 'London', 'tags': [1, 2.5, None]}
    """
    if not payload and type(payload) is dict:
        return EMPTY_PAYLOAD
    problem = _not_json(payload)
    if problem is not None:
        raise InvalidArgument(f"a payload cannot be stored: {problem}")
    try:
        data = _encoder.encode(payload)
    except OverflowError as error:
        raise InvalidArgument("a payload cannot be stored: an int is outside [-2**63, 2**64); store it as a float or a str") from error
    except UnicodeEncodeError as error:
        raise InvalidArgument(
            f"a payload cannot be stored: a str is not valid Unicode ({error.reason}); remove its lone surrogates"
        ) from error
    if len(data) > MAX_BYTES:
        raise InvalidArgument(
            f"a payload has {len(data):,} bytes, at most {MAX_BYTES:,} are stored; keep large texts and blobs outside and store a reference"
        )
    return data


def encode_flat(payload: object) -> bytes | None:
    """
    Return the bytes of a payload of plain scalars, as most are; None for any other, which `encode_payload` is for, also when it is wrong.

    >>> encode_flat({"n": 1}) == encode_payload({"n": 1}), encode_flat({"n": [1]}), encode_flat({"n": float("nan")})
    (True, None, None)
    """
    if type(payload) is not dict or not _KEYS.issuperset(map(type, payload)):
        return None
    kinds = set(map(type, payload.values()))
    if not kinds <= _SCALARS:
        return None
    if float in kinds and any(value - value != 0 for value in payload.values() if type(value) is float):  # not finite
        return None
    try:
        data = _encoder.encode(payload)
    except (OverflowError, UnicodeEncodeError):
        return None
    return data if len(data) <= MAX_BYTES else None


def decode_payload(data: bytes | memoryview) -> dict[str, Any]:
    """
    Return the payload of these bytes; raises Corruption when they are not one.
    """
    if len(data) > MAX_BYTES:
        raise Corruption(f"a stored payload has {len(data):,} bytes, expected at most {MAX_BYTES:,}")
    try:
        return cast(dict[str, Any], _shallow.decode(data))
    except _UNDECODABLE:
        pass  # what is wrong, if anything is, is found below
    try:
        payload: dict[str, Any] = _decoder.decode(data)
    except _UNDECODABLE as error:
        raise Corruption(f"a stored payload cannot be decoded: {error}") from error
    problem = _not_json(payload)
    if problem is not None:
        raise Corruption(f"a stored payload is not a JSON object: {problem}")
    return payload


def decode_payloads(raws: Sequence[bytes]) -> list[dict[str, Any]]:
    """
    Return the payloads of many bytes objects, as `decode_payload` does of one.
    """
    decode = _shallow.decode
    try:
        payloads: list[dict[str, Any]] = [decode(raw) for raw in raws if len(raw) <= MAX_BYTES]
    except _UNDECODABLE:
        payloads = []
    return payloads if len(payloads) == len(raws) else list(map(decode_payload, raws))


def decode_parts(raws: Sequence[bytes], names: tuple[str, ...]) -> dict[str, list[Any]]:
    """
    Return, by name, the value of each payload at that key, UNSET where it has none; the other keys are passed over without a look at
    what they hold. Raises Corruption for bytes that are not a payload, as far as they are looked at.

    >>> decode_parts([encode_payload({"n": 1, "text": "a"}), encode_payload({})], ("n",))
    {'n': [1, UNSET]}
    """
    if max(map(len, raws), default=0) > MAX_BYTES:
        raise Corruption(f"a stored payload has {max(map(len, raws)):,} bytes, expected at most {MAX_BYTES:,}")
    decoder = _parts_decoder(names)
    if decoder is None:
        payloads = list(map(decode_payload, raws))
        return {name: [payload.get(name, UNSET) for payload in payloads] for name in names}
    try:
        parts = list(map(decoder.decode, raws))
    except _UNDECODABLE as error:
        raise Corruption(f"a stored payload cannot be decoded: {error}") from error
    found = {name: list(map(attrgetter(_member(place)), parts)) for place, name in enumerate(names)}
    for name, values in found.items():
        _check_values(name, values)
    return found


def _member(place: int) -> str:
    return f"part_{place}"


@lru_cache(maxsize=64)
def _parts_decoder(names: tuple[str, ...]) -> msgspec.msgpack.Decoder[Any] | None:
    members = {_member(place): name for place, name in enumerate(names)}
    try:
        kind = msgspec.defstruct("Parts", [(member, Any, UNSET) for member in members], rename=members, gc=False)
    except ValueError:  # msgspec has no members whose names hold a quote, a backslash or a control character
        return None
    return msgspec.msgpack.Decoder(kind)


def _check_values(name: str, values: Sequence[Any]) -> None:
    kinds = set(map(type, values))
    if kinds <= _PLAIN:
        return
    objects = [value for value in values if type(value) is dict]
    arrays = [value for value in values if type(value) is list]
    if (
        kinds <= _PLAIN | {dict, list}
        and _KEYS.issuperset(map(type, chain.from_iterable(objects)))
        and _SCALARS.issuperset(map(type, chain.from_iterable(chain(arrays, map(dict.values, objects)))))
    ):
        return
    for value in values:
        problem = None if type(value) in _PLAIN else _not_json({name: value})
        if problem is not None:
            raise Corruption(f"a stored payload is not a JSON object: {problem}")


def _not_json(payload: object) -> str | None:
    """
    Return what is wrong with a payload, or None. Without recursion, so that depth is a limit and not a crash.
    """
    if type(payload) is not dict:
        return f"it is a {type(payload).__name__}, expected a dict"
    if _KEYS.issuperset(map(type, payload)) and _SCALARS.issuperset(map(type, payload.values())):
        return None
    level: list[Any] = [payload]
    for _ in range(MAX_DEPTH):
        deeper: list[Any] = []
        for container in level:
            values = container
            if type(container) is dict:
                for key in container:
                    if type(key) is not str:
                        return f"the key {key!r} is a {type(key).__name__}, expected a str"
                values = container.values()
            for value in values:
                kind = type(value)
                if kind in _SCALARS:
                    continue
                if kind is not dict and kind is not list:
                    return f"a value is a {kind.__name__}, expected str, int, float, bool, None, list or dict"
                deeper.append(value)
        if not deeper:
            return None
        level = deeper
    return f"it is nested deeper than {MAX_DEPTH} levels"
