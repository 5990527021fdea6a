"""A server for each test module, and gateways and proxies in front of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from raincheck.auth import Auth, Scope
from raincheck.auth.users import add_user
from tests.auth.forging import quick_hash
from tests.client.servers import Gateway, Proxy, gateway, in_thread, proxy, server

PASSWORD = 'love"lace'


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a server."""
    with in_thread(server(tmp_path_factory.mktemp("server"))) as url:
        yield url


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a server with sign-in, whose tokens expire after a second."""
    folder = tmp_path_factory.mktemp("secured")
    hashed = quick_hash(PASSWORD)
    add_user(folder / "users.json", "ada", hashed, [Scope.READ, Scope.WRITE])
    add_user(folder / "users.json", "ben", hashed, [Scope.READ])
    auth = Auth(secret="a secret of thirty-two bytes or more", users=folder / "users.json", lifetime=1)
    with in_thread(server(folder, auth=auth)) as url:
        yield url


@pytest.fixture
def front(url: str) -> Iterator[Gateway]:
    """A gateway in front of the server."""
    with gateway(url) as running:
        yield running


@pytest.fixture
def guarded(url: str) -> Iterator[Gateway]:
    """A gateway that requires a token."""
    with gateway(url, {"ada": PASSWORD}) as running:
        yield running


@pytest.fixture
def wire(url: str) -> Iterator[Proxy]:
    """A proxy in front of the server."""
    with proxy(url) as running:
        yield running
