"""Requests that a client sends, as values, and how they are encoded."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

import msgspec
from msgspec import Raw, Struct
from msgspec.structs import replace

from raincheck.core.errors import ConfigError, Fault, InvalidInput, checked_id
from raincheck.core.model import RetryOptions, Step
from raincheck.core.options import JobOptions
from raincheck.engine.filters import BulkRequest, JobFilter
from raincheck.functions.registry import Function, stages_detail, step_detail
from raincheck.functions.registry import step as make_step

if TYPE_CHECKING:
    Stages = Sequence[str | Step | Sequence[str | Step]]
    """The functions of a job: steps, or names of functions without arguments; a list is a parallel stage."""

DEFAULT_URL = "http://127.0.0.1:8000"

LONGEST_WAIT = 25.0
"""The longest wait of one request in seconds. Proxies cut off idle requests, so longer waits take several."""

PATIENCE = 1.0
"""Seconds that a call waits before its caller is warned if no worker offers the function."""

_KEY = re.compile(r"[ -~]{1,255}")


class Request(Struct, frozen=True, kw_only=True):
    """One request.

    ``wait`` is how many seconds the server waits for the end of a job; with None the server decides.
    ``worker_token`` is the token of a registered worker. ``repeatable`` says that sending it twice has the
    same effect as sending it once.
    """

    method: str = "GET"
    path: str
    params: Mapping[str, str | int] = {}
    body: bytes | None = None
    wait: float | None = 0.0
    key: str | None = None
    worker_token: str | None = None
    repeatable: bool = True

    def __repr__(self) -> str:
        return f"Request({self.method} {self.path})"  # the body may contain a password

    @property
    def seconds(self) -> float:
        """How many seconds the server waits at most before it responds."""
        return LONGEST_WAIT if self.wait is None else math.ceil(min(self.wait, LONGEST_WAIT))

    def after(self, took: float) -> Request:
        """The request for the next attempt. Its wait is shorter by the ``took`` seconds of the last one."""
        return replace(self, wait=max(self.wait - took, 0.0)) if self.wait else self

    @property
    def headers(self) -> dict[str, str]:
        """The headers, without ``Authorization``."""
        headers = {"Accept": "application/json"}
        if self.body is not None:
            headers["Content-Type"] = "application/json"
        if self.wait is not None:
            headers["Prefer"] = f"wait={self.seconds}" if self.seconds else "respond-async"
        if self.key is not None:
            headers["Idempotency-Key"] = quote_key(self.key)
        if self.worker_token is not None:
            headers["Worker-Token"] = self.worker_token
        return headers


class _FunctionBody(Struct, frozen=True, omit_defaults=True):
    name: str
    args: Raw
    kwargs: Raw
    retry_options: RetryOptions | None = None
    timeout: float | None = None


class _JobBody(JobOptions, frozen=True, omit_defaults=True):
    name: str
    functions: list[_FunctionBody | list[_FunctionBody]]


def submit_request(name: str, functions: Stages, key: str, wait: float, options: JobOptions) -> Request:
    """``POST /v1/job``. Raises `InvalidInput` if ``functions`` is not a list of steps and names."""
    if detail := stages_detail(functions):
        raise InvalidInput(Fault(detail, "/functions"))
    stages: list[_FunctionBody | list[_FunctionBody]] = [
        [*map(_function_body, entry)] if isinstance(entry, list | tuple) else _function_body(entry)  # type: ignore[arg-type] # isinstance excludes str
        for entry in functions
    ]
    fields = {field: getattr(options, field) for field in options.__struct_fields__}
    job = _JobBody(name, stages, **fields)
    return Request(method="POST", path="/v1/job", body=_encode(job), key=key, wait=wait)


def step_of(function: str | Step | Function, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Step:
    """The step that a call describes. Raises `InvalidInput` or `NotJSON`."""
    if isinstance(function, str):
        return make_step(function, *args, **kwargs)
    if isinstance(function, Function):
        return function.step(*args, **kwargs)
    if not isinstance(function, Step):
        raise InvalidInput(Fault(f"expected a function, its name or a step; {step_detail(function)}"))
    if args or kwargs:
        raise InvalidInput(
            Fault("a step has its arguments: pass them to step(), or pass the function's name")
        )
    return function


def call_request(step: Step, key: str, wait: float) -> Request:
    """The request that calls the function of a step.

    ``POST /v1/function/{name}`` takes arguments by position or by name. A step with both, or with
    options, is sent as ``POST /v1/job``.
    """
    if (step.args != b"[]" and step.kwargs != b"{}") or step.retry is not None or step.timeout is not None:
        job = _JobBody(step.function, [_function_body(step)])
        return Request(method="POST", path="/v1/job", body=_encode(job), key=key, wait=wait)
    body = step.args if step.kwargs == b"{}" else step.kwargs
    return Request(method="POST", path=function_path(step.function), body=body, key=key, wait=wait)


def status_request(job_id: str, wait: float = 0.0) -> Request:
    """``GET /v1/job/{id}``"""
    return Request(path=job_path(job_id), wait=wait)


def list_request(which: JobFilter, sort: str, cursor: str | None, limit: int | None) -> Request:
    """``GET /v1/job``: the page after ``cursor``, or the first page."""
    params = {**filter_params(which), "sort": sort, "limit": limit, "cursor": cursor}
    return Request(path="/v1/job", params={key: value for key, value in params.items() if value is not None})


def bulk_request(operation: str, bulk: BulkRequest, cursor: str | None) -> Request:
    """``POST /v1/job/retry``, ``cancel`` or ``delete``: the jobs after ``cursor``, or the first ones.

    Only a retry must not be sent twice: the jobs may have failed again.
    """
    repeatable = bulk.dry_run or operation != "retry"
    body = _encode(replace(bulk, cursor=cursor))
    return Request(method="POST", path=f"/v1/job/{operation}", body=body, repeatable=repeatable)


def attempts_request(job_id: str, cursor: str | None) -> Request:
    """``GET /v1/job/{id}/attempt``: the page after ``cursor``, or the first page."""
    return Request(path=job_path(job_id, "/attempt"), params={} if cursor is None else {"cursor": cursor})


def filter_params(which: JobFilter) -> dict[str, str]:
    """A filter as parameters of a query."""
    params: dict[str, str] = msgspec.to_builtins(which)
    return params | ({"state": ",".join(which.states)} if which.states else {})


def token_request(username: str, password: str) -> Request:
    """``POST /v1/token``"""
    body = _encode({"username": username, "password": password})
    return Request(method="POST", path="/v1/token", body=body, wait=None)


def job_path(job_id: str, action: str = "") -> str:
    """The path of a job, or of an action on it (``/cancel``, ``/retry``)."""
    return f"/v1/job/{quote(checked_id(job_id), safe='')}{action}"


def function_path(name: str) -> str:
    """The path of a function. Slashes in its name are kept."""
    return f"/v1/function/{quote(name, safe='/:@')}"


def quote_key(key: str) -> str:
    """An idempotency key as a quoted string for its header. Raises `InvalidInput`."""
    if not _KEY.fullmatch(key):
        raise InvalidInput(Fault("an idempotency key has 1 to 255 visible ASCII characters or spaces"))
    return '"' + re.sub(r'(["\\])', r"\\\1", key) + '"'


def is_local(url: str) -> bool:
    """Whether the URL names this machine. Raises `ConfigError` if it is not the URL of a server."""
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - raises if the port is invalid
    except ValueError:
        parts = urlsplit("")
    if parts.username is not None or parts.password is not None:
        raise ConfigError(
            "the server's URL must not contain a username or password. Pass them as username and password."
        )
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(f"{url!r} is not the URL of a server. Use a URL such as {DEFAULT_URL}")
    return parts.hostname in ("localhost", "127.0.0.1", "::1")


def _function_body(entry: str | Step) -> _FunctionBody:
    if isinstance(entry, str):
        return _FunctionBody(entry, Raw(b"[]"), Raw(b"{}"))
    if not isinstance(entry, Step):
        raise InvalidInput(Fault(f"expected a step; {step_detail(entry)}", "/functions"))
    return _FunctionBody(entry.function, Raw(entry.args), Raw(entry.kwargs), entry.retry, entry.timeout)


_encode = msgspec.json.Encoder().encode
