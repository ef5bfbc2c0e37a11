"""
RFC 3339 times: what is one, and how they order.
"""

import random
from datetime import datetime, timedelta, timezone
from itertools import pairwise

import pytest

from vecdb.filters.times import parse_time, time_pair


@pytest.mark.parametrize(
    "text",
    [
        "2024-03-01",
        "2024-03-01T00:00",
        "2024-03-01T00:00:00",
        "2024-03-01 00:00:00Z",
        "2024-03-01t00:00:00z",
        "2024-03-01T00:00:00.000Z",
        "2024-02-29T22:30:00-01:30",
        "2024-02-29T22:30:00-0130",
        "2024-03-01T02:00:00+02",
        "2024-02-29T23:59:60Z",
    ],
)
def test_spellings_of_one_instant_are_equal(text):
    assert parse_time("2024-03-01T00:00:00Z") == parse_time(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2024",
        "2024-3-1",
        "2024-02-30",
        "0000-01-01",
        "2024-01-01T24:00:00",
        "2024-01-01T10",
        "2024-01-01T10:60",
        "2024-01-01T10:00:00+25:00",
        "2024-01-01Z",
        " 2024-01-01",
        "2024-01-01\n",
        "2024-01-01T10:00:00.",
        "２０２４-01-01",
        "2024-01-01T10:00:00+02:",
    ],
)
def test_what_is_not_a_time_is_none(text):
    assert parse_time(text) is None
    assert time_pair(text) is None


def test_fractions_of_any_length_are_compared_exactly():
    texts = ["00", "00.0000000000001", "00.05", "00.1", "00.12", "00.2", "01"]
    times = [parse_time(f"2024-01-01T00:00:{text}Z") for text in texts]
    assert all(earlier < later for earlier, later in pairwise(times))


def test_times_order_like_datetimes():
    rng = random.Random(seed := 3)
    print(f"seed {seed}")
    start = datetime(1, 1, 3, tzinfo=timezone.utc)
    moments = [start + timedelta(microseconds=rng.randrange(9_998 * 365 * 86_400 * 10**6)) for _ in range(500)]
    moments += [moment + timedelta(microseconds=rng.choice([0, 1])) for moment in moments]
    zoned = [moment.astimezone(timezone(timedelta(minutes=rng.randrange(-1439, 1440)))) for moment in moments]
    assert [m.isoformat() for m in sorted(zoned)] == [m.isoformat() for m in sorted(zoned, key=lambda m: parse_time(m.isoformat()))]


def test_pairs_order_like_the_instants_they_stand_for_where_they_differ():
    rng = random.Random(seed := 3)
    print(f"seed {seed}")
    digits = ["", ".5", ".000000001", ".0000000011", ".0000000019", ".000000002", ".9999999999", ".99999999900"]
    texts = [f"{rng.choice(['1969-12-31T23:59:59', '1970-01-01T00:00:00', '0001-01-01T00:00:00'])}{rng.choice(digits)}" for _ in range(200)]
    times = [parse_time(text) for text in texts]
    assert [time.pair for time in times] == [time_pair(text) for text in texts]
    for a in times:
        for b in times:
            assert (a.pair == b.pair) or (a.pair < b.pair) == (a < b)
            assert a.pair != b.pair or a == b or (a.is_fine and b.is_fine)
