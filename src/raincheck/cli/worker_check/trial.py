"""One trial of a worker: its process, the proxy with its calls, and a client that submits jobs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, TypeVar

from raincheck.cli.terminal import one_line
from raincheck.cli.worker_check.program import Program
from raincheck.cli.worker_check.proxy import Call, Proxy
from raincheck.client import AsyncClient, AsyncJobHandle
from raincheck.core.errors import JobFailed, RaincheckError
from raincheck.core.model import State, Step
from raincheck.engine.documents import FunctionDocument

T = TypeVar("T")

FUNCTIONS = (
    *("check/data", "check/echo", "check/fail", "check/fatal", "check/flaky", "check/progress"),
    "check/sleep",
)
"""What the worker has to offer: docs/reference/worker-check.md."""

LONG = 300.0
"""Seconds that a function sleeps which is stopped, or left behind, by its check."""

_JOB = "worker-check"


class Failed(Exception):
    """The worker did something else than ``expected``."""

    def __init__(self, expected: str, happened: str) -> None:
        super().__init__(expected, happened)
        self.expected = expected
        self.happened = happened


class Skipped(Exception):
    """The check does not apply to this worker, for the reason in the message."""


class Trial:
    """What a check uses. Each wait ends after ``timeout`` seconds, or when the worker's process ends."""

    def __init__(self, proxy: Proxy, program: Program, client: AsyncClient, timeout: float) -> None:
        self.proxy = proxy
        self.program = program
        self.client = client
        self.timeout = timeout
        self.jobs: list[AsyncJobHandle] = []

    def calls(self, kind: str) -> list[Call]:
        """The worker's calls of one kind, oldest first."""
        return [call for call in self.proxy.calls if call.kind == kind]

    async def until(self, expected: str, condition: Callable[[], T | None]) -> T:
        """Wait until the condition, which is asked after each call, is true. Raises `Failed`."""
        return await self.expect(expected, self.proxy.until(condition))

    async def expect(self, expected: str, awaitable: Awaitable[T]) -> T:
        """Wait for something. Raises `Failed` after the timeout, or when the worker's process ends."""
        waiting = asyncio.ensure_future(awaitable)
        both = {waiting, self.program.ended}
        await asyncio.wait(both, timeout=self.timeout, return_when=asyncio.FIRST_COMPLETED)
        if waiting.done():
            return waiting.result()
        waiting.cancel()
        raise Failed(expected, self._describe())

    def _describe(self) -> str:
        """What the worker does instead of what was expected."""
        if self.program.ended.done():
            state = f"the worker ended with exit code {self.program.ended.result()}"
        else:
            state = f"not within {self.timeout:g} s"
        if not self.proxy.calls:
            return f"{state}; the worker has sent no call"
        return f"{state}; the last calls were {', '.join(map(str, self.proxy.calls[-4:]))}"

    async def registered(self, count: int = 1) -> Call:
        """Wait until the worker has registered ``count`` times; returns the last of these calls."""

        def accepted() -> list[Call] | None:
            found = [call for call in self.calls("register") if call.status == 201]
            return found if len(found) >= count else None

        again = "" if count == 1 else " again"
        call = (await self.until(f"the worker registers{again}: POST /v1/worker", accepted))[-1]
        if missing := sorted(set(FUNCTIONS) - set(call.reply["functions"])):
            raise Failed(f"the worker registers {', '.join(FUNCTIONS)}", f"without {', '.join(missing)}")
        return call

    async def submit(self, *steps: Step | list[Step]) -> AsyncJobHandle:
        """Submit a job to the server; it is cancelled at the end of the trial unless it has ended."""
        job = await self.client.submit(_JOB, steps)
        self.jobs.append(job)
        return job

    async def claimed(self, job: AsyncJobHandle) -> dict[str, Any]:
        """Wait until the worker has claimed an attempt of a job; returns the attempt."""
        return await self.until(
            "the worker claims the attempt",
            lambda: next(
                (each for call in self.calls("claim") for each in call.answers if each["job"] == job.id), None
            ),
        )

    async def extended(self, attempt: dict[str, Any]) -> None:
        """Wait until the worker has extended the lease of an attempt: so it runs the attempt."""
        await self.until(
            "the worker extends the lease of an attempt that it runs: POST /v1/worker/{id}/extend",
            lambda: any(
                each.get("id") == attempt["id"] for call in self.calls("extend") for each in call.attempts
            ),
        )

    async def finished(self, attempt: dict[str, Any], expected: str, count: int = 1) -> dict[str, Any]:
        """Wait until the worker has finished an attempt ``count`` times; returns the last outcome."""

        def outcomes() -> list[dict[str, Any]] | None:
            found = [
                each for call in self.calls("finish") for each in call.answers if each["id"] == attempt["id"]
            ]
            return found if len(found) >= count else None

        return (await self.until(expected, outcomes))[-1]

    async def ended(self, job: AsyncJobHandle, expected: str) -> FunctionDocument:
        """Wait until a job has ended; returns its last function."""
        await self.expect(expected, job.wait())
        return function_of(job)

    async def result(self, *steps: Step, expected: str) -> Any:
        """Run a job and return its result. Raises `Failed` if it has none."""
        job = await self.submit(*steps)
        await self.ended(job, expected)
        try:
            return job.result()
        except JobFailed as error:
            raise Failed(expected, str(error)) from None

    async def works_on(self, after: str) -> None:
        """Check that the worker still runs jobs."""
        expected = f"the worker runs the next job after {after}"
        self.equal(expected, await self.result(echo("next"), expected=expected), "next")

    def equal(self, expected: str, actual: object, value: object) -> None:
        """Raise `Failed` unless ``actual`` is ``value``."""
        if actual != value:
            raise Failed(expected, f"got {one_line(actual)} instead of {one_line(value)}")

    async def clean_up(self) -> None:
        """Cancel the jobs that have not ended, and remove the registrations that are left."""
        for job in self.jobs:
            if job.state is not State.DONE:
                with suppress(RaincheckError):
                    await self.client.cancel(job.id)
        left = {call.worker for call in self.calls("leave")}
        for call in self.calls("register"):
            if call.status == 201 and call.reply["id"] not in left:
                await self.proxy.remove(call)


def function_of(job: AsyncJobHandle) -> FunctionDocument:
    """The last function of a job."""
    last = job.document.functions[-1]
    return last[-1] if isinstance(last, list) else last


def echo(value: object) -> Step:
    """A step that returns the value."""
    return AsyncClient.step("check/echo", value)


def sleep(seconds: float) -> Step:
    """A step that takes this long."""
    return AsyncClient.step("check/sleep", seconds)
