"""Functions behind a URL: what is sent to them, and what their responses mean."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
from base64 import b64encode
from collections.abc import Awaitable, Callable, Iterator
from datetime import timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook

from raincheck import (
    App,
    AsyncClient,
    AttemptDocument,
    Context,
    InvalidInput,
    JobDocument,
    Limits,
    Worker,
    step,
)
from raincheck.core.clock import now, to_datetime
from raincheck.core.errors import InvalidFile
from raincheck.core.text import short
from raincheck.testing import running
from tests.receiver import Answer, Receiver, Request, answering, receiving, response
from tests.worker.helpers import entry
from tests.worker.sites import site

SECRET = "whsec_" + b64encode(bytes(range(32))).decode()
OLD_SECRET = "whsec_" + b64encode(bytes(range(1, 33))).decode()
RESULT = "application/vnd.raincheck.result+json"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "raincheck.yaml"


def declare(config: Path, url: str, **options: Any) -> App:
    """An app with the function ``f`` at ``url``; without code."""
    options = {"url": url, "secret": SECRET, **options}
    allowed = ["127.0.0.1/32"]
    config.write_text(json.dumps({"functions": {"f": options}, "allowed_networks": allowed}))  # it is YAML
    return App("sqlite:///:memory:", config=config, limits=Limits(result=10_000))


def in_turn(*contents: bytes) -> Answer:
    """Answers with one after the other."""
    left: Iterator[bytes] = iter(contents)

    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(next(left))

    return answer


async def ended(config: Path, answer: Answer, **options: Any) -> tuple[JobDocument, Receiver]:
    """A job of the function ``f`` after all its attempts."""
    async with receiving(answer) as receiver:
        app = declare(config, receiver.url, **options)
        async with running(app) as worker:
            await app.submit("job", [step("f", 1, a=2)], data={"k": [1]})
            await worker.run_for(timedelta(days=2), raise_errors=False)
            (job,) = await worker.jobs()
    return job, receiver


async def attempts(config: Path, answer: Answer, **options: Any) -> list[AttemptDocument]:
    """The attempts at the function ``f``."""
    async with receiving(answer) as receiver:
        app = declare(config, receiver.url, **options)
        async with running(app) as worker:
            job = await app.submit("job", [step("f")])
            await worker.run_for(timedelta(days=2), raise_errors=False)
            return await app.attempts(job.id)


async def test_the_body_of_a_response_is_the_result(config: Path) -> None:
    """As JSON."""
    job, _ = await ended(config, answering(response(b'{"a": [1, "2"]}')))
    assert (job.state, job.result) == ("done", {"a": [1, "2"]})


@pytest.mark.parametrize("content", [response(b"", status="204 No Content"), response(b"")])
async def test_a_response_without_a_body_is_null(config: Path, content: bytes) -> None:
    """Whatever its type is."""
    job, _ = await ended(config, answering(content))
    assert (job.state, job.result) == ("done", None)


async def test_a_request_has_what_a_function_needs(config: Path) -> None:
    """Its arguments, its place in the job, and when to give up."""
    job, receiver = await ended(config, answering(response()), timeout=30)
    (request,) = receiver.requests
    body = json.loads(request.body)
    seconds = {key: body.pop(key) for key in ("token", "deadline")}
    assert body == {
        "function": "f",
        "args": [1],
        "kwargs": {"a": 2},
        "data": {"k": [1]},
        "previous": None,
        "job": job.id,
        "name": "job",
        "step": 0,
        "attempt": 1,
    }
    assert seconds["token"] > 0
    assert seconds["deadline"] < to_datetime(now() + 30).isoformat()
    assert request.line == "POST / HTTP/1.1"
    assert request.headers["content-type"] == "application/json"


async def test_the_deadline_of_the_job_counts(config: Path) -> None:
    """If it is before that of the attempt."""
    ends_at = to_datetime(int(now()) + 40)
    async with receiving(answering(response())) as receiver:
        app = declare(config, receiver.url, timeout=50)
        async with running(app) as worker:
            await app.submit("job", [step("f")], expires_at=ends_at)
            await worker.drain()
    assert json.loads(receiver.requests[0].body)["deadline"] == ends_at.isoformat().replace("+00:00", "Z")


async def test_previous_and_data_are_those_of_the_moment(config: Path) -> None:
    """A chain of a function here, and one behind a URL that changes data."""
    body = b'{"result": 3, "data": {"left": "there", "k": 2}}'
    async with receiving(answering(response(body, kind=RESULT))) as receiver:
        app = declare(config, receiver.url)

        @app.function
        def here(ctx: Context) -> str:
            ctx.data["k"] = 1
            return "here"

        @app.function
        def after(ctx: Context) -> list[Any]:
            return [ctx.previous, ctx.data]

        async with running(app) as worker:
            await app.submit("chain", [here.step(), step("f"), after.step()], data={"old": True})
            await worker.drain()
            (job,) = await worker.jobs()
    sent = json.loads(receiver.requests[0].body)
    assert (sent["previous"], sent["data"], sent["step"]) == ("here", {"old": True, "k": 1}, 1)
    assert job.result == [3, {"old": True, "k": 2, "left": "there"}]


async def test_each_attempt_is_signed_with_the_same_id(config: Path) -> None:
    """By Standard Webhooks, so that a receiver can recognize what it has done already."""
    failing = response(status="500 Oops")
    job, receiver = await ended(config, in_turn(failing, failing, response(b"1")), retry=3)
    assert (job.state, entry(job).retry_count) == ("done", 3)
    for number, request in enumerate(receiver.requests, 1):
        assert Webhook(SECRET).verify(request.body, request.headers)["attempt"] == number
    assert {request.headers["webhook-id"] for request in receiver.requests} == {f"{job.id}_0"}
    assert len({json.loads(request.body)["token"] for request in receiver.requests}) == 3


async def test_several_secrets_sign_each_request(config: Path) -> None:
    """So that a receiver can change its secret at any time."""
    _, receiver = await ended(config, answering(response()), secret=[SECRET, OLD_SECRET])
    (request,) = receiver.requests
    for secret in (SECRET, OLD_SECRET):
        assert Webhook(secret).verify(request.body, request.headers)


@pytest.mark.parametrize("status", [400, 401, 404, 409, 410, 422, 499])
async def test_a_client_error_is_not_retried(config: Path, status: int) -> None:
    """The request would be the same."""
    job, receiver = await ended(config, answering(response(status=f"{status} No")), retry=3)
    assert (job.state, len(receiver.requests)) == ("failed", 1)
    assert f"its URL responded {status}" in str(job.error)


@pytest.mark.parametrize("status", [408, 429, 500, 501, 502, 503, 504, 599])
async def test_a_busy_or_broken_receiver_is_asked_again(config: Path, status: int) -> None:
    """As often as the retry options say."""
    job, receiver = await ended(config, answering(response(status=f"{status} Oops")), retry=3)
    assert (job.state, len(receiver.requests)) == ("failed", 3)
    assert job.error is not None
    assert job.error.exception == "PushFailed"


@pytest.mark.parametrize("status", [301, 302, 304, 307, 308])
async def test_a_redirect_is_an_error(config: Path, status: int) -> None:
    """It is not followed, as it could lead anywhere."""
    moved = response(b"", "Location: http://127.0.0.1/secret", status=f"{status} Moved")
    job, receiver = await ended(config, answering(moved), retry=3)
    assert (job.state, len(receiver.requests)) == ("failed", 1)
    assert "redirects are not followed" in str(job.error)
    assert "127.0.0.1" not in str(job.error)


@pytest.mark.parametrize(
    ("value", "least", "most"),
    [
        ("120", 120, 120),
        ("0", 0, 0),
        (format_datetime(to_datetime(now() + 7200), usegmt=True), 3600, 7200),  # made at the collection
        (format_datetime(to_datetime(now() - 7200), usegmt=True), 0, 0),
        ("999999999", 86400, 86400),
        ("soon", 0.9, 1),
        ("-5", 0.9, 1),
        ("Mon, 99 Xyz 99999 99:99:99 GMT", 0.9, 1),
    ],
    ids=range(8),  # not by their dates
)
async def test_retry_after_is_obeyed(config: Path, value: str, least: float, most: float) -> None:
    """A number of seconds, or a date; at most a day. Other values are ignored."""
    busy = response(b"", f"Retry-After: {value}", status="429 Busy")
    first, _ = await attempts(config, in_turn(busy, response(b"1")), retry=2)
    assert first.error is not None
    pause = first.error.retry_after or 0.0
    assert least <= pause <= most


@pytest.mark.parametrize(
    ("content", "detail"),
    [
        (response(b"<html>", kind="text/html"), "a body of the type text/html instead of application/json"),
        (response(b"1", kind=""), "a body of the type unknown instead"),
        (response(b"{"), "a body that is not JSON"),
        (response(b'{"a": 1, "a": 2}'), "an object has the same key twice"),
        (response(b"[" * 100 + b"]" * 100), "nested deeper than 64 levels"),
        (response(b"\xff"), "a body that is not JSON"),
        (response(b"1" * 10_001), "a body of more than 10000 bytes"),
        (response(gzip.compress(b"1"), "Content-Encoding: gzip"), "a compressed body"),
        (response(b"1", kind=RESULT), "not a application/vnd.raincheck.result"),
        (response(b'{"reslt": 1}', kind=RESULT), "unknown field `reslt`"),
        (response(b'{"data": [1]}', kind=RESULT), "`$.data`"),
    ],
    ids=range(11),
)
async def test_a_body_that_is_no_result_is_not_retried(config: Path, content: bytes, detail: str) -> None:
    """The function has run, and would return the same."""
    job, receiver = await ended(config, answering(content), retry=3)
    assert (job.state, len(receiver.requests)) == ("failed", 1)
    assert detail in str(job.error)


async def test_garbage_in_place_of_a_response_is_retried(config: Path) -> None:
    """It is as good as no response."""
    job, _ = await ended(config, in_turn(b"garbage\r\n\r\n", response(b"1")), retry=2)
    assert (job.state, job.result) == ("done", 1)


async def test_a_receiver_that_was_away_is_asked_again(config: Path) -> None:
    """Once it is back, it gets the next attempt."""
    async with receiving(answering(b"")) as away:
        app = declare(config, away.url, retry=3)
    async with running(app) as worker:
        job = await app.submit("job", [step("f")])
        await worker.drain(raise_errors=False)
        assert (await app.status(job.id)).state == "retrying"
        async with receiving(answering(response(b"1")), port=away.port) as back:
            await worker.run_for(60)
    (request,) = back.requests
    assert request.headers["webhook-id"] == f"{job.id}_0"


async def test_a_problem_document_says_why(config: Path) -> None:
    """Callers see its detail."""
    problem = json.dumps({"type": "about:blank", "title": "No city", "detail": "Atlantis is unknown\u202e"})
    content = response(problem.encode(), status="422 Unprocessable", kind="application/problem+json")
    job, _ = await ended(config, answering(content))
    assert job.error is not None
    assert job.error.detail == "its URL responded 422 Unprocessable Entity: Atlantis is unknown\\u202e"


@pytest.mark.parametrize("body", [b"{", b"[1]", b"null", b'{"detail": 3}', b"{}", b"\xff"])
async def test_a_problem_document_that_is_none_is_ignored(config: Path, body: bytes) -> None:
    """The status counts."""
    content = response(body, status="404 No", kind="application/problem+json; charset=utf-8")
    job, _ = await ended(config, answering(content))
    assert job.error is not None
    assert job.error.detail == "its URL responded 404 Not Found"


async def test_an_attempt_shows_the_response(config: Path) -> None:
    """Its status, and the beginning of its body; callers who see no tracebacks do not see them."""
    page = b"<h1>Down for maintenance</h1>" + b"x" * 5000
    content = response(page, "Retry-After: 5", "Set-Cookie: secret", status="503 Away", kind="text/html")
    (attempt,) = await attempts(config, answering(content))
    assert attempt.error is not None
    assert attempt.error.detail == "its URL responded 503 Service Unavailable"
    assert (attempt.traceback or "").startswith(
        "HTTP 503 Service Unavailable\ncontent-type: text/html\nretry-after: 5\n\n<h1>Down for maintenance"
    )
    assert len(attempt.traceback or "") < 2200


async def test_an_attempt_shows_why_there_was_no_response(config: Path) -> None:
    """The error for callers does not name the address."""
    async with receiving(answering(b"")) as receiver:
        app = declare(config, receiver.url)
    async with running(app) as worker:
        job = await app.submit("job", [step("f")])
        await worker.drain(raise_errors=False)
        (attempt,) = await app.attempts(job.id)
    assert attempt.error is not None
    assert attempt.error.detail == "its URL sent no complete response"
    assert attempt.traceback == f"127.0.0.1:{receiver.port}: no connection: Connection refused"


async def test_a_name_with_an_address_that_is_not_allowed_fails_the_step(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the attempt says where it leads, and what to write."""
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("169.254.169.254", 80))]
    monkeypatch.setattr("socket.getaddrinfo", lambda *args, **kwargs: found)
    app = declare(config, "http://example.com/", retry=3)
    async with running(app) as worker:
        job = await app.submit("job", [step("f")])
        await worker.drain(raise_errors=False)
        attempt, *more = await app.attempts(job.id)
    assert more == []
    assert "169.254.169.254 is a link-local address" in (attempt.traceback or "")
    assert "`allowed_networks: ['169.254.169.254/32']`" in (attempt.traceback or "")
    assert attempt.error is not None
    assert attempt.error.detail == "the address of its URL is not in an allowed network"


