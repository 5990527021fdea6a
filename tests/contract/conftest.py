"""The stores that the contract holds for, and the leak check that follows every test."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from itertools import count
from pathlib import Path

import pytest

from raincheck.clock import new_id
from raincheck.store import Store, make_store
from tests.clusters import Cluster, cluster
from tests.contract.leaks import assert_no_leaks
from tests.servers import Server, server

DRIVERS = ("sqlite", "valkey", "valkey-shards", "valkey-cluster")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run the contract on every driver; what is one driver's own, on that one."""
    if "driver" in metafunc.fixturenames:
        own = metafunc.module.__name__.rpartition(".")[2].startswith
        drivers = [d for d in DRIVERS if own(f"test_{d.partition('-')[0]}_")] or DRIVERS
        metafunc.parametrize("driver", drivers)


@pytest.fixture(scope="session")
def valkey() -> Iterator[Server]:
    """One server for all tests; each has namespaces of its own."""
    with tempfile.TemporaryDirectory(prefix="rc-") as folder, server(Path(folder)) as running:
        yield running


@pytest.fixture(scope="session")
def valkey_cluster() -> Iterator[Cluster]:
    """Three nodes for all tests; each test has namespaces of its own."""
    with cluster() as running:
        yield running


@pytest.fixture
def servers(driver: str, request: pytest.FixtureRequest) -> list[Server]:
    """Those that keep what the driver under test writes."""
    if driver == "valkey-cluster":
        nodes: Cluster = request.getfixturevalue("valkey_cluster")
        return [*nodes.primaries]
    return [request.getfixturevalue("valkey")]


@pytest.fixture
def new_url(driver: str, request: pytest.FixtureRequest) -> Iterator[Callable[[], str]]:
    """Tells where an empty store is, another one each time."""
    if driver == "sqlite":
        numbers = count()
        with tempfile.TemporaryDirectory(prefix="rc-", ignore_cleanup_errors=True) as folder:  # a short path
            yield lambda: f"sqlite:///{Path(folder) / f'{next(numbers)}.db'}"
    elif driver == "valkey-cluster":
        nodes: Cluster = request.getfixturevalue("valkey_cluster")
        yield lambda: f"{nodes.url}?namespace={new_id()}&shards=5"
        nodes.flush()
    else:
        running: Server = request.getfixturevalue("valkey")
        shards = 3 if driver == "valkey-shards" else 1
        yield lambda: f"{running.url}?namespace={new_id()}&shards={shards}"
        running.flush()


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
