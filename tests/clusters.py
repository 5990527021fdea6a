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
SERVICE = "main"
"""What sentinels call a primary and its replicas."""

SILENCE = "1000"
"""Milliseconds after which the others call a server failed."""


def until(holds: Callable[[], bool]) -> None:
    """Wait for other processes to come to an agreement."""
    end = monotonic() + PATIENCE
    while not holds():
        if monotonic() > end:
            raise TimeoutError("the servers do not agree")
        sleep(0.02)


def say(server: Server, *command: Any) -> Any:
    """The answer of a server."""
    with server.client() as client:
        answer: Any = client.execute_command(*command)
        return answer


def follows(server: Server) -> bool:
    """Whether it is the replica of another, and has what that has."""
    info: dict[str, Any] = say(server, "INFO", "replication")
    return info.get("master_link_status") == "up"


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
        until(lambda: all(follows(replica) for replica in self.replicas))

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
        members = [Member(folder, **settings) for folder in _folders(stack, primaries + replicas)]
        made = Cluster(members[:primaries], members[primaries:])
        stack.callback(made.kill)
        made.start()
        yield made


class Sentinel(Server):
    """Watches a primary."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        (folder / "sentinel.conf").touch()
        self.arguments = (str(folder / "sentinel.conf"), "--sentinel")

    def watch(self, primary: Server, quorum: int) -> None:
        """Watch this one, and replace it when ``quorum`` sentinels miss it."""
        say(self, "SENTINEL", "MONITOR", SERVICE, "127.0.0.1", primary.port, quorum)
        say(self, "SENTINEL", "SET", SERVICE, "down-after-milliseconds", SILENCE)
        say(self, "SENTINEL", "SET", SERVICE, "failover-timeout", "4000")

    def sees(self, replicas: int, others: int) -> bool:
        """Whether it knows so many replicas, and other sentinels."""
        with self.client() as client:
            state: dict[str, Any] = client.sentinel_master(SERVICE)
        return (state["num-slaves"], state["num-other-sentinels"]) == (replicas, others)


class Watched:
    """A primary and its replicas, with sentinels that watch them."""

    def __init__(self, servers: Sequence[Server], sentinels: Sequence[Sentinel]) -> None:
        self.primary, *self.replicas = servers
        self.sentinels = sentinels
        self._all = [*servers, *sentinels]

    @property
    def url(self) -> str:
        """Where to ask for the primary."""
        hosts = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)
        return f"redis+sentinel://{hosts}/{SERVICE}/0"

    def start(self) -> None:
        """Start all, and wait until each knows the others."""
        for server in self._all:
            server.start()
        for replica in self.replicas:
            say(replica, "REPLICAOF", "127.0.0.1", self.primary.port)
        until(lambda: all(map(follows, self.replicas)))
        for sentinel in self.sentinels:
            sentinel.watch(self.primary, len(self.sentinels) // 2 + 1)
        known = len(self.replicas), len(self.sentinels) - 1
        until(lambda: all(sentinel.sees(*known) for sentinel in self.sentinels))

    def kill(self) -> None:
        """Kill all of it."""
        for server in self._all:
            server.kill()


@contextmanager
def watched(replicas: int = 2, sentinels: int = 3, **settings: str) -> Iterator[Watched]:
    """A running primary with replicas and sentinels; they are gone at the end."""
    settings = {name.replace("_", "-"): value for name, value in settings.items()}
    with ExitStack() as stack:
        servers = [Server(folder, **settings) for folder in _folders(stack, 1 + replicas)]
        made = Watched(servers, [Sentinel(folder) for folder in _folders(stack, sentinels)])
        stack.callback(made.kill)
        made.start()
        yield made


def _folders(stack: ExitStack, count: int) -> list[Path]:
    names = [tempfile.TemporaryDirectory(prefix="rc-") for _ in range(count)]
    return [Path(stack.enter_context(name)) for name in names]
