"""Pages of jobs as documents: short or whole ones, of a bounded size.

A page is read and encoded a few jobs at a time, so that large jobs do not hold up other requests.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

from msgspec import Raw, Struct

from raincheck.core.model import Job, Step, Stored
from raincheck.engine.documents import JobDocument, JobSummary, encode, job_document, job_summary, raw
from raincheck.engine.engine import Engine
from raincheck.engine.filters import JobFilter
from raincheck.engine.jobs import Jobs
from raincheck.engine.results import load_stored
from raincheck.store.base import Filter
from raincheck.store.listing import counted_from, cursor_after

READ = 25
"""Jobs that are read together."""

PIECE = 64 * 1024
"""Bytes of documents, after which other tasks of the event loop run."""

DOCUMENT_BYTES, STEP_BYTES = 600, 120
"""About the size of a short document: without its functions, and of each function."""


class View(Struct, frozen=True):
    """What a listing shows of a job: the short document or the ``whole`` one; of it all members, or
    ``members`` and the id.

    The members ``data``, ``result`` and ``warnings``, which short documents lack, can always be chosen.
    """

    whole: bool = False
    members: frozenset[str] = frozenset()

    def shows(self, member: str) -> bool:
        """Whether a document has this member."""
        if self.members:
            return member in self.members
        return self.whole or member in JobSummary.__struct_fields__


SHORT = View()
"""The short document, with all its members."""


class EncodedPage(Struct, frozen=True):
    """The documents of a page as JSON, and the cursor of the next page; None: this is the last page."""

    jobs: list[Raw]
    cursor: str | None


def store_filter(
    given: JobFilter, now: float, cursor: str | None = None, *, oldest_first: bool = False, at: str = ""
) -> Filter:
    """The filter for the store. All pages of a listing count its durations back from the time of the first.

    Raises `InvalidInput` for an invalid time or cursor; ``at`` is the pointer to the filter.
    """
    begun_at = 0.0
    if given.has_durations:
        begun_at = now if cursor is None else counted_from(cursor)
    since, until = given.window(begun_at, at)
    return Filter(
        states=given.states,
        name=given.name or None,
        function=given.function or None,
        group=given.group or None,
        schedule=given.schedule or None,
        error=given.error or None,
        since=since,
        until=until,
        oldest_first=oldest_first,
        counted_from=begun_at,
    )


async def read_page(
    engine: Engine, which: Filter, limit: int, cursor: str | None = None, view: View = SHORT
) -> EncodedPage:
    """Up to ``limit`` jobs that match; fewer if they are larger than `Limits.page_bytes`.

    A job that is larger alone is on a page of its own. Raises `InvalidInput` for an invalid cursor.
    """
    documents: list[Raw] = []
    room = engine.limits.page_bytes
    while True:
        asked = min(limit - len(documents), READ)
        page = await engine.jobs.page(which, asked, cursor)
        fitting = _count_fitting(page.jobs, room, view, is_first=not documents)
        documents += await _encoded(engine, page.jobs[:fitting], view)
        if fitting < len(page.jobs):
            if fitting:
                cursor = cursor_after(engine.store, which, page.positions[fitting - 1])
            return EncodedPage(documents, cursor)
        cursor = page.cursor
        room -= sum(_size(stored.job, view) for stored in page.jobs)
        if cursor is None or len(documents) >= limit or len(page.jobs) < asked:
            return EncodedPage(documents, cursor)


async def matching_jobs(jobs: Jobs, which: Filter) -> AsyncIterator[Stored]:
    """All jobs that match, page by page."""
    cursor = None
    while True:
        page = await jobs.page(which, READ, cursor)
        for stored in page.jobs:
            yield stored
        if (cursor := page.cursor) is None:
            return


def _count_fitting(jobs: Sequence[Stored], room: int, view: View, *, is_first: bool) -> int:
    """How many of the jobs fit; the first job of a page always does."""
    for i, stored in enumerate(jobs):
        room -= _size(stored.job, view)
        if room < 0 and (i or not is_first):
            return i
    return len(jobs)


def _size(job: Job, view: View) -> int:
    """About the bytes of a job's document."""
    size = DOCUMENT_BYTES + STEP_BYTES * len(job.steps)
    if view.shows("data"):
        size += len(job.data)
    if view.shows("result"):
        last = job.steps[-1].stage
        size += sum(_result_size(step) for step in job.steps if step.stage == last)
    if view.whole and view.shows("functions"):
        size += sum(_result_size(step) + len(step.args) + len(step.kwargs) for step in job.steps)
    return size


def _result_size(step: Step) -> int:
    return step.result_size or len(step.result or b"")


async def _encoded(engine: Engine, jobs: Sequence[Stored], view: View) -> list[Raw]:
    """The documents of jobs, without jobs that were removed while their results were read."""
    all_results = view.whole and view.shows("functions")
    if all_results or view.shows("result"):
        last_stages = None if all_results else [stored.job.steps[-1].stage for stored in jobs]
        loaded = await load_stored(engine.store, jobs, last_stages)
        jobs = [each for each in loaded if isinstance(each, Stored)]
    documents: list[Raw] = []
    piece = 0
    for stored in jobs:
        document = encode(_document(engine, stored, view))
        documents.append(Raw(document))
        piece += len(document)
        if piece > PIECE:
            piece = 0
            await asyncio.sleep(0)
    return documents


def _document(engine: Engine, stored: Stored, view: View) -> JobDocument | JobSummary | dict[str, Any]:
    document = job_document(stored, engine.workers.warning, raw, with_result=view.shows("result"))
    shown = document if view.whole else job_summary(document)
    if not view.members:
        return shown
    return {
        name: getattr(shown, name) if hasattr(shown, name) else getattr(document, name)
        for name in document.__struct_fields__
        if name == "id" or name in view.members
    }
