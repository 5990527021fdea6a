"""The checks: each starts with a new process of the worker, and says in one line what it expects."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

from raincheck.cli.worker_check.trial import FUNCTIONS, LONG, Failed, Skipped, Trial, echo, function_of, sleep
from raincheck.client import AsyncClient
from raincheck.core.errors import InvalidInput
from raincheck.core.model import RetryOptions, State

VALUE = {"text": "grüße ✓", "list": [1, -2.5, True, None], "nested": {"empty": [], "": {}}}
"""What ``check/echo`` has to return as it came."""

LEASE = 15.0
"""Seconds; a worker that extends its leases in time keeps them on a slow machine, too."""

SHORT_LEASE = 3.0
"""Seconds of a lease that has to run out, or that several extends have to keep."""

IDLE = 5.0
"""Seconds for which the calls of an idle worker are counted."""

MOST_IDLE_CALLS = 10
"""Calls in these seconds; a worker whose claims wait needs one or two."""

DRAIN = 2.0
"""Seconds that a worker has to end its claims after SIGTERM."""

OUTAGE = 3.0
"""Seconds for which the server seems to be down, at least."""

MOST_TRIES = 60
"""Calls in these seconds; a worker that waits longer after each failure needs about five."""

_PROTOCOL = "docs/reference/worker-protocol.md"
REGISTER, CLAIM, EXTEND, FINISH, RULES, DUTIES = (
    f"{_PROTOCOL}#{section}"
    for section in (
        *("post-v1worker", "post-v1workeridclaim", "post-v1workeridextend", "post-v1workeridfinish"),
        *("rules-for-all-calls", "what-a-worker-has-to-get-right"),
    )
)

step = AsyncClient.step


@dataclass(frozen=True)
class Check:
    """A check. ``read`` is the section of the protocol's documentation to read if it fails.

    The worker gets leases of ``lease`` seconds.
    """

    name: str
    expected: str
    read: str
    run: Callable[[Trial], Awaitable[None]]
    lease: float = LEASE


async def registration(trial: Trial) -> None:
    """The registration names the worker and its capacity, and a claim follows."""
    body = (await trial.registered()).body
    if not isinstance(body.get("capacity", 1), int) or body.get("capacity", 1) < 1:
        raise Failed("capacity is a positive integer", f"it is {body['capacity']!r}")
    await trial.until("the worker claims: POST /v1/worker/{id}/claim", lambda: trial.calls("claim"))


async def call(trial: Trial) -> None:
    """An argument comes back unchanged."""
    await trial.registered()
    expected = "check/echo returns its argument"
    trial.equal(expected, await trial.result(echo(VALUE), expected=expected), VALUE)


async def chain(trial: Trial) -> None:
    """The second function gets the result of the first and the data that it changed."""
    await trial.registered()
    steps = (step("check/data", "first", [1]), step("check/data", "second", {"a": "b"}))
    expected = "check/data returns the previous result and the data of the job, then changes the data"
    job = await trial.submit(*steps)
    await trial.ended(job, expected)
    first: dict[str, object] = {"previous": None, "data": {}}
    trial.equal(expected, job.document.result, {"previous": first, "data": {"first": [1]}})
    trial.equal(expected, job.document.data, {"first": [1], "second": {"a": "b"}})


async def parallel(trial: Trial) -> None:
    """A long attempt does not keep a short one from running."""
    if (await trial.registered()).body.get("capacity", 1) == 1:
        raise Skipped("the worker has a capacity of 1")
    long = await trial.claimed(await trial.submit(sleep(LONG)))
    await trial.works_on("a long one began")
    if any(each["id"] == long["id"] for call in trial.calls("finish") for each in call.attempts):
        raise Failed(f"check/sleep takes the {LONG:g} s of its argument", "it ended at once")


async def retry(trial: Trial) -> None:
    """An error is retried, and the function sees the number of the attempt."""
    await trial.registered()
    again = step("check/flaky").options(retry=RetryOptions(retry_limit=3, delay=0.1))
    expected = "check/flaky fails in the first attempt, and returns the attempt's number in the second"
    trial.equal(expected, await trial.result(again, expected=expected), 2)


async def fatal(trial: Trial) -> None:
    """An error with ``retryable: false`` fails the job at the first attempt."""
    await trial.registered()
    expected = "check/fatal fails with its message and retryable: false, so it runs once"
    await _fails(trial, "check/fatal", RetryOptions(retry_limit=3, delay=0.1), expected)


async def error(trial: Trial) -> None:
    """The message of an error reaches the job, and the worker goes on."""
    await trial.registered()
    await _fails(trial, "check/fail", RetryOptions(retry_limit=1), "check/fail fails with its message")
    await trial.works_on("an error")


async def _fails(trial: Trial, name: str, options: RetryOptions, expected: str) -> None:
    message = f"{name} says: no ✗"
    job = await trial.submit(step(name, message).options(retry=options))
    function = await trial.ended(job, expected)
    trial.equal(expected, job.state, State.FAILED)
    trial.equal(expected, function.retry_count, 1)
    detail = function.error.detail if function.error is not None else None
    if message not in (detail or ""):
        raise Failed(expected, f"the detail of the error is {detail!r}")


async def arguments(trial: Trial) -> None:
    """A wrong argument is an error of the job, not the end of the worker."""
    await trial.registered()
    expected = "check/sleep with a text as its argument fails"
    try:
        job = await trial.submit(step("check/sleep", "soon").options(retry=1))
    except InvalidInput:  # the worker has registered a schema, and the server checks it
        pass
    else:
        await trial.ended(job, expected)
        trial.equal(expected, job.state, State.FAILED)
    await trial.works_on("a wrong argument")


async def progress(trial: Trial) -> None:
    """Progress reaches the job."""
    await trial.registered()
    expected = "check/progress reports that 1 of 2 is done, then returns"
    job = await trial.submit(step("check/progress"))
    function = await trial.ended(job, expected)
    if not any("progress" in each for call in trial.calls("extend") for each in call.attempts):
        raise Skipped("the worker sends no progress")
    shown = function.progress if isinstance(function.progress, dict) else {}
    trial.equal(expected, [shown.get("done"), shown.get("total")], [1, 2])


async def extend(trial: Trial) -> None:
    """An attempt that takes longer than its lease is not lost."""
    await trial.registered()
    expected = "the worker extends the lease of an attempt that takes longer than it"
    function = await trial.ended(await trial.submit(sleep(2 * SHORT_LEASE)), expected)
    trial.equal(expected, [function.state, function.lost_count], [State.DONE, 0])


async def cancel(trial: Trial) -> None:
    """A cancelled attempt is stopped and finished."""
    await trial.registered()
    job = await trial.submit(sleep(LONG))
    attempt = await trial.claimed(job)
    await job.cancel()
    expected = "the worker extends, is told to stop the cancelled attempt, and finishes it"
    trial.equal(expected, (await trial.finished(attempt, expected))["outcome"], "cancelled")
    await trial.works_on("a cancelled one")


async def timeout(trial: Trial) -> None:
    """An attempt that has timed out is stopped and finished."""
    await trial.registered()
    job = await trial.submit(sleep(LONG).options(timeout=1.0, retry=1))
    expected = "the worker stops an attempt that has timed out, and finishes it"
    outcome = await trial.finished(await trial.claimed(job), expected)
    trial.equal(expected, outcome["outcome"], "timed-out")
    await trial.works_on("a timeout")


async def lost_lease(trial: Trial) -> None:
    """A worker whose extends failed until its lease ran out drops the attempt."""
    await trial.registered()
    job = await trial.submit(sleep(LONG))
    attempt = await trial.claimed(job)
    trial.proxy.withhold("extend")
    await trial.expect("the worker does not end while it cannot extend", _lost(trial, job.id))
    await job.cancel()  # before it can be claimed again, perhaps by this worker
    trial.proxy.withhold("")
    expected = "the worker drops the attempt whose lease it has lost"
    await trial.works_on("a lost lease")
    late = [each for call in trial.calls("finish") for each in call.answers if each["id"] == attempt["id"]]
    trial.equal(expected, [each["outcome"] for each in late if each["outcome"] != "lost"], [])


async def _lost(trial: Trial, job_id: str) -> None:
    """Wait until the lease of the only attempt of a job has run out."""
    async for job in trial.client.watch(job_id):
        if function_of(job).lost_count:
            return


async def restart(trial: Trial) -> None:
    """A worker that loses its connections tries again, not too often, and its attempt counts."""
    await trial.registered()
    job = await trial.submit(sleep(OUTAGE))
    await trial.claimed(job)
    trial.proxy.go_down()

    def is_busy() -> bool:
        return trial.proxy.cut_count > MOST_TRIES

    expected = "the worker does not end while the server is down"
    await trial.expect(expected, _during(OUTAGE, trial, is_busy))
    await trial.until("the worker calls again while the server is down", lambda: trial.proxy.cut_count)
    if is_busy():
        raise Failed(f"at most {MOST_TRIES} calls in {OUTAGE:g} s while the server is down", "it sent more")
    trial.proxy.come_back()
    expected = "the worker comes back, and the attempt that it ran meanwhile counts"
    function = await trial.ended(job, expected)
    trial.equal(expected, [function.state, function.retry_count, function.lost_count], [State.DONE, 1, 0])
    await trial.works_on("a restart of the server")


async def lost_reply(trial: Trial) -> None:
    """A finish whose response is lost is sent again, and the attempt counts once."""
    await trial.registered()
    trial.proxy.lose_next_reply("finish")
    job = await trial.submit(echo(VALUE))
    attempt = await trial.claimed(job)
    expected = "the worker sends a finish again if it gets no response"
    trial.equal(expected, (await trial.finished(attempt, expected))["outcome"], "lost")
    function = await trial.ended(job, expected)
    trial.equal(expected, [function.state, function.retry_count], [State.DONE, 1])
    await trial.works_on("a lost response")


async def register_again(trial: Trial) -> None:
    """A worker that the server does not know any more registers again."""
    first = await trial.registered()
    await trial.works_on("its registration")
    await trial.proxy.remove(first)
    trial.proxy.go_down()  # ends a claim that waits
    trial.proxy.come_back()
    if (await trial.registered(2)).reply["id"] == first.reply["id"]:
        raise Failed("a new registration has a new id", "it has the id of the first one")
    await trial.works_on("a new registration")


async def drain(trial: Trial) -> None:
    """SIGTERM: the running attempt ends, nothing more is claimed, the worker leaves."""
    await trial.registered()
    job = await trial.submit(sleep(2 * SHORT_LEASE + 2 * DRAIN))
    await trial.extended(await trial.claimed(job))
    trial.program.terminate()
    expected = "an attempt that runs when SIGTERM comes ends well"
    await trial.expect(expected, asyncio.sleep(DRAIN))
    claims = len(trial.calls("claim"))
    await trial.submit(echo("too late"))
    await _leaves(trial)
    await job.refresh()
    function = function_of(job)
    trial.equal(expected, [function.state, function.lost_count], [State.DONE, 0])
    if len(trial.calls("claim")) > claims:
        raise Failed("the worker claims nothing after SIGTERM", "it claimed again")


async def drain_idle(trial: Trial) -> None:
    """SIGTERM: a worker whose claim waits leaves, too."""
    await trial.registered()
    await trial.until("the worker claims", lambda: trial.calls("claim"))
    trial.program.terminate()
    await _leaves(trial)


async def _leaves(trial: Trial) -> None:
    code = await trial.expect("the worker ends after SIGTERM", asyncio.shield(trial.program.ended))
    trial.equal("the exit code after SIGTERM is 0", code, 0)
    if not trial.calls("leave"):
        raise Failed("the worker leaves after SIGTERM: DELETE /v1/worker/{id}", "it did not")


async def idle(trial: Trial) -> None:
    """A worker without work lets its claims wait on the server."""
    await trial.registered()
    before = len(trial.proxy.calls)

    def count() -> int:
        return len(trial.proxy.calls) - before

    await trial.expect("an idle worker does not end", _during(IDLE, trial, lambda: count() > MOST_IDLE_CALLS))
    if count() > MOST_IDLE_CALLS:
        expected = f"an idle worker sends at most {MOST_IDLE_CALLS} calls in {IDLE:g} s: its claims wait"
        raise Failed(expected, "it sent more")


async def _during(seconds: float, trial: Trial, condition: Callable[[], bool]) -> None:
    """Return after this time, or as soon as the condition is true."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await trial.proxy.until(condition)


