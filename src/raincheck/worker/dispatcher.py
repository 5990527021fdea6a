"""What a worker asks from outside, in one contract: attempts to run, and where their outcomes go.

`raincheck.worker.store_dispatcher` does it with a store, `raincheck.worker.server_dispatcher` with a server,
over HTTP. Nothing else of the worker knows where an attempt comes from.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from raincheck.core.model import Claim, State, WorkerInfo
from raincheck.store.base import NO_LIMITS
from raincheck.worker.attempt import InFlight, Reason, RunningAttempt
from raincheck.worker.outcome import Outcome


class Claimed(NamedTuple):
    """Claims, and for those that need it ``ctx.previous`` as JSON, by token; None: the job was removed."""

    claims: list[Claim]
    previous: Mapping[int, bytes | None]


class Dispatcher(Protocol):
    """Gives a worker its attempts and takes their outcomes.

    All but `extend` and `now` are called on the event loop that made it.
    """

    in_flight: InFlight
    """The attempts of the worker. The worker adds and ends them; `complete` and `release` remove them."""
    attempts: Counter[State]
    """How many attempts have ended, by the state in which they left their step."""
    lease: float
    """Seconds for which a claim and `extend` lease attempts."""

    def now(self) -> float:
        """The time by which leases run out, in seconds since the epoch."""

    async def open(self, info: WorkerInfo) -> None:
        """Register the worker that ``info`` describes. Raises `RaincheckError`."""

    async def claim(
        self, functions: Sequence[str], limit: int, wait: float, limits: Mapping[str, int] = NO_LIMITS
    ) -> Claimed:
        """Up to ``limit`` steps of these functions; waits up to ``wait`` seconds for a first one.

        Of a function that has an entry in ``limits``, at most that many. If the call is cancelled, or cannot
        read what the steps need, they are given back. Raises `RaincheckError` if nothing can be claimed now.
        """

    def extend(self, info: WorkerInfo, attempts: Sequence[RunningAttempt]) -> None:
        """Keep the worker registered, and extend the leases of its attempts; ``info`` describes the worker.

        A worker whose ``state`` is "stopped" leaves. Blocks for at most a few seconds: call it from a thread.
        Raises `RaincheckError`.
        """

    async def stopping(self) -> list[tuple[RunningAttempt, Reason]]:
        """Wait until attempts have to stop; return them, and why."""

    def complete(self, outcomes: Sequence[Outcome]) -> None:
        """Write outcomes, those of one job in their order, and log them.

        An attempt is removed from ``in_flight`` once its outcome is written or discarded; until then, the
        dispatcher keeps trying.
        """

    async def release(self, attempts: Sequence[RunningAttempt]) -> None:
        """Return attempts to the queue, unrun, and remove them; if that fails, their leases run out."""

    async def report(self, progress: Sequence[tuple[RunningAttempt, bytes]]) -> None:
        """Send the latest progress (JSON) of attempts; if that fails, it is not sent again."""

    async def close(self) -> None:
        """Write no more; leases whose outcome was not written run out."""
