"""The attempts of a job as documents: from its journal, or from its record if all attempts succeeded."""

from __future__ import annotations

from raincheck.core.clock import to_datetime
from raincheck.core.codec import decode_attempt
from raincheck.core.errors import Fault, InvalidInput
from raincheck.core.journal import recorded_attempts
from raincheck.core.model import Entry, Job
from raincheck.engine.documents import AttemptDocument, AttemptPage
from raincheck.store.base import Store

READ = 100
"""Attempts that are read together when all are wanted."""


async def read_page(
    store: Store,
    job: Job,
    limit: int,
    cursor: str | None = None,
    *,
    max_bytes: int,
    tracebacks: bool = True,
) -> AttemptPage:
    """Up to ``limit`` attempts; fewer if they are larger than ``max_bytes``, but at least one.

    Raises `InvalidInput` for an invalid cursor.
    """
    after = 0 if cursor is None else _number(cursor)
    entries = await store.journal(job.id, after, limit + 1)
    if not entries:  # no journal, or its end: a journal has at least the attempts that the record has
        entries = recorded_attempts(job.steps, job.run)[after : after + limit + 1]
    fitting = _count_fitting(entries[:limit], max_bytes)
    shown = entries[:fitting]
    return AttemptPage(
        attempts=[_document(job, entry, tracebacks=tracebacks) for entry in shown],
        cursor=str(shown[-1].number) if fitting < len(entries) else None,
    )


async def read_all(store: Store, job: Job, *, max_bytes: int) -> list[AttemptDocument]:
    """All attempts of a job, oldest first."""
    attempts: list[AttemptDocument] = []
    cursor: str | None = None
    while True:
        page = await read_page(store, job, READ, cursor, max_bytes=max_bytes)
        attempts += page.attempts
        if (cursor := page.cursor) is None:
            return attempts


def _number(cursor: str) -> int:
    if not (cursor.isascii() and cursor.isdigit() and len(cursor) <= 10):
        raise InvalidInput(Fault("not a cursor that a page of this listing gave", "/cursor"))
    return int(cursor)


def _count_fitting(entries: list[Entry], room: int) -> int:
    """How many of the entries fit; the first one always does."""
    for i, entry in enumerate(entries):
        room -= len(entry.value)
        if room < 0 and i:
            return i
    return len(entries)


def _document(job: Job, entry: Entry, *, tracebacks: bool) -> AttemptDocument:
    ended, step = decode_attempt(entry.value), entry.step or 0
    return AttemptDocument(
        number=ended.number,
        run=ended.run,
        step=step,
        function=job.steps[step].function,
        worker=ended.worker,
        started_at=to_datetime(ended.started_at),
        finished_at=to_datetime(ended.finished_at),
        outcome=ended.outcome,
        error=ended.error,
        traceback=(ended.traceback or None) if tracebacks else None,
    )
