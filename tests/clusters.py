"""Several Valkey servers that belong together, as child processes."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from redis.crc import key_slot

from tests.servers import PATIENCE, Server, free_port

SLOTS = 16384
SILENCE = "1000"
"""Milliseconds after which the others call a server failed."""


def until(holds: Callable[[], bool]) -> None:
    """Wait for other processes to come to an agreement."""
    end = monotonic() + 2 * PATIENCE
    while not holds():
        if monotonic() > end:
            raise TimeoutError("the servers do not agree")
        sleep(0.02)


def say(server: Server, *command: Any) -> Any:
    """The answer of a server."""
    with server.client() as client:
        answer: Any = client.execute_command(*command)
        return answer


def slot_of(key: str) -> int:
    """The slot of a key."""
    return int(key_slot(key.encode()))


class Member(Server):
    """A node of a cluster."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self.bus = free_port()
        own = {"cluster-enabled": "yes", "cluster-port": str(self.bus), "cluster-node-timeout": SILENCE}
        super().__init__(folder, **own, **settings)

    @property
    def id(self) -> str:
        """What the others call it."""
        answer = say(self, "CLUSTER MYID")
        return answer.decode() if isinstance(answer, bytes) else str(answer)

    @property
    def follows(self) -> bool:
        """Whether it is the replica of another, and has what that has."""
        info: dict[str, Any] = say(self, "INFO", "replication")
        return info.get("master_link_status") == "up"

    def has(self, slot: int) -> bool:
        """Whether it says that the slot is its own."""
        return any(first <= slot <= last and node[1] == self.port for first, last, node, *_ in self._slots())

    def _slots(self) -> Any:
        with self.client() as client:
            client.response_callbacks.pop("CLUSTER SLOTS", None)
            return client.execute_command("CLUSTER SLOTS")

    def send_key(self, key: bytes, target: Member) -> None:
        """Move one key of a slot that is being moved."""
        say(self, "MIGRATE", "127.0.0.1", target.port, key, 0, 5000)

    def sees(self, members: int) -> bool:
        """Whether it knows so many members, and all slots are served."""
        info = say(self, "CLUSTER INFO")
        return (info["cluster_state"], info["cluster_known_nodes"]) == ("ok", str(members))


class Cluster:
    """Primaries that share the slots evenly, and a replica for the first of them each."""

    def __init__(self, primaries: Sequence[Member], replicas: Sequence[Member]) -> None:
        self.primaries = primaries
        self.replicas = replicas
        self.members = [*primaries, *replicas]

    @property
    def url(self) -> str:
        """Where it is, by two of its members."""
        return "redis+cluster://" + ",".join(f"127.0.0.1:{member.port}" for member in self.members[:2])

    def start(self) -> None:
        """Start all members, and make them one."""
        for member in self.members:
            member.start()
        size = len(self.primaries)
        for i, member in enumerate(self.primaries):
            say(member, "CLUSTER ADDSLOTSRANGE", SLOTS * i // size, SLOTS * (i + 1) // size - 1)
            say(member, "CLUSTER SET-CONFIG-EPOCH", i + 1)
        for member in self.members[1:]:
            say(self.members[0], "CLUSTER MEET", "127.0.0.1", member.port, member.bus)
        until(lambda: all(member.sees(len(self.members)) for member in self.members))
        for primary, replica in zip(self.primaries, self.replicas, strict=False):
            say(replica, "CLUSTER REPLICATE", primary.id)
        until(lambda: all(replica.follows for replica in self.replicas))

    def owner(self, key: str) -> Member:
        """Who has the slot of a key."""
        return next(member for member in self.primaries if member.has(slot_of(key)))

    def flush(self) -> None:
        """Empty it."""
        for member in self.primaries:
            member.flush()

    def kill(self) -> None:
        """Kill all of it."""
        for member in self.members:
            member.kill()


@contextmanager
def cluster(primaries: int = 3, replicas: int = 0, **settings: str) -> Iterator[Cluster]:
    """A running cluster; it is gone at the end."""
    settings = {name.replace("_", "-"): value for name, value in settings.items()}
    with ExitStack() as stack:
        folders = [
            Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rc-")))
            for _ in range(primaries + replicas)
        ]
        members = [Member(folder, **settings) for folder in folders]
        made = Cluster(members[:primaries], members[primaries:])
        stack.callback(made.kill)
        made.start()
        yield made
