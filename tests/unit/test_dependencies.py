"""Dependencies: how they are registered, and the mistakes that registration finds."""

import typing
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Annotated, Any

import pytest

from raincheck import App, Context, injected
from raincheck.core.errors import RegistrationError
from tests.worker import pools
from tests.worker.pools import Diary, Pool, Session


@pytest.fixture
def app() -> App:
    return App("sqlite:///:memory:")


@pytest.fixture
def shared(app: App) -> App:
    """An app with dependencies."""
    app.dependency(pools.open_diary)
    app.dependency(pools.open_pool)
    return app


def no_annotation():  # type: ignore[no-untyped-def]
    return Pool()


def plain() -> str:
    return ""


def optional() -> Pool | None:
    return None


def yields_without_saying_so() -> Pool:  # type: ignore[misc]
    yield Pool()


async def yields_anything() -> typing.AsyncIterator:  # type: ignore[type-arg]
    yield Pool()


@asynccontextmanager
async def managed() -> AsyncIterator[Pool]:
    yield Pool()


def needs_itself(pool: Pool) -> Pool:
    return pool


def needs_an_argument(dsn: str) -> Pool:
    return Pool(dsn)


def needs_a_position(diary: Diary, /) -> Pool:
    return Pool(diary)


def needs_a_job(ctx: Context) -> Pool:
    return Pool(ctx)


def needs_an_attempt(session: Session) -> Pool:
    return Pool(session)


def unknown(pool: Pool = injected) -> Session:
    return Session("")


def needs_state(state: Mapping[str, Any]) -> Pool:
    return Pool(state)


class TestRegistration:
    """Mistakes are errors where they are made."""

    @pytest.mark.parametrize(
        ("function", "message"),
        [
            (no_annotation, "no_annotation has no return annotation"),
            (plain, "plain: str cannot be the type of a dependency"),
            (optional, r"optional: Pool \| None cannot be the type of a dependency"),
            (yields_anything, r"uses yield: annotate it with what it yields, as in -> AsyncIterator\["),
            (
                yields_without_saying_so,
                r"uses yield: annotate it with what it yields, as in -> Iterator\[Pool\]",
            ),
            (managed, "managed returns an iterator, and has no yield of its own: remove @contextmanager"),
            (needs_itself, "needs_itself needs Pool, which is what it returns"),
            (
                needs_an_argument,
                "nothing gives its parameter 'dsn'. Declare a dependency that returns str above",
            ),
            (needs_a_position, "its parameter 'diary' must have no / after it"),
            (
                needs_a_job,
                r"opened once per worker, where there is no job, so it has no context: use .*attempt",
            ),
            (needs_an_attempt, "opened once per worker, and its parameter 'session' for each attempt"),
            (unknown, "unknown: no dependency returns Pool of its parameter 'pool'"),
            (Pool, "Pool is no function: write one that returns it"),
            (3, "3 is no function"),
        ],
    )
    def test_what_cannot_be_a_dependency(self, app: App, function: Any, message: str) -> None:
        """It is refused with what to write instead."""
        app.dependency(pools.open_diary)
        app.dependency(scope="attempt")(_session)
        with pytest.raises(RegistrationError, match=message):
            app.dependency(function)

    def test_two_of_one_type(self, shared: App) -> None:
        """No parameter could say which one it wants."""

        def another() -> Pool:
            return Pool()

        with pytest.raises(RegistrationError, match="another and open_pool both return Pool"):
            shared.dependency(another)

    def test_one_that_comes_after_a_function(self, app: App) -> None:
        """Functions above it take its type as an argument already."""

        @app.function
        def use(name: Diary | None = None) -> None: ...

        with pytest.raises(
            RegistrationError, match=r"open_diary comes too late: callers of use pass .*'name'"
        ):
            app.dependency(pools.open_diary)

    def test_a_type_that_nothing_returns(self, app: App) -> None:
        """A parameter that is neither an argument nor a dependency."""
        with pytest.raises(RegistrationError, match=r"'pool' cannot be decoded .* with @app.dependency"):

            @app.function
            def use(pool: Pool) -> None: ...

        with pytest.raises(
            RegistrationError, match="use: no dependency returns Pool of its parameter 'pool'"
        ):
            app.function(pools.use)

    def test_an_annotation_that_cannot_be_hashed_is_that_of_an_argument(self, shared: App) -> None:
        """It cannot be the type of a dependency."""

        @shared.function
        def use(number: Annotated[int, ["a note"]]) -> None: ...

        assert use.info.parameters["required"] == ["number"]

    def test_an_unknown_scope(self, app: App) -> None:
        """There are two."""
        with pytest.raises(
            RegistrationError, match="scope must be 'worker' or 'attempt' \\(got 'request'\\)"
        ):
            app.dependency(scope="request")(pools.open_diary)  # type: ignore[call-overload]

    async def test_one_that_comes_after_the_start(self, app: App) -> None:
        """As with functions."""
        async with app:
            with pytest.raises(
                RegistrationError, match="'open_diary' cannot be registered: the app has started"
            ):
                app.dependency(pools.open_diary)

    def test_what_a_child_process_cannot_find(self, app: App) -> None:
        """It is imported there by its name."""

        @app.dependency
        def make() -> Pool:
            return Pool()

        with pytest.raises(
            RegistrationError, match=r"use: its dependency .*make must be defined .* module level"
        ):
            app.function(process=True)(pools.use)

    def test_state_in_a_child_process(self, app: App) -> None:
        """The lifespan runs in the worker only."""
        app.dependency(needs_state)
        with pytest.raises(RegistrationError, match="needs the state of the lifespan, which does not run in"):
            app.function(process=True)(pools.use)


async def _session() -> Session:
    return Session("")
