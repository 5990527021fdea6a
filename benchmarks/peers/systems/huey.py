"""huey on Redis: ``huey_consumer``, one thread by default; a blocking pop for results, in its favour."""

from __future__ import annotations

from typing import Any

from huey import RedisHuey

from benchmarks.peers.contract import URL, SyncClient, script

huey = RedisHuey("bench", url=URL, notify_result=True)


@huey.task()
def nothing(*results: int) -> int:
    """Do nothing. A pipeline passes arguments; the result is 0, because huey does not store None."""
    return 0


class HueyClient(SyncClient):
    """Call, ``get`` and ``then``. huey takes a job off the queue before it runs it: a crash loses it."""

    def __init__(self) -> None:
        self.submitted = 0

    def worker(self) -> list[str]:
        """The command of one process."""
        return [script("huey_consumer"), f"{__name__}.huey", "--quiet"]

    def clear(self) -> None:
        """Delete all data, and reset the counter."""
        super().clear()
        self.submitted = 0

    def submit(self) -> Any:
        """Enqueue a task."""
        self.submitted += 1
        return nothing()

    def result(self, job: Any) -> Any:
        """Wait for its result."""
        return job.get(blocking=True)

    def chain(self) -> Any:
        """Enqueue a pipeline."""
        self.submitted += 3
        return huey.enqueue(nothing.s().then(nothing).then(nothing))

    def left(self) -> int:
        """Tasks without a result."""
        return self.submitted - int(self.server.hlen("huey.results.bench"))


client = HueyClient
