"""The measured systems and their settings."""

from __future__ import annotations

from dataclasses import dataclass

VALKEY, EVERYSEC, ALWAYS, POSTGRES = "valkey", "everysec", "always", "postgres"
"""The servers of a run; the second and the third are Valkey with an append-only file."""


@dataclass(frozen=True)
class Peer:
    """A system, with what is known outside its virtualenv."""

    key: str
    name: str
    settings: str
    jobs: int
    """Number of jobs to enqueue and drain, chosen to take a few seconds."""
    module: str = ""
    """Its module in ``systems``, if it is not its key."""
    server: str = VALKEY
    venv: str | None = "peers"
    """The virtualenv that runs it; None for this one."""
    packages: tuple[str, ...] = ()
    lacks: frozenset[str] = frozenset()
    """What it does not support: ``bulk``, ``chain``."""
    variant: bool = False
    """The same system on another server. It has only the measures that depend on the server."""
    calls: int = 300
    """Number of results that are awaited one by one."""


RAINCHECK = Peer("raincheck", "raincheck", "raincheck worker", 100_000, venv=None)

PEERS = (
    RAINCHECK,
    Peer(
        "raincheck_everysec", "raincheck, AOF everysec", "appendfsync everysec", 50_000,
        "raincheck", EVERYSEC, None, variant=True,
    ),
    Peer(
        "raincheck_always", "raincheck, AOF always", "appendfsync always, ack=fsync", 30_000,
        "raincheck", ALWAYS, None, variant=True,
    ),
    Peer(
        "celery", "Celery", "celery worker: prefork, a process per core; Redis broker and results",
        2_000, packages=("celery", "kombu"), lacks=frozenset({"bulk"}),
    ),
    Peer(
        "dramatiq", "Dramatiq", "dramatiq --processes 1: 8 threads; Redis broker and results",
        4_000, packages=("dramatiq",), lacks=frozenset({"bulk"}),
    ),
    Peer(
        "taskiq", "taskiq", "taskiq worker --workers 1; RedisStreamBroker, polls results every ms (200)",
        3_000, packages=("taskiq", "taskiq-redis", "taskiq-pipelines"), lacks=frozenset({"bulk"}),
    ),
    Peer(
        "arq", "arq", "arq WorkerSettings; poll_delay 5 ms (500), no log line per job",
        3_000, venv="arq", packages=("arq",), lacks=frozenset({"bulk", "chain"}),
    ),
    Peer(
        "huey", "huey", "huey_consumer: 1 thread; RedisHuey, notify_result; takes before it runs",
        4_000, packages=("huey",), lacks=frozenset({"bulk"}),
    ),
    Peer(
        "bullmq", "BullMQ", "Worker, concurrency 100 (1); QueueEvents for results",
        20_000, packages=("bullmq", "ioredis"),
    ),
    Peer(
        "pgqueuer", "PgQueuer", "PostgreSQL, its defaults, fsync; batch_size 200 (10); stores no results",
        20_000, server=POSTGRES, packages=("pgqueuer", "asyncpg"), lacks=frozenset({"chain"}), calls=50,
    ),
)  # fmt: skip
