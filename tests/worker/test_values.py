"""Values of functions that run: checked results, and types of their own, wherever a function runs."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import pytest

from raincheck import App, GroupJob, RetryOptions, Worker
from raincheck.core.errors import RegistrationError
from tests.worker import own_types
from tests.worker.own_types import Money, decode, encode


@pytest.fixture
def own(app: App) -> App:
    """An app that knows `Money`."""
    own = App(app.url, encode=encode, decode=decode)
    double = own.function("declared")(own_types.double)
    own.group("all", [GroupJob("one", [double.step(Money(1))], data={"d": Money(2)})], data={"a": Money(3)})
    own.schedule("nightly", [double.step(Money(4))], cron="0 3 * * *", data={"s": Money(5)})
    return own


@pytest.mark.parametrize("process", [False, True])
@pytest.mark.parametrize(
    ("function", "detail"),
    [
        (own_types.lie, "lie promises int, and returned str: Expected `int`, got `str`"),
        (
            own_types.lie_later,
            "lie_later promises list[int], and returned list: Expected `int`, got `str` - at `$[1]`",
        ),
    ],
)
async def test_a_result_that_breaks_its_promise_is_a_failure(
    app: App, function: Any, detail: str, process: bool
) -> None:
    """It says what was promised and what came; another attempt would do the same, so there is none."""
    lie = app.function(process=process, retry=RetryOptions(retry_limit=3))(function)
    async with app, Worker(app, process_slots=1):
        job = await app.submit("lie", [lie.step()])
        ended = await app.wait(job.id)
    assert ended.state == "failed"
    assert ended.error is not None
    assert (ended.error.exception, ended.error.detail) == ("UnexpectedResult", detail)
    assert ended.to_dict()["functions"][0]["retry_count"] == 1


@pytest.mark.parametrize("process", [False, True])
async def test_types_of_ones_own_go_everywhere(own: App, process: bool) -> None:
    """Into functions and their data, and back; in a child process, too."""
    double = own.function(process=process)(own_types.double)
    note = own.function(process=process)(own_types.note)
    async with own, Worker(own, process_slots=1):
        assert (await double.call(Money(3))).cents == 6
        job = await own.submit("n", [note.step([Money(1)])], data={"limit": Money(5)})
        ended = await own.wait(job.id)
    assert (ended.result, ended.data) == (1, {"limit": {"cents": 5}, "spent": {"cents": 1}})


async def test_types_of_ones_own_go_into_groups_and_schedules(own: App) -> None:
    """As arguments and as data."""
    double = own.function(own_types.double)
    async with own, Worker(own):
        run = await own.trigger("all", data={"b": Money(6)}, args={"one": [Money(7)]})
        await own.wait(run.id)
        (member,) = (await own.run("all", run.id)).jobs
        job = await own.status(member.id)
        await own.schedules.put("other", [double.step(Money(4))], every=900, data={"p": Money(8)})
        scheduled = [await own.schedules.run(name) for name in ("other", "nightly")]
        done = [await own.wait(each.id) for each in scheduled]
    assert job.result == {"cents": 14}
    assert job.data == {"a": {"cents": 3}, "b": {"cents": 6}, "d": {"cents": 2}}
    assert [each.result for each in done] == [{"cents": 8}] * 2
    assert [each.data for each in done] == [{"p": {"cents": 8}}, {"s": {"cents": 5}}]


async def test_types_of_ones_own_go_through_the_blocking_face(own: App) -> None:
    """A call there returns them, too."""
    double = own.function(own_types.double)
    async with own, Worker(own):
        made = await asyncio.to_thread(own.blocking.call, double.step(Money(3)))
        job = await asyncio.to_thread(
            partial(own.blocking.submit, "n", [double.step(Money(3))], data={"a": Money(1)})
        )
        await asyncio.to_thread(own.blocking.close)
    assert (made.cents, job.data) == (6, {"a": {"cents": 1}})


@pytest.mark.parametrize("hook", [lambda value: value, partial(encode), decode.__get__(1)])
def test_hooks_that_a_child_process_cannot_find_are_refused(app: App, hook: Any) -> None:
    """When a function for a child process is registered."""
    own = App(app.url, encode=hook)
    with pytest.raises(RegistrationError, match="must be functions defined with def at module level"):
        own.function(process=True)(own_types.lie)
