"""Trips to the servers: parcels to all the nodes concerned, first written to all, then read from all.

What was sent to the wrong node, or lacked its script, goes again at once; what failed in passing goes
again after a pause, for some seconds. Its scripts are then told that they may have been there before
(``replay``), so that they answer as they did, or would have done.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from redis import exceptions

from raincheck import clock
from raincheck.errors import StoreError, StoreUnavailable, StoreUnusable
from raincheck.store.valkey.faults import passes, translate
from raincheck.store.valkey.nodes import FAULTS, Command, Node, Nodes
from raincheck.store.valkey.parcels import Parcel, Waiting
from raincheck.store.valkey.scripts import script

ROUNDS = 5
"""Trips in a row, at most."""

ACK_MILLISECONDS = 2000
ACK_COMMANDS: dict[str, Command] = {
    "fsync": ("WAITAOF", 1, 0, ACK_MILLISECONDS),
    "replicated": ("WAIT", 1, ACK_MILLISECONDS),
}
ACKNOWLEDGED = ("commit", "reserve", "void")
"""Scripts whose answer counts only when what they wrote is acknowledged."""


class Trips:
    """Makes the trips, on one thread. ``last``: nothing is sent again after a pause any more."""

    def __init__(self, nodes: Nodes, ack: str) -> None:
        self._nodes = nodes
        self._ack = ack
        self._acknowledge = ACK_COMMANDS.get(ack)
        self._begun = 0.0
        self.waiting = Waiting()
        self.last = False

    def make(self, parcels: list[Parcel]) -> None:
        """Deliver parcels, or let them wait for another trip."""
        for _ in range(ROUNDS):
            if not parcels:
                return
            parcels = self._travel(parcels)
        self._hold(parcels, StoreUnavailable("one node of the cluster sends calls on to the other"))

    def _travel(self, parcels: list[Parcel]) -> list[Parcel]:
        """One trip; the parcels that go again at once."""
        self._begun = clock.monotonic()
        loads = self._load(parcels)
        written = [(node, load) for node, load in loads.items() if self._write(node, load)]
        return [parcel for node, load in written for parcel in self._read(node, load)]

    def _load(self, parcels: list[Parcel]) -> dict[Node, list[Parcel]]:
        """What each node gets."""
        loads: dict[Node, list[Parcel]] = {}
        try:
            self._nodes.prepare()
        except (*FAULTS, StoreUnusable) as error:
            self._refuse(parcels, error)
            return loads
        for parcel in parcels:
            try:
                node = self._nodes.node(parcel.slot, parcel.asked)
            except (*FAULTS, StoreUnusable) as error:
                self._refuse([parcel], error)
            else:
                loads.setdefault(node, []).append(parcel)
        return loads

    def _write(self, node: Node, load: list[Parcel]) -> bool:
        commands: list[Command] = []
        for parcel in load:
            if parcel.asked is not None:
                commands.append(("ASKING",))
            commands.append(parcel.command())
        if self._acknowledge is not None:
            commands.append(self._acknowledge)
        try:
            node.write(commands)
        except FAULTS as error:
            self._cut_off(node, load, error)
            return False
        return True

    def _read(self, node: Node, load: list[Parcel]) -> list[Parcel]:
        """The answers of a node; the parcels that go again at once."""
        try:
            answers = node.read()
        except FAULTS as error:
            self._cut_off(node, load, error)
            return []
        unmet = None if self._acknowledge is None else self._unmet(answers.pop())
        again: list[Parcel] = []
        turn = iter(answers)
        for parcel in load:
            if parcel.asked is not None:
                next(turn)
                parcel.asked = None
            answer = next(turn)
            if not isinstance(answer, Exception):
                self._hand_over(parcel, answer, unmet)
            elif self._helped(node, parcel, answer):
                again.append(parcel)
            else:
                self._refuse([parcel], answer)
        return again

    def _hand_over(self, parcel: Parcel, answer: Any, unmet: StoreError | None) -> None:
        self.waiting.arrived(parcel.slot)
        if unmet is not None and parcel.script in ACKNOWLEDGED:
            parcel.failed(unmet)
        else:
            parcel.done(answer)

    def _helped(self, node: Node, parcel: Parcel, error: Exception) -> bool:
        """Whether what was missing is mended: it can go again at once."""
        if isinstance(error, exceptions.AskError):
            parcel.asked = self._nodes.follow(node, error)
            return parcel.asked is not None
        if isinstance(error, exceptions.NoScriptError) and parcel.script is not None:
            with suppress(*FAULTS):  # then the next trip finds out
                node.ask("SCRIPT LOAD", script(parcel.script).source)
            return True
        return False

    def _refuse(self, parcels: Sequence[Parcel], error: BaseException) -> None:
        """An error that is an answer, or keeps parcels from being sent at all."""
        if passes(error):
            self._nodes.doubt()
            self._hold(parcels, translate(error))
            return
        for parcel in parcels:
            self.waiting.arrived(parcel.slot)
            parcel.failed(translate(error))

    def _cut_off(self, node: Node, load: list[Parcel], error: BaseException) -> None:
        """A connection failed: nobody knows what of it was carried out."""
        self._nodes.drop(node)
        for parcel in load:
            parcel.replay = True
        self._hold(load, translate(error))

    def _hold(self, parcels: Sequence[Parcel], error: StoreError) -> None:
        for parcel in parcels:
            parcel.asked = None
        if self.last:
            for parcel in parcels:
                parcel.failed(error)
        else:
            self.waiting.hold(parcels, error, self._begun)

    def _unmet(self, answer: Any) -> StoreError | None:
        """Why what was written may not count as acknowledged."""
        if isinstance(answer, Exception):
            return translate(answer)
        count = answer[0] if isinstance(answer, list) else answer
        if count >= 1:
            return None
        what = "synced to disk" if self._ack == "fsync" else "received by a replica"
        return StoreUnavailable(f"ack={self._ack}: it was written, but not {what} in time; it may be lost")
