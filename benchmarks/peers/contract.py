"""The interface of all measured systems, including raincheck. Each has a file in ``systems``.

The loops and clocks are here, so that they are the same for all. The file of a system contains how a job is
submitted, how its result is awaited, and how a worker starts. Runs in the virtualenv of the peer.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any

import redis
import uvloop

TOGETHER = 50
"""The number of concurrent callers."""

BATCH = 1000
"""Jobs per bulk call."""

PAUSE = 0.001
"""Seconds of pause before each job of `Client.latencies`."""

URL = os.environ.get("BENCH_URL", "redis://127.0.0.1:6379")
"""The URL of the server."""


def script(name: str) -> str:
    """The path of a command that is installed with this Python."""
    return str(Path(sys.executable).with_name(name))


class Client(ABC):
    """The client of a system. Times are in seconds."""

    @cached_property
    def server(self) -> Any:
        """A Valkey client, to read counters."""
        return redis.Redis.from_url(URL.partition("?")[0])

    @abstractmethod
    def worker(self) -> list[str]:
        """The command of one worker process, as the documentation of the peer says."""

    @abstractmethod
    def left(self) -> int:
        """The number of jobs that are not done. It is called often, so it must be cheap."""

    @abstractmethod
    def one_by_one(self, jobs: int) -> float:
        """The time that one caller takes, which awaits each submit."""

    @abstractmethod
    def together(self, jobs: int) -> float:
        """The time that fifty concurrent callers take."""

    def bulk(self, jobs: int) -> float:
        """The time of bulk calls with a thousand jobs each."""
        raise NotImplementedError

    def fill(self, jobs: int) -> None:
        """Enqueue jobs for a drain."""
        try:
            self.bulk(jobs)
        except NotImplementedError:
            self.together(jobs)

    def chains(self, chains: int) -> None:
        """Enqueue chains of three steps."""
        raise NotImplementedError

    @abstractmethod
    def latencies(self, calls: int) -> list[float]:
        """The times from the submit of a job to its result, of ``calls`` jobs one after another."""

    def clear(self) -> None:
        """Delete all data."""
        self.server.flushall()

    def stored(self) -> int:
        """The bytes that the server stores."""
        return int(self.server.info("memory")["used_memory"])

    def spent(self) -> float | None:
        """The CPU seconds that the server has used; None if it does not report them."""
        cpu = self.server.info("cpu")
        return float(cpu["used_cpu_sys"]) + float(cpu["used_cpu_user"])

    @abstractmethod
    def close(self) -> None:
        """Close the client."""


class SyncClient(Client):
    """A peer with a blocking API; fifty callers are fifty threads."""

    @abstractmethod
    def submit(self) -> Any:
        """Submit a no-op job; returns its handle."""

    @abstractmethod
    def result(self, job: Any) -> Any:
        """Wait for the result of a job."""

    def chain(self) -> Any:
        """Submit a chain of three."""
        raise NotImplementedError

    def one_by_one(self, jobs: int) -> float:
        """Submit in a loop."""
        return _timed(lambda: self._submit_some(jobs))

    def _submit_some(self, jobs: int) -> None:
        for _ in range(jobs):
            self.submit()

    def together(self, jobs: int) -> float:
        """Submit in fifty threads."""
        with ThreadPoolExecutor(TOGETHER) as pool:
            list(pool.map(self._submit_some, [1] * TOGETHER))
            return _timed(lambda: list(pool.map(self._submit_some, [jobs // TOGETHER] * TOGETHER)))

    def chains(self, chains: int) -> None:
        """Submit one chain after another."""
        for _ in range(chains):
            self.chain()

    def latencies(self, calls: int) -> list[float]:
        """Pause, submit and wait, for each job."""
        took = []
        for _ in range(calls):
            time.sleep(PAUSE)
            took.append(_timed(lambda: self.result(self.submit())))
        return took

    def close(self) -> None:
        """Close the client."""
        self.server.close()


class AsyncClient(Client):
    """A peer with an async API; all clients run on uvloop."""

    def __init__(self) -> None:
        self.runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
        self.runner.run(self.open())

    async def open(self) -> None:
        """Connect."""

    async def shut(self) -> None:
        """Disconnect."""

    @abstractmethod
    async def submit(self) -> Any:
        """Submit a no-op job; returns its handle."""

    @abstractmethod
    async def result(self, job: Any) -> Any:
        """Wait for the result of a job."""

    async def answer(self) -> None:
        """Submit a job and wait for its result."""
        await self.result(await self.submit())

    async def submit_many(self, jobs: int) -> None:
        """Submit many in one call."""
        raise NotImplementedError

    async def chain(self) -> Any:
        """Submit a chain of three."""
        raise NotImplementedError

    def one_by_one(self, jobs: int) -> float:
        """Submit in a loop."""
        return self._run(self._submit_some, jobs)

    async def _submit_some(self, jobs: int) -> None:
        for _ in range(jobs):
            await self.submit()

    def together(self, jobs: int) -> float:
        """Submit in fifty coroutines."""
        self._run(self._submit_together, TOGETHER)
        return self._run(self._submit_together, jobs)

    async def _submit_together(self, jobs: int) -> None:
        await asyncio.gather(*(self._submit_some(jobs // TOGETHER) for _ in range(TOGETHER)))

    def bulk(self, jobs: int) -> float:
        """A thousand jobs per call."""
        return self._run(self._calls, jobs)

    async def _calls(self, jobs: int) -> None:
        for begin in range(0, jobs, BATCH):
            await self.submit_many(min(BATCH, jobs - begin))

    def chains(self, chains: int) -> None:
        """A hundred at a time."""
        self._run(self._chains, chains)

    async def _chains(self, chains: int) -> None:
        for begin in range(0, chains, 100):
            await asyncio.gather(*(self.chain() for _ in range(min(100, chains - begin))))

    def latencies(self, calls: int) -> list[float]:
        """Pause, submit and wait, for each job."""
        took: list[float] = []
        self._run(self._time_results, calls, took)
        return took

    async def _time_results(self, calls: int, took: list[float]) -> None:
        for _ in range(calls):
            await asyncio.sleep(PAUSE)
            started_at = time.perf_counter()
            await self.answer()
            took.append(time.perf_counter() - started_at)

    def _run(self, function: Callable[..., Any], *arguments: Any) -> float:
        return _timed(lambda: self.runner.run(function(*arguments)))

    def close(self) -> None:
        """Close the client."""
        self.runner.run(self.shut())
        self.runner.close()


def _timed(function: Callable[[], Any]) -> float:
    started_at = time.perf_counter()
    function()
    return time.perf_counter() - started_at
