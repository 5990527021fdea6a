"""The environment of the peers: the servers of one run, and the calls that measure a peer on its server."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks import processes
from benchmarks.bench import Bench
from benchmarks.figures import Readings
from benchmarks.peers import drive, roster
from benchmarks.peers.postgres import postgres
from benchmarks.peers.roster import Peer
from benchmarks.processes import ChildError
from benchmarks.valkey import valkey

HOME = Path(__file__).parents[1]
ONE_BY_ONE, TOGETHER = 5_000, 50_000
"""Maximum number of enqueued jobs, one by one and otherwise."""

AOF = {roster.EVERYSEC: "everysec", roster.ALWAYS: "always"}


class PeerBench(Bench):
    """Peers and their servers. Readings are kept, as several measures use those of one call."""

    def __init__(self, folder: Path, peers: Sequence[Peer], *, quick: bool) -> None:
        super().__init__(folder, quick=quick)
        self.peers = [replace(peer, jobs=self.size(peer.jobs), calls=self.size(peer.calls)) for peer in peers]
        self.problems: list[str] = []
        self._urls: dict[str, str] = {}
        self._readings: dict[tuple[str, str], Readings] = {}

    @contextmanager
    def open(self) -> Iterator[None]:
        """Run the servers."""
        with ExitStack() as stack:
            for server in {peer.server: None for peer in self.peers}:
                try:
                    self._urls[server] = stack.enter_context(self._serve(server))
                except (ChildError, OSError, subprocess.SubprocessError) as error:
                    self.problems.append(f"cannot start {server}: {error}")
            yield

    @contextmanager
    def _serve(self, server: str) -> Iterator[str]:
        if server == roster.POSTGRES:
            with postgres(self.fresh()) as url:
                yield url
            return
        aof = {"appendonly": "yes", "appendfsync": AOF[server]} if server in AOF else {}
        with valkey(self.fresh(), **aof) as url:
            yield f"{url}?ack=fsync" if server == roster.ALWAYS else url

    @property
    def systems(self) -> list[Peer]:
        """The peers without variants."""
        return [peer for peer in self.peers if not peer.variant]

    def env(self, peer: Peer) -> dict[str, str]:
        """The environment variables of a peer, with the URL of its server."""
        return {"BENCH_URL": self._urls[peer.server], "BENCH_FOLDER": str(self.fresh())}

    def enqueue(self, peer: Peer) -> Readings:
        """See `drive.enqueue`."""
        few, many = (min(peer.jobs, self.size(most)) for most in (ONE_BY_ONE, TOGETHER))
        return self._once(peer, drive.enqueue, few=few, many=many, lacks=sorted(peer.lacks))

    def drain(self, peer: Peer, workers: int = 1, **some: int) -> Readings:
        """See `drive.drain`."""
        return self._once(peer, drive.drain, **{"jobs": peer.jobs, "workers": workers} | some)

    def chain(self, peer: Peer) -> Readings:
        """See `drive.chain`; the number of chains is a fifth of the number of jobs."""
        return self._once(peer, drive.chain, chains=max(peer.jobs // 5, 1))

    def latency(self, peer: Peer) -> Readings:
        """See `drive.latency`."""
        return self._once(peer, drive.latency, calls=peer.calls)

    def discard(self, function: Callable[..., Any]) -> None:
        """Discard the readings of a function of `drive`."""
        self._readings = {
            key: readings for key, readings in self._readings.items() if key[0] != function.__name__
        }

    def _once(self, peer: Peer, function: Callable[..., Readings], **arguments: Any) -> Readings:
        key = function.__name__, repr((peer.key, sorted(arguments.items())))
        if (readings := self._readings.get(key)) is None:
            try:
                if peer.server not in self._urls:
                    raise ChildError("its server did not start")
                readings = self.call_drive(peer, function, **arguments)
            except ChildError as error:
                self.problems.append(f"{peer.name}, {function.__name__}: {error}")
                readings = {}
            self._readings[key] = readings
        return readings

    def call_drive(self, peer: Peer, function: Callable[..., Any], **arguments: Any) -> Any:
        """Call a function of `drive` in a new Python process of the peer's virtualenv; returns its result."""
        print(f"  {peer.name}: {function.__name__}", file=sys.stderr, flush=True)
        arguments = {"peer": peer.module or peer.key, **arguments}
        return processes.call(function, self.fresh() / "log", self.env(peer), arguments, python(peer.venv))


def python(venv: str | None) -> str:
    """The path of the Python of a virtualenv of the peers; without a name, of this Python."""
    return str(HOME / f".venv-{venv}" / "bin" / "python") if venv else sys.executable
