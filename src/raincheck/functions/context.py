"""The context of a running function: its job, shared data, previous result, progress and logger."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any

import msgspec

from raincheck.core.codec import Writer, from_json, to_json
from raincheck.core.model import Job, Step

_logger = logging.getLogger("raincheck.function")
_object = msgspec.json.Decoder(dict[str, msgspec.Raw])


class JobLogger(logging.LoggerAdapter[logging.Logger]):
    """A logger whose messages start with the job id and the function name."""

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        """Add the job to the message and to the attributes of the record."""
        extra = self.extra or {}
        kwargs["extra"] = {**extra, **(kwargs.get("extra") or {})}
        return f"[{extra['job']} {extra['function']}] {msg}", kwargs


class Progress(msgspec.Struct, frozen=True, omit_defaults=True):
    """The progress of an attempt: ``done`` of ``total`` (None: of 1.0), and a message."""

    done: float
    total: float | None = None
    message: str | None = None


class Context:
    """Passed to a function that has a parameter annotated ``Context`` (or named ``ctx``).

    You can change ``data``: when the step succeeds, its changed and new top-level keys are stored.
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
        to_json: Writer = to_json,
        token: int = 0,
    ) -> None:
        self._job = job
        self._index = index
        self._previous = previous
        self._report = report
        self._cancelled = cancelled
        self._to_json = to_json
        self._data: dict[str, Any] | None = None
        self.state: Mapping[str, Any] = state or {}
        """The value that the lifespan of the app yielded."""
        self.token = token
        """The fencing token of the attempt: each attempt at a step has a higher one than those before."""

    @property
    def job(self) -> Job:
        """The job at the start of this attempt."""
        return self._job

    @property
    def step(self) -> Step:
        """The running step."""
        return self._job.steps[self._index]

    @property
    def index(self) -> int:
        """The position of the running step in ``job.steps``, from 0."""
        return self._index

    @property
    def attempt(self) -> int:
        """The number of this attempt at the step, from 1; lost attempts count."""
        return self.step.retry_count + self.step.lost_count + 1

    @property
    def data(self) -> dict[str, Any]:
        """The shared data of the functions of the job."""
        if self._data is None:
            self._data = from_json(self._job.data)
        return self._data

    @property
    def previous(self) -> Any:
        """The previous result; None in the first step, a list after a parallel stage or a group."""
        return from_json(self._previous)

    @property
    def failed(self) -> tuple[int, ...]:
        """After the jobs of a group: the positions in `previous` of the jobs without a result."""
        return next((s.gather.failed for s in self._job.steps if s.gather is not None), ())

    @property
    def log(self) -> JobLogger:
        """A logger that adds the job and the function to each message."""
        return JobLogger(
            _logger, {"job": self._job.id, "function": self.step.function, "attempt": self.attempt}
        )

    @property
    def cancelled(self) -> bool:
        """Whether this attempt must stop: it was cancelled, timed out, or lost its lease.

        For functions in threads, which cannot be interrupted: check it regularly, and return.
        """
        return self._cancelled()

    def progress(self, done: float, total: float | None = None, message: str | None = None) -> None:
        """Report the progress of this attempt. Cheap: only the latest progress is sent, periodically."""
        self._report(to_json(Progress(done, total, message)))

    def changed_data(self) -> bytes | None:
        """The top-level keys of ``data`` that differ from the stored data, as JSON; None: no key differs.

        Raises `NotJSON` if a value cannot be encoded.
        """
        if self._data is None:
            return None
        before = _object.decode(self._job.data)
        changes = {}
        for key, value in self._data.items():
            old = {key: from_json(before[key])} if key in before else {}
            if self._to_json({key: value}) != to_json(old):
                changes[key] = value
        return self._to_json(changes) if changes else None
