"""Ids and times."""

from __future__ import annotations

import random
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from uuid import RFC_4122, UUID

import pytest

from raincheck.core import clock


def test_an_id_is_a_uuid_of_version_7() -> None:
    """Written as RFC 9562 says, in lower case."""
    made = UUID(clock.new_id())
    assert (made.version, made.variant) == (7, RFC_4122)
    assert str(made) == str(made).lower()


def test_an_id_begins_with_the_time() -> None:
    """Its first 48 bits are milliseconds since the epoch."""
    before = time.time_ns() // 1_000_000
    at = UUID(clock.new_id()).int >> 80
    # Ids made so quickly that the sequence ran over are a few milliseconds ahead.
    assert before - 1 <= at <= time.time_ns() // 1_000_000 + 100


def test_ids_sort_in_the_order_they_were_made() -> None:
    """Also those made within one millisecond, and more of them than the sequence can count."""
    made = [clock.new_id() for _ in range(10_000)]
    assert made == sorted(made)


def test_ids_are_unique_over_threads() -> None:
    """No two threads are given the same."""
    with ThreadPoolExecutor(8) as pool:
        made = [*pool.map(lambda _: [clock.new_id() for _ in range(1000)], range(16))]
    assert len({each for part in made for each in part}) == 16_000


def test_ids_go_on_when_the_clock_is_set_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their time stands still until the clock has caught up."""
    ids = clock._Ids()
    first = ids.new()
    monkeypatch.setattr("time.time_ns", lambda: 0)
    second = ids.new()
    assert first < second
    assert first[:13] == second[:13]


def test_a_full_sequence_borrows_the_next_millisecond(monkeypatch: pytest.MonkeyPatch) -> None:
    """4,096 ids of one millisecond are told apart by the sequence."""
    monkeypatch.setattr("time.time_ns", lambda: 5_000_000)
    ids = clock._Ids()
    made = [UUID(ids.new()) for _ in range(4097)]
    assert [each.int >> 80 for each in made] == [5] * 4096 + [6]
    assert [(each.int >> 64) & 0xFFF for each in made] == [*range(4096), 0]


def test_pauses_do_not_depend_on_the_seed_of_a_function() -> None:
    """Workers whose functions use the same seed would retry at the same moment; nor do pauses change what
    such a function draws."""
    drawn = []
    for _ in range(2):
        random.seed(1)
        drawn.append((clock.chance(), random.random()))
    assert drawn[0][0] != drawn[1][0]
    assert drawn[0][1] == drawn[1][1]


def test_seconds_become_utc() -> None:
    """Fractions are kept."""
    assert clock.to_datetime(1.5) == datetime(1970, 1, 1, 0, 0, 1, 500_000, UTC)


@pytest.mark.parametrize("zone", [UTC, timezone(timedelta(hours=5, minutes=30))])
def test_a_moment_is_the_same_in_every_zone(zone: timezone) -> None:
    """What counts is the instant."""
    moment = datetime(2026, 1, 2, 3, 4, 5, tzinfo=zone)
    assert clock.to_datetime(clock.from_datetime(moment)) == moment


def test_a_naive_moment_is_utc() -> None:
    """Never the zone of the machine."""
    assert clock.from_datetime(datetime(1970, 1, 1, 1)) == 3600.0  # noqa: DTZ001 - that is the point


def test_a_derived_id_is_the_same_for_everybody() -> None:
    """And another for another moment, or another source; it begins with its time."""
    made = {
        clock.derived_id(at, source) for at in (1.0, 1.001, 2.0) for source in (b"a", b"b") for _ in range(2)
    }
    assert len(made) == 6
    one = UUID(clock.derived_id(1.001, b"a"))
    assert (one.version, one.variant, one.int >> 80) == (7, RFC_4122, 1001)
