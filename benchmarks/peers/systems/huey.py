"""huey on Redis: ``huey_consumer``, one thread by default; results told by a blocking pop, in its favour."""

from __future__ import annotations

from typing import Any

from huey import RedisHuey

from benchmarks.peers.contract import URL, SyncClient, script

huey = RedisHuey("bench", url=URL, notify_result=True)


@huey.task()
def nothing(*results: int) -> int:
    """Does nothing, whatever a pipeline passes on; huey keeps no result that is None."""
    return 0


class HueyClient(SyncClient):
    """Call, ``get`` and ``then``. huey takes a job off the queue before it runs it: a crash loses it."""

    def __init__(self) -> None:
        self.submitted = 0

    def worker(self) -> list[str]:
        """One process."""
        return [script("huey_consumer"), f"{__name__}.huey", "--quiet"]

    def clear(self) -> None:
        """Forget everything, and how much there was."""
        super().clear()
        self.submitted = 0

    def submit(self) -> Any:
        """A task."""
        self.submitted += 1
        return nothing()

    def result(self, job: Any) -> Any:
        """Its result."""
        return job.get(blocking=True)

    def chain(self) -> Any:
        """A pipeline."""
        self.submitted += 3
        return huey.enqueue(nothing.s().then(nothing).then(nothing))

    def left(self) -> int:
        """What has no result yet."""
        return self.submitted - int(self.server.hlen("huey.results.bench"))


client = HueyClient
