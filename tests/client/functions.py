"""The app that the clients are tested with."""

from __future__ import annotations

import asyncio
from pathlib import Path
from threading import Event
from typing import Any

from raincheck import App, Context, Limits

WAIT = 1.0
"""The longest wait of one request to this app, in seconds."""

gates: dict[str, Event] = {}
"""By name: the event that ends a `hold`."""


def make_app(folder: Path) -> App:
    """An app whose store is in this folder."""
    app = App(f"sqlite:///{folder / 'jobs.db'}", limits=Limits(wait=WAIT))
    for function in (add, greet, echo, fail, nap, hold):
        app.function(function)
    return app


async def add(*numbers: float) -> float:
    """The sum."""
    return sum(numbers)


async def greet(name: str, greeting: str = "Hello") -> str:
    """A greeting."""
    return f"{greeting}, {name}!"


async def echo(value: Any = None, timeout: Any = None) -> Any:
    """Returns its arguments."""
    return value if timeout is None else [value, timeout]


async def fail(ctx: Context, reason: str, runs: int = 9) -> int:
    """Fails until the job has been retried ``runs`` times."""
    if ctx.job.run > runs:
        return ctx.job.run
    raise ValueError(reason)


async def nap(ctx: Context, seconds: float) -> str:
    """Reports its progress, and sleeps."""
    ctx.progress(1, 2, "napping")
    await asyncio.sleep(seconds)
    return "slept"


async def hold(gate: str) -> str:
    """Runs until its gate is opened."""
    while not gates.setdefault(gate, Event()).is_set():  # noqa: ASYNC110 - opened from another thread
        await asyncio.sleep(0.01)
    return gate
