"""When schedules fire: cron in its zones, on the nights when clocks change too, and intervals."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import islice, pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from raincheck.core.model import CatchUp, Job, Schedule
from raincheck.engine.schedules.timetable import MOST, Rhythm, after, firings, plan

PARIS, NEW_YORK = "Europe/Paris", "America/New_York"
NOON = datetime.fromisoformat("2026-06-01T12:00:00+00:00").timestamp()
HOUR, DAY = 3600.0, 86400.0

SPRING = [(PARIS, "2026-03-29", "+0200"), (NEW_YORK, "2026-03-08", "-0400")]
AUTUMN = [(PARIS, "2026-10-25", 2, "+0200", "+0100"), (NEW_YORK, "2026-11-01", 1, "-0400", "-0500")]

moments = st.floats(NOON - 3 * 365 * DAY, NOON + 3 * 365 * DAY)
zones = st.sampled_from([PARIS, NEW_YORK, "UTC", "Asia/Beirut", "America/Sao_Paulo"])
fields = (
    st.sampled_from(["*", "*/7", "*/30", "0", "30", "5,55", "10-20"]),
    st.sampled_from(["*", "*/2", "0", "1", "2", "3", "1-3", "23"]),
    st.sampled_from(["*", "1", "L", "*/10", "25-31"]),
    st.sampled_from(["*", "3", "10-11"]),
    st.sampled_from(["*", "0", "SUN", "5L", "1#1"]),
)
crons = st.builds(lambda *parts: " ".join(parts), *fields)
rhythms = st.builds(lambda cron, zone: Rhythm(cron, zone, None), crons, zones) | st.builds(
    lambda every, anchor: Rhythm(None, "UTC", every, anchor), st.floats(1, 1e7), moments
)


def night(cron: str, zone: str, date: str, hours: int = 24) -> list[str]:
    """The firings of a day in its zone, as what its clocks show and how far they are from UTC."""
    start = datetime.fromisoformat(date).replace(tzinfo=ZoneInfo(zone))
    begin = start.timestamp() - 1
    end = (start + timedelta(hours=hours)).timestamp()
    found = []
    for firing in firings(Rhythm(cron, zone, None), begin):
        if firing >= end:
            break
        found.append(datetime.fromtimestamp(firing, ZoneInfo(zone)).strftime("%H:%M%z"))
    return found


class TestSpring:
    """The night in which an hour is left out: 2026-03-29 in Paris, 2026-03-08 in New York."""

    @pytest.mark.parametrize(
        ("zone", "date", "after"), [(PARIS, "2026-03-29", "+0200"), (NEW_YORK, "2026-03-08", "-0400")]
    )
    def test_a_fixed_time_that_is_left_out_fires_once(self, zone: str, date: str, after: str) -> None:
        """As soon as the clocks have moved: at three."""
        assert night("30 2 * * *", zone, date) == [f"03:00{after}"]

    @pytest.mark.parametrize(
        ("zone", "date", "after"), [(PARIS, "2026-03-29", "+0200"), (NEW_YORK, "2026-03-08", "-0400")]
    )
    def test_times_left_out_together_fire_as_one(self, zone: str, date: str, after: str) -> None:
        """With one that is at three anyway, too."""
        assert night("0,20,40 2 * * *", zone, date) == [f"03:00{after}"]
        assert night("0,30 2,3 * * *", zone, date) == [f"03:00{after}", f"03:30{after}"]

    @pytest.mark.parametrize(("zone", "date", "after"), SPRING)
    def test_every_so_many_minutes_goes_on(self, zone: str, date: str, after: str) -> None:
        """As time passes: the clocks show no hour of two."""
        found = night("*/30 * * * *", zone, date)
        assert [clock[:5] for clock in found[2:6]] == ["01:00", "01:30", "03:00", "03:30"]
        assert len(found) == 46

    @pytest.mark.parametrize(("zone", "date", "after"), SPRING)
    def test_every_so_many_minutes_of_the_hour_left_out_do_not_fire(
        self, zone: str, date: str, after: str
    ) -> None:
        """There is no such hour that day."""
        assert night("*/30 2 * * *", zone, date) == []


class TestAutumn:
    """The night in which an hour comes twice: 2026-10-25 in Paris, 2026-11-01 in New York."""

    @pytest.mark.parametrize(("zone", "date", "hour", "first", "second"), AUTUMN)
    def test_a_fixed_time_that_comes_twice_fires_once(
        self, zone: str, date: str, hour: int, first: str, second: str
    ) -> None:
        """The first time, also if the search starts between the two."""
        assert night(f"30 {hour} * * *", zone, date) == [f"0{hour}:30{first}"]
        start = datetime.fromisoformat(f"{date}T0{hour}:30:00{first}").timestamp()
        following = after(Rhythm(f"30 {hour} * * *", zone, None), start + HOUR / 2)
        assert following == start + 25 * HOUR

    @pytest.mark.parametrize(("zone", "date", "hour", "first", "second"), AUTUMN)
    def test_every_so_many_minutes_goes_on(
        self, zone: str, date: str, hour: int, first: str, second: str
    ) -> None:
        """As time passes: in both hours."""
        twice = [f"0{hour}:{minute}{offset}" for offset in (first, second) for minute in ("00", "30")]
        found = night("*/30 * * * *", zone, date)
        assert [clock for clock in found if clock.startswith(f"0{hour}")] == twice
        assert len(found) == 50
        assert night(f"*/30 {hour} * * *", zone, date) == twice

    @pytest.mark.parametrize(
        ("zone", "date", "hour"), [(PARIS, "2026-10-25", 2), (NEW_YORK, "2026-11-01", 1)]
    )
    def test_a_minute_of_every_hour_comes_in_both(self, zone: str, date: str, hour: int) -> None:
        """An hour is an hour."""
        assert [clock[:2] for clock in night("30 * * * *", zone, date)].count(f"0{hour}") == 2


class TestFirings:
    """The firings of any schedule are a fixed set of moments."""

    @given(rhythms, moments)
    def test_they_come_one_after_the_other(self, rhythm: Rhythm, moment: float) -> None:
        """Each later than the one before."""
        found = [moment, *islice(firings(rhythm, moment), 10)]
        assert all(earlier < later for earlier, later in pairwise(found))

    @given(rhythms, moments, st.floats(0, 1))
    def test_whoever_looks_sees_the_same(self, rhythm: Rhythm, moment: float, share: float) -> None:
        """From wherever between two firings: the next one is the next one."""
        found = list(islice(firings(rhythm, moment), 5))
        for earlier, later in pairwise(found):
            between = min(earlier + share * (later - earlier), later - 1e-3)
            assert after(rhythm, between) == later
            assert after(rhythm, earlier) == later

    @given(crons, moments)
    def test_cron_fires_at_every_minute_that_matches(self, cron: str, moment: float) -> None:
        """And at no other; without a change of clocks."""
        rhythm = Rhythm(cron, "UTC", None)
        first, second = islice(firings(rhythm, moment), 2)
        assert first % 60 == second % 60 == 0
        minute, hour, *_ = cron.split()
        for firing in (first, second):
            at = datetime.fromtimestamp(firing, ZoneInfo("UTC"))
            assert minute in ("*", "*/7", "*/30", "5,55", "10-20") or at.minute == int(minute)
            assert hour in ("*", "*/2", "1-3") or at.hour == int(hour)

    @given(st.floats(1, 1e6), moments, st.integers(1, 10**6))
    def test_intervals_never_drift(self, every: float, anchor: float, n: int) -> None:
        """The nth firing is n intervals after the anchor, to the millisecond."""
        rhythm = Rhythm(None, "UTC", every, anchor)
        about = anchor + n * round(every, 3)
        (firing,) = islice(firings(rhythm, about - every / 2), 1)
        assert abs(firing - about) < 0.002

    def test_there_may_be_none(self) -> None:
        """Not for the next fifty years."""
        assert after(Rhythm("0 0 */31 * 1#5", "UTC", None), NOON) is None


def schedule(**given: object) -> Schedule:
    """A schedule that fires on the hour."""
    made = Schedule("hourly", Job(id="", name="hourly", steps=()), cron="0 * * * *", zone="UTC")
    return replace(made, **given)


class TestPlan:
    """What is done about firings that have come."""

    def test_a_firing_on_time_is_made(self) -> None:
        """And the next one is the one after now."""
        for catch_up in CatchUp:
            made = plan(schedule(next=NOON, catch_up=catch_up), NOON + 1.5)
            assert made == ([NOON], 0, NOON + HOUR)

    @pytest.mark.parametrize(
        ("catch_up", "made"),
        [(CatchUp.LATEST, [-HOUR]), (CatchUp.ALL, [-3 * HOUR, -2 * HOUR, -HOUR]), (CatchUp.NONE, [])],
    )
    def test_of_those_missed_some_are_made_up_for(self, catch_up: CatchUp, made: list[float]) -> None:
        """As `catch_up` says; ten minutes after the last firing."""
        missed = schedule(next=NOON - 3 * HOUR, catch_up=catch_up)
        found = plan(missed, NOON - HOUR + 600)
        assert found == ([NOON + each for each in made], 3 - len(made), NOON)

    @pytest.mark.parametrize(
        ("catch_up", "count"), [(CatchUp.LATEST, 1), (CatchUp.ALL, 4), (CatchUp.NONE, 1)]
    )
    def test_one_on_time_stands_for_those_missed(self, catch_up: CatchUp, count: int) -> None:
        """Unless `catch_up` is `all`."""
        found = plan(schedule(next=NOON - 3 * HOUR, catch_up=catch_up), NOON + 60)
        assert (len(found.firings), found.firings[-1]) == (count, NOON)

    def test_all_that_are_on_time_are_made(self) -> None:
        """A short interval loses nothing when a tick comes late."""
        often = schedule(cron=None, every=1.0, anchor=NOON - 100, next=NOON, grace=5.0)
        assert plan(often, NOON + 3.5).firings == [NOON, NOON + 1, NOON + 2, NOON + 3]

    @pytest.mark.parametrize(
        "each", [schedule(cron="* * * * *"), schedule(cron=None, every=1.0, anchor=NOON)]
    )
    def test_a_long_outage_is_made_up_for_in_part(self, each: Schedule) -> None:
        """The newest of very many, and no sooner than they came."""
        first = after(Rhythm(each.cron, each.zone, each.every, each.anchor), NOON)
        made = plan(replace(each, next=first, catch_up=CatchUp.ALL), NOON + 366 * DAY)
        step = 60.0 if each.cron else 1.0
        assert made.firings == [NOON + 366 * DAY - step * i for i in range(MOST)][::-1]
        assert made.next == NOON + 366 * DAY + step

    def test_a_clock_set_back_fires_nothing(self) -> None:
        """Past firings are before the next one, whatever the clock is now."""
        assert plan(schedule(next=NOON), NOON - 5 * HOUR).firings == []

    @given(rhythms, moments, st.floats(0, 10 * DAY), st.sampled_from(CatchUp))
    def test_nothing_is_made_that_has_not_come(
        self, rhythm: Rhythm, moment: float, later: float, catch_up: CatchUp
    ) -> None:
        """Nor what is no firing, nor one before the next one; and the next one is yet to come."""
        first = after(rhythm, moment)
        each = schedule(**rhythm._asdict(), next=first, catch_up=catch_up)
        found = plan(each, moment + later)
        assert all(first is not None and first <= firing <= moment + later for firing in found.firings)
        assert all(after(rhythm, firing - 0.5) == firing for firing in found.firings)
        assert found.next is None or found.next > moment + later
