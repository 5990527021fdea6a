"""The triggers of a job's transitions, and the table of all transitions.

`raincheck.core.lifecycle` checks each transition against `TRANSITIONS`: a pair of state and trigger that is
not in the table raises `IllegalTransition`. The diagram in the docs is generated from the table.
"""

from __future__ import annotations

from msgspec import Struct

from raincheck.core.model import Attempt, ErrorDetail, Lease, Problem, RetryOptions, State

SCHEDULED, PENDING, DOING = State.SCHEDULED, State.PENDING, State.DOING
RETRYING, DONE, FAILED, CANCELLED = State.RETRYING, State.DONE, State.FAILED, State.CANCELLED


class Succeeded(Struct, frozen=True):
    """An attempt returned ``result`` (JSON); ``data`` is a JSON object of the keys that it changed, or None.

    ``limit`` is the size that all results of the job together may have, in bytes; None: no limit.
    """

    attempt: Attempt
    result: bytes
    data: bytes | None = None
    limit: int | None = None


class Failed(Struct, frozen=True):
    """An attempt raised an exception or timed out; ``names`` are the names of its class and base classes.

    ``traceback`` is text, for the journal.
    ``options`` apply if the step has no retry options. ``fatal``: do not retry. ``retry_after`` is the pause
    in seconds that the exception asks for. ``chance`` in [0, 1) sets the jitter.
    """

    attempt: Attempt
    error: Problem
    names: tuple[str, ...] = ()
    options: RetryOptions = RetryOptions()
    fatal: bool = False
    retry_after: float | None = None
    chance: float = 0.0
    traceback: str = ""


class Lost(Struct, frozen=True):
    """A lease expired: the worker died or lost its connection."""

    attempt: Attempt
    options: RetryOptions = RetryOptions()


class Stopped(Struct, frozen=True):
    """An attempt was stopped because the job is being cancelled."""

    attempt: Attempt


class Cancel(Struct, frozen=True):
    """A client requests cancellation; ``leases`` are the leases in force on the job."""

    leases: tuple[Lease, ...] = ()


class Check(Struct, frozen=True):
    """The time `Change.check_at` is reached; ``leases`` are the leases in force on the job."""

    leases: tuple[Lease, ...] = ()


class Retry(Struct, frozen=True):
    """A client requests that a failed or cancelled job continues where it ended."""


class Opened(Struct, frozen=True):
    """The jobs of a group's run exist: they were created, or reopened by a retry."""


class Gathered(Struct, frozen=True):
    """All jobs of a group's run have ended; ``result`` is the JSON array of their results.

    ``failed`` are the positions of the jobs without a result (null in the array); ``errors`` describe the
    first of them. ``result`` is None if the results are over the size limit.
    """

    result: bytes | None
    failed: tuple[int, ...] = ()
    errors: tuple[ErrorDetail, ...] = ()


Trigger = Succeeded | Failed | Lost | Stopped | Cancel | Check | Retry | Opened | Gathered

TRANSITIONS: dict[tuple[State, str], frozenset[State]] = {
    (SCHEDULED, "claim"): frozenset((DOING,)),
    (SCHEDULED, "check"): frozenset((PENDING, FAILED)),
    (SCHEDULED, "cancel"): frozenset((CANCELLED,)),
    (PENDING, "claim"): frozenset((DOING,)),
    (PENDING, "check"): frozenset((PENDING, FAILED, CANCELLED)),
    (PENDING, "cancel"): frozenset((PENDING, CANCELLED)),
    (PENDING, "opened"): frozenset((DOING,)),
    (RETRYING, "claim"): frozenset((DOING,)),
    (RETRYING, "check"): frozenset((PENDING, FAILED)),
    (RETRYING, "cancel"): frozenset((CANCELLED,)),
    (DOING, "claim"): frozenset((DOING,)),
    (DOING, "give back"): frozenset((SCHEDULED, PENDING, RETRYING)),
    (DOING, "succeeded"): frozenset((PENDING, RETRYING, DONE, FAILED, CANCELLED)),
    (DOING, "failed"): frozenset((PENDING, RETRYING, FAILED, CANCELLED)),
    (DOING, "lost"): frozenset((PENDING, FAILED, CANCELLED)),
    (DOING, "stopped"): frozenset((PENDING, CANCELLED)),
    (DOING, "gathered"): frozenset((PENDING, DONE, FAILED, CANCELLED)),
    (DOING, "cancel"): frozenset((PENDING, DOING)),
    (DOING, "check"): frozenset((PENDING, DOING, FAILED)),
    (FAILED, "retry"): frozenset((SCHEDULED, PENDING)),
    (CANCELLED, "retry"): frozenset((SCHEDULED, PENDING)),
}
"""(state, trigger) to the states that the job may have afterwards, at rest: with a lease it is ``doing``."""
