"""An app with four functions, from the document that the project started from."""

from __future__ import annotations

from typing import Any

from raincheck import App, Context

app = App(title="chain")


@app.function("/v1/say-hello-world")
async def say_hello_world(name: str = "world") -> str:
    """Say hello."""
    return f"Hello, {name}!"


@app.function("/v1/test-1")
async def test_1(ctx: Context) -> str:
    """Write to the job's data, which later functions can read."""
    ctx.data["left by"] = ctx.step.function
    return "test-1 was here"


@app.function("/v1/test-2")
def test_2(ctx: Context) -> dict[str, Any]:
    """Return the result of the previous function and the job's data."""
    return {"previous": ctx.previous, "data": ctx.data}


@app.function("/v1/test-fail")
async def test_fail(ctx: Context, *args: Any) -> None:
    """Fail with any arguments."""
    raise RuntimeError(f"attempt {ctx.attempt} with {list(args)} failed, as always")
