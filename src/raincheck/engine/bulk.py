"""Operations on all jobs that match a filter: retry, cancel, delete; a bounded number of jobs in each call.

Each job gets the same decision as in the operation on one job (`raincheck.engine.jobs`). The store reads and
writes the jobs of a batch together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from msgspec.structs import replace

from raincheck.core import lifecycle
from raincheck.core.errors import IllegalTransition
from raincheck.core.model import Change, Stored
from raincheck.core.triggers import Retry, Trigger
from raincheck.engine.filters import BulkResult, Operation
from raincheck.engine.jobs import Jobs
from raincheck.store.base import Ended, Filter
from raincheck.store.listing import matches

BATCH = 100
"""Jobs that are read, decided and written together."""

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
    while True:
        asked = min(BATCH, limit - matched)
        page = await jobs.page(which, asked, cursor)
        batch = _Batch(jobs, operation, which)
        changed += await (batch.count(page.jobs) if dry_run else batch.change(page.jobs))
        skipped += batch.skipped
        matched += len(page.jobs)
        cursor = page.cursor
        if cursor is None or matched == limit or len(page.jobs) < asked:
            return BulkResult(
                matched=matched, changed=changed, skipped=dict(skipped), dry_run=dry_run, cursor=cursor
            )


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
