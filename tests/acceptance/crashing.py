"""The app of test_crash and test_groups, whose workers are killed. Attempts write lines to a ledger."""

import asyncio
import os
import time

from raincheck import App, Context, GroupJob, RetryOptions

app = App()

# a job must not fail, no matter how often its worker is killed
OPTIONS = RetryOptions(retry_limit=2, delay=0.01, lost_limit=1000)


def note(event: str, ctx: Context, part: int) -> None:
    """Write one line in one write, so that lines are complete and in the order of the events.

    A line has the event, the job, the step, the attempt and the process.
    """
    ledger = os.open(os.environ["LEDGER"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(ledger, f"{event} {ctx.job.id} {part} {ctx.attempt} {os.getpid()}\n".encode())
    finally:
        os.close(ledger)


def fails_first(number: int) -> bool:
    """Whether a step with this number fails at its first attempt."""
    return number % 5 == 0


def end_attempt(ctx: Context, part: int, number: int) -> int:
    """End an attempt: fail, or return the sum of the previous result and the number."""
    if fails_first(number) and ctx.step.retry_count == 0:
        note("fail", ctx, part)
        raise ValueError("the first attempt fails")
    note("end", ctx, part)
    return int(ctx.previous or 0) + number


@app.function(retry=OPTIONS)
async def on_the_loop(ctx: Context, part: int, number: int) -> int:
    note("begin", ctx, part)
    await asyncio.sleep(number % 7 / 50)
    return end_attempt(ctx, part, number)


@app.function(retry=OPTIONS)
def in_a_thread(ctx: Context, part: int, number: int) -> int:
    note("begin", ctx, part)
    time.sleep(number % 7 / 50)
    return end_attempt(ctx, part, number)


MEMBERS = 40


@app.function(retry=OPTIONS)
async def member(ctx: Context, number: int) -> int:
    note("begin", ctx, 0)
    await asyncio.sleep(number % 7 / 100)
    note("end", ctx, 0)
    return number


@app.function(retry=OPTIONS)
async def follow_up(ctx: Context) -> int:
    note("begin", ctx, 1)
    return sum(ctx.previous)


app.group("crash", [GroupJob(f"job {n}", [member.step(n)]) for n in range(MEMBERS)], then=[follow_up.step()])
