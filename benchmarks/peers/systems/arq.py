"""arq: ``arq WorkerSettings``. It polls every 5 ms instead of 500 and does not log jobs, in its favour."""

from __future__ import annotations

from typing import Any

from arq import create_pool
from arq.connections import RedisSettings

from benchmarks.peers.contract import URL, AsyncClient, script

SETTINGS = RedisSettings.from_dsn(URL)
POLL = 0.005
QUIET = {"version": 1}
"""A logging configuration without handlers. By default, arq logs two lines for each job."""


async def nothing(context: dict[str, Any]) -> int:
    """Do nothing."""
    return 0


class WorkerSettings:
    """The settings of the worker."""

    functions = (nothing,)
    redis_settings = SETTINGS
    poll_delay = POLL


class Arq(AsyncClient):
    """``enqueue_job`` and ``result``."""

    def worker(self) -> list[str]:
        """The command of one process."""
        return [script("arq"), f"{__name__}.WorkerSettings", "--custom-log-dict", f"{__name__}.QUIET"]

    async def open(self) -> None:
        """Connect."""
        self.pool = await create_pool(SETTINGS)

    async def shut(self) -> None:
        """Disconnect."""
        await self.pool.aclose()

    async def submit(self) -> Any:
        """Enqueue a job."""
        return await self.pool.enqueue_job("nothing")

    async def result(self, job: Any) -> Any:
        """Wait for its result, polled as often as the worker polls the queue."""
        return await job.result(poll_delay=POLL)

    def left(self) -> int:
        """The length of the queue; a job leaves it when it is done."""
        return int(self.server.zcard("arq:queue"))


client = Arq
