"""The app that the commands are tested with."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import Any

from raincheck import App, Context, GroupJob, RetryOptions, step

app = App("sqlite:///never-used.db", title="for the commands")

app.group(
    "sums",
    [GroupJob("small", [step("add", 1, 2)]), GroupJob("large", [step("add", 30), step("add", 40)])],
    then=[step("gathered")],
)
app.group("sad", [GroupJob("good", [step("add", 1)]), GroupJob("bad", [step("team/fail")])])
app.group("wrong", [GroupJob("lost", [step("add", "one")])])

_alone = asyncio.Lock()
ESCAPES = "\x1b[31mred\x1b[0m \x9b2J \u202eleft"


@app.function
async def add(*numbers: float) -> float:
    """The sum."""
    return sum(numbers)


@app.function
def gathered(ctx: Context) -> Any:
    """The results of a group's jobs, and the run's data."""
    return {"sums": ctx.previous, "data": ctx.data}


@app.function
def echo(*args: Any, **kwargs: Any) -> Any:
    """Returns its arguments."""
    return [args, kwargs]


@app.function
async def greet(name: str, greeting: str = "Hello") -> str:
    """A greeting."""
    return f"{greeting}, {name}!"


@app.function("team/fail", retry=RetryOptions(retry_limit=2, delay=0.0))
async def fail(reason: str = "always") -> None:
    """Always fails."""
    raise ValueError(reason)


@app.function(wait=0.0)
async def work(ctx: Context, parts: int = 4) -> str:
    """Reports its progress. Calls of it do not wait."""
    for part in range(parts):
        ctx.progress(part, parts, f"part {part}")
        await asyncio.sleep(0.2)
    return "worked"


@app.function
async def gated(ctx: Context, gate: str) -> str:
    """Reports its progress until the file ``gate`` exists."""
    part = 0
    while not Path(gate).exists():  # noqa: ASYNC240 - a file in memory
        ctx.progress(part % 10, 10, f"part {part}")
        await asyncio.sleep(0.2)
        part += 1
    return "let go"


@app.function
async def nap(ctx: Context, seconds: float) -> str:
    """Logs a line, and sleeps."""
    ctx.log.info("napping")
    await asyncio.sleep(seconds)
    return "slept"


@app.function
async def hang(ctx: Context) -> str:
    """Sleeps in the first attempt, until its worker is lost."""
    if ctx.attempt == 1:
        await asyncio.sleep(60)
    return "went on"


@app.function
async def block(ctx: Context, seconds: float) -> str:
    """Blocks the event loop of its worker."""
    ctx.log.info("blocking")
    time.sleep(seconds)  # noqa: ASYNC251 - blocks on purpose
    return "blocked"


@app.function(process=True)
def elsewhere() -> int:
    """The process that runs it."""
    return os.getpid()


@app.function(concurrency=1)
async def alone() -> None:
    """Fails if another attempt of it runs in this process."""
    assert not _alone.locked()
    async with _alone:
        await asyncio.sleep(0)


@app.function
def pid() -> int:
    """The process of the worker."""
    return os.getpid()


@app.function
def escapes() -> str:
    """Text with control characters."""
    return ESCAPES


@app.function("fail-with-escapes")
def fail_with_escapes() -> None:
    """An error with control characters."""
    raise ValueError(ESCAPES)
