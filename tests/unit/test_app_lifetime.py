"""An app and what it holds: nothing holds its holder, so reference counts alone free it."""

from __future__ import annotations

import gc
import weakref
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from raincheck import App, Function, GroupJob, step


@pytest.fixture(autouse=True)
def without_collector() -> Iterator[None]:
    """The garbage collector is off: it would also free objects that hold each other."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def make_app(folder: Path) -> tuple[App, Function]:
    """An app with a function, a group and a schedule, and its function."""
    app = App(f"sqlite:///{folder / 'jobs.db'}")

    @app.function
    def add(*numbers: int) -> int:
        return sum(numbers)

    app.group("sums", [GroupJob("one", [add.step(1)])], then=[step("add")])
    app.schedule("hourly", [add.step(1)], every=3600)
    return app, add


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[tuple[App, Function]]:
    """The app, open."""
    app, add = make_app(folder)
    async with app:
        yield app, add


def test_an_app_that_was_not_opened_is_freed(tmp_path: Path) -> None:
    """With its engine, at the last reference to it."""
    app, add = make_app(tmp_path)
    freed = weakref.ref(app), weakref.ref(app.engine)
    assert app.asgi is not None
    assert app.functions.get("add") is not None
    del app
    assert freed[0]() is not None, "its function can still submit"
    del add
    assert [each() for each in freed] == [None, None]


async def test_an_app_that_was_used_and_closed_is_freed(tmp_path: Path) -> None:
    """Its store is closed, and no task or listener refers to it."""
    async with opened(tmp_path) as (app, add):
        job = await app.submit("sum", [add.step(1, 2)])
        await app.wait(job.id, 0.01)
        await app.trigger("sums")
        assert [each.name for each in await app.schedules.everything()] == []
    freed = weakref.ref(app), weakref.ref(app.engine), weakref.ref(app.engine.jobs)
    del app, add
    assert [each() for each in freed] == [None, None, None]


def test_the_registry_keeps_a_function_without_its_app(tmp_path: Path) -> None:
    """What the decorator returns submits; what the registry has runs."""
    app, add = make_app(tmp_path)
    registered = app.functions.get("add")
    assert registered is not None
    assert (registered.function, registered.signature) == (add.function, add.signature)
    assert registered.__dict__.keys() == add.__dict__.keys()
    assert (registered._submit, add._submit) == (None, app.call)
