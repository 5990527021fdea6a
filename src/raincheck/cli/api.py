"""The HTTP API as the commands use it: requests go out, replies or errors come back."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple, Self, TypeVar
from urllib.parse import quote, urlsplit

import httpx2
import msgspec

from raincheck.cli.exits import Refused, Unreachable, UsageError
from raincheck.documents import JobDocument
from raincheck.model import Problem

__all__ = ["Api", "Reply"]

T = TypeVar("T")

_ERRNO = re.compile(r"^\[Errno -?\d+\] ")

LONGEST_WAIT = 30
"""Seconds that one request waits; longer waits are several requests."""

_PATIENCE = 15.0
"""Seconds after which a server that says nothing, and was not asked to wait, is given up."""


class Reply(NamedTuple):
    """A good answer: its status, its JSON as it came."""

    status: int
    body: bytes

    def read(self, kind: type[T]) -> T:
        """The answer as a document. Raises `Unreachable` if it is none."""
        try:
            return msgspec.json.decode(self.body, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Unreachable(f"the server's answer is not understood: {error}") from None

    @property
    def job(self) -> JobDocument:
        """The answer as a job."""
        return self.read(JobDocument)


class Api:
    """A server, by its URL."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        local = _host(url) in ("localhost", "127.0.0.1", "::1")
        self._client = httpx2.Client(trust_env=not local)  # a proxy cannot know what is local here

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._client.close()

    def get(self, path: str, params: Mapping[str, Any] | None = None, *, wait: float = 0) -> Reply:
        """GET; with ``wait``, the server may take that many seconds until a job has ended."""
        return self._send("GET", path, wait=wait, params=params)

    def post(self, path: str, body: bytes | None = None, *, wait: float | None = 0) -> Reply:
        """POST JSON. ``wait`` 0 asks for an answer at once; None leaves it to the server."""
        return self._send("POST", path, wait=wait, content=body)

    def delete(self, path: str) -> Reply:
        """DELETE."""
        return self._send("DELETE", path, wait=0)

    def job(self, job_id: str, *, wait: float = 0) -> Reply:
        """A job."""
        return self.get(job_path(job_id), wait=wait)

    def _send(self, method: str, path: str, *, wait: float | None, **request: Any) -> Reply:
        headers = {"Accept": "application/json"}
        if request.get("content") is not None:
            headers["Content-Type"] = "application/json"
        seconds = LONGEST_WAIT if wait is None else math.ceil(min(wait, LONGEST_WAIT))
        if wait is not None:
            headers["Prefer"] = f"wait={seconds}" if seconds else "respond-async"
        try:
            answer = self._client.request(
                method,
                f"{self.url}{path}",
                headers=headers,
                timeout=_PATIENCE + seconds,
                **request,
            )
        except httpx2.InvalidURL as error:
            raise UsageError(f"{self.url!r} is no server's URL: {error}") from None
        except httpx2.TransportError as error:
            reason = _ERRNO.sub("", str(error)) or type(error).__name__
            raise Unreachable(f"no server answers at {self.url}: {reason}") from None
        if answer.is_success:
            return Reply(answer.status_code, answer.content)
        raise _refusal(answer, self.url)


def _host(url: str) -> str:
    """The host of a server's URL. Raises `UsageError` if it is none."""
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(f"{url!r} is no server's URL; one is http://127.0.0.1:8000")
    return parts.hostname


def job_path(job_id: str, action: str = "") -> str:
    """The path of a job, or of what can be done to it."""
    return f"/v1/job/{quote(job_id, safe='')}{action}"


def function_path(name: str) -> str:
    """The path of a function, whose name may hold slashes."""
    return f"/v1/function/{quote(name, safe='/:@')}"


def _refusal(answer: httpx2.Response, url: str) -> Refused | Unreachable:
    if answer.headers.get("content-type", "").startswith("application/problem+json"):
        try:
            return Refused(msgspec.json.decode(answer.content, type=Problem))
        except msgspec.DecodeError:
            pass
    said = f"{answer.status_code} {answer.reason_phrase}"
    return Unreachable(f"{url} answered {said}, which is not the answer of a raincheck server")
