"""What type checkers see of the clients: mypy and pyright read this file, nothing runs it.

A line that must be an error has a ``type: ignore``; both checkers report one that is not needed.
"""

from __future__ import annotations

from typing import Any, assert_type

from raincheck import AsyncClient, Client, JobHandle
from tests.typing.functions import Point, add, moved, report

client = Client()
async_client = AsyncClient()


async def results() -> None:
    """``returns`` is the type of the result, by default that of the function."""
    assert_type(client.call("add", 1, 2), Any)
    assert_type(client.call("add", 1, 2, returns=int), int)
    assert_type(client.call(add.step(1, 2), returns=int), int)
    assert_type(client.call("report", "Paris", returns=list[Point], timeout=5), list[Point])
    assert_type(client.call(add, 1, 2), int)
    assert_type(client.call(moved, Point(1), 2, timeout=5), Point)
    assert_type(await async_client.call("add", 1, 2, returns=int), int)
    assert_type(await async_client.call(report, "Paris"), list[Point])


def handles(job: JobHandle) -> None:
    """The result of a job that was submitted, likewise."""
    assert_type(job.result(), Any)
    assert_type(job.result(Point), Point)
    assert_type(job.wait(3).result(returns=list[int]), list[int])


def wrong_calls() -> None:
    """What is not a function is an error."""
    client.call(3)  # type: ignore[call-overload]
    client.call("add", 1, timeout="1 s")  # type: ignore[call-overload]
    client.submit("name", add.step(1))  # type: ignore[arg-type]
