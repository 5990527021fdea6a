"""Functions and the registry of an app."""

from __future__ import annotations

import inspect
import math
from typing import Any

import pytest

from raincheck.core.errors import InvalidArguments, NotJSON, RegisteredTooLate, RegistrationError
from raincheck.core.model import FunctionInfo, RetryOptions, Step
from raincheck.functions.context import Context
from raincheck.functions.registry import Function, Functions, is_function_name, step


def add(*numbers: int) -> int:
    """Add numbers.

    As many as you like.
    """
    return sum(numbers)


async def greet(ctx: Context, name: str = "you") -> str:
    return f"hello {name}"


class TestNames:
    """What a function may be called."""

    @pytest.mark.parametrize(
        "name",
        [
            "a",
            "add",
            "/v1/test-1",
            "v1/test-1",
            "math:multiply",
            "tasks.add",
            "queue@host",
            "A_b-c.d:e@f/0",
            "a..b",
            "a" * 200,
        ],
    )
    def test_names_of_all_the_ancestors_are_names(self, name: str) -> None:
        """Paths, dotted names and names with colons."""
        assert is_function_name(name)

    @pytest.mark.parametrize(
        "name",
        [
            "",
            "/",
            "//",
            "a//b",
            "a/",
            "..",
            "../../etc/passwd",
            "a/../b",
            "a/./b",
            ".hidden",
            "/.well-known",
            "a\\b",
            "a b",
            "a%2Fb",
            "a?b",
            "a#b",
            "a\n",
            "a\0",
            "a\u202eb",
            "a\u200bb",
            "\u00e9",
            "e\u0301",
            "\uff41",
            "\ud800",
            "a" * 201,
            "a" * 10_000,
            "/" * 10_000,
            "a/" * 100 + "!",
        ],
        ids=lambda name: f"{ascii(name)[:20]}{len(name)}",
    )
    def test_anything_that_could_deceive_is_none(self, name: str) -> None:
        """No dots that climb, no empty parts, nothing invisible, nothing that looks like another."""
        assert not is_function_name(name)
        with pytest.raises(RegistrationError, match="is not a valid function name") as caught:
            Functions().add(Function(add, name))
        assert len(str(caught.value)) < 1000


class TestFunctions:
    """The registry."""

    def test_functions_are_found_by_name(self) -> None:
        """In the order they were registered."""
        functions = Functions()
        made = [Function(add, "b"), Function(add, "a")]
        for function in made:
            functions.add(function)
        assert (functions.get("a"), functions.get("c")) == (made[1], None)
        assert ([*functions], functions.names, len(functions)) == (made, ("b", "a"), 2)

    def test_a_name_is_taken_once(self) -> None:
        """The second function would hide the first."""
        functions = Functions()
        functions.add(Function(add, "add"))
        with pytest.raises(RegistrationError, match="a function named 'add' is already registered"):
            functions.add(Function(add, "add"))

    def test_none_is_added_after_the_start(self) -> None:
        """Others know by then what there is."""
        functions = Functions()
        functions.close()
        with pytest.raises(RegisteredTooLate, match="'late' cannot be registered: the app has started"):
            functions.add(Function(add, "late"))


