"""What the courier carries: calls and commits of callers, and the parcels that they make up."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from raincheck import clock
from raincheck.errors import StoreError
from raincheck.store.base import Outcome
from raincheck.store.batcher import Call as Request
from raincheck.store.valkey import wire
from raincheck.store.valkey.address import Place
from raincheck.store.valkey.scripts import script

PATIENCE = 4.0
"""Seconds for which most calls are sent again."""

SHORTEST, LONGEST = 0.02, 0.5
"""Seconds of a pause before parcels of a slot are sent again: at first, and at most."""

Words = Callable[[bool], Sequence[Any]]
"""The arguments of a call; told whether it may have been carried out before."""


class Call(Request[Any]):
    """A script call, or a plain command (``keys`` then only tell where to).

    ``given_up`` gets the answer that nobody waits for any more. It is sent again for ``patience``
    seconds, before its caller hears of it.
    """

    def __init__(
        self,
        script: str | None,
        keys: Sequence[str],
        words: Words,
        *,
        given_up: Callable[[Any], None] | None = None,
        threaded: bool = False,
        patience: float = PATIENCE,
    ) -> None:
        super().__init__(threaded=threaded)
        self.script = script
        self.keys = keys
        self.words = words
        self.given_up = given_up
        self.patience = patience

    def abandoned(self, answer: Any) -> None:
        if self.given_up is not None:
            self.given_up(answer)

    @property
    def idle(self) -> bool:
        """Whether it would only be undone: a claim whose caller has gone."""
        return self.given_up is not None and bool(self.future.cancelled())


class Commit(Request[list[Outcome]]):
    """Changes of one caller, and the outcomes that have come in for them."""

    def __init__(self, changes: Sequence[wire.Packed]) -> None:
        super().__init__()
        self.changes = changes
        self.outcomes: list[Outcome] = [None] * len(changes)
        self.open = len(changes)


class Parcel:
    """One command of a trip, what is done with its answer, and with its failure.

    ``slot`` is where it goes, ``asked`` the node that it was sent on to, ``until`` for how long it
    is tried; ``replay`` says that it may have been carried out.
    """

    def __init__(
        self,
        script: str | None,
        keys: Sequence[str],
        words: Words,
        done: Callable[[Any], None],
        failed: Callable[[Exception], None],
        *,
        slot: int,
        until: float,
    ) -> None:
        self.script = script
        self.keys = keys
        self.words = words
        self.done = done
        self.failed = failed
        self.slot = slot
        self.until = until
        self.asked: Place | None = None
        self.replay = False

    def command(self) -> Sequence[Any]:
        """What is sent."""
        words = self.words(self.replay)
        if self.script is None:
            return words
        return "EVALSHA", script(self.script).sha, len(self.keys), *self.keys, *words


class _Line:
    """The parcels of one slot that wait, in their order."""

    def __init__(self, error: StoreError) -> None:
        self.error = error
        self.parcels: list[Parcel] = []
        self.pause = SHORTEST / 2
        self.at = 0.0


class Waiting:
    """Parcels that are to be sent again: those of one slot in their order, and none past them.

    A slot whose node fails keeps no other waiting.
    """

    def __init__(self) -> None:
        self._lines: dict[int, _Line] = {}

    def sort(self, parcels: list[Parcel]) -> list[Parcel]:
        """What is to be sent now: those whose pause is over, and of the new ones those that need not wait."""
        if not self._lines:
            return parcels
        now = clock.monotonic()
        ready: list[Parcel] = []
        for line in self._lines.values():
            if line.at <= now:
                ready += line.parcels
                line.parcels = []
        for parcel in parcels:
            waits = self._lines.get(parcel.slot)
            if waits is None or waits.at <= now:
                ready.append(parcel)
            elif waits.at > parcel.until:
                parcel.failed(waits.error)
            else:
                waits.parcels.append(parcel)
        return ready

    def hold(self, parcels: Iterable[Parcel], error: StoreError, begun: float) -> None:
        """Keep parcels of a trip that has ``begun`` then, to be sent again after a pause."""
        for parcel in parcels:
            line = self._lines.setdefault(parcel.slot, _Line(error))
            if line.at <= begun:
                line.pause = min(2 * line.pause, LONGEST)
                line.at = clock.monotonic() + line.pause * (0.5 + clock.chance())
                line.error = error
            if line.at > parcel.until:
                parcel.failed(error)
            else:
                line.parcels.append(parcel)

    def arrived(self, slot: int) -> None:
        """The node of this slot answers."""
        if self._lines:
            line = self._lines.get(slot)
            if line is not None and not line.parcels:
                del self._lines[slot]

    def patience(self) -> float | None:
        """Seconds until parcels are to be sent; None: there are none."""
        times = [line.at for line in self._lines.values() if line.parcels]
        return max(0.0, min(times) - clock.monotonic()) if times else None

    def empty(self) -> list[Parcel]:
        """All of them, to be sent for the last time."""
        parcels = [parcel for line in self._lines.values() for parcel in line.parcels]
        self._lines = {}
        return parcels
