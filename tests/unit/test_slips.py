"""Plausible mistakes: what simply works, and errors that say at once what to write instead."""

from __future__ import annotations

import asyncio
import functools
import json
import re
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from typing import Any

import pytest

from raincheck import App, Client, Context, GroupJob, InvalidInput, RetryLater, RetryOptions, step
from raincheck.core.errors import NotJSON, RegistrationError, UnexpectedResult
from raincheck.core.options import JobOptions

app = App("sqlite://")


@app.function
def add(a: int, b: int = 0) -> int:
    return a + b


@app.function
async def greet(name: str) -> str:
    return name


def numbers(count: int) -> Iterator[int]:
    yield from range(count)


async def ticks() -> AsyncIterator[int]:
    yield 1


class Tools:
    """A class with functions."""

    def measure(self, length: int) -> int:
        return length

    @classmethod
    def create(cls, length: int) -> None: ...

    @staticmethod
    def double(length: int) -> int:
        return 2 * length

    async def __call__(self, length: int) -> int:
        return length


def new(name: str | None = None, **options: Any) -> Any:
    """The decorator of a new app."""
    return App("sqlite://").function(name, **options)


class TestRegistration:
    """``@app.function``."""

    def test_a_number_of_attempts_is_enough(self) -> None:
        """Everything else stays as in `RetryOptions()`."""
        assert new("f", retry=3)(add).retry == RetryOptions(retry_limit=3)
        assert add.step(1).options(retry=3) == add.step(1).options(retry=RetryOptions(retry_limit=3))

    @pytest.mark.parametrize(
        ("given", "names"),
        [
            ((ValueError,), ("ValueError",)),
            ((ValueError, "OSError"), ("ValueError", "OSError")),
            ((json.JSONDecodeError,), ("json.decoder.JSONDecodeError",)),
            ([UnexpectedResult], ("raincheck.core.errors.UnexpectedResult",)),
            (TimeoutError, ("TimeoutError",)),
            ("TimeoutError", ("TimeoutError",)),
        ],
    )
    def test_exceptions_are_classes_or_names(self, given: Any, names: tuple[str, ...]) -> None:
        """Classes become their full names, so that they can be stored."""
        retry = RetryOptions(retry_limit=2, retry_on=given, fail_on=given)
        for made in (new("f", retry=retry)(add).retry, add.step(1).options(retry=retry).retry):
            assert made == RetryOptions(retry_limit=2, retry_on=names, fail_on=names)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"timeout": "1h"}, "f: timeout must be a number of seconds, got str '1h': write 3600"),
            ({"timeout": "1.5 min"}, "write 90"),
            ({"timeout": "250ms"}, "write 0.25"),
            ({"timeout": "soon"}, "timeout must be a number of seconds, got str 'soon'"),
            ({"timeout": timedelta(minutes=2)}, "write 120"),
            ({"timeout": True}, "timeout must be a number of seconds, got bool True"),
            ({"wait": None}, "wait must be a number of seconds, got NoneType None"),
            ({"retry": True}, "retry must be a number of attempts or RetryOptions(...), got bool True"),
            ({"retry": {"retry_limit": 2}}, "or RetryOptions(...), got dict {'retry_limit': 2}"),
            ({"retry": 0}, "retry_limit"),
            ({"retry": RetryOptions(retry_on=(3,))}, "exception classes or their names, got int 3"),  # type: ignore[arg-type]
            ({"retry": RetryOptions(fail_on=(int,))}, "exception classes or their names, got type"),  # type: ignore[arg-type]
            ({"retries": 3}, "no option 'retries': it takes name, retry, timeout, process, wait"),
        ],
    )
    def test_an_option_of_another_type(self, options: dict[str, Any], message: str) -> None:
        """The error says what the option is, and where possible what to write."""
        with pytest.raises(RegistrationError, match=re.escape(message)):
            new("f", **options)(add)

    @pytest.mark.parametrize(
        ("function", "message"),
        [
            (numbers, "numbers is a generator, whose values cannot be stored: return a list"),
            (ticks, "ticks is a generator"),
            (functools.partial(numbers, 2), "is a generator"),
            (Tools.measure, "Tools.measure is a method, and a worker has no object to call it on"),
            (Tools.__dict__["create"], "Tools.create is a method"),
            (Tools, "Tools is a class: register a function that creates and uses it"),
            (lambda: None, "has no name: write app.function('name')(...)"),
            (functools.partial(add.function, 1), "has no name: write app.function('name')(...)"),
            (3, "expected a function or its name, got int 3"),
        ],
    )
    def test_what_cannot_be_registered(self, function: Any, message: str) -> None:
        """Each would fail only when a worker runs it, or never give a result."""
        with pytest.raises(RegistrationError, match=re.escape(message)):
            new()(function)

    def test_a_call_in_place_of_a_function(self) -> None:
        """The coroutine that nothing awaits is closed, so that Python does not warn of it."""
        with pytest.raises(RegistrationError, match=re.escape("greet(...) was called: pass the function")):
            new()(greet("Ann"))

    @pytest.mark.parametrize("name", ["short", None])
    def test_what_can_be_registered_with_a_name(self, name: str | None) -> None:
        """A lambda has no name of its own."""
        assert new(name or "lambda")(lambda x: x).step(1) == step(name or "lambda", 1)
        assert new(name=name or "keyword")(add.function).name == (name or "keyword")

    def test_a_function_with_options(self) -> None:
        """They can be given beside it."""
        assert new(retry=2)(add).retry.retry_limit == 2
        assert App("sqlite://").function(add.function, timeout=3).timeout == 3  # type: ignore[call-overload]

    def test_functions_of_classes(self) -> None:
        """Those that need no object, in both orders of the decorators."""

        class Holder:
            """A class whose functions are registered."""

            inner: Any = staticmethod(new()(Tools.double))
            outer = new()(Tools.__dict__["double"])

        assert (Holder.inner.step(1), Holder.outer.step(1)) == (step("double", 1), step("double", 1))
        assert new()(Tools().measure).step(1) == step("measure", 1)

    def test_a_decorated_function_can_be_registered_again(self) -> None:
        """In another app, or under another name; it runs as before."""
        again = new("greetings")(greet)
        assert (again.name, again.mode, again.function) == ("greetings", "async", greet.function)
        with pytest.raises(RegistrationError, match="a function named 'add' is already registered"):
            app.function(add)

    def test_a_context_can_be_optional(self) -> None:
        """For direct calls in tests; callers do not pass it."""

        def optional(ctx: Context | None = None, size: int = 1) -> int:
            return size

        assert new()(optional).signature.context == "ctx"
        assert new()(optional).step(2) == step("optional", 2)

    def test_asking_for_a_retry_that_is_not_allowed(self) -> None:
        """A function that raises `RetryLater` needs more than one attempt."""

        def poll() -> None:
            raise RetryLater("not there yet", retry_after=1)

        with pytest.warns(
            UserWarning, match=re.escape("poll uses RetryLater, but has one attempt")
        ) as warned:
            new()(poll)
        assert [warning.filename for warning in warned] == [__file__]
        assert new(retry=2)(poll).retry.retry_limit == 2


