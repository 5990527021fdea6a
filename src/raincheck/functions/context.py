"""What a running function is given: its job, and ways to tell how far it has come."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any

import msgspec

from raincheck.core.codec import from_json, to_json
from raincheck.core.model import Job, Step

_logger = logging.getLogger("raincheck.function")
_object = msgspec.json.Decoder(dict[str, msgspec.Raw])


class JobLogger(logging.LoggerAdapter[logging.Logger]):
    """A logger whose lines begin with the job's id and the function's name."""

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        """Put the job before the message, and into the record's attributes."""
        extra = self.extra or {}
        kwargs["extra"] = {**extra, **(kwargs.get("extra") or {})}
        return f"[{extra['job_id']} {extra['function']}] {msg}", kwargs


class Progress(msgspec.Struct, frozen=True, omit_defaults=True):
    """How far an attempt has come: ``done`` of ``total`` (of 1.0 if not given), and a word on it."""

    done: float
    total: float | None = None
    message: str | None = None


class Context:
    """Handed to a function that has a parameter annotated ``Context`` (or named ``ctx``).

    ``data`` may be changed: when the step succeeds, changed and new top-level keys are stored with it.
    """

    def __init__(
        self,
        job: Job,
        index: int,
        previous: bytes,
        *,
        report: Callable[[bytes], None] = lambda progress: None,
        cancelled: Callable[[], bool] = lambda: False,
        state: Mapping[str, Any] | None = None,
    ) -> None:
        self._job = job
        self._index = index
        self._previous = previous
        self._report = report
        self._cancelled = cancelled
        self._data: dict[str, Any] | None = None
        self.state: Mapping[str, Any] = state or {}
        """What the app's lifespan yielded."""

    @property
    def job(self) -> Job:
        """The job as it was when this attempt began."""
        return self._job

    @property
    def step(self) -> Step:
        """The step that is being run."""
        return self._job.steps[self._index]

    @property
    def attempt(self) -> int:
        """The number of this attempt at the step, from 1; lost attempts count too."""
        return self.step.retry_count + self.step.lost_count + 1

    @property
    def data(self) -> dict[str, Any]:
        """The data that the functions of the job share."""
        if self._data is None:
            self._data = from_json(self._job.data)
        return self._data

    @property
    def previous(self) -> Any:
        """The result of the step before, a list of them after a parallel stage or a group's jobs, or None."""
        return from_json(self._previous)

    @property
    def failed(self) -> tuple[int, ...]:
        """After the jobs of a group: the positions in `previous` of those that ended without a result."""
        return next((s.gather.failed for s in self._job.steps if s.gather is not None), ())

    @property
    def log(self) -> JobLogger:
        """A logger that names the job and the function."""
        return JobLogger(_logger, {"job_id": self._job.id, "function": self.step.function})

    @property
    def cancelled(self) -> bool:
        """Whether this attempt should stop: it was cancelled, timed out, or its lease was lost.

        For functions in threads, which cannot be interrupted: look now and then, and return.
        """
        return self._cancelled()

    def progress(self, done: float, total: float | None = None, message: str | None = None) -> None:
        """Tell how far this attempt has come; cheap, only the latest is sent now and then."""
        self._report(to_json(Progress(done, total, message)))

    def changed_data(self) -> bytes | None:
        """The top-level keys of ``data`` that differ from the stored ones, as JSON; None: none do.

        Raises `NotJSON` if a value is not.
        """
        if self._data is None:
            return None
        before = _object.decode(self._job.data)
        changes = {}
        for key, value in self._data.items():
            old = {key: from_json(before[key])} if key in before else {}
            if to_json({key: value}) != to_json(old):
                changes[key] = value
        return to_json(changes) if changes else None
