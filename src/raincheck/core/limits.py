"""Limits on sizes and times. An error about a limit names it and its value."""

from __future__ import annotations

from msgspec import Struct

DAY = 86400.0


class Limits(Struct, frozen=True, kw_only=True):
    """Sizes in bytes, times in seconds."""

    body: int = 1024 * 1024
    """Size of a request body."""
    result: int = 4 * 1024 * 1024
    """Size of the result of one step; a larger result fails the job."""
    results: int = 128 * 1024 * 1024
    """Size of all results of one job together; the step that exceeds it fails the job."""
    steps: int = 1000
    """Number of steps of one job."""
    stage: int = 1000
    """Number of steps of one parallel stage; use a group for more."""
    members: int = 10_000
    """Number of jobs of one group."""
    group: int = 16 * 1024 * 1024
    """Size of the input of all jobs of one group run together."""
    name: int = 200
    """Length of a job name."""
    page: int = 200
    """Number of jobs on one page of a listing."""
    page_bytes: int = 4 * 1024 * 1024
    """Size of one page of a listing, about: a page of larger jobs has fewer jobs, but at least one."""
    wait: float = 60.0
    """Time for which one request can wait for a result."""
    result_ttl: float = 7 * DAY
    """Time for which an ended job is kept, unless the job sets its own."""
    remember: float = 30 * DAY
    """Time for which the id of a removed job is remembered; requests for it get *gone*."""
    idempotency: float = DAY
    """Time for which an idempotency key is remembered."""
