"""The nodes of a cluster: which of them has which slot, and what to do when one sends a command on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from redis.crc import key_slot

from raincheck.core import clock
from raincheck.store.valkey.address import Address, HostPort
from raincheck.store.valkey.connection import Command, Refused, Server
from raincheck.store.valkey.errors import code_of

logger = logging.getLogger("raincheck.store")

LOOK_TIMEOUT = 1.0
"""Seconds that one node gets to tell which node has which slot."""

LOOK_EVERY = 0.1
"""Seconds between two looks, at least."""


class ClusterServers:
    """The nodes of a cluster on one event loop, as far as they were needed."""

    def __init__(self, address: Address, refused: Refused) -> None:
        self._address = address
        self._refused = refused
        self._nodes: dict[HostPort, Server] = {}
        self._slots: dict[int, HostPort] = {}
        self._known: tuple[HostPort, ...] = ()
        self._unrouted: list[Command] = []
        self._looking: asyncio.Task[None] | None = None
        self._loop = asyncio.get_running_loop()
        self._looked_at = -LOOK_EVERY
        self.slot = lru_cache(4096)(_slot)

    def write(self, commands: Sequence[Command]) -> None:
        """Send each command to the node that has its slot."""
        loads: dict[HostPort, list[Command]] = {}
        for command in commands:
            place = command.asked or self._slots.get(command.slot)
            if place is None:
                self._unrouted.append(command)
            else:
                command.sent_to = place
                loads.setdefault(place, []).append(command)
        if self._unrouted:
            self._look()
        for place, load in loads.items():
            self._node(place).write(load)

    def _node(self, place: HostPort) -> Server:
        node = self._nodes.get(place)
        if node is None:
            node = self._nodes[place] = Server(self._address, place, self._refused)
        return node

    def redirect(self, command: Command, error: Exception) -> bool:
        """Follow MOVED and ASK; any other error is a reason to look again which node has which slot."""
        code, *words = str(error).split(" ")
        if code_of(error) not in ("MOVED", "ASK"):
            self._look()
            return False
        host, _, port = words[1].rpartition(":")
        place = HostPort(host or self._slots[command.slot].host, int(port))
        if code == "MOVED":
            self._slots[int(words[0])] = place
            self._look()
        else:
            command.asked = place
        return True

    def _look(self) -> None:
        """Look in the background which node has which slot; meanwhile commands go by what is known."""
        if self._looking is None:
            self._looking = self._loop.create_task(self._learn())

    async def _learn(self) -> None:
        error: Exception = ConnectionError("no node of the cluster can be reached")
        try:
            await asyncio.sleep(self._looked_at + LOOK_EVERY - self._loop.time())
            for place in self._anyone():
                try:
                    async with asyncio.timeout(LOOK_TIMEOUT):
                        self._note(await self._ask_for_slots(place), place)
                    break
                except Exception as failure:  # noqa: BLE001 - another node may tell
                    error = failure
        finally:
            self._looked_at = self._loop.time()
            self._looking = None
            self._route_again(error)

    def _ask_for_slots(self, place: HostPort) -> asyncio.Future[Any]:
        command = Command(("CLUSTER", "SLOTS"), patience=0.0)
        self._node(place).write([command])
        return command.future

    def _route_again(self, error: Exception) -> None:
        """Send what waited for the look; what is still of no node gets an error."""
        unrouted, self._unrouted = self._unrouted, []
        self.write([command for command in unrouted if command.slot in self._slots])
        for command in unrouted:
            if command.slot not in self._slots:
                self._refused(command, error)

    def _note(self, ranges: Sequence[Any], asked: HostPort) -> None:
        """Take over what CLUSTER SLOTS says; nodes that are gone are closed."""
        self._slots, known = {}, set()
        for first, last, *nodes in ranges:
            places = [_place(node, asked) for node in nodes]
            known.update(places)
            self._slots.update(dict.fromkeys(range(first, last + 1), places[0]))
        self._known = tuple(known)
        for place in self._nodes.keys() - known:
            self._nodes.pop(place).close()

    def _anyone(self) -> list[HostPort]:
        """Every node known, in an order by chance: one that is cut off from the others is asked in vain."""
        places = dict.fromkeys((*self._known, *self._address.places))
        return sorted(places, key=lambda place: (self._is_away(place), clock.chance()))

    def _is_away(self, place: HostPort) -> bool:
        node = self._nodes.get(place)
        return node is not None and node.is_away

    def pings(self) -> list[Command]:
        """Commands that were sent to all nodes: replied to, all commands before them are."""
        pings = []
        for node in self._nodes.values():
            pings.append(Command(("PING",), patience=0.0))
            node.write(pings[-1:])
        return pings

    def place(self) -> HostPort:
        """A node for a subscription."""
        return self._anyone()[0]

    def close(self) -> None:
        """Close all connections. Commands without a reply fail."""
        if self._looking is not None:
            self._looking.cancel()
        for node in self._nodes.values():
            node.close()


def _slot(key: str) -> int:
    return int(key_slot(key.encode()))


def _place(node: Sequence[Any], asked: HostPort) -> HostPort:
    """A node of ``CLUSTER SLOTS``; one without a name is that which was asked."""
    host = node[0].decode() if isinstance(node[0], bytes) else node[0]
    return HostPort(host or asked.host, int(node[1]))
