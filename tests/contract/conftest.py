"""The stores that the contract holds for, and the leak check that follows every test."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from itertools import count
from pathlib import Path

import pytest

from raincheck.store import Store, make_store
from tests.contract.leaks import assert_no_leaks


@pytest.fixture(params=["sqlite"])
def new_url(request: pytest.FixtureRequest) -> Iterator[Callable[[], str]]:
    """Tells where an empty store is, another one each time; of each driver in turn."""
    assert request.param == "sqlite"
    numbers = count()
    with tempfile.TemporaryDirectory(prefix="rc-", ignore_cleanup_errors=True) as folder:  # a short path
        yield lambda: f"sqlite:///{Path(folder) / f'{next(numbers)}.db'}"


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
