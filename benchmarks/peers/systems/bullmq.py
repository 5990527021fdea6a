"""BullMQ on Node: the work is in ``bullmq/peer.js``; 100 concurrent jobs, as in raincheck's worker."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from benchmarks.peers.contract import Client

PROGRAM = Path(__file__).parents[1] / "bullmq" / "peer.js"


class BullMQ(Client):
    """Each call is a run of the program, which times itself."""

    def worker(self) -> list[str]:
        """The command of one process."""
        return ["node", str(PROGRAM), "worker"]

    def one_by_one(self, jobs: int) -> float:
        """``add``, awaited."""
        return float(self._run("one", jobs))

    def together(self, jobs: int) -> float:
        """``add`` by fifty promises."""
        return float(self._run("together", jobs))

    def bulk(self, jobs: int) -> float:
        """``addBulk``."""
        return float(self._run("bulk", jobs))

    def chains(self, chains: int) -> None:
        """A flow: a parent, its child, and the child of the child, which runs first."""
        self._run("chains", chains)

    def latencies(self, calls: int) -> list[float]:
        """``waitUntilFinished``."""
        took: list[float] = self._run("latencies", calls)
        return took

    def left(self) -> int:
        """Waiting jobs, active jobs, and parents that wait for their children."""
        keys = self.server.pipeline().llen("bull:bench:wait").llen("bull:bench:active")
        return sum(keys.zcard("bull:bench:waiting-children").execute())

    def close(self) -> None:
        """Close the client."""
        self.server.close()

    def _run(self, way: str, count: int) -> Any:
        completed = subprocess.run(["node", PROGRAM, way, str(count)], stdout=subprocess.PIPE, check=True)
        return json.loads(completed.stdout)


client = BullMQ
