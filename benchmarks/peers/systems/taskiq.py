"""taskiq on Redis streams, which acknowledge: ``taskiq worker --workers 1``; taskiq-pipelines."""

from __future__ import annotations

from typing import Any

from taskiq_pipelines import Pipeline, PipelineMiddleware
from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

from benchmarks.peers.contract import URL, AsyncClient, script

broker = RedisStreamBroker(URL).with_result_backend(RedisAsyncResultBackend(URL))
broker.add_middlewares(PipelineMiddleware())


@broker.task
async def nothing() -> int:
    """Do nothing."""
    return 0


class Taskiq(AsyncClient):
    """``kiq``, ``wait_result`` and ``Pipeline``."""

    def worker(self) -> list[str]:
        """The command of one process."""
        return [script("taskiq"), "worker", f"{__name__}:broker", "--workers", "1", "--log-level", "WARNING"]

    async def open(self) -> None:
        """Connect, and create the consumer group."""
        await broker.startup()

    async def shut(self) -> None:
        """Disconnect."""
        await broker.shutdown()

    def clear(self) -> None:
        """Delete all data except the consumer group, which workers and clients create only at their start."""
        super().clear()
        self.server.xgroup_create("taskiq", "taskiq", id="0", mkstream=True)

    async def submit(self) -> Any:
        """Enqueue a task."""
        return await nothing.kiq()

    async def result(self, job: Any) -> Any:
        """Wait for its result, polled every millisecond instead of every 0.2 s."""
        return await job.wait_result(check_interval=0.001)

    async def chain(self) -> Any:
        """Enqueue a pipeline whose results are not passed on."""
        return await Pipeline(broker, nothing).call_after(nothing).call_after(nothing).kiq()

    def left(self) -> int:
        """Messages that the group has not read or not acknowledged."""
        group: Any = self.server.xinfo_groups("taskiq")[0]
        return int(group["lag"] or 0) + int(group["pending"])


client = Taskiq
