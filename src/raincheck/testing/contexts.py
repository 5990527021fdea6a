"""A `Context` for a direct call of a function."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from raincheck.core.clock import new_id, now
from raincheck.core.codec import from_json, to_json
from raincheck.core.model import Gather, Job, Step
from raincheck.functions.context import Context, Progress

_decode_progress = msgspec.json.Decoder(Progress).decode


class RecordingContext(Context):
    """A `Context` that keeps what the function reports."""

    reported: list[Progress]
    """Every progress that the function reported, in order."""

    def cancel(self) -> None:
        """Let ``cancelled`` be true from now on."""
        self._cancelled = lambda: True

    @property
    def changes(self) -> dict[str, Any]:
        """The changed and new keys of ``data``, which would be stored if the step succeeded."""
        changed = self.changed_data()
        return {} if changed is None else from_json(changed)


def context(
    *,
    attempt: int = 1,
    data: Mapping[str, Any] | None = None,
    previous: Any = None,
    failed: tuple[int, ...] = (),
    state: Mapping[str, Any] | None = None,
    function: str = "function",
    job: str = "job",
) -> RecordingContext:
    """A context to call a function with directly.

    ``attempt`` is the number of the attempt, ``data`` the shared data and ``previous`` the previous result;
    both are JSON values, as in a real job. ``failed`` are the positions in ``previous`` of a group's jobs
    without a result, ``state`` is what the lifespan yields, ``function`` and ``job`` are names. Raises
    `NotJSON`, or `ValueError` for an attempt below 1.
    """
    if attempt < 1:
        raise ValueError(f"the first attempt is attempt=1 (got {attempt})")
    started = now()
    steps = [Step(function, 1, retry_count=attempt - 1, due=started)]
    if failed:
        steps.insert(0, Step("", 0, gather=Gather(len(failed), "continue", failed=failed)))
    made = Job(new_id(), job, tuple(steps), data=to_json(dict(data or {})), created_at=started)
    reported: list[Progress] = []
    result = RecordingContext(
        made,
        len(steps) - 1,
        to_json(previous),
        report=lambda progress: reported.append(_decode_progress(progress)),
        state=state,
    )
    result.reported = reported
    return result
