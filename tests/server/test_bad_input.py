"""What is no proper request: each is refused with its problem, and changes nothing."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from time import process_time
from typing import Any

import httpx2
import pytest

from raincheck import App
from tests.problems import urn
from tests.server.hands import count_jobs

JSON = "application/json"
CALL = "/v1/function/anything"
SOON = (datetime.now(UTC) + timedelta(minutes=30)).isoformat()


def one(**function: Any) -> dict[str, Any]:
    """A job of one function."""
    return {"name": "n", "functions": [{"name": "anything", **function}]}


def job(**changes: Any) -> dict[str, Any]:
    """A job that would be accepted but for its changes."""
    return {"name": "n", "functions": [{"name": "anything"}], **changes}


NOT_JSON = {
    "half": b'{"name": "n"',
    "white": b" \n ",
    "two": b"{} {}",
    "comment": b"{} // x",
    "single quotes": b"{'name': 'n'}",
    "trailing comma": b'{"name": "n",}',
    "bom": b"\xef\xbb\xbf" + json.dumps(job()).encode(),
    "utf-16": json.dumps(job()).encode("utf-16"),
    "utf-8 broken in a key": b'{"name\xff": "n"}',
    "utf-8 broken in an argument": b'{"name":"n","functions":[{"name":"anything","args":["\xff"]}]}',
    "utf-8 of a surrogate": b'{"name":"\xed\xa0\x80","functions":[{"name":"anything"}]}',
    "lone surrogate": b'{"name":"\\ud800","functions":[{"name":"anything"}]}',
    "lone surrogate in data": b'{"name":"n","data":{"x":"\\udc00"},"functions":[{"name":"anything"}]}',
    "control character": b'{"name":"a\nb","functions":[{"name":"anything"}]}',
    "nan": b'{"name":"n","functions":[{"name":"anything","args":[NaN]}]}',
    "infinity": b'{"name":"n","functions":[{"name":"anything","args":[-Infinity]}]}',
    "beyond a float": b'{"name":"n","functions":[{"name":"anything","args":[1e999]}]}',
    "octal": b'{"name":"n","functions":[{"name":"anything","args":[010]}]}',
    "the same key twice": b'{"name":"n","name":"m","functions":[{"name":"anything"}]}',
    "the same key twice in data": b'{"name":"n","data":{"a":1,"\\u0061":2},"functions":[{"name":"x"}]}',
    "deep": b"[" * 30_000,
    "deep and closed": b"[" * 65 + b"]" * 65,
    "deep arguments": b'{"name":"n","functions":[{"name":"anything","args":' + b"[" * 70 + b"]" * 70 + b"}]}",
    "deep objects": b'{"name":"n","data":'
    + b'{"a":' * 70
    + b"1"
    + b"}" * 70
    + b',"functions":[{"name":"x"}]}',
    "pickle": b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94.",
    "yaml": b"!!python/object/apply:os.system ['true']",
}


@pytest.mark.parametrize("path", ["/v1/job", CALL])
@pytest.mark.parametrize("body", NOT_JSON.values(), ids=NOT_JSON.keys())
async def test_what_is_not_json_is_malformed(client: httpx2.AsyncClient, path: str, body: bytes) -> None:
    """The same bytes are refused everywhere, and quickly."""
    began = process_time()
    await refused(client, "POST", path, 400, "malformed", content=body, headers={"content-type": JSON})
    assert process_time() - began < 0.5


async def test_a_job_needs_a_body(client: httpx2.AsyncClient) -> None:
    """A call does not: no body is no arguments."""
    await refused(client, "POST", "/v1/job", 400, "malformed", headers={"content-type": JSON})


MEDIA = {
    "none": {},
    "text": {"content-type": "text/plain"},
    "form": {"content-type": "application/x-www-form-urlencoded"},
    "multipart": {"content-type": "multipart/form-data; boundary=x"},
    "empty": {"content-type": ""},
    "charset": {"content-type": "application/json; charset=utf-7"},
    "latin": {"content-type": "application/json; charset=iso-8859-1"},
    "parameter": {"content-type": "application/json; boundary=x"},
    "prefix": {"content-type": "application/jsonp"},
    "text json": {"content-type": "text/json"},
    "two": {"content-type": "application/json, application/json"},
    "gzip": {"content-type": JSON, "content-encoding": "gzip"},
    "nested": {"content-type": JSON, "content-encoding": "gzip, gzip"},
    "unknown coding": {"content-type": JSON, "content-encoding": "x"},
}


@pytest.mark.parametrize("path", ["/v1/job", CALL])
@pytest.mark.parametrize("headers", MEDIA.values(), ids=MEDIA.keys())
async def test_what_does_not_say_json_is_not_taken(
    client: httpx2.AsyncClient, path: str, headers: dict[str, str]
) -> None:
    """A page of another site cannot say it without asking first."""
    body = json.dumps(job()).encode() if path == "/v1/job" else b"[]"
    await refused(client, "POST", path, 415, "unsupported-media-type", content=body, headers=headers)


@pytest.mark.parametrize(
    ("headers", "sent"),
    [
        ({}, "the header Content-Type is missing"),
        (MEDIA["form"], "the body was sent as 'application/x-www-form-urlencoded'"),
    ],
)
async def test_a_request_as_curl_sends_it(
    client: httpx2.AsyncClient, headers: dict[str, str], sent: str
) -> None:
    """The problem says what to write in its place."""
    response = await client.post(CALL, content=b"[]", headers=headers)
    assert response.json()["detail"] == (
        f"{sent}: send JSON in UTF-8 with 'Content-Type: application/json' (curl: --json instead of -d)"
    )


JOBS: dict[str, tuple[Any, str]] = {
    "an array": ([], ""),
    "a number": (1, ""),
    "null": (None, ""),
    "nothing in it": ({}, ""),
    "no functions": ({"name": "n"}, ""),
    "no name": ({"functions": [{"name": "anything"}]}, ""),
    "a name that is a number": (job(name=1), "/name"),
    "an empty name": (job(name=""), "/name"),
    "a long name": (job(name="x" * 201), "/name"),
    "a name with a control character": (job(name="a\u0000b"), "/name"),
    "functions that are an object": (job(functions={}), "/functions"),
    "functions of nothing": (job(functions=[]), "/functions"),
    "a stage of nothing": (job(functions=[[]]), "/functions/0"),
    "a stage in a stage": (job(functions=[[[{"name": "anything"}]]]), "/functions/0/0"),
    "a function that is a string": (job(functions=["anything"]), "/functions/0"),
    "too many functions": (job(functions=[{"name": "x"}] * 1001), "/functions"),
    "too many at a time": (job(functions=[[{"name": "x"}] * 1001]), "/functions/0"),
    "an unknown field": (job(state="done"), "/state"),
    "an id": (job(id="01890000-0000-7000-8000-000000000000"), "/id"),
    "a result": (job(result=1), "/result"),
    "a creation date": (job(created_at="2026-01-01T00:00:00Z"), "/created_at"),
    "a tenant": (job(tenant="b"), "/tenant"),
    "an unknown field of a function": (one(token=1), "/functions/0/token"),
    "a function's state": (one(state="done"), "/functions/0/state"),
    "a field named like a pointer": (job(**{"a/b~": 1}), "/a~1b~0"),
    "a function without a name": (job(functions=[{"args": []}]), "/functions/0"),
    "a path for a name": (one(name="../../etc/passwd"), "/functions/0/name"),
    "a double slash": (one(name="a//b"), "/functions/0/name"),
    "percent": (one(name="a/%2e%2e/b"), "/functions/0/name"),
    "backslash": (one(name="a\\b"), "/functions/0/name"),
    "NUL": (one(name="a\u0000b"), "/functions/0/name"),
    "bidi": (one(name="a\u202eb"), "/functions/0/name"),
    "zero width": (one(name="a\u200bb"), "/functions/0/name"),
    "an NFD twin": (one(name="e\u0301"), "/functions/0/name"),
    "a long function": (one(name="x" * 201), "/functions/0/name"),
    "an empty function": (one(name=""), "/functions/0/name"),
    "a template": (one(name="${jndi:x}"), "/functions/0/name"),
    "arguments that are an object": (one(args={}), "/functions/0/args"),
    "arguments that are null": (one(args=None), "/functions/0/args"),
    "named arguments that are an array": (one(kwargs=[]), "/functions/0/kwargs"),
    "named arguments that are a string": (one(kwargs="{}"), "/functions/0/kwargs"),
    "arguments of a member": (job(functions=[[{"name": "x", "args": 1}]]), "/functions/0/0/args"),
    "arguments that do not fit": (job(functions=[{"name": "add", "args": [1, "2"]}]), "/functions/0/args/1"),
    "a missing argument": (job(functions=[{"name": "/v1/test-1"}]), "/functions/0"),
    "attempts already made": (one(retry_count=1), "/functions/0/retry_count"),
    "no attempt": (one(retry_options={"retry_limit": 0}), "/functions/0/retry_options/retry_limit"),
    "attempts as text": (one(retry_options={"retry_limit": "3"}), "/functions/0/retry_options/retry_limit"),
    "attempts without number": (
        one(retry_options={"retry_limit": 1e9}),
        "/functions/0/retry_options/retry_limit",
    ),
    "unknown options": (one(retry_options={"x": 1}), "/functions/0/retry_options/x"),
    "no time": (one(timeout=0), "/functions/0/timeout"),
    "endless time": (one(timeout=1e300), "/functions/0/timeout"),
    "data that is a list": (job(data=[]), "/data"),
    "data that is null": (job(data=None), "/data"),
    "a delay into the past": (job(delay=-1), "/delay"),
    "a delay without end": (job(delay=1e300), "/delay"),
    "a delay as text": (job(delay="5"), "/delay"),
    "a delay that is true": (job(delay=True), "/delay"),
    "two dates": (job(delay=1, scheduled_at="2030-01-01T00:00:00Z"), "/delay"),
    "a date without zone": (job(scheduled_at="2030-01-01T00:00:00"), "/scheduled_at"),
    "a date that is none": (job(scheduled_at="2030-02-30T00:00:00Z"), "/scheduled_at"),
    "a date as a number": (job(scheduled_at=1893456000), "/scheduled_at"),
    "a date that no clock shows": (job(scheduled_at="9999-12-31T23:59:59-23:59"), "/scheduled_at"),
    "an end in the past": (job(expires_at="2020-01-01T00:00:00Z"), "/expires_at"),
    "an end before all time": (job(expires_at="0001-01-01T00:00:00+23:59"), "/expires_at"),
    "an end that no clock shows": (job(expires_at="9999-12-31T23:59:59-23:59"), "/expires_at"),
    "an end before the beginning": (job(delay=3600, expires_at=SOON), "/expires_at"),
    "a priority beyond all": (job(priority=10**9), "/priority"),
    "a fraction of a priority": (job(priority=0.5), "/priority"),
    "kept for ever": (job(result_ttl=1e18), "/result_ttl"),
    "kept for less than nothing": (job(result_ttl=-1), "/result_ttl"),
}


@pytest.mark.parametrize(("body", "pointer"), JOBS.values(), ids=JOBS.keys())
async def test_what_is_no_job_is_not_valid(client: httpx2.AsyncClient, body: Any, pointer: str) -> None:
    """The problem points at what is wrong."""
    problem = await refused(client, "POST", "/v1/job", 422, "validation", **as_json(body))
    assert pointer in [fault["pointer"] for fault in problem["errors"]]


CALLS: dict[str, tuple[str, Any, str]] = {
    "a number": ("anything", 1, ""),
    "a string": ("anything", "x", ""),
    "null": ("anything", None, ""),
    "true": ("anything", True, ""),
    "too many": ("anything", [1, 2], ""),
    "an unknown name": ("anything", {"other": 1}, "/other"),
    "the context": ("anything", {"ctx": 1}, "/ctx"),
    "a wrong type": ("add", [1, "2"], "/1"),
    "a number too large for a type": ("add", [1.5], "/0"),
    "by name what goes by position": ("weather:of", {"city": {"name": "x"}}, "/city"),
    "a wrong type inside": ("weather:of", [{"name": 1}], "/0/name"),
    "nothing where something is needed": ("/v1/test-1", [], ""),
}


@pytest.mark.parametrize(("name", "body", "pointer"), CALLS.values(), ids=CALLS.keys())
async def test_arguments_that_do_not_fit_are_not_valid(
    client: httpx2.AsyncClient, name: str, body: Any, pointer: str
) -> None:
    """The function is not called."""
    problem = await refused(client, "POST", f"/v1/function/{name}", 422, "validation", **as_json(body))
    assert pointer in [fault["pointer"] for fault in problem["errors"]]


QUERIES: dict[str, tuple[str, str]] = {
    "unknown": ("sort=name", "/sort"),
    "an offset": ("offset=1000000000000", "/offset"),
    "twice": ("name=a&name=b", "/name"),
    "no state": ("state=finished", "/state"),
    "SQL": ("state=';DROP TABLE job;--", "/state"),
    "an empty state": ("state=", "/state"),
    "null": ("state=null", "/state"),
    "an empty name": ("name=", "/name"),
    "less than none": ("limit=-1", "/limit"),
    "none": ("limit=0", "/limit"),
    "too many": ("limit=201", "/limit"),
    "by far too many": ("limit=1000000000", "/limit"),
    "a fraction": ("limit=1.5", "/limit"),
    "not a number": ("limit=ten", "/limit"),
    "Arabic digits": ("limit=%D9%A1", "/limit"),
    "more digits than there are": ("limit=" + "9" * 5000, "/limit"),
    "a forged cursor": ("cursor=abc", "/cursor"),
    "another forged cursor": ("cursor=bi0x", "/cursor"),
    "a cursor beyond all": ("cursor=" + "A" * 300, "/cursor"),
    "a cursor not of ASCII": ("cursor=%C3%A9", "/cursor"),
    "no value": ("limit", ""),
    "broken UTF-8": ("name=%ff", ""),
    "very many": ("&".join(f"a{i}=1" for i in range(100)), ""),
}


@pytest.mark.parametrize(("query", "pointer"), QUERIES.values(), ids=QUERIES.keys())
async def test_a_query_that_cannot_be_answered_is_not_valid(
    client: httpx2.AsyncClient, query: str, pointer: str
) -> None:
    """Rather than answered with something else."""
    problem = await refused(client, "GET", f"/v1/job?{query}", 422, "validation")
    assert [fault["pointer"] for fault in problem["errors"]] == [pointer]


SITES = {
    "another site": {"sec-fetch-site": "cross-site"},
    "a sibling": {"sec-fetch-site": "same-site"},
    "another origin": {"origin": "https://evil.example"},
    "no origin": {"origin": "null"},
    "another port": {"origin": "http://localhost:81"},
    "a broken origin": {"origin": "http://["},
}


@pytest.mark.parametrize(
    "call", ["POST /v1/job", f"POST {CALL}", "POST /v1/job/x/cancel", "DELETE /v1/job/x"]
)
@pytest.mark.parametrize("headers", SITES.values(), ids=SITES.keys())
async def test_a_page_of_another_site_changes_nothing(
    client: httpx2.AsyncClient, call: str, headers: dict[str, str]
) -> None:
    """Even without a body, which needs no type."""
    method, path = call.split()
    await refused(client, method, path, 403, "cross-site", headers=headers)


@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-site": "same-origin", "origin": "http://localhost"},
        {"sec-fetch-site": "none"},
        {"origin": "http://localhost"},
    ],
)
async def test_a_page_of_this_site_may_call(client: httpx2.AsyncClient, headers: dict[str, str]) -> None:
    """So may a client that is not a browser."""
    assert (await client.post(CALL, headers=headers)).status_code == 202


PATHS = {
    "nothing here": ("GET", "/v1/jobs", 404),
    "a trailing slash": ("GET", "/v1/job/", 404),
    "below a job": ("GET", "/v1/job/x/y", 404),
    "below health": ("GET", "/healthz/x", 404),
    "health with a slash": ("GET", "/healthz/", 404),
    "up": ("GET", "/docs/../../../etc/passwd", 404),
    "up, encoded": ("GET", "/docs/%2e%2e%2f__init__.py", 404),
    "a source": ("GET", "/docs/__init__.py", 404),
    "another root": ("GET", "//healthz", 404),
    "upper case": ("GET", "/V1/JOB", 404),
    "no put": ("PUT", "/v1/job", 405),
    "no patch": ("PATCH", "/v1/job/x", 405),
    "no get of a cancel": ("GET", "/v1/job/x/cancel", 405),
    "no trace": ("TRACE", "/v1/job", 405),
    "no post to health": ("POST", "/healthz", 405),
    "no delete of a function": ("DELETE", "/v1/function/add", 405),
    "a method of one's own": ("BREW", "/v1/worker", 405),
}


@pytest.mark.parametrize(("method", "path", "status"), PATHS.values(), ids=PATHS.keys())
async def test_a_path_takes_its_methods_only(
    client: httpx2.AsyncClient, method: str, path: str, status: int
) -> None:
    """404 where there is nothing; 405 says what there is."""
    request = client.build_request(method, "http://localhost" + path)
    answer = await client.send(request)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert answer.json()["status"] == status
    if status == 405:
        assert method not in answer.headers["allow"].split(", ")
        assert "OPTIONS" in answer.headers["allow"].split(", ")


class TestSize:
    """Bodies beyond the limit."""

    @pytest.mark.parametrize(
        ("length", "status"),
        [("10737418240", 413), ("9" * 5000, 413), ("-5", 400), ("x", 400), ("1e3", 400), ("\u00b2", 400)],
    )
    async def test_a_length_is_believed_when_it_is_too_large(
        self, client: httpx2.AsyncClient, length: str, status: int
    ) -> None:
        """Without reading what comes; the connection is to be closed."""

        async def never() -> AsyncIterator[bytes]:
            raise AssertionError("the body was read")
            yield b""

        headers = {"content-type": JSON, "content-length": length.encode("latin-1")}
        answer = await client.post("/v1/job", content=never(), headers=headers)  # type: ignore[arg-type]
        assert answer.status_code == status
        assert answer.headers["connection"] == "close"

    async def test_an_endless_body_is_not_read_on(self, client: httpx2.AsyncClient, app: App) -> None:
        """Nor is a body that is longer than its Content-Length."""
        sent = 0

        async def endless() -> AsyncIterator[bytes]:
            nonlocal sent
            while True:
                sent += 1024
                yield b"[" * 1024

        for headers in ({}, {"content-length": "2"}):
            sent = 0
            headers |= {"content-type": JSON}
            answer = await client.post("/v1/job", content=endless(), headers=headers)
            assert (answer.status_code, answer.json()["type"]) == (413, urn("too-large"))
            assert answer.headers["connection"] == "close"
            assert sent <= app.limits.body + 2048

    async def test_a_body_that_is_not_wanted_is_not_read(self, client: httpx2.AsyncClient) -> None:
        """A refusal for another reason hangs up too."""

        async def never() -> AsyncIterator[bytes]:
            raise AssertionError("the body was read")
            yield b""

        for path in ("/v1/job", "/nowhere"):
            answer = await client.post(path, content=never(), headers={"content-type": "text/plain"})
            assert answer.headers["connection"] == "close"


def as_json(body: Any) -> dict[str, Any]:
    """How to send a body as JSON; the client would not send null."""
    return {"content": json.dumps(body), "headers": {"content-type": JSON}}


async def refused(
    client: httpx2.AsyncClient, method: str, path: str, status: int, kind: str, **options: Any
) -> dict[str, Any]:
    """Send; the answer must be this problem, and nothing stored."""
    answer = await client.request(method, path, **options)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = answer.json()
    assert (problem["type"], problem["status"]) == (urn(kind), status)
    assert problem["title"]
    assert problem["detail"]
    assert "Traceback" not in answer.text
    assert len(answer.content) < 20_000
    assert await count_jobs(client) == 0
    return problem
