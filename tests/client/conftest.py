"""A server for each file of tests, and what may stand before it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from raincheck.auth import Auth, Scope
from raincheck.auth.users import add_user
from tests.auth.forging import quick_hash
from tests.client.places import Gateway, Proxy, gateway, in_thread, proxy, server

PASSWORD = 'love"lace'


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where a server listens."""
    with in_thread(server(tmp_path_factory.mktemp("server"))) as url:
        yield url


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where a server listens that wants callers to sign in; tokens hold for a second."""
    folder = tmp_path_factory.mktemp("secured")
    hashed = quick_hash(PASSWORD)
    add_user(folder / "users.json", "ada", hashed, [Scope.READ, Scope.WRITE])
    add_user(folder / "users.json", "ben", hashed, [Scope.READ])
    auth = Auth(secret="a secret of thirty-two bytes or more", users=folder / "users.json", lifetime=1)
    with in_thread(server(folder, auth=auth)) as url:
        yield url


@pytest.fixture
def front(url: str) -> Iterator[Gateway]:
    """A gateway before the server."""
    with gateway(url) as made:
        yield made


@pytest.fixture
def guarded(url: str) -> Iterator[Gateway]:
    """A gateway that wants callers to sign in."""
    with gateway(url, {"ada": PASSWORD}) as made:
        yield made


@pytest.fixture
def wire(url: str) -> Iterator[Proxy]:
    """A proxy before the server."""
    with proxy(url) as made:
        yield made