async def hanging(request: Request, writer: asyncio.StreamWriter) -> None:
    """Never answers."""
    await asyncio.Event().wait()


async def dripping(request: Request, writer: asyncio.StreamWriter) -> None:
    """Sends one header after the other, for ever."""
    writer.write(b"HTTP/1.1 200 OK\r\n")
    while not writer.is_closing():
        writer.write(b"X: y\r\n")
        await writer.drain()
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("answer", [hanging, dripping])
async def test_a_slow_receiver_times_out(config: Path, answer: Answer) -> None:
    """Also one that goes on sending."""
    job, _ = await ended(config, answer, timeout=0.2)
    assert job.error is not None
    assert (job.error.name, job.error.detail) == ("timeout", "an attempt may take 0.2 s")


async def test_a_cancel_closes_the_connection(config: Path) -> None:
    """At once: the receiver learns that the result is not wanted."""
    async with receiving(hanging) as receiver:
        app = declare(config, receiver.url)
        async with app, Worker(app):
            job = await app.submit("job", [step("f")])
            await receiver.until(lambda receiver: len(receiver.requests) == 1)
            await app.cancel(job.id)
            assert (await app.wait(job.id)).state == "cancelled"
            await receiver.until(lambda receiver: receiver.closed == 1)


async def test_a_result_must_fit_the_schema_of_returns(config: Path) -> None:
    """As one of a function here must fit its annotation."""
    returns = {"type": "object", "properties": {"n": {"type": "integer"}}}
    job, _ = await ended(config, answering(response(b'{"n": "1"}')), returns=returns, retry=3)
    assert job.error is not None
    assert (job.error.exception, entry(job).retry_count) == ("UnexpectedResult", 1)
    assert job.error.detail.endswith('the value is not of type "integer" at /n')
    fine, _ = await ended(config, answering(response(b'{"n": 1}')), returns=returns)
    assert fine.result == {"n": 1}


