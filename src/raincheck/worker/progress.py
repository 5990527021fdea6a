"""Sends to the store how far attempts have come: the latest of each, a few times a second."""

from __future__ import annotations

import asyncio
import logging

from raincheck.core.errors import StoreError
from raincheck.store.base import Store
from raincheck.worker.attempt import RunningAttempt
from raincheck.worker.inbox import Inbox

logger = logging.getLogger("raincheck.worker")

EVERY = 0.1
"""Seconds between two reports."""


async def send_progress(store: Store, reports: Inbox[RunningAttempt]) -> None:
    """Send what comes into ``reports``, until cancelled."""
    while True:
        await asyncio.gather(*(_send(store, attempt) for attempt in await reports.take()))
        await asyncio.sleep(EVERY)


async def _send(store: Store, attempt: RunningAttempt) -> None:
    attempt.is_reported = True  # before it is read: what comes from now on is to be sent, too
    if attempt.has_returned or attempt.ended or attempt.progress is None:
        return
    try:
        await store.report(attempt.held, attempt.progress)
    except StoreError as error:
        logger.debug("progress of %s was not noted: %s", attempt, error)
