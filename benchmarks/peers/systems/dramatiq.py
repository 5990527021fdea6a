"""dramatiq: ``dramatiq --processes 1``, eight threads by default, results in Redis."""

from __future__ import annotations

from typing import Any

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

from benchmarks.peers.contract import URL, SyncClient, script

broker = RedisBroker(url=URL)
broker.add_middleware(Results(backend=RedisBackend(url=URL)))
dramatiq.set_broker(broker)


@dramatiq.actor(store_results=True)
def nothing() -> int:
    """Do nothing."""
    return 0


class DramatiqClient(SyncClient):
    """``send``, ``get_result`` and ``pipeline``."""

    def worker(self) -> list[str]:
        """The command of one process."""
        return [script("dramatiq"), __name__, "--processes", "1"]

    def submit(self) -> Any:
        """Send a message."""
        return nothing.send()

    def result(self, job: Any) -> Any:
        """Wait for its result with a blocking pop."""
        return job.get_result(block=True, timeout=10_000)

    def chain(self) -> Any:
        """Enqueue a pipeline whose results are not passed on."""
        pipe = dramatiq.pipeline(
            [
                nothing.message_with_options(pipe_ignore=True),
                *[nothing.message_with_options(pipe_ignore=True)] * 2,
            ]
        )
        return pipe.run()

    def left(self) -> int:
        """Messages that are not acknowledged."""
        return int(self.server.hlen("dramatiq:default.msgs"))


client = DramatiqClient
