"""What is not the same word for word in async and in blocking tests."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


async def together(*calls: Callable[[], Awaitable[T]]) -> list[T]:
    """What the calls return, made at the same time."""
    return list(await asyncio.gather(*(call() for call in calls)))
