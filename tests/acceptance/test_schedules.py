"""Several processes fire one schedule, and one of them is killed: each firing submits one job."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from raincheck.core import lifecycle
from raincheck.core.triggers import Succeeded
from raincheck.store import Store, make_store
from tests.acceptance import ticking
from tests.acceptance.support import Command, running
from tests.contract.leaks import all_jobs
from tests.servers import server

pytestmark = pytest.mark.acceptance


@pytest.fixture(params=["sqlite", pytest.param("valkey", marks=pytest.mark.long)])
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of an empty store."""
    with ExitStack() as stack:
        folder = tempfile.TemporaryDirectory(prefix="rc-", ignore_cleanup_errors=True)
        path = Path(stack.enter_context(folder))
        if request.param == "sqlite":
            yield f"sqlite:///{path / 'jobs.db'}"
        else:
            yield stack.enter_context(server(path)).url


async def next_firing(store: Store) -> float:
    """Wait for the job of a firing and run it; returns the time of the firing."""
    claims = await store.claim("test", ("tick",), 1, 60.0, 60.0)
    for claim in claims:
        done = Succeeded(lifecycle.attempt_of(claim.lease), b"null")
        assert await store.commit([lifecycle.advance(claim.job, [done], store.now())]) == [None]
    return claims[0].job.scheduled_at or 0.0


@pytest.mark.parametrize("kills", [2, pytest.param(6, marks=pytest.mark.long)])
async def test_each_firing_submits_one_job(url: str, kills: int) -> None:
    """A server and two workers fire the schedule; one after another is killed, and the others continue."""
    path = str(ticking.__file__)
    tickers = [
        Command("server", path, "--port", "0", RAINCHECK_STORE=url),
        Command("worker", path, RAINCHECK_STORE=url),
        Command("worker", path, RAINCHECK_STORE=url),
    ]
    store = make_store(url)
    await store.open()
    async with running(*tickers):
        firings = []
        for _ in range(kills):
            firings += [await next_firing(store) for _ in range(2)]
            victim = random.choice(tickers)
            await victim.kill()
            firings.append(await next_firing(store))
            await victim.start()
    scheduled = [stored.job.scheduled_at or 0.0 for stored in await all_jobs(store)][::-1]
    assert scheduled == [round(firings[0] + i, 3) for i in range(len(scheduled))]
    assert scheduled[: len(firings)] == firings
    await store.close()
