"""Operations on all jobs that match a filter: retry, cancel, delete; a bounded number of jobs in each call.

Each job gets the same decision as in the operation on one job (`raincheck.engine.jobs`). The store reads and
writes several jobs together. A job with many steps takes long to decide: other tasks of the event loop run
after each batch.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence

from msgspec.structs import replace

from raincheck.core import lifecycle
from raincheck.core.errors import IllegalTransition
from raincheck.core.model import Change, Job, Stored
from raincheck.core.triggers import Retry, Trigger
from raincheck.engine.filters import BulkResult, Operation
from raincheck.engine.jobs import Jobs
from raincheck.store.base import Ended, Filter
from raincheck.store.listing import matches

READ = 20
"""Jobs that are read together."""

BATCH = 100
"""Jobs that are decided and written together, at most."""

BATCH_STEPS = 2000
"""Steps of the jobs of a batch, about: to decide and to write them takes 5 to 10 µs a step."""

BYTES_PER_STEP = 4096
"""Bytes of values that take as long as a step."""

MAX_TRIES = 5
"""Tries to change jobs that other processes change at the same time."""

WRONG_STATE, UNCHANGED, REMOVED, CONTENDED = "wrong-state", "unchanged", "removed", "contended"
"""Why a matching job was not changed: its state does not allow it; it is being cancelled already; it was
removed meanwhile; other processes kept changing it."""


async def change_jobs(
    jobs: Jobs,
    operation: Operation,
    which: Filter,
    limit: int,
    cursor: str | None = None,
    *,
    dry_run: bool = False,
) -> BulkResult:
    """Apply an operation to up to ``limit`` jobs that match, from a cursor on, the newest first.

    Without states in the filter, only jobs in states that the operation can change match. With ``dry_run``
    nothing is changed, and the counts say what would be. Raises `InvalidInput` for an invalid cursor.
    """
    if not which.states:
        which = replace(which, states=operation.states)
    matched, changed, skipped = 0, 0, Counter[str]()
    batches: list[list[Stored]] = [[]]
    is_last = False
    while not is_last:
        asked = min(READ, limit - matched)
        page = await jobs.page(which, asked, cursor)
        matched += len(page.jobs)
        cursor = page.cursor
        is_last = cursor is None or matched == limit or len(page.jobs) < asked
        batches = _batches([*batches[-1], *page.jobs])
        for found in batches if is_last else batches[:-1]:
            await asyncio.sleep(0)
            batch = _Batch(jobs, operation, which)
            changed += await (batch.count(found) if dry_run else batch.change(found))
            skipped += batch.skipped
    return BulkResult(matched=matched, changed=changed, skipped=dict(skipped), dry_run=dry_run, cursor=cursor)


def _batches(found: Sequence[Stored]) -> list[list[Stored]]:
    """The jobs in batches; the last one has room for more jobs."""
    batches: list[list[Stored]] = [[]]
    room = BATCH_STEPS
    for stored in found:
        batches[-1].append(stored)
        room -= _weight(stored.job)
        if room <= 0 or len(batches[-1]) == BATCH:
            batches.append([])
            room = BATCH_STEPS
    return batches


def _weight(job: Job) -> int:
    """The steps of a job, and those that take as long as its values."""
    size = len(job.data)
    for step in job.steps:
        size += len(step.args) + len(step.kwargs) + len(step.result or b"")
    return len(job.steps) + size // BYTES_PER_STEP


class _Batch:
    """The decisions on the jobs of one batch, and how many were ``skipped`` for which reason."""

    def __init__(self, jobs: Jobs, operation: Operation, which: Filter) -> None:
        self._jobs = jobs
        self._operation = operation
        self._which = which
        self.skipped: Counter[str] = Counter()

    async def count(self, found: Sequence[Stored]) -> int:
        """How many of the jobs would be changed."""
        if self._operation is Operation.DELETE:
            return len(self._removals(found))
        return len(self._changes(found))

    async def change(self, found: Sequence[Stored]) -> int:
        """Change the jobs; returns how many were changed."""
        write = self._remove if self._operation is Operation.DELETE else self._commit
        changed = 0
        for _ in range(MAX_TRIES):
            conflicting, written = await write(found)
            changed += written
            if not conflicting:
                return changed
            found = await self._read_again(conflicting)
        self.skipped[CONTENDED] += len(found)
        return changed

    async def _commit(self, found: Sequence[Stored]) -> tuple[list[str], int]:
        """Write the changes of jobs; returns the ids of those that another process changed, and the rest."""
        changes = self._changes(found)
        outcomes = await self._jobs.store.commit(changes) if changes else []
        conflicting = [
            change.job.id for change, outcome in zip(changes, outcomes, strict=True) if outcome is not None
        ]
        return conflicting, len(changes) - len(conflicting)

    async def _remove(self, found: Sequence[Stored]) -> tuple[list[str], int]:
        """Remove jobs; returns the ids of those that another process changed, and how many were removed."""
        ended = self._removals(found)
        removed = await self._jobs.store.remove(ended, self._jobs.limits.remember) if ended else []
        conflicting = [job.job_id for job, was_removed in zip(ended, removed, strict=True) if not was_removed]
        return conflicting, len(ended) - len(conflicting)

    def _removals(self, found: Sequence[Stored]) -> list[Ended]:
        ended = [Ended(stored.job.id, stored.job.rev) for stored in found if stored.job.state.ended]
        self._skip(WRONG_STATE, len(found) - len(ended))
        return ended

    def _changes(self, found: Sequence[Stored]) -> list[Change]:
        decision = _DECISIONS[self._operation]
        changes: list[Change] = []
        for stored in found:
            trigger = decision(stored)
            if trigger is None:
                self._skip(UNCHANGED, 1)
                continue
            try:
                changes.append(lifecycle.advance(stored.job, [trigger], self._jobs.store.now()))
            except IllegalTransition:
                self._skip(WRONG_STATE, 1)
        return changes

    async def _read_again(self, job_ids: Sequence[str]) -> list[Stored]:
        """The jobs that another process changed, if they still match."""
        found = [each for each in await self._jobs.store.find(job_ids) if isinstance(each, Stored)]
        matching = [stored for stored in found if matches(stored, self._which)]
        self._skip(REMOVED, len(job_ids) - len(found))
        self._skip(WRONG_STATE, len(found) - len(matching))
        return matching

    def _skip(self, reason: str, jobs: int) -> None:
        if jobs:
            self.skipped[reason] += jobs


def _retry(stored: Stored) -> Trigger:
    return Retry()


_DECISIONS: dict[Operation, Callable[[Stored], Trigger | None]] = {
    Operation.RETRY: _retry,
    Operation.CANCEL: lifecycle.cancel_of,
}