_NAMES = ", ".join(each.removeprefix("check/") for each in FUNCTIONS)

CHECKS = (
    Check("registration", f"registers, with the functions check/ {_NAMES}", REGISTER, registration),
    Check("call", "runs a function with its arguments, and sends its result", FINISH, call),
    Check("chain", "passes the previous result and the job's data, and sends changes of it", CLAIM, chain),
    Check("parallel", "runs two attempts at once", CLAIM, parallel),
    Check("retry", "reports an error, and passes the number of the attempt", FINISH, retry),
    Check("fatal", "reports an error that is not retried", FINISH, fatal),
    Check("error", "reports the message of an error, and goes on", FINISH, error),
    Check("arguments", "reports a wrong argument as an error, and goes on", FINISH, arguments),
    Check("progress", "reports progress (optional)", EXTEND, progress),
    Check("extend", "keeps the lease of an attempt that takes longer", EXTEND, extend, SHORT_LEASE),
    Check("cancel", "stops and finishes a cancelled attempt", EXTEND, cancel, 2 * SHORT_LEASE),
    Check("timeout", "stops and finishes an attempt that has timed out", EXTEND, timeout, 2 * SHORT_LEASE),
    Check("lost-lease", "drops an attempt that it has lost, and goes on", EXTEND, lost_lease, SHORT_LEASE),
    Check("restart", "comes back after the server was down", RULES, restart, 4 * LEASE),
    Check("lost-reply", "repeats a finish whose response was lost", RULES, lost_reply),
    Check("register-again", "registers again after 404", REGISTER, register_again),
    Check(
        "drain",
        "finishes what runs at SIGTERM, then leaves with exit code 0",
        DUTIES,
        drain,
        2 * SHORT_LEASE,
    ),
    Check("drain-idle", "leaves at SIGTERM while its claim waits", DUTIES, drain_idle),
    Check("idle", "lets its claims wait, without a busy loop", CLAIM, idle),
)
"""In the order in which they run."""
