"""Helpers that async and blocking tests need in different versions: the async one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


async def together(*calls: Callable[[], Awaitable[T]]) -> list[T]:
    """Make the calls at the same time; returns their results."""
    return list(await asyncio.gather(*(call() for call in calls)))
