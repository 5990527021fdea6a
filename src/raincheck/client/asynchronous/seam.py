"""What is not the same word for word in async and in blocking code."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable

__all__ = ["Lock", "TokenSource", "apart", "ask", "sleep"]

TokenSource = Callable[[], str | Awaitable[str]]
"""Where a token comes from: a function, async or not."""

Lock = asyncio.Lock
sleep = asyncio.sleep

apart = asyncio.to_thread
"""Call what blocks, where it is in nobody's way."""


async def ask(source: TokenSource) -> str:
    """A token from where tokens come from."""
    token = source()
    return await token if inspect.isawaitable(token) else token