async def test_secrets_can_be_in_a_file(config: Path) -> None:
    """One a line, its path from the folder of the configuration file."""
    secrets = config.with_name("secrets")
    secrets.write_text(f"{SECRET}\n{OLD_SECRET}\n")
    secrets.chmod(0o600)
    _, receiver = await ended(config, answering(response()), secret=None, secret_file="secrets")
    (request,) = receiver.requests
    assert Webhook(OLD_SECRET).verify(request.body, request.headers)


async def test_secrets_can_be_in_the_environment(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Separated by spaces."""
    monkeypatch.setenv("F_SECRET", f"{SECRET} {OLD_SECRET}")
    _, receiver = await ended(config, answering(response()), secret=None, secret_env="F_SECRET")
    (request,) = receiver.requests
    assert Webhook(SECRET).verify(request.body, request.headers)


async def test_only_workers_need_the_secrets(config: Path) -> None:
    """A server without workers starts; a worker says which one is missing, and in which line."""
    app = declare(config, "http://127.0.0.1/", secret=None, secret_env="F_SECRET")
    async with app:
        with pytest.raises(InvalidFile, match=r"yaml:1: /functions/f/secret_env: the environment "):
            async with Worker(app):
                pass


async def test_a_worker_needs_the_secrets_of_its_own_functions(config: Path) -> None:
    """Not of those that it does not offer."""
    app = declare(config, "http://127.0.0.1/", secret=None, secret_env="F_SECRET")

    @app.function
    def here() -> str:
        return "here"

    async with app, Worker(app, functions=["here"]):
        assert await app.call(here.step()) == "here"


async def test_middleware_runs_around_a_call(config: Path) -> None:
    """As around other functions."""
    seen: list[object] = []

    async def note(ctx: Context, call_next: Callable[[], Awaitable[Any]]) -> Any:
        result = await call_next()
        seen.append((ctx.step.function, ctx.token > 0, result))
        return result

    async with receiving(answering(response(b'{"n": 1}'))) as receiver:
        declare(config, receiver.url)
        app = App("sqlite:///:memory:", config=config, middleware=[note])
        async with running(app) as worker:
            await app.submit("job", [step("f")])
            await worker.drain()
    assert seen == [("f", True, {"n": 1})]


@pytest.mark.parametrize("count", [100, pytest.param(500, marks=pytest.mark.long)])
async def test_many_calls_at_once(config: Path, count: int) -> None:
    """Each gets its own result."""
    everyone = asyncio.Event()
    waiting: list[int] = []

    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        waiting.append(1)
        if len(waiting) == count:
            everyone.set()
        await everyone.wait()
        writer.write(response(json.dumps(json.loads(request.body)["args"]).encode()))

    async with receiving(answer) as receiver:
        app = declare(config, receiver.url)
        async with app, Worker(app, concurrency=count):
            job = await app.submit("many", [[step("f", i) for i in range(count)]])
            done = await app.wait(job.id)
    assert done.result == [[i] for i in range(count)], short(done.error)
    assert receiver.connections == count


async def test_a_worker_without_a_store_calls_them_too(config: Path, tmp_path: Path) -> None:
    """It gets its attempts from a server that knows the functions by their schemas only."""
    busy, done = response(status="503 Away"), response(b'{"result": 1, "data": {"a": 2}}', kind=RESULT)
    parameters = {"type": "object", "properties": {"n": {"type": "integer"}}, "additionalProperties": False}
    async with receiving(in_turn(busy, done)) as receiver, site(f"sqlite:///{tmp_path / 'jobs.db'}") as near:
        retry = {"retry_limit": 2, "delay": 0}
        app = declare(config, receiver.url, retry=retry, parameters=parameters)
        async with Worker(app, server=near.url), AsyncClient(near.url) as client:
            with pytest.raises(InvalidInput):
                await client.submit("job", [step("f", "x")])
            job = await client.submit("job", [step("f", 1)], data={"b": 3})
            finished = await client.wait(job.id)
            shown = await client.attempts(job.id)
    first, second = (json.loads(request.body) for request in receiver.requests)
    assert (first["attempt"], second["attempt"], second["data"]) == (1, 2, {"b": 3})
    assert first["token"] < second["token"]
    assert {each.headers["webhook-id"] for each in receiver.requests} == {f"{job.id}_0"}
    assert (finished.document.result, finished.document.data) == (1, {"a": 2, "b": 3})
    assert (shown[0].traceback or "").startswith("HTTP 503 Service Unavailable")


async def test_a_worker_opens_the_app_and_offers_the_functions_of_the_file(config: Path) -> None:
    """Nobody needs to have opened it before."""
    async with receiving(answering(response(b"1"))) as receiver:
        app = declare(config, receiver.url)
        async with Worker(app):
            assert await app.call(step("f")) == 1
        await app.close()


async def test_two_workers_share_a_loop(config: Path) -> None:
    """The connections stay until both have left."""
    async with receiving(answering(response(b"1"))) as receiver:
        app = declare(config, receiver.url)
        async with app, Worker(app):
            async with Worker(app):
                pass
            job = await app.submit("job", [step("f")])
            assert (await app.wait(job.id)).result == 1


async def test_an_app_can_be_opened_again(config: Path) -> None:
    """It reads the file again then."""
    async with receiving(answering(response(b"1"))) as receiver:
        app = declare(config, receiver.url, doc="one")
        async with app:
            assert [function.name for function in app.functions] == ["f"]
        declare(config, receiver.url, doc="two")
        async with app:
            assert [function.info.doc for function in app.functions] == ["two"]


async def test_middleware_is_around_it(config: Path) -> None:
    """It sees the result, and may replace it."""

    async def double(ctx: Context, call_next: Callable[[], Awaitable[Any]]) -> Any:
        return [ctx.step.function, 2 * await call_next()]

    async with receiving(answering(response(b"4"))) as receiver:
        declare(config, receiver.url)
        app = App("sqlite:///:memory:", config=config, middleware=[double])
        async with app, Worker(app):
            assert await app.call(step("f")) == ["f", 8]
