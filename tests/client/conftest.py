"""A server for each file of tests, and what may stand before it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.client.places import Gateway, Proxy, gateway, in_thread, proxy, server


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where a server listens."""
    with in_thread(server(tmp_path_factory.mktemp("server"))) as url:
        yield url


@pytest.fixture
def front(url: str) -> Iterator[Gateway]:
    """A gateway before the server."""
    with gateway(url) as made:
        yield made


@pytest.fixture
def guarded(url: str) -> Iterator[Gateway]:
    """A gateway that wants callers to sign in."""
    with gateway(url, {"ada": 'love"lace'}) as made:
        yield made


@pytest.fixture
def wire(url: str) -> Iterator[Proxy]:
    """A proxy before the server."""
    with proxy(url) as made:
        yield made
