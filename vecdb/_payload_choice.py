"""
Which part of the payloads a search gives back: what `with_payload` says, checked. Immutable; any thread.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeGuard

import numpy as np

from vecdb.errors import InvalidArgument
from vecdb.types import Payload

WithPayload = bool | Sequence[str] | Mapping[str, Sequence[str]]


class PayloadChoice(NamedTuple):
    """
    The keys that are given back, or, where `is_rest`, those that are not.
    """

    keys: frozenset[str]
    is_rest: bool

    def of(self, payload: Payload) -> Payload:
        """
        Return the chosen part of a payload that is the caller's own.
        """
        if self.is_rest and not self.keys:
            return payload
        return {key: value for key, value in payload.items() if (key in self.keys) is not self.is_rest}


EVERYTHING = PayloadChoice(frozenset(), is_rest=True)


def payload_choice(with_payload: object) -> PayloadChoice | None:
    """
    Return what is to be given back of payloads; None for nothing.

    >>> payload_choice({"exclude": ["text"]}).of({"text": "long", "n": 1})
    {'n': 1}
    """
    if isinstance(with_payload, (bool, np.bool_)):
        return EVERYTHING if with_payload else None
    if isinstance(with_payload, Mapping):
        if len(with_payload) == 1:
            word, keys = next(iter(with_payload.items()))
            if word in ("include", "exclude") and _are_keys(keys):
                return PayloadChoice(frozenset(keys), is_rest=word == "exclude")
    elif _are_keys(with_payload):
        return PayloadChoice(frozenset(with_payload), is_rest=False)
    raise InvalidArgument(
        f"with_payload is {with_payload!r}, expected True, False, a list of keys, {{'include': [...]}} or {{'exclude': [...]}}"
    )


def _are_keys(value: object) -> TypeGuard[Sequence[str]]:
    return not isinstance(value, str) and isinstance(value, Sequence) and all(isinstance(key, str) for key in value)
