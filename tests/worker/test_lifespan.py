"""What is set up before a worker runs anything, and taken down after it."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest

from raincheck import App, Context, Worker


async def test_a_lifespan_is_around_everything(app: App) -> None:
    """A lifespan is entered before any function runs, and left after the last has ended."""
    diary: list[str] = []

    @asynccontextmanager
    async def lifespan(app: App) -> AsyncIterator[Mapping[str, Any]]:
        diary.append("enter")
        yield {"word": "hello"}
        diary.append("leave")

    app.lifespan = lifespan

    @app.function
    async def greet(ctx: Context) -> str:
        diary.append("run")
        return f"{ctx.state['word']} {ctx.job.name}"

    @app.function
    def greet_in_a_thread(ctx: Context) -> str:
        return str(ctx.state["word"])

    async with app:
        job = await app.submit("you", [greet.step()])
        async with Worker(app):
            assert (await app.wait(job.id)).result == "hello you"
            assert await greet_in_a_thread.call() == "hello"
    assert diary == ["enter", "run", "leave"]


async def test_a_lifespan_may_yield_nothing(app: App) -> None:
    """Where a lifespan yields nothing, ``ctx.state`` is empty."""

    @asynccontextmanager
    async def lifespan(app: App) -> AsyncIterator[None]:
        yield

    app.lifespan = lifespan

    @app.function
    async def look(ctx: Context) -> dict[str, Any]:
        return dict(ctx.state)

    async with app, Worker(app):
        assert await look.call() == {}


async def test_the_state_cannot_be_changed(app: App) -> None:
    """``ctx.state`` is shared by all functions; none can change it for the others."""

    @asynccontextmanager
    async def lifespan(app: App) -> AsyncIterator[Mapping[str, Any]]:
        yield {"ours": 1}

    app.lifespan = lifespan

    @app.function
    async def spoil(ctx: Context) -> None:
        ctx.state["mine"] = 1  # type: ignore[index]

    async with app, Worker(app):
        job = await app.submit("spoil", [spoil.step()])
        assert (await app.wait(job.id)).state == "failed"


async def test_a_lifespan_that_fails_is_said(app: App) -> None:
    """What a lifespan raises comes out of the worker, which has claimed nothing and is not known."""

    @asynccontextmanager
    async def lifespan(app: App) -> AsyncIterator[None]:
        raise ConnectionError("no database there")
        yield

    app.lifespan = lifespan

    @app.function
    async def never() -> None:
        raise AssertionError

    async with app:
        job = await app.submit("never", [never.step()])
        with pytest.raises(ConnectionError, match="no database there"):
            await Worker(app).__aenter__()
        assert await app.engine.store.workers() == []
        assert (await app.status(job.id)).state == "pending"


async def test_a_lifespan_that_fails_at_the_end_is_said(app: App) -> None:
    """What a lifespan raises when it is left comes out too, when all is written."""

    @asynccontextmanager
    async def lifespan(app: App) -> AsyncIterator[None]:
        yield
        raise ConnectionError("lost it")

    app.lifespan = lifespan

    @app.function
    async def quick() -> int:
        return 1

    async with app:
        with pytest.raises(ConnectionError, match="lost it"):
            async with Worker(app):
                assert await quick.call() == 1
        assert await app.engine.store.workers() == []