class TestSubmitting:
    """What is passed as the functions of a job, and its options."""

    @pytest.mark.parametrize(
        ("functions", "message"),
        [
            (add.step(3), "/functions: expected a list of steps: write [function.step(...)]"),
            (add, "/functions: expected a list of steps: write [function.step(...)]"),
            ("add", "/functions: expected a list of steps"),
            (None, "/functions: expected a list of steps, got NoneType None"),
            ({add.step(3)}, "/functions: expected a list of steps, got set"),
            ([add], "/functions/0: expected a step; got the function add: write add.step(...)"),
            (
                [add.step(1), 4],
                "/functions/1: expected a step; got int 4: function(...) calls",
            ),
            ([[add.step(1), "add"]], "/functions/0/1: expected a step; got a string: write step('add', ...)"),
            ([[[add.step(1)]]], "/functions/0/0: expected a step; lists nest one level deep"),
        ],
    )
    def test_what_is_not_a_list_of_steps(self, functions: Any, message: str) -> None:
        """The error names the entry and says what to write."""
        with pytest.raises(InvalidInput, match=re.escape(message)):
            app.engine.validator.draft("n", functions, JobOptions(), 0.0)

    @pytest.mark.parametrize("in_list", [True, False])
    def test_a_call_in_place_of_a_step(self, in_list: bool) -> None:
        """The coroutine that nothing awaits is closed, so that Python does not warn of it."""
        functions: Any = [greet("Ann")] if in_list else greet("Ann")
        with pytest.raises(InvalidInput, match=r"expected a .*got a coroutine: function"):
            app.engine.validator.draft("n", functions, JobOptions(), 0.0)

    def test_a_name_of_another_type(self) -> None:
        """As when the name is left out."""
        with pytest.raises(InvalidInput, match="/name: a name must be a string, got Function <Function add>"):
            app.engine.validator.draft(add, [add.step(1)], JobOptions(), 0.0)  # type: ignore[arg-type]

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"delay": "5"}, "/delay: delay must be a number of seconds, got str '5'"),
            ({"delay": timedelta(days=1)}, "/delay: delay must be a number of seconds, got timedelta"),
            (
                {"result_ttl": "1 day"},
                "/result_ttl: result_ttl must be a number of seconds, got str '1 day'",
            ),
            ({"scheduled_at": "2030-01-01"}, "/scheduled_at: scheduled_at must be a datetime, got str"),
            ({"expires_at": 5}, "/expires_at: expires_at must be a datetime, got int 5"),
            ({"priority": "high"}, "/priority: priority must be an integer, got str 'high'"),
        ],
    )
    async def test_an_option_of_another_type(self, options: dict[str, Any], message: str) -> None:
        """In an app and in a client alike, before anything is sent."""
        with pytest.raises(InvalidInput, match=re.escape(message)):
            await App("sqlite:///:memory:").submit("n", [add.step(1)], **options)
        with pytest.raises(InvalidInput, match=re.escape(message)), Client("http://127.0.0.1:9") as client:
            await asyncio.to_thread(client.submit, "n", [add.step(1)], **options)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"every": "1h"}, "/every: every must be a number of seconds, got str '1h': write 3600"),
            (
                {"every": 60, "grace": "1m"},
                "grace must be a number of seconds, got str '1m': write 60",
            ),
        ],
    )
    def test_an_option_of_a_schedule(self, options: dict[str, Any], message: str) -> None:
        """Likewise."""
        with pytest.raises(InvalidInput, match=re.escape(message)):
            App("sqlite://").schedule("nightly", [add.step(1)], **options)

    def test_an_option_of_a_step(self) -> None:
        """Likewise, at once."""
        with pytest.raises(InvalidInput, match=r"timeout must be a number of seconds.*: write 3600"):
            add.step(1).options(timeout="1h")  # type: ignore[arg-type]
        with pytest.raises(InvalidInput, match="retry must be a number of attempts"):
            add.step(1).options(retry="twice")  # type: ignore[arg-type]

    async def test_an_option_that_does_not_exist(self) -> None:
        """The error lists those that do."""
        with pytest.raises(
            TypeError, match="there is no option 'wait': the options are data, delay, expires_at"
        ):
            await App("sqlite:///:memory:").submit("n", [add.step(1)], wait=5)  # type: ignore[call-arg]

    @pytest.mark.parametrize("jobs", [[add.step(1)], {"a": [add.step(1)]}, GroupJob("a", [add.step(1)])])
    def test_what_is_not_a_job_of_a_group(self, jobs: Any) -> None:
        """At the declaration."""
        with pytest.raises(RegistrationError, match=re.escape("write [GroupJob(name, [steps])]")):
            App("sqlite://").group("pair", jobs)

    @pytest.mark.parametrize(
        ("value", "hint"),
        [(numbers(2), "generator is unsupported (make it a list)"), (greet, "Function is unsupported, at $")],
    )
    def test_a_value_that_cannot_be_sent(self, value: Any, hint: str) -> None:
        """The error says what to do with it."""
        with pytest.raises(NotJSON, match=re.escape(hint)):
            step("f", value)


