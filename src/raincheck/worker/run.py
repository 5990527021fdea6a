"""One attempt in this process: what it runs, who holds it, and how it is told to stop."""

from __future__ import annotations

import asyncio
import math
from enum import StrEnum
from typing import Any

from raincheck.context import Context
from raincheck.functions import Function
from raincheck.model import Attempt, Claim
from raincheck.store.base import Held


class Reason(StrEnum):
    """Why an attempt is made to stop."""

    CANCELLED = "cancelled"
    TIMEOUT = "timeout"
    LOST = "lost"
    """Its lease is gone: whatever it returns counts for nothing."""
    GIVEN_BACK = "given back"
    """The worker stops; another will run it."""


class ChildError(Exception):
    """What a function raised in a child process, as plain data: ``names`` of its class and bases."""

    def __init__(
        self,
        names: tuple[str, ...],
        message: str,
        *,
        fatal: bool = False,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.names = names
        self.fatal = fatal
        self.retry_after = retry_after


class Run:
    """An attempt being made. ``task`` is what to cancel while the function is being awaited; ``previous`` is
    ``ctx.previous`` as JSON."""

    __slots__ = (
        "arguments",
        "claim",
        "context",
        "extended_at",
        "function",
        "handle",
        "over",
        "previous",
        "progress",
        "reason",
        "task",
        "token",
        "untold",
    )

    def __init__(self, claim: Claim, function: Function) -> None:
        self.claim = claim
        self.function = function
        self.token = claim.lease.token
        self.arguments: tuple[list[Any], dict[str, Any]] = ([], {})
        self.context: Context | None = None
        self.task: asyncio.Task[Any] | None = None
        self.handle: asyncio.TimerHandle | None = None
        self.reason: Reason | None = None
        self.over = False
        self.previous = b"null"
        self.progress: bytes | None = None
        self.untold = False
        self.extended_at = 0.0

    @property
    def held(self) -> Held:
        """The lease it stands on."""
        return Held(self.claim.job.id, self.claim.lease.step, self.token)

    @property
    def attempt(self) -> Attempt:
        """The attempt as the lifecycle is told of it."""
        lease = self.claim.lease
        return Attempt(lease.step, lease.token, lease.worker, lease.since, self.progress)

    @property
    def timeout(self) -> float | None:
        """Seconds it may take."""
        own = self.claim.step.timeout
        return self.function.timeout if own is None else own

    def stopping(self) -> bool:
        """Whether it was told to stop."""
        return self.reason is not None

    def __str__(self) -> str:
        return f"job {self.claim.job.id}, {self.function.name}"


DETAIL_LIMIT = 2000
"""Characters of an exception's message that are kept."""


def words_of(error: BaseException) -> str:
    """What an exception says, fit to be stored, whatever its class makes of that."""
    try:
        said = str(error)
    except Exception as wrong:  # noqa: BLE001 - it is the function's own code
        said = f"it cannot be told: {type(wrong).__name__}"
    return said[:DETAIL_LIMIT].encode("utf-8", "replace").decode("utf-8")


def asked_pause(error: BaseException) -> float | None:
    """The ``retry_after`` of an exception, if that is a number of seconds."""
    try:
        after = float(error.retry_after)  # type: ignore[attr-defined]
    except Exception:  # noqa: BLE001 - it has none, or one that is something else
        return None
    return None if math.isnan(after) else after
