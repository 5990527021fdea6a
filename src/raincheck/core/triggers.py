"""What can happen to a job, and what may become of it: the triggers and the whole table.

(state, trigger) leads to one of the named states, else to `IllegalTransition`. The diagram in the
docs is drawn from `TRANSITIONS`, and `raincheck.core.lifecycle` checks every result against it.
"""

from __future__ import annotations

from msgspec import Struct

from raincheck.core.model import Attempt, ErrorDetail, Lease, Problem, RetryOptions, State

SCHEDULED, PENDING, DOING = State.SCHEDULED, State.PENDING, State.DOING
RETRYING, DONE, FAILED, CANCELLED = State.RETRYING, State.DONE, State.FAILED, State.CANCELLED


class Succeeded(Struct, frozen=True):
    """An attempt returned ``result`` (JSON) and changed ``data`` (a JSON object, or nothing).

    ``most`` is how many bytes all results of the job may have; None: any number.
    """

    attempt: Attempt
    result: bytes
    data: bytes | None = None
    most: int | None = None


class Failed(Struct, frozen=True):
    """An attempt raised, or took too long; ``names`` are those of the exception's class and bases.

    ``options`` hold where the step has none of its own. ``chance`` in [0, 1) sets the jitter.
    """

    attempt: Attempt
    error: Problem
    names: tuple[str, ...] = ()
    options: RetryOptions = RetryOptions()
    fatal: bool = False
    retry_after: float | None = None
    chance: float = 0.0


class Lost(Struct, frozen=True):
    """A lease ran out: the worker died or was cut off."""

    attempt: Attempt
    options: RetryOptions = RetryOptions()


class Stopped(Struct, frozen=True):
    """An attempt was stopped, because the job is to be cancelled."""

    attempt: Attempt


class Cancel(Struct, frozen=True):
    """Somebody asks for the job to be cancelled; ``leases`` are those in force on it."""

    leases: tuple[Lease, ...] = ()


class Check(Struct, frozen=True):
    """The job's `Change.check_at` has come; ``leases`` are those in force on it."""

    leases: tuple[Lease, ...] = ()


class Retry(Struct, frozen=True):
    """Somebody asks for a failed or cancelled job to go on where it ended."""


class Opened(Struct, frozen=True):
    """The jobs of a group's run are there: created, or those without a result reopened by a retry."""


class Gathered(Struct, frozen=True):
    """All jobs of a group's run have ended: ``result`` is the JSON list of their results.

    ``failed`` are the positions of those that have none (null in the list), and ``errors`` tell of the
    first of them. Without ``result``, the results are more than may be kept.
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
"""(state, trigger) to the states a job may be in afterwards, at rest: with a lease it is ``doing``."""