class TestFunction:
    """A registered function."""

    def test_calling_it_runs_it_here_and_now(self) -> None:
        """As if it had not been decorated."""
        assert Function(add, "sum")(1, 2, 3) == 6

    def test_it_looks_like_what_it_was_made_from(self) -> None:
        """To whoever reads about it."""
        made = Function(add, "sum")
        assert (made.__name__, made.__doc__, made.__module__) == ("add", add.__doc__, __name__)
        assert repr(made) == "<Function sum>"
        assert made.__wrapped__ is made.function is add
        assert (inspect.signature(made), inspect.getdoc(made)) == (
            inspect.signature(add),
            inspect.getdoc(add),
        )
        assert inspect.signature(Function(greet, "greet")) == inspect.signature(greet)

    def test_a_step_holds_its_arguments_as_json(self) -> None:
        """It is what a job is made of."""
        assert Function(greet, "greet").step("Ann") == Step("greet", 0, b'["Ann"]', b"{}")
        assert Function(greet, "greet").step(name="Ann") == Step("greet", 0, b"[]", b'{"name":"Ann"}')

    def test_an_argument_may_have_any_name(self) -> None:
        """Also that of a parameter of ours."""

        def function(**others: str) -> dict[str, str]:
            return others

        named = {"name": "n", "self": "s", "args": "a", "function": "f"}
        assert Function(function, "f").step(**named) == step("f", **named)
        assert Function(function, "f")(**named) == named

    def test_a_step_that_would_not_fit_is_not_made(self) -> None:
        """The mistake shows where it is made."""
        with pytest.raises(InvalidArguments, match=r"/args/1: argument 'numbers': expected `int`, got `str`"):
            Function(add, "add").step(1, "2")
        with pytest.raises(NotJSON, match=r"at \$\[0\]"):
            Function(add, "add").step(object())

    def test_a_step_of_an_unknown_function_can_be_made(self) -> None:
        """A worker may offer it later."""
        assert step("later", 1, a=2) == Step("later", 0, b"[1]", b'{"a":2}')

    def test_a_step_can_have_options_of_its_own(self) -> None:
        """Those not given stay as they are."""
        retry = RetryOptions(retry_limit=3)
        made = step("f").options(retry=retry, timeout=5.0)
        assert (made.retry, made.timeout) == (retry, 5.0)
        assert made.options(timeout=0.5).options() == step("f").options(retry=retry, timeout=0.5)

    def test_it_tells_of_itself(self) -> None:
        """All that callers may know."""
        retry = RetryOptions(retry_limit=2)
        made = Function(add, "sum", retry=retry, timeout=30.0, wait=1.0)
        parameters, positional, returns = made.signature.schemas()
        assert made.info == FunctionInfo(
            name="sum",
            doc="Add numbers.\n\nAs many as you like.",
            parameters=parameters,
            positional=positional,
            returns=returns,
            retry=retry,
            timeout=30.0,
            wait=1.0,
            mode="thread",
        )

    @pytest.mark.parametrize(
        ("function", "process", "mode"),
        [(greet, False, "async"), (add, False, "thread"), (add, True, "process"), (greet, True, "process")],
    )
    def test_how_it_runs_follows_from_what_it_is(self, function: Any, process: bool, mode: str) -> None:
        """On the loop, in a thread, or in a process if asked."""
        assert Function(function, "f", process=process).mode == mode

    def test_a_process_must_be_able_to_find_it(self) -> None:
        """A function within another exists only there."""

        def local() -> None: ...

        with pytest.raises(RegistrationError, match="must be defined at module level"):
            Function(local, "local", process=True)

    @pytest.mark.parametrize(
        ("options", "told"),
        [
            ({"retry": RetryOptions(retry_limit=0)}, r"Expected `int` >= 1 - at `\$.retry_limit`"),
            ({"retry": RetryOptions(delay=math.nan)}, "invalid retry options"),
            ({"timeout": 0.0}, "timeout must be above 0"),
            ({"timeout": math.inf}, "timeout must be above 0"),
            ({"wait": -1.0}, "wait must be between 0"),
        ],
    )
    def test_options_have_bounds(self, options: dict[str, Any], told: str) -> None:
        """Beyond them, a job could not be stored."""
        with pytest.raises(RegistrationError, match=f"^f: .*{told}"):
            Function(add, "f", **options)

    async def test_only_an_app_can_call_it(self) -> None:
        """There is nowhere to submit the job otherwise."""
        with pytest.raises(RegistrationError, match="add is not registered with an app"):
            await Function(add, "add").call(1)

    async def test_a_call_is_handed_to_the_app(self) -> None:
        """As a step."""
        seen: list[Step] = []

        async def submit(made: Step) -> str:
            seen.append(made)
            return "result"

        assert await Function(add, "add", submit=submit).call(1, 2) == "result"
        assert seen == [Step("add", 0, b"[1,2]", b"{}")]
