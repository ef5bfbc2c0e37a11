"""
Where a page of `scroll` ended: the last point's id and, under an order, its value; and the text a caller gets to go on from there.

The text is URL-safe base64 of JSON; it is checked like any argument. Pure functions.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vecdb._convert import as_id
from vecdb.errors import InvalidArgument
from vecdb.filters import KeyPath, elements, parse_time
from vecdb.types import PointId

NUMBERS, TIMES = 0, 1

SortKey = tuple[int, Any]
"""
(NUMBERS, a number) or (TIMES, a Time): all numbers come before all times.
"""


@dataclass(frozen=True, slots=True)
class Order:
    """
    By which key points are sorted, and in which direction; `text` is what the caller wrote.
    """

    text: str
    key: KeyPath
    descending: bool

    @classmethod
    def parse(cls, text: object) -> Order:
        """
        Return the order that "key" or "-key" means.

        >>> Order.parse("-shop.price")
        Order(text='-shop.price', key=KeyPath('shop.price'), descending=True)
        """
        if not isinstance(text, str):
            raise InvalidArgument(f"order_by is {text!r} of type {type(text).__name__}, expected a key such as 'price' or '-price'")
        try:
            key = KeyPath.parse(text.removeprefix("-"))
        except InvalidArgument as error:
            raise InvalidArgument(f"order_by is {text!r}: {error}") from None
        return cls(text, key, text.startswith("-"))

    def value_of(self, payload: Mapping[str, Any]) -> SortKey | None:
        """
        Return what a payload is sorted by: of several values the first in this direction; None when there is no number and no time.
        """
        found: list[SortKey] = []
        for element in elements(payload, self.key):
            if isinstance(element, (int, float)) and not isinstance(element, bool):
                found.append((NUMBERS, element))
            elif isinstance(element, str) and (time := parse_time(element)) is not None:
                found.append((TIMES, time))
        if not found:
            return None
        return max(found) if self.descending else min(found)


@dataclass(frozen=True, slots=True)
class Position:
    """
    The last point of a page; `value` is None in the order of ids.
    """

    id: PointId
    order_by: str | None = None
    value: SortKey | None = None

    def encode(self) -> str:
        """
        Return the position as text fit for a URL.

        >>> Position.decode(Position(7, "price", (NUMBERS, 1.5)).encode(), "price").value
        (0, 1.5)
        """
        shown = None if self.value is None else [self.value[0], self.value[1].text if self.value[0] == TIMES else self.value[1]]
        content = json.dumps([self.id, self.order_by, shown], separators=(",", ":"))
        return base64.urlsafe_b64encode(content.encode()).decode().rstrip("=")

    @classmethod
    def decode(cls, text: object, order_by: str | None) -> Position:
        """
        Return the position that a page of this order gave; raises InvalidArgument for anything else.
        """
        wrong = InvalidArgument(f"after is {text!r}, expected the `next` of a page that scroll gave")
        if not isinstance(text, str):
            raise wrong
        try:
            content = json.loads(base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True))
        except (ValueError, binascii.Error, RecursionError):
            raise wrong from None
        if not isinstance(content, list) or len(content) != 3 or isinstance(content[0], bool):
            raise wrong
        one, given, value = content
        if given != order_by:
            raise InvalidArgument(f"after comes from a page with order_by={given!r}, got order_by={order_by!r}: pass the same one")
        try:
            return cls(as_id(one), order_by, None if order_by is None else _sort_key(value))
        except (InvalidArgument, TypeError, ValueError):
            raise wrong from None


def _sort_key(value: Any) -> SortKey:
    kind, content = value
    if kind == NUMBERS and type(content) in (int, float) and math.isfinite(content):
        return NUMBERS, content
    time = parse_time(content) if kind == TIMES and isinstance(content, str) else None
    if time is None:
        raise ValueError
    return TIMES, time
