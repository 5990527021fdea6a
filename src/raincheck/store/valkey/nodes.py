"""Which server gets what: the only one, the one that the sentinels name, or the node that has a slot."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Protocol

import redis
from redis import exceptions
from redis.crc import key_slot

from raincheck import clock
from raincheck.store.valkey.address import Address, Place, connect

FAULTS = (exceptions.RedisError, OSError)
"""What a connection may raise; an error that is the answer to a command is given as an answer."""

AWAY = 1.0
"""Seconds for which a node that could not be connected to is not tried again: the others need not wait."""

Command = Sequence[Any]


class Node:
    """A server, and the connection to it. ``answered``: it was there at least once."""

    def __init__(self, client: redis.Redis) -> None:
        self.answered = False
        self._client: Any = client  # what is used of it ships without types
        self._connection: Any = None
        self._names: list[str] = []

    def write(self, commands: Sequence[Command]) -> None:
        """Send commands, whose answers are then to be read. May raise one of `FAULTS`."""
        self._names = [command[0] for command in commands]
        try:
            self._connection = self._client.connection_pool.get_connection()
            self._connection.send_packed_command(self._connection.pack_commands(commands))
        except BaseException:
            self.close()
            raise

    def read(self) -> list[Any]:
        """The answers to what was written last. May raise one of `FAULTS`: then some never come."""
        answers: list[Any] = []
        try:
            for name in self._names:
                try:
                    answers.append(self._client.parse_response(self._connection, name))
                except exceptions.ResponseError as error:
                    answers.append(error)
        except BaseException:
            self.close()
            raise
        connection, self._connection = self._connection, None
        self._client.connection_pool.release(connection)
        self.answered = True
        return answers

    def ask(self, *command: Any) -> Any:
        """The answer to one command, which may be an error. May raise one of `FAULTS`."""
        self.write([command])
        return self.read()[0]

    def close(self) -> None:
        """Let go: nothing that may still come on this connection is an answer to what follows."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.disconnect()
            self._client.connection_pool.release(connection)
        self._client.close()


class Nodes(Protocol):
    """The servers of a store. Used by one thread, but for `client`."""

    def slot(self, key: str) -> int:
        """What is moved as one, and answered by one node at a time."""

    def prepare(self) -> None:
        """See that it is known which node has which slot. May raise one of `FAULTS`, or `StoreUnusable`."""

    def node(self, slot: int, asked: Place | None) -> Node:
        """The node to be asked. May raise one of `FAULTS`, or `StoreUnusable`."""

    def follow(self, node: Node, error: exceptions.AskError) -> Place | None:
        """Where a node says that the slot is, for once or (MOVED) for good; None: this is no cluster."""

    def doubt(self) -> None:
        """Look again, before the next trip, which node has which slot."""

    def drop(self, node: Node) -> None:
        """A node failed: connect anew."""

    def client(self) -> redis.Redis:
        """A client for a subscription, to any node. May be called from any thread."""

    def close(self) -> None:
        """Let go of all connections."""


class One:
    """One server, or whoever the sentinels say is the primary."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._node: Node | None = None

    def slot(self, key: str) -> int:
        return 0

    def prepare(self) -> None:
        """There is nothing to know: a connection is made to who is the primary then."""

    def node(self, slot: int, asked: Place | None) -> Node:
        if self._node is None:
            self._node = Node(self.client())
        return self._node

    def follow(self, node: Node, error: exceptions.AskError) -> Place | None:
        return None

    def doubt(self) -> None:
        """There is no doubt."""

    def drop(self, node: Node) -> None:
        self.close()

    def client(self) -> redis.Redis:
        return connect(self._address)

    def close(self) -> None:
        if self._node is not None:
            self._node.close()
            self._node = None


class Cluster:
    """The nodes of a cluster, as far as they were needed."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._nodes: dict[Place, Node] = {}
        self._slots: dict[int, Place] = {}
        self._known: tuple[Place, ...] = ()
        self._away: dict[Place, float] = {}
        self._doubtful = True
        self.slot = lru_cache(4096)(_slot)

    def prepare(self) -> None:
        if not self._doubtful:
            return
        failure: Exception = exceptions.ConnectionError("no node of the cluster can be reached")
        for place in self._anyone():
            node = self._at(place)
            try:
                answer = node.ask("CLUSTER", "SLOTS")
            except FAULTS as error:
                self.drop(node)
                failure = error
                continue
            if not isinstance(answer, Exception):
                self._learn(answer, place)
                self._doubtful = False
                return
            failure = answer
        raise failure

    def _anyone(self) -> list[Place]:
        """Every node known, in an order by chance: one that is cut off from the others is asked in vain."""
        places = dict.fromkeys((*self._known, *self._address.places))
        return sorted(places, key=lambda place: (self._is_away(place), clock.chance()))

    def _is_away(self, place: Place) -> bool:
        return self._away.get(place, 0.0) > clock.monotonic()

    def _learn(self, ranges: Sequence[Any], asked: Place) -> None:
        self._slots, known = {}, set()
        for first, last, *nodes in ranges:
            places = [_place(node, asked) for node in nodes]
            known.update(places)
            self._slots.update(dict.fromkeys(range(first, last + 1), places[0]))
        self._known = tuple(known)
        for place in self._nodes.keys() - known:
            self._nodes.pop(place).close()

    def _at(self, place: Place) -> Node:
        node = self._nodes.get(place)
        if node is None:
            node = self._nodes[place] = Node(connect(self._address, place))
        return node

    def node(self, slot: int, asked: Place | None) -> Node:
        place = asked or self._slots.get(slot)
        if place is None:
            self._doubtful = True
            raise exceptions.ClusterDownError(f"no node of the cluster has slot {slot}")
        if self._is_away(place):
            raise exceptions.ConnectionError(f"{place.host}:{place.port} does not answer")
        return self._at(place)

    def follow(self, node: Node, error: exceptions.AskError) -> Place | None:
        here = self._place_of(node)
        place = Place(error.host or (here.host if here else ""), error.port)
        if isinstance(error, exceptions.MovedError):
            self._slots[error.slot_id] = place
        return place

    def doubt(self) -> None:
        self._doubtful = True

    def drop(self, node: Node) -> None:
        node.close()
        place = self._place_of(node)
        if place is not None:
            del self._nodes[place]
            if not node.answered:
                self._away[place] = clock.monotonic() + AWAY
        self._doubtful = True

    def _place_of(self, node: Node) -> Place | None:
        return next((place for place, each in self._nodes.items() if each is node), None)

    def client(self) -> redis.Redis:
        return connect(self._address, self._anyone()[0])

    def close(self) -> None:
        for node in self._nodes.values():
            node.close()
        self._nodes = {}


def _slot(key: str) -> int:
    return int(key_slot(key.encode()))


def _place(node: Sequence[Any], asked: Place) -> Place:
    """A node of ``CLUSTER SLOTS``; one without a name is that which was asked."""
    host = node[0].decode() if isinstance(node[0], bytes) else node[0]
    return Place(host or asked.host, int(node[1]))


def make_nodes(address: Address) -> Nodes:
    """The servers of an address."""
    return Cluster(address) if address.cluster else One(address)
