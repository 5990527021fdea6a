"""When a worker ends by itself, and when its child processes are replaced (docs/decisions/0030)."""

from __future__ import annotations

import asyncio
import logging
import math
import os
import sys
from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple

from msgspec import Struct

from raincheck.core.errors import ConfigError
from raincheck.core.model import State

logger = logging.getLogger("raincheck.worker")

MIB = 2**20

MEASURE_EVERY = 0.5
"""Seconds between two looks at the memory of a worker."""


class Cause(StrEnum):
    """Why a worker has ended."""

    STOPPED = "stopped"
    IDLE = "idle"
    """It was to run what is ready, and nothing is left."""
    MAX_JOBS = "max-jobs"
    MAX_MEMORY = "max-memory"


class Report(Struct, frozen=True):
    """What a worker did: why it ended, and its number of attempts by the state in which they left their step.

    ``retrying``: the step runs again. Attempts that were given back or lost are not counted.
    """

    cause: Cause
    attempts: Mapping[State, int]


class Lifetime:
    """Ends a worker that has begun ``max_jobs`` attempts, or uses over ``max_memory`` MiB; None: no limit.

    ``left`` is how many attempts may still begin. Raises `ConfigError` if ``max_jobs`` is below 1.
    """

    def __init__(self, max_jobs: int | None = None, max_memory: float | None = None) -> None:
        if max_jobs is not None and max_jobs < 1:
            raise ConfigError(f"max_jobs must be at least 1 (got {max_jobs})")
        self.left: float = math.inf if max_jobs is None else max_jobs
        self._max_jobs = max_jobs
        self._max_memory = max_memory
        self._is_spent = asyncio.Event()

    def check_start(self) -> None:
        """Raise `ConfigError` if the process is too large before its first attempt: it would do nothing.

        Also if the system does not tell its size. Blocks for a moment: call it from a thread.
        """
        if self._max_memory is None:
            return
        used = resident_memory() / MIB
        if not used:
            raise ConfigError("max_memory cannot be used: this system does not tell the size of a process")
        if used >= self._max_memory:
            raise ConfigError(
                f"max_memory is {self._max_memory:g} MiB, and the worker uses {used:.0f} MiB before its "
                "first attempt. Allow more"
            )

    def count(self) -> None:
        """An attempt begins."""
        self.left -= 1
        if self.left <= 0:
            self._is_spent.set()

    async def ended(self) -> Cause:
        """Wait until the worker has to end; returns why."""
        while not self._is_spent.is_set():
            try:
                async with asyncio.timeout(None if self._max_memory is None else MEASURE_EVERY):
                    await self._is_spent.wait()
            except TimeoutError:
                used = await asyncio.to_thread(resident_memory) / MIB
                if self._max_memory is not None and used > self._max_memory:
                    logger.info("the worker ends: it uses %.0f MiB, more than %g", used, self._max_memory)
                    return Cause.MAX_MEMORY
        logger.info("the worker ends: it has begun %d attempts", self._max_jobs)
        return Cause.MAX_JOBS


class ChildLimits(NamedTuple):
    """When a child process is replaced: after ``max_jobs`` attempts, or over ``max_memory`` MiB."""

    max_jobs: int | None = None
    max_memory: float | None = None

    def are_reached(self, jobs: int, memory: int) -> bool:
        """Whether a child that has run this many attempts, and uses so many bytes, is to be replaced."""
        has_run_all = self.max_jobs is not None and jobs >= self.max_jobs
        return has_run_all or (self.max_memory is not None and memory > self.max_memory * MIB)


NO_LIMITS = ChildLimits()


def resident_memory() -> int:
    """The bytes of memory that this process uses (RSS); 0 if the system does not tell.

    Without ``/proc``, as on macOS, it is the most that the process has used since it started.
    """
    try:
        with open("/proc/self/statm", "rb") as file:  # noqa: PTH123 - quicker, and called for each attempt
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, AttributeError):
        pass
    try:
        import resource
    except ImportError:
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
