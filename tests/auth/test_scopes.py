"""The scopes of workers: which functions a token allows."""

from __future__ import annotations

import pytest

from raincheck.auth import Scope, allows, parse_scopes, worker_scope
from raincheck.auth.identity import admits
from raincheck.core.errors import InvalidInput


@pytest.mark.parametrize(
    ("pattern", "function", "is_allowed"),
    [
        ("add", "add", True),
        ("add", "adder", False),
        ("add", "Add", False),
        ("add*", "add", True),
        ("add*", "add:two", True),
        ("*", "anything/at.all", True),
        ("*add", "add", True),
        ("*add", "my-add", True),
        ("*add", "add2", False),
        ("a*d", "ad", True),
        ("a*d", "a/b/d", True),
        ("a*d", "a", False),
        ("aa*aa", "aaa", False),
        ("a*b*c", "a-b-b-c", True),
        ("a*b*c", "a-c-b", False),
        ("/v1/*", "/v1/test-1", True),
        ("/v1/*", "v1/test-1", False),
        ("a.c", "abc", False),
    ],
)
def test_a_pattern_allows_what_matches_it(pattern: str, function: str, is_allowed: bool) -> None:
    """A ``*`` matches any characters, everything else itself."""
    assert allows([f"worker:{pattern}"], worker_scope(function)) is is_allowed


@pytest.mark.parametrize(
    ("granted", "needed", "is_allowed"),
    [
        (["worker"], "worker:add*", True),
        (["admin"], "worker:add*", True),
        (["worker:add*"], "worker:add*", True),
        (["worker:a*"], "worker:add*", True),
        (["worker:add*"], "worker:a*", False),
        (["worker:add"], "worker:*", False),
        (["worker:*"], "worker", False),
        (["worker:x", "worker:add*"], "worker:add", True),
        (["job:read", "job:write", "job:debug"], "worker:add", False),
        (["worker"], "job:read", False),
        (["worker:job:read"], "job:read", False),
        ([], "worker:add", False),
    ],
)
def test_a_scope_includes_narrower_ones(granted: list[str], needed: str, is_allowed: bool) -> None:
    """Deny by default; a pattern never includes one that allows more."""
    assert allows(granted, needed) is is_allowed


def test_many_stars_take_no_time() -> None:
    """A pattern is no regular expression."""
    assert not allows(["worker:" + "*a" * 90], worker_scope("a" * 89 + "b" * 100))


def test_any_pattern_opens_the_routes_of_workers() -> None:
    """The functions are checked later."""
    assert admits(["worker:add"], Scope.WORKER)
    assert not admits(["job:write"], Scope.WORKER)
    assert not admits(["worker:add"], Scope.READ)


@pytest.mark.parametrize(
    "name", ["worker:", "worker:a b", "worker:a?", "worker:" + "a" * 201, "workers", "worker:é"]
)
def test_a_pattern_is_checked(name: str) -> None:
    """What cannot be part of the name of a function is refused."""
    with pytest.raises(InvalidInput, match="unknown scope"):
        parse_scopes([name])
