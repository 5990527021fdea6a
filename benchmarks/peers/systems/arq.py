"""arq: ``arq WorkerSettings``. A poll every 5 ms instead of 500, and no log of each job, in its favour."""

from __future__ import annotations

from typing import Any

from arq import create_pool
from arq.connections import RedisSettings

from benchmarks.peers.contract import URL, AsyncClient, script

SETTINGS = RedisSettings.from_dsn(URL)
POLL = 0.005
QUIET = {"version": 1}
"""Logs nothing: as it comes, arq writes two lines for each job."""


async def nothing(context: dict[str, Any]) -> int:
    """Does nothing."""
    return 0


class WorkerSettings:
    """What ``arq`` is given."""

    functions = (nothing,)
    redis_settings = SETTINGS
    poll_delay = POLL


class Arq(AsyncClient):
    """``enqueue_job`` and ``result``."""

    def worker(self) -> list[str]:
        """One process."""
        return [script("arq"), f"{__name__}.WorkerSettings", "--custom-log-dict", f"{__name__}.QUIET"]

    async def open(self) -> None:
        """Connect."""
        self.pool = await create_pool(SETTINGS)

    async def shut(self) -> None:
        """Disconnect."""
        await self.pool.aclose()

    async def submit(self) -> Any:
        """A job."""
        return await self.pool.enqueue_job("nothing")

    async def result(self, job: Any) -> Any:
        """Its result; asked as often as the worker polls."""
        return await job.result(poll_delay=POLL)

    def left(self) -> int:
        """The queue; a job leaves it when it is done."""
        return int(self.server.zcard("arq:queue"))


client = Arq
