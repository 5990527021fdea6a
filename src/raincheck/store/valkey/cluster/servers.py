"""The nodes of a cluster: which node has which slot, and how to follow a redirection."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from redis.crc import key_slot

from raincheck.core import clock
from raincheck.store.valkey.address import Address, HostPort
from raincheck.store.valkey.connection import Command, OnFailure, Server, error_code

logger = logging.getLogger("raincheck.store")

SLOTS_TIMEOUT = 1.0
"""Seconds for one node to reply with its slots."""

READ_SLOTS_EVERY = 0.1
"""Minimum seconds between two reads of the slots."""


class ClusterServers:
    """The nodes of a cluster on one event loop. Connects to a node when there is a command for it."""

    def __init__(self, address: Address, on_failure: OnFailure) -> None:
        self._address = address
        self._on_failure = on_failure
        self._nodes: dict[HostPort, Server] = {}
        self._slots: dict[int, HostPort] = {}
        self._known: tuple[HostPort, ...] = ()
        self._unrouted: list[Command] = []
        self._reading: asyncio.Task[None] | None = None
        self._loop = asyncio.get_running_loop()
        self._read_at = -READ_SLOTS_EVERY
        self.slot = lru_cache(4096)(_slot)

    def write(self, commands: Sequence[Command]) -> None:
        """Send each command to the node of its slot."""
        by_node: dict[HostPort, list[Command]] = {}
        for command in commands:
            node = command.ask_node or self._slots.get(command.slot)
            if node is None:
                self._unrouted.append(command)
            else:
                command.sent_to = node
                by_node.setdefault(node, []).append(command)
        if self._unrouted:
            self._read_slots()
        for node, of_node in by_node.items():
            self._server(node).write(of_node)

    def _server(self, node: HostPort) -> Server:
        server = self._nodes.get(node)
        if server is None:
            server = self._nodes[node] = Server(self._address, node, self._on_failure)
        return server

    def redirect(self, command: Command, error: Exception) -> bool:
        """Follow MOVED and ASK. After any other error, read the slots again."""
        code, *words = str(error).split(" ")
        if error_code(error) not in ("MOVED", "ASK"):
            self._read_slots()
            return False
        host, _, port = words[1].rpartition(":")
        node = HostPort(host or self._slots[command.slot].host, int(port))
        if code == "MOVED":
            self._slots[int(words[0])] = node
            self._read_slots()
        else:
            command.ask_node = node
        return True

    def _read_slots(self) -> None:
        """Read the slots of all nodes in the background; meanwhile the known ones are used."""
        if self._reading is None:
            self._reading = self._loop.create_task(self._read_from_any())

    async def _read_from_any(self) -> None:
        error: Exception = ConnectionError("no node of the cluster can be reached")
        try:
            await asyncio.sleep(self._read_at + READ_SLOTS_EVERY - self._loop.time())
            for node in self._all_nodes():
                try:
                    async with asyncio.timeout(SLOTS_TIMEOUT):
                        self._update(await self._send_cluster_slots(node), node)
                    break
                except Exception as failure:  # noqa: BLE001 - try another node
                    error = failure
        finally:
            self._read_at = self._loop.time()
            self._reading = None
            self._route_again(error)

    def _send_cluster_slots(self, node: HostPort) -> asyncio.Future[Any]:
        command = Command(("CLUSTER", "SLOTS"), retry_for=0.0)
        self._server(node).write([command])
        return command.future

    def _route_again(self, error: Exception) -> None:
        """Send the commands that waited for the slots; a command whose slot has no node gets an error."""
        unrouted, self._unrouted = self._unrouted, []
        self.write([command for command in unrouted if command.slot in self._slots])
        for command in unrouted:
            if command.slot not in self._slots:
                self._on_failure(command, error)

    def _update(self, ranges: Sequence[Any], source: HostPort) -> None:
        """Use a reply of CLUSTER SLOTS; close the connections to nodes that it does not name."""
        self._slots, known = {}, set()
        for first, last, *replicas in ranges:
            nodes = [_node(each, source) for each in replicas]
            known.update(nodes)
            self._slots.update(dict.fromkeys(range(first, last + 1), nodes[0]))
        self._known = tuple(known)
        for node in self._nodes.keys() - known:
            self._nodes.pop(node).close()

    def _all_nodes(self) -> list[HostPort]:
        """Every known node, reachable ones first, otherwise at random: one may be cut off from the others."""
        nodes = dict.fromkeys((*self._known, *self._address.nodes))
        return sorted(nodes, key=lambda node: (self._is_unreachable(node), clock.chance()))

    def _is_unreachable(self, node: HostPort) -> bool:
        server = self._nodes.get(node)
        return server is not None and server.is_unreachable

    def ping(self) -> list[Command]:
        """PINGs to all nodes: their replies come after those of all earlier commands."""
        pings = []
        for server in self._nodes.values():
            pings.append(Command(("PING",), retry_for=0.0))
            server.write(pings[-1:])
        return pings

    def subscription_node(self) -> HostPort:
        """A node for a subscription."""
        return self._all_nodes()[0]

    def close(self) -> None:
        """Close all connections. Commands without a reply fail."""
        if self._reading is not None:
            self._reading.cancel()
        for server in self._nodes.values():
            server.close()


def _slot(key: str) -> int:
    return int(key_slot(key.encode()))


def _node(entry: Sequence[Any], source: HostPort) -> HostPort:
    """A node in a reply of CLUSTER SLOTS; without a host, it is the node that replied."""
    host = entry[0].decode() if isinstance(entry[0], bytes) else entry[0]
    return HostPort(host or source.host, int(entry[1]))
