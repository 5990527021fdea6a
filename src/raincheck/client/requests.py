"""What a client asks of a server: requests as values, and how they are written."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

import msgspec
from msgspec import Raw, Struct
from msgspec.structs import replace

from raincheck.errors import ConfigError, Fault, InvalidInput
from raincheck.model import RetryOptions, Step
from raincheck.options import JobOptions

if TYPE_CHECKING:
    Stages = Sequence[str | Step | Sequence[str | Step]]
    """A job's functions: a step, or the name of a function without arguments; a list is a stage."""

DEFAULT_URL = "http://127.0.0.1:8000"

SLICE = 25.0
"""Seconds that one request waits; longer waits are several, for proxies cut off what seems to hang."""

_KEY = re.compile(r"[ -~]{1,255}")


class Request(Struct, frozen=True, kw_only=True):
    """One request.

    ``wait`` is how many seconds the server may take until a job has ended; None leaves it to the server.
    ``repeatable`` says that sending it twice does no more than once.
    """

    method: str = "GET"
    path: str
    params: Mapping[str, str | int] = {}
    body: bytes | None = None
    wait: float | None = 0.0
    key: str | None = None
    repeatable: bool = True

    def __repr__(self) -> str:
        return f"Request({self.method} {self.path})"  # a body may hold a password

    @property
    def seconds(self) -> float:
        """How long the server may take at most, beside the time that an answer takes."""
        return SLICE if self.wait is None else math.ceil(min(self.wait, SLICE))

    def after(self, took: float) -> Request:
        """The next try, when one has failed that took as long: it need not wait for all of that again."""
        return replace(self, wait=max(self.wait - took, 0.0)) if self.wait else self

    @property
    def headers(self) -> dict[str, str]:
        """The headers, but for who asks."""
        headers = {"Accept": "application/json"}
        if self.body is not None:
            headers["Content-Type"] = "application/json"
        if self.wait is not None:
            headers["Prefer"] = f"wait={self.seconds}" if self.seconds else "respond-async"
        if self.key is not None:
            headers["Idempotency-Key"] = quoted(self.key)
        return headers


class _Function(Struct, frozen=True, omit_defaults=True):
    name: str
    args: Raw
    kwargs: Raw
    retry_options: RetryOptions | None = None
    timeout: float | None = None


class _Job(JobOptions, frozen=True, omit_defaults=True):
    name: str
    functions: list[_Function | list[_Function]]


def submission(name: str, functions: Stages, key: str, wait: float, options: JobOptions) -> Request:
    """``POST /v1/job``."""
    stages: list[_Function | list[_Function]] = [
        [*map(_function, entry)] if isinstance(entry, list | tuple) else _function(entry)  # type: ignore[arg-type] # a str is no list
        for entry in functions
    ]
    job = _Job(name, stages, **{field: getattr(options, field) for field in options.__struct_fields__})
    return Request(method="POST", path="/v1/job", body=_encode(job), key=key, wait=wait)


def calling(step: Step, key: str, wait: float) -> Request:
    """The request that calls a function with the arguments of a step.

    A call takes arguments by position or by name; a step with both, or with options, is sent as a job.
    """
    if (step.args != b"[]" and step.kwargs != b"{}") or step.retry is not None or step.timeout is not None:
        job = _Job(step.function, [_function(step)])
        return Request(method="POST", path="/v1/job", body=_encode(job), key=key, wait=wait)
    body = step.args if step.kwargs == b"{}" else step.kwargs
    return Request(method="POST", path=function_path(step.function), body=body, key=key, wait=wait)


def looking(job_id: str, wait: float = 0.0) -> Request:
    """``GET /v1/job/{id}``"""
    return Request(path=job_path(job_id), wait=wait)


def listing(page_after: str | None, limit: int | None, **which: str | None) -> Request:
    """``GET /v1/job``: the page after a cursor, or the first."""
    asked = {**which, "limit": limit, "cursor": page_after}
    return Request(path="/v1/job", params={key: value for key, value in asked.items() if value is not None})


def signing_in(username: str, password: str) -> Request:
    """``POST /v1/token``"""
    body = _encode({"username": username, "password": password})
    return Request(method="POST", path="/v1/token", body=body, wait=None)


def job_path(job_id: str, action: str = "") -> str:
    """The path of a job, or of what can be done to it."""
    return f"/v1/job/{quote(job_id, safe='')}{action}"


def function_path(name: str) -> str:
    """The path of a function, whose name may hold slashes."""
    return f"/v1/function/{quote(name, safe='/:@')}"


def quoted(key: str) -> str:
    """An idempotency key as the header wants it. Raises `InvalidInput`."""
    if not _KEY.fullmatch(key):
        raise InvalidInput(Fault("an idempotency key is 1 to 255 visible ASCII characters"))
    return '"' + re.sub(r'(["\\])', r"\\\1", key) + '"'


def is_local(url: str) -> bool:
    """Whether a server is on this machine, by its URL. Raises `ConfigError` if that is none."""
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - raises for what is no port
    except ValueError:
        parts = urlsplit("")
    if parts.username is not None or parts.password is not None:
        raise ConfigError("a server's URL holds no name and no password: give them as username and password")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(f"{url!r} is no server's URL; one is {DEFAULT_URL}")
    return parts.hostname in ("localhost", "127.0.0.1", "::1")


def _function(entry: str | Step) -> _Function:
    if isinstance(entry, str):
        return _Function(entry, Raw(b"[]"), Raw(b"{}"))
    return _Function(entry.function, Raw(entry.args), Raw(entry.kwargs), entry.retry, entry.timeout)


_encode = msgspec.json.Encoder().encode
