"""
RFC 3339 times, compared exactly.

An instant is whole seconds since 1970 and the digits of the fraction, so that no precision is lost and no digit is too
many. A time without a zone is UTC, a date alone is its midnight. Immutable, so it may be shared between threads.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import date
from functools import lru_cache

_DAY = re.compile(r"(\d{4})-(\d{2})-(\d{2})", re.ASCII)
_DAY_LENGTH = 10
_CLOCK = re.compile(
    r"(?:[Tt ](?P<hour>[01]\d|2[0-3]):(?P<minute>[0-5]\d)(?::(?P<second>[0-5]\d|60)(?:\.(?P<fraction>\d+))?)?"
    r"(?:[Zz]|(?P<sign>[+-])(?P<zone_hour>[01]\d|2[0-3])(?::?(?P<zone_minute>[0-5]\d))?)?)?",
    re.ASCII,
)
_NANOSECOND_DIGITS = 9
_SHORT = 15  # T10:00:00+02:00
_EPOCH = date(1970, 1, 1).toordinal()


@dataclass(frozen=True, slots=True, order=True)
class Time:
    """
    An instant, and the text it was given as; only the instant is compared.
    """

    seconds: int
    fraction: str
    text: str = field(compare=False)

    @property
    def pair(self) -> tuple[float, int]:
        """
        The seconds and twice the nanoseconds, one more when the fraction goes on: where two pairs differ, they order like the instants.
        """
        return float(self.seconds), _rest(self.fraction)

    @property
    def is_fine(self) -> bool:
        """
        Whether the fraction has more digits than nanoseconds do, so that other instants have the same pair.
        """
        return len(self.fraction) > _NANOSECOND_DIGITS


def parse_time(text: str) -> Time | None:
    """
    Return the time that text spells, None when it is not one.

    >>> parse_time("2024-02-29T12:00:00.50+02:00") == parse_time("2024-02-29 10:00:00.5")
    True
    >>> parse_time("2023-02-29") is None
    True
    """
    day, clock = _day(text[:_DAY_LENGTH]), _clock(text[_DAY_LENGTH:])
    return None if day is None or clock is None else Time(day + clock[0], clock[1], text)


def time_pair(text: str) -> tuple[float, int] | None:
    """
    Return the pair of the time that text spells, None when it is not one: what `Time.pair` is, for very many texts.
    """
    day = _day(text[:_DAY_LENGTH])
    if day is None:
        return None
    clock = _clock(text[_DAY_LENGTH:])
    return None if clock is None else (float(day + clock[0]), clock[2])


# Days and clocks come again and again: of very many times, few are looked at closely. Longer texts are hardly clocks, and not kept.
@lru_cache(maxsize=4096)
def _day(text: str) -> int | None:
    """
    Return the second since 1970 at which a day begins.
    """
    form = _DAY.fullmatch(text)
    if form is None:
        return None
    try:
        day = date(int(form[1]), int(form[2]), int(form[3]))
    except ValueError:
        return None
    return (day.toordinal() - _EPOCH) * 86400


def _clock(text: str) -> tuple[int, str, int] | None:
    return _short_clock(text) if len(text) <= _SHORT else _clock_of(text)


def _clock_of(text: str) -> tuple[int, str, int] | None:
    """
    Return the seconds of a clock less those of its zone, the digits of its fraction, and what these give to a pair.
    """
    form = _CLOCK.fullmatch(text)
    if form is None:
        return None
    zone = int(form["zone_hour"] or 0) * 3600 + int(form["zone_minute"] or 0) * 60
    zone = -zone if form["sign"] == "-" else zone
    clock = int(form["hour"] or 0) * 3600 + int(form["minute"] or 0) * 60 + int(form["second"] or 0)
    # Digits without trailing zeros order like the fractions they spell, compared as text.
    fraction = (form["fraction"] or "").rstrip("0")
    return clock - zone, fraction, _rest(fraction)


_short_clock = lru_cache(maxsize=1 << 16)(_clock_of)


def _rest(fraction: str) -> int:
    nanoseconds = int(fraction[:_NANOSECOND_DIGITS].ljust(_NANOSECOND_DIGITS, "0"))
    return 2 * nanoseconds + (len(fraction) > _NANOSECOND_DIGITS)
