"""The child processes of test_sqlite_processes: ``python sqlite_children.py ROLE URL [NUMBER]``.

They print lines on standard output.
"""

from __future__ import annotations

import asyncio
import os
import random
import resource
import sys
import time
from pathlib import Path

from raincheck.core import lifecycle
from raincheck.core.clock import new_id
from raincheck.core.errors import RaincheckError
from raincheck.core.model import Change, Claim, Job, Step
from raincheck.core.triggers import Succeeded
from raincheck.store import Store, listing, make_store
from raincheck.store.base import Filter
from raincheck.store.sqlite import threads


def submission(store: Store, function: str = "f", size: int = 0) -> Change:
    """The change that submits a job with ``size`` bytes of data."""
    data = b'{"x":"' + b"x" * size + b'"}'
    job = Job(id=new_id(), name="job", steps=(Step(function, stage=0),), data=data, result_ttl=3600.0)
    return lifecycle.submit(job, store.now())


def success(store: Store, claim: Claim) -> Change:
    """The change that finishes a claimed step."""
    return lifecycle.advance(claim.job, [Succeeded(lifecycle.attempt_of(claim.lease), b"1")], store.now())


def say(*words: object) -> None:
    """Print one line for the parent."""
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


async def claimer(store: Store, _: float) -> None:
    """Claim jobs, and print when. All processes have the same monotonic clock.

    It polls only if other processes cannot notify it.
    """
    threads.LOOK = 3600.0
    say("ready")
    while True:
        for claim in await store.claim("claimer", ("f",), 1, 60.0, 60.0):
            say(claim.job.id, time.monotonic())
            await store.commit([success(store, claim)])


async def idler(store: Store, seconds: float) -> None:
    """Wait for a job that never arrives; print the share of a core that this used."""
    await store.claim("idler", ("idle",), 1, 60.0, 0.2)
    used_before = time.process_time()
    await store.claim("idler", ("idle",), 1, 60.0, seconds)
    say((time.process_time() - used_before) / seconds)


async def hammer(store: Store, seconds: float) -> None:
    """Submit, claim, finish and remove in batches of all sizes, in several tasks at the same time."""

    async def one(dice: random.Random) -> int:
        finished = 0
        while time.monotonic() < until:
            await store.commit([submission(store) for _ in range(dice.choice((1, 1, 5, 40)))])
            claims = await store.claim("hammer", ("f",), dice.choice((1, 10, 50)), 60.0)
            await store.commit([success(store, claim) for claim in claims])
            await store.find([claim.job.id for claim in claims])
            await store.remove((await store.due(10)).ended, 60.0)
            finished += len(claims)
        return finished

    until = time.monotonic() + seconds
    say(sum(await asyncio.gather(*(one(random.Random(f"{os.getpid()} {i}")) for i in range(3)))))


async def looker(store: Store, seconds: float) -> None:
    """Read pages and counts without a pause."""
    until, pages = time.monotonic() + seconds, 0
    while time.monotonic() < until:
        page = await listing.page(store, Filter(), 200)
        while page.cursor is not None and time.monotonic() < until:
            page = await listing.page(store, Filter(), 200, page.cursor)
            pages += 1
        await store.counts()
    say(pages)


async def committer(store: Store, _: float) -> None:
    """Commit until it is killed; print each id after it is acknowledged."""
    while True:
        changes = [submission(store) for _ in range(random.choice((1, 3, 30)))]
        assert await store.commit(changes) == [None] * len(changes)
        say(*(change.job.id for change in changes))
        await store.claim("committer", ("f",), 2, 60.0)


async def filler(store: Store, _: float) -> None:
    """Commit until files cannot grow, and again when they can; print the results."""
    folder = Path(sys.argv[2].removeprefix("sqlite:///")).parent
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    kept = []
    for _ in range(20):
        change = submission(store, size=1000)
        assert await store.commit([change]) == [None]
        kept.append(change.job.id)
    size = max(file.stat().st_size for file in folder.iterdir())
    resource.setrlimit(resource.RLIMIT_FSIZE, (max(size, 40_000) + 200_000, hard))
    for attempt in range(60):
        change = submission(store, size=50_000)
        try:
            assert await store.commit([change]) == [None]
            kept.append(change.job.id)
        except RaincheckError as error:
            say("full", type(error).__name__, attempt, error)
    try:
        claims = await store.claim("filler", ("f",), 10, 60.0)
        say("claimed", len(claims))
    except RaincheckError as error:
        say("claimed", type(error).__name__)
    found = await store.find(kept)
    say("kept", len(kept), sum(hasattr(each, "job") for each in found))
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    changes = [submission(store, size=50_000) for _ in range(60)]
    say("resumed", await store.commit(changes) == [None] * 60)
    found = await store.find([*kept, *(change.job.id for change in changes)])
    say("after", len(kept) + 60, sum(hasattr(each, "job") for each in found))


async def forker(store: Store, _: float) -> None:
    """Fork; print the error that the store raises in the copy of the process; then commit again."""
    if (copy := os.fork()) == 0:
        try:
            asyncio.run(asyncio.wait_for(store.counts(), 5.0))
        except RaincheckError as error:
            say(type(error).__name__)
        finally:
            os._exit(0)
    await asyncio.to_thread(os.waitpid, copy, 0)
    assert await store.commit([submission(store)]) == [None]
    say("goes on")


async def opener(store: Store, _: float) -> None:
    """Only open the store."""
    say("opened")


async def main(role: str, url: str, number: str = "0") -> None:
    """Run a role on an open store; print the error if it cannot be opened."""
    store = make_store(url)
    if os.environ.get("AS_NOBODY"):
        await asyncio.to_thread(os.setuid, 65534)
    try:
        await store.open()
    except RaincheckError as error:
        say(type(error).__name__, error)
        return
    roles = (claimer, idler, hammer, looker, committer, filler, forker, opener)
    await {each.__name__: each for each in roles}[role](store, float(number))
    await store.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
