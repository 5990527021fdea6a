"""An app with some functions, a client that calls it in-process, and hands that do its work."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import msgspec
import pytest

from raincheck import App, Context, GroupJob, Limits, step
from tests.server.hands import Hands

LIMITS = Limits(body=64 * 1024, wait=60.0)


class City(msgspec.Struct, forbid_unknown_fields=True):
    """Where to look."""

    name: str
    country: str = "fr"


def make_app(path: Path, limits: Limits = LIMITS) -> App:
    """An app with its store at ``path``."""
    app = App(f"sqlite:///{path / 'jobs.db'}", limits=limits)

    @app.function(wait=0.2)
    def add(*numbers: int) -> int:
        """Add numbers.

        All of them.
        """
        return sum(numbers)

    @app.function("/v1/test-1", wait=0)
    def test_1(city: str, days: int = 3) -> dict[str, int]:
        return {city: days}

    @app.function(wait=0)
    def total(ctx: Context) -> int:
        return sum(ctx.previous)

    @app.function("weather:of", wait=0)
    def weather(city: City, /, *, deep: bool = False) -> City:
        return city

    @app.function(wait=0)
    def anything(value: object = None) -> object:
        return value

    pair = [GroupJob("one", [add.step(1)], data={"own": 1}), GroupJob("two", [add.step(2), add.step(3)])]
    app.group("pair", pair, then=[total.step()])
    app.group("alone", [GroupJob("one", [add.step(1)])], on_failure="continue")
    app.group("wrong", [GroupJob("bad", [step("add", "no number")]), GroupJob("", [])], then=[step("a b")])
    app.group("empty", [])
    return app


@pytest.fixture
def app(tmp_path: Path) -> App:
    return make_app(tmp_path)


@pytest.fixture
async def client(app: App) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(transport=transport(app), base_url="http://localhost") as client:
        yield client
    await app.close()


@pytest.fixture
async def hands(app: App) -> AsyncIterator[Hands]:
    await app.open()
    yield Hands(app.engine.store)
    await app.close()


def transport(app: App) -> httpx2.ASGITransport:
    """The app, as what a client sends to."""
    return httpx2.ASGITransport(app.asgi)
