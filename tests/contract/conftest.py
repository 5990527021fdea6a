"""The stores that the contract holds for, and the leak check that follows every test."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, closing
from functools import cache
from itertools import count
from pathlib import Path

import pytest

from raincheck.core.clock import new_id
from raincheck.store import Store, make_store
from raincheck.store.sqlite.connection import connect
from tests.clusters import Cluster, cluster
from tests.contract.leaks import assert_no_leaks
from tests.contract.leftovers import assert_nothing_left
from tests.contract.steps import HOUR
from tests.servers import KINDS, Server, server

DRIVERS = ("sqlite", "sqlite-memory", "valkey-shards", "valkey-cluster", *KINDS)

CONTRACT = tuple(driver for driver in DRIVERS if driver != "valkey-shards")
"""Those that the whole contract is tried on: what shards change shows on the cluster."""

CHANGED_BY = {
    "sqlite-memory": ("claim", "opening"),
    "valkey-cluster": (
        "bulk",
        "claim",
        "commit",
        "counting",
        "filters",
        "firing",
        "groups",
        "model",
        "reading",
        "upkeep",
        "watching",
    ),
    "redis": ("commit", "model"),
}
"""What a driver changes of its kind, as files of tests; `make test` leaves the rest to `make test-long`.

Shards change what takes several of them: a queue, a page, a count, a group's run, a key and its job.
Redis runs the same scripts as Valkey: all of them are called by the model's random lives.
"""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run the contract on every driver; what is one store's own, on the drivers of that one."""
    if "driver" not in metafunc.fixturenames:
        return
    name = metafunc.module.__name__.rpartition(".")[2].removeprefix("test_")
    of_one_store = {"sqlite": DRIVERS[:1], "valkey": DRIVERS[2:]}.get(name.split("_")[0])
    without = getattr(metafunc.module, "WITHOUT", ())
    params = []
    for driver in of_one_store or CONTRACT:
        if driver not in without:
            long = of_one_store is None and name not in CHANGED_BY.get(driver, (name,))
            group = pytest.mark.xdist_group(f"{name} {driver}")  # a process starts few kinds of servers
            params.append(pytest.param(driver, marks=[group, *[pytest.mark.long] * long]))
    metafunc.parametrize("driver", params)


@pytest.fixture(scope="session")
def servers() -> Iterator[Callable[[str], Server]]:
    """Tells of a server of each kind, one for all tests; each has namespaces of its own."""
    with ExitStack() as stack:

        @cache
        def running(kind: str) -> Server:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="rc-"))
            return stack.enter_context(server(Path(folder), kind))

        yield running


@pytest.fixture(scope="session")
def valkey_cluster() -> Iterator[Cluster]:
    """Three nodes for all tests; each test has namespaces of its own."""
    with cluster() as running:
        yield running


@pytest.fixture
def new_url(
    driver: str, servers: Callable[[str], Server], request: pytest.FixtureRequest
) -> Iterator[Callable[[], str]]:
    """Tells where an empty store is, another one each time."""
    if driver == "sqlite":
        numbers = count()
        with tempfile.TemporaryDirectory(prefix="rc-", ignore_cleanup_errors=True) as folder:  # a short path
            yield lambda: f"sqlite:///{Path(folder) / f'{next(numbers)}.db'}"
    elif driver == "sqlite-memory":
        with ExitStack() as stack:  # another one of this process has it open, too: it outlives its store

            def in_memory() -> str:
                name = f":memory:{new_id()}"
                stack.enter_context(closing(connect(Path(name))))
                return f"sqlite:///{name}"

            yield in_memory
    elif driver == "valkey-cluster":
        nodes: Cluster = request.getfixturevalue("valkey_cluster")
        yield lambda: f"{nodes.url}?namespace={new_id()}&shards=5"
        nodes.flush()
    else:
        kind, _, sharded = driver.partition("-")
        running, shards = servers(kind), 3 if sharded else 1
        yield lambda: f"{running.url}?namespace={new_id()}&shards={shards}"
        running.flush()


@pytest.fixture
def woken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits is woken, or waits for ever: no store looks by itself whether something has changed."""
    for look in ("raincheck.store.sqlite.threads.LOOK", "raincheck.store.valkey.LOOK"):
        monkeypatch.setattr(look, HOUR)


@pytest.fixture
def url(new_url: Callable[[], str]) -> str:
    """Where an empty store is."""
    return new_url()


@pytest.fixture
async def store(url: str) -> AsyncIterator[Store]:
    """An open store; nothing must have leaked when the test is over."""
    store = make_store(url)
    await store.open()
    try:
        yield store
        await assert_no_leaks(store)
        await assert_nothing_left(store, url)
    finally:
        await store.close()


@pytest.fixture
async def another(url: str) -> AsyncIterator[Callable[[], Store]]:
    """Makes the same store once more, as another process has it; to be opened by the test."""
    async with AsyncExitStack() as stack:

        def make() -> Store:
            store = make_store(url)
            stack.push_async_callback(store.close)
            return store

        yield make