class TestCalling:
    """``call`` takes a step; clients also take a function, or its name."""

    @pytest.mark.parametrize(
        ("value", "message"),
        [
            (
                add(3),
                "expected a step; got int 3: function(...) calls the function here, write",
            ),
            (add, "expected a step; got the function add: write add.step(...), with its arguments"),
            ("add", "expected a step; got a string: write step('add', ...), with the arguments"),
        ],
    )
    async def test_what_is_not_a_step(self, value: Any, message: str) -> None:
        """`App.call` and `App.blocking` say so before they open the store."""
        new_app = App("sqlite://")
        with pytest.raises(InvalidInput, match=re.escape(message)):
            await new_app.call(value)
        with pytest.raises(InvalidInput, match=re.escape(message)):
            await asyncio.to_thread(new_app.blocking.call, value)
        assert not new_app.opened
        await asyncio.to_thread(new_app.blocking.close)

    def test_what_a_client_cannot_call(self) -> None:
        """Nothing is sent."""
        with Client("http://127.0.0.1:9") as client:
            with pytest.raises(InvalidInput, match="expected a function, its name or a step; got int 3"):
                client.call(add(3))
            with pytest.raises(InvalidInput, match="/functions: expected a list of steps"):
                client.submit("n", add.step(3))  # type: ignore[arg-type]
            with pytest.raises(InvalidInput, match="expected a step; got the function add"):
                client.submit("n", [add])  # type: ignore[list-item]

    async def test_a_document_in_place_of_an_id(self) -> None:
        """`status`, `wait` and the others take the id of a job."""
        async with App("sqlite:///:memory:") as opened:
            job = await opened.submit("n", [step("f")])
            for method in (opened.status, opened.wait, opened.cancel, opened.retry):
                with pytest.raises(InvalidInput, match=r"the id of a job, got JobDocument .*: write job\.id"):
                    await method(job)  # type: ignore[arg-type]
        with Client("http://127.0.0.1:9") as client, pytest.raises(InvalidInput, match="the id of a job"):
            await asyncio.to_thread(client.status, 5)  # type: ignore[arg-type]
