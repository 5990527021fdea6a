"""How much is accepted. Over a limit, the answer says which it was and what it is."""

from __future__ import annotations

from msgspec import Struct

DAY = 86400.0


class Limits(Struct, frozen=True, kw_only=True):
    """Sizes in bytes, times in seconds."""

    body: int = 1024 * 1024
    """The body of a request."""
    result: int = 4 * 1024 * 1024
    """The result of a step; a larger one fails the job."""
    results: int = 128 * 1024 * 1024
    """The results of a job, all together; a step that goes over it fails the job."""
    steps: int = 1000
    """Steps of one job."""
    stage: int = 1000
    """Steps of one parallel stage; a group is for wider fan-out."""
    members: int = 10_000
    """Jobs of one group."""
    group: int = 16 * 1024 * 1024
    """What the jobs of a group's run are given, all together."""
    name: int = 200
    """Characters of a job's name."""
    page: int = 200
    """Jobs on one page of a listing."""
    wait: float = 60.0
    """How long one request may wait for a result."""
    result_ttl: float = 7 * DAY
    """How long an ended job is kept, unless it says otherwise."""
    remember: float = 30 * DAY
    """How long the id of a pruned job is remembered, so that asking for it says *gone*."""
    idempotency: float = DAY
    """How long an idempotency key is remembered."""
