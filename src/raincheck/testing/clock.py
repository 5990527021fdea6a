"""A clock that stands still until a test moves it."""

from __future__ import annotations

from datetime import datetime, timedelta

from raincheck.core.clock import from_datetime, now, to_datetime
from raincheck.core.model import MAX_SECONDS


class Clock:
    """The time of a store in a test. It stands still at ``start`` (default: now) until it is moved.

    It moves delays, retries, deadlines, schedules and dates of jobs. It does not move ``datetime.now()`` in
    your functions, nor the timeouts of attempts, which are measured while the function runs.
    """

    def __init__(self, start: datetime | None = None) -> None:
        self.seconds = float(int(now())) if start is None else from_datetime(start)
        """The time in seconds since the epoch."""

    def __call__(self) -> float:
        """The time in seconds since the epoch."""
        return self.seconds

    def __repr__(self) -> str:
        return f"<Clock {self.now.isoformat()}>"

    @property
    def now(self) -> datetime:
        """The time as an aware UTC datetime."""
        return to_datetime(self.seconds)

    def advance(self, by: float | timedelta) -> None:
        """Jump forward ``by`` seconds or a timedelta. Nothing runs. Raises `ValueError` if it is negative."""
        self.seconds = self.after(by)

    def move_to(self, moment: datetime) -> None:
        """Jump to a time; a naive one is UTC. Nothing runs. Raises `ValueError` if it is in the past."""
        seconds = from_datetime(moment)
        if seconds < self.seconds:
            raise ValueError(f"a clock only moves forward, and it is {self.now.isoformat()} (got {moment!r})")
        self.seconds = seconds

    def after(self, by: float | timedelta) -> float:
        """The time ``by`` seconds or a timedelta from now. Raises `ValueError` if it is negative."""
        seconds = by.total_seconds() if isinstance(by, timedelta) else float(by)
        if not 0 <= seconds <= MAX_SECONDS:
            raise ValueError(f"a clock only moves forward, by at most {MAX_SECONDS:.0f} seconds (got {by!r})")
        return max(self.seconds, round(self.seconds + seconds, 6))  # ten times 0.1 is 1
