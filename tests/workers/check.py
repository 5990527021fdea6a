"""The functions that ``raincheck worker-check`` calls, for a Python worker."""

from __future__ import annotations

import asyncio
from typing import Any

from raincheck import App, Context, DoNotRetry

app = App()


@app.function("check/echo")
async def echo(value: Any) -> Any:
    return value


@app.function("check/sleep")
async def sleep(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return "slept"


@app.function("check/fail")
def fail(message: str) -> None:
    raise ValueError(message)


@app.function("check/fatal")
async def fatal(message: str) -> None:
    raise DoNotRetry(message)


@app.function("check/flaky")
async def flaky(ctx: Context) -> int:
    if ctx.attempt == 1:
        raise ValueError("the first attempt fails")
    return ctx.attempt


@app.function("check/data")
async def data(ctx: Context, key: str, value: Any) -> dict[str, Any]:
    before = {"previous": ctx.previous, "data": dict(ctx.data)}
    ctx.data[key] = value
    return before


@app.function("check/progress")
async def progress(ctx: Context) -> str:
    ctx.progress(1, 2)
    return "done"
