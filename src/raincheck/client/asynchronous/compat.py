"""Helpers that async code and blocking code need in different versions: the async one."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable

__all__ = ["Lock", "TokenSource", "fetch_token", "run_in_thread", "sleep"]

TokenSource = Callable[[], str | Awaitable[str]]
"""A function, async or not, that returns a token."""

Lock = asyncio.Lock
sleep = asyncio.sleep

run_in_thread = asyncio.to_thread
"""Call a blocking function without blocking the event loop."""


async def fetch_token(source: TokenSource) -> str:
    """Call a token source."""
    token = source()
    return await token if inspect.isawaitable(token) else token
