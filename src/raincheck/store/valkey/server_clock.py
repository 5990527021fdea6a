"""The server's clock, which decides, as far as it is known here."""

from __future__ import annotations

from raincheck.core import clock
from raincheck.store.valkey.connection import Command

LOOK_EVERY = 15.0
"""Seconds between looks at it."""


class ServerClock:
    """How far the server's clock is ahead of ours. Shared by all loops of a store."""

    def __init__(self) -> None:
        self._looked_at = -LOOK_EVERY
        self._offset = 0.0

    def now(self) -> float:
        """The server's time."""
        return clock.now() + self._offset

    @property
    def is_due(self) -> bool:
        """Whether it is to be looked at."""
        return clock.monotonic() - self._looked_at > LOOK_EVERY

    def look(self, slot: int) -> Command:
        """The command that looks at it. It is sent in this turn, and not again."""
        self._looked_at = clock.monotonic()
        return _Look(self, slot)

    def see(self, before: float, server: float, after: float) -> None:
        """The server's time was ``server`` between two of ours: follow it, unless they may agree already."""
        if not before + self._offset <= server <= after + self._offset:
            self._offset = server - (before + after) / 2
            if abs(self._offset) < after - before:
                self._offset = 0.0

    def look_again(self) -> None:
        """The look failed: the next command brings another."""
        self._looked_at = -LOOK_EVERY


class _Look(Command):
    """Asks for the time of the first shard's server: one clock decides, if there are several."""

    def __init__(self, server_clock: ServerClock, slot: int) -> None:
        super().__init__(("TIME",), slot=slot, patience=0.0)
        self._clock = server_clock
        self._before = clock.now()

    def settle(self, reply: list[bytes]) -> None:
        super().settle(None)
        self._clock.see(self._before, int(reply[0]) + int(reply[1]) / 1e6, clock.now())

    def fail(self, error: Exception) -> None:
        super().settle(None)
        self._clock.look_again()
