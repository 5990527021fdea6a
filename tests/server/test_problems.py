"""The table from exceptions to answers."""

from __future__ import annotations

import ast
import json
import logging
import re
from pathlib import Path

import msgspec
import pytest

from raincheck import App
from raincheck.core import errors
from raincheck.core.errors import Fault
from raincheck.core.model import Problem
from raincheck.server import Server
from raincheck.server.http import Request
from raincheck.server.problems import NO_METHOD, TYPES, RequestError
from raincheck.server.server import error_response
from tests.problems import urn

ROOT = Path(__file__).parents[2]
SECRET = "/home/somebody/jobs.db"

ANSWERS = {
    errors.InvalidInput(Fault("is wrong", "/name")): (422, "validation"),
    errors.InvalidArguments(Fault("is wrong", "/0")): (422, "validation"),
    errors.NotSignedIn("there is no token"): (401, "not-signed-in"),
    errors.NotAllowed("it needs a scope", scope="worker"): (403, "not-allowed"),
    errors.TooManyAttempts("try later", retry_after=1.5): (429, "too-many-attempts"),
    errors.NotFound("there is no job"): (404, "not-found"),
    errors.Gone("there was a job"): (410, "gone"),
    errors.WrongState("it has ended"): (409, "wrong-state"),
    errors.IdempotencyMismatch("the key was used"): (422, "idempotency-mismatch"),
    errors.TooLarge("at most 5"): (413, "too-large"),
    errors.StoreUnavailable(SECRET): (503, "store-unavailable"),
    errors.StoreUnusable(SECRET): (503, "store-unavailable"),
    errors.StoreFull(SECRET): (507, "store-full"),
    errors.IllegalTransition(SECRET): (500, "internal"),
    RequestError(NO_METHOD, "use GET", (b"allow", b"GET")): (405, "method-not-allowed"),
    ValueError(SECRET): (500, "internal"),
    RecursionError(SECRET): (500, "internal"),
}


@pytest.fixture
def request_(app: App) -> Request:
    server = app.asgi
    assert isinstance(server, Server)
    scope = {"type": "http", "method": "GET", "path": "/v1/job", "headers": [], "http_version": "1.1"}

    async def receive() -> dict[str, object]:
        raise AssertionError

    return Request(server.services, scope, receive)


@pytest.mark.parametrize(
    ("error", "expected"), list(ANSWERS.items()), ids=[type(e).__name__ for e in ANSWERS]
)
def test_each_error_has_its_answer(request_: Request, error: Exception, expected: tuple[int, str]) -> None:
    """A problem document that keeps to itself what is the server's own."""
    answer = error_response(error, request_)
    problem = json.loads(answer.body)
    assert (answer.status, problem["type"], problem["status"]) == (expected[0], urn(expected[1]), expected[0])
    assert dict(answer.headers)[b"content-type"] == b"application/problem+json"
    assert problem["title"]
    assert problem["detail"]
    assert SECRET.encode() not in answer.body
    assert (b"retry-after" in dict(answer.headers)) == (expected[0] in (429, 503))


def test_what_nobody_expected_is_logged(request_: Request, caplog: pytest.LogCaptureFixture) -> None:
    """With its traceback, which the answer has not."""
    try:
        raise ValueError(SECRET)
    except ValueError as error:
        answer = error_response(error, request_)
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.exc_info
    assert "GET /v1/job failed" in caplog.text
    assert SECRET in caplog.text
    assert b"Traceback" not in answer.body


def test_every_fault_has_a_pointer(request_: Request) -> None:
    """That of the whole input is empty."""
    answer = error_response(errors.InvalidInput(Fault("is wrong")), request_)
    assert json.loads(answer.body)["errors"] == [{"detail": "is wrong", "pointer": ""}]


def test_every_error_of_raincheck_has_an_answer(request_: Request) -> None:
    """Only bugs and errors that HTTP cannot raise become an internal error."""
    internal = {
        *(
            "RegistrationError",
            "RegisteredTooLate",
            "TargetError",
            "ConfigError",
            "InvalidFile",
            "JobFailed",
            "JobCancelled",
        ),
        *("Refused", "Unreachable", "Unfinished", "UnexpectedResult"),  # raised by clients
        *("PushFailed", "RequestFailed", "AddressNotAllowed"),  # fail an attempt
        *("NotJSON", "RetryLater", "DoNotRetry", "IllegalTransition", "RaincheckError"),
    }
    known = {kind.__name__ for kind in vars(errors).values() if isinstance(kind, type)}
    answered = {type(error).__name__ for error, (status, _) in ANSWERS.items() if status != 500}
    assert known - internal - answered <= {"Any", "Fault", "FileFault", "NamedTuple", "StoreError"}


def test_every_type_is_explained_in_the_reference() -> None:
    """The page has a section for each problem type, with its URI, and no others."""
    page = (ROOT / "docs" / "reference" / "problems.md").read_text("utf-8")
    sections = re.findall(r"^### (\S+)\n\n`(\S+?)`", page, re.MULTILINE)
    assert sorted(uri for _, uri in sections) == TYPES
    assert [uri for name, uri in sections if uri != urn(name)] == []


def test_every_type_in_the_code_is_known() -> None:
    """A problem with a type that is written out in the code is in the list of types."""
    written = {
        keyword.value.value
        for module in (ROOT / "src").rglob("*.py")
        for node in ast.walk(ast.parse(module.read_text("utf-8")))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Problem"
        for keyword in node.keywords
        if keyword.arg == "type" and isinstance(keyword.value, ast.Constant)
    }
    assert {urn(str(name)) for name in written} <= {*TYPES}


@pytest.mark.parametrize(
    ("written", "type_", "name"),
    [
        ("timeout", urn("timeout"), "timeout"),
        (urn("timeout"), urn("timeout"), "timeout"),
        ("about:blank", "about:blank", "about:blank"),
        ("/errors/1", "/errors/1", "/errors/1"),
        ("https://example.com/errors/1", "https://example.com/errors/1", "https://example.com/errors/1"),
    ],
)
def test_a_bare_name_becomes_the_uri_of_a_type(written: str, type_: str, name: str) -> None:
    """Also in a record of an older version; other URIs stay as they are."""
    problem = Problem(type=written, title="It failed")
    assert (problem.type, problem.name) == (type_, name)
    decoded = msgspec.json.decode(msgspec.json.encode({"type": written, "title": "It failed"}), type=Problem)
    assert decoded == problem
    assert json.loads(msgspec.json.encode(decoded))["type"] == type_
