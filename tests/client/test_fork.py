"""A client in a process that forks: the child has connections and locks of its own."""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest

from raincheck import AsyncClient, Client
from raincheck.core.errors import ConfigError
from tests.client.conftest import PASSWORD
from tests.worker.test_fork import in_child, pytestmark  # noqa: F401 - it holds for this module, too


def test_a_child_has_its_own_connections(url: str) -> None:
    """Parent and child call at the same time, and each gets its own results."""
    with Client(url) as client:
        assert client.call("echo", "before") == "before"
        reading, writing = os.pipe()

        def call() -> None:
            os.write(writing, b".")
            for number in range(20):
                assert client.call("echo", number) == number
            client.close()

        with ThreadPoolExecutor(1) as threads:
            child = threads.submit(in_child, call)
            os.read(reading, 1)
            for number in range(20):
                assert client.call("echo", -number) == -number
            child.result()


def test_a_fork_during_a_call_leaves_no_lock(secured: str) -> None:
    """A lock that another thread held at the fork would never be released in the child."""
    with Client(secured, username="ada", password=PASSWORD) as client:
        sender = client._sender
        with sender._lock, sender._sign_in.lock:
            in_child(lambda: client.call("echo", 1))
        assert client.call("echo", 2) == 2


async def test_a_child_of_an_async_program(url: str) -> None:
    """The child has an event loop of its own."""
    async with AsyncClient(url) as client:
        assert await client.call("echo", 1) == 1
        in_child(lambda: asyncio.run(_echo(client)))
        assert await client.call("echo", 3) == 3


async def _echo(client: AsyncClient) -> None:
    assert await client.call("echo", 2) == 2
    await client.aclose()


def test_connections_of_the_caller_are_not_shared(url: str) -> None:
    """The error says what to do."""

    def refused() -> None:
        with pytest.raises(ConfigError, match="forked: make a new client in it"):
            client.status("x")

    with httpx2.Client() as http, Client(url, http=http) as client:
        assert client.call("echo", 1) == 1
        in_child(refused)
        assert client.call("echo", 2) == 2
