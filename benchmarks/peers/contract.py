"""What is asked of every peer, raincheck among them. Each of them is one file beside this that answers it.

Loops and clocks are here, so that they are the same for all; a peer's file says only how a job is submitted,
how its result is awaited, and how a worker is started. Runs in the virtualenv of the peer.
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
"""How many callers there are where there is not one."""

BATCH = 1000
"""How many jobs one bulk call has."""

PAUSE = 0.001
"""Seconds of rest before each job of `Client.latencies`."""

URL = os.environ.get("BENCH_URL", "redis://127.0.0.1:6379")
"""Where the server is."""


def script(name: str) -> str:
    """A command that is installed beside this Python."""
    return str(Path(sys.executable).with_name(name))


class Client(ABC):
    """A peer's way in. Times are seconds."""

    @cached_property
    def server(self) -> Any:
        """A client of Valkey, which asks it what is there."""
        return redis.Redis.from_url(URL.partition("?")[0])

    @abstractmethod
    def worker(self) -> list[str]:
        """The command of one worker process, as the peer's documents say."""

    @abstractmethod
    def left(self) -> int:
        """How many jobs are not yet done; asked often, so it must be cheap."""

    @abstractmethod
    def one_by_one(self, jobs: int) -> float:
        """How long one caller takes who awaits each of them."""

    @abstractmethod
    def together(self, jobs: int) -> float:
        """How long fifty callers take."""

    def bulk(self, jobs: int) -> float:
        """How long it takes in calls that have a thousand jobs each."""
        raise NotImplementedError

    def fill(self, jobs: int) -> None:
        """Enqueue what is to be drained."""
        try:
            self.bulk(jobs)
        except NotImplementedError:
            self.together(jobs)

    def chains(self, chains: int) -> None:
        """Enqueue chains of three steps."""
        raise NotImplementedError

    @abstractmethod
    def latencies(self, calls: int) -> list[float]:
        """How long each of so many jobs takes from its submission to its result, one after another."""

    def clear(self) -> None:
        """Forget everything."""
        self.server.flushall()

    def stored(self) -> int:
        """How many bytes the server keeps."""
        return int(self.server.info("memory")["used_memory"])

    def spent(self) -> float | None:
        """CPU seconds that the server has taken so far, where it tells."""
        said = self.server.info("cpu")
        return float(said["used_cpu_sys"]) + float(said["used_cpu_user"])

    @abstractmethod
    def close(self) -> None:
        """Leave."""


class SyncClient(Client):
    """A peer whose API blocks; fifty callers are fifty threads."""

    @abstractmethod
    def submit(self) -> Any:
        """Submit a no-op job; what is known of it."""

    @abstractmethod
    def result(self, job: Any) -> Any:
        """Await the result of what was submitted."""

    def chain(self) -> Any:
        """Submit a chain of three."""
        raise NotImplementedError

    def one_by_one(self, jobs: int) -> float:
        """A loop."""
        return _timed(lambda: self._some(jobs))

    def _some(self, jobs: int) -> None:
        for _ in range(jobs):
            self.submit()

    def together(self, jobs: int) -> float:
        """Fifty threads."""
        with ThreadPoolExecutor(TOGETHER) as pool:
            list(pool.map(self._some, [1] * TOGETHER))
            return _timed(lambda: list(pool.map(self._some, [jobs // TOGETHER] * TOGETHER)))

    def chains(self, chains: int) -> None:
        """One by one."""
        for _ in range(chains):
            self.chain()

    def latencies(self, calls: int) -> list[float]:
        """Submit, await, rest."""
        took = []
        for _ in range(calls):
            time.sleep(PAUSE)
            took.append(_timed(lambda: self.result(self.submit())))
        return took

    def close(self) -> None:
        """Leave."""
        self.server.close()


class AsyncClient(Client):
    """A peer whose API is asynchronous; all clients run on uvloop."""

    def __init__(self) -> None:
        self.runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
        self.runner.run(self.open())

    async def open(self) -> None:
        """Connect."""

    async def shut(self) -> None:
        """Disconnect."""

    @abstractmethod
    async def submit(self) -> Any:
        """Submit a no-op job; what is known of it."""

    @abstractmethod
    async def result(self, job: Any) -> Any:
        """Await the result of what was submitted."""

    async def answer(self) -> None:
        """Submit a job and await its result."""
        await self.result(await self.submit())

    async def submit_many(self, jobs: int) -> None:
        """Submit many in one call."""
        raise NotImplementedError

    async def chain(self) -> Any:
        """Submit a chain of three."""
        raise NotImplementedError

    def one_by_one(self, jobs: int) -> float:
        """A loop."""
        return self._run(self._some, jobs)

    async def _some(self, jobs: int) -> None:
        for _ in range(jobs):
            await self.submit()

    def together(self, jobs: int) -> float:
        """Fifty coroutines."""
        self._run(self._crowd, TOGETHER)
        return self._run(self._crowd, jobs)

    async def _crowd(self, jobs: int) -> None:
        await asyncio.gather(*(self._some(jobs // TOGETHER) for _ in range(TOGETHER)))

    def bulk(self, jobs: int) -> float:
        """A thousand to a call."""
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
        """Submit, await, rest."""
        took: list[float] = []
        self._run(self._answers, calls, took)
        return took

    async def _answers(self, calls: int, took: list[float]) -> None:
        for _ in range(calls):
            await asyncio.sleep(PAUSE)
            begun = time.perf_counter()
            await self.answer()
            took.append(time.perf_counter() - begun)

    def _run(self, function: Callable[..., Any], *arguments: Any) -> float:
        return _timed(lambda: self.runner.run(function(*arguments)))

    def close(self) -> None:
        """Leave."""
        self.runner.run(self.shut())
        self.runner.close()


def _timed(function: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    function()
    return time.perf_counter() - begun
