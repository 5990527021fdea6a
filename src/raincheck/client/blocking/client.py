# Generated from src/raincheck/client/asynchronous/client.py by tools/twin.py: do not edit.
"""The client: a method for each request that a server handles."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from datetime import datetime
from math import inf
from typing import TYPE_CHECKING, Any, Self, TypeVar, overload

from raincheck.client.blocking.compat import TokenSource, sleep
from raincheck.client.blocking.handle import JobHandle
from raincheck.client.blocking.sender import Sender
from raincheck.client.requests import (
    DEFAULT_URL,
    SLICE,
    Request,
    call_request,
    function_path,
    job_path,
    list_request,
    status_request,
    submission,
)
from raincheck.client.responses import CallResponse, RawJobPage, Reply
from raincheck.client.results import convert_result
from raincheck.client.token import Login
from raincheck.clock import monotonic, new_id
from raincheck.documents import FunctionSummary, WorkerDocument
from raincheck.errors import ConfigError, Gone, Unfinished, Unreachable
from raincheck.functions import step as make_step
from raincheck.model import State, Step

if TYPE_CHECKING:
    import httpx2

    from raincheck.client.requests import Stages

T = TypeVar("T")

_SHORTEST_WAIT = 1.0
"""Seconds. A server that responds sooner though the job has not ended does not wait: poll it slowly."""

_POLL_INTERVAL = 0.15
"""Seconds between two requests for a job that is watched."""

_QUICK_POLLS = 12
"""Requests without a change, after which each further request waits a second for the end of the job."""


class Client:
    """A client of the server at ``url`` (default: ``RAINCHECK_URL``, or ``http://127.0.0.1:8000``).

    ``token`` is a token, or a function that returns one. Alternatively, ``username`` and ``password``
    get a token from the server. Either way, the client gets a new token when the server refuses the
    current one; a token from the server is also renewed before it expires. A failed request is sent
    again for up to ``patience`` seconds, unless it could run twice. ``timeout`` is how many
    seconds the server may take to respond, in addition to the wait of the request. ``http`` is your
    own `httpx2.Client`, for certificates and proxies; you close it. Raises `ConfigError`.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        token: str | TokenSource | None = None,
        username: str | None = None,
        password: str | None = None,
        patience: float = 30.0,
        timeout: float = 15.0,
        http: httpx2.Client | None = None,
    ) -> None:
        if (username is None) != (password is None):
            raise ConfigError("username needs a password, and password needs a username. Pass both.")
        if token is not None and username is not None:
            raise ConfigError("pass either token, or username and password, not both")
        login = None if username is None or password is None else Login(username, password)
        self._sender = Sender(
            url or os.environ.get("RAINCHECK_URL") or DEFAULT_URL,
            token=token,
            login=login,
            patience=patience,
            timeout=timeout,
            http=http,
        )
        self.url = self._sender.url

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.url}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._sender.close()

    @staticmethod
    def step(name: str, /, *args: Any, **kwargs: Any) -> Step:
        """A step that calls the function ``name`` with these arguments. Raises `NotJSON`."""
        return make_step(name, *args, **kwargs)

    def submit(
        self,
        name: str,
        functions: Stages,
        *,
        data: Mapping[str, Any] | None = None,
        delay: float | None = None,
        scheduled_at: datetime | None = None,
        expires_at: datetime | None = None,
        priority: int = 0,
        result_ttl: float | None = None,
        idempotency_key: str | None = None,
        wait: float = 0.0,
    ) -> JobHandle:
        """Submit a job that runs ``functions`` in order; a list among them is a parallel stage.

        The job is stored durably when this returns. A function without arguments can be given by its
        name. ``delay`` and ``result_ttl`` are in seconds. Jobs with a higher ``priority`` run first.
        With ``wait``, returns when the job has ended, or after that many seconds. Raises
        `InvalidInput`; nothing is stored then.
        """
        until = monotonic() + wait
        request = submission(
            name,
            functions,
            idempotency_key or new_id(),
            min(wait, SLICE),
            data=data,
            delay=delay,
            scheduled_at=scheduled_at,
            expires_at=expires_at,
            priority=priority,
            result_ttl=result_ttl,
        )
        job = self._handle(self._sender.send(request))
        if not job.ended and monotonic() < until:
            job.wait(until - monotonic())
        return job

    @overload
    def call(
        self,
        function: str | Step,
        /,
        *args: Any,
        returns: type[T],
        timeout: float | None = None,
        idempotency_key: str | None = None,
        **kwargs: Any,
    ) -> T: ...
    @overload
    def call(
        self,
        function: str | Step,
        /,
        *args: Any,
        returns: Any = Any,
        timeout: float | None = None,
        idempotency_key: str | None = None,
        **kwargs: Any,
    ) -> Any: ...
    def call(
        self,
        function: str | Step,
        /,
        *args: Any,
        returns: Any = Any,
        timeout: float | None = None,
        idempotency_key: str | None = None,
        **kwargs: Any,
    ) -> Any:
        """Call a function, and return its result, converted to the type ``returns``.

        Waits for the result, by default without a limit. After ``timeout`` seconds it raises
        `Unfinished`; the job keeps running, and the exception's ``job`` is its handle. A step can
        replace the name and the arguments. Raises `JobFailed`, `JobCancelled`, `NotFound`,
        `InvalidInput` or `UnexpectedResult`.
        """
        step = make_step(function, *args, **kwargs) if isinstance(function, str) else function
        until = monotonic() + (inf if timeout is None else timeout)
        request = call_request(step, idempotency_key or new_id(), min(until - monotonic(), SLICE))
        reply = self._sender.send(request, timeout)
        response = reply.read(CallResponse)
        if response.state is State.DONE:
            return convert_result(response.result, returns, response.id)
        job = self._handle(reply)
        if not job.ended:
            job.wait(max(until - monotonic(), 0.0))
        if not job.ended:
            raise Unfinished(f"job {job.id} has not ended within {timeout:g} s. It keeps running.", job=job)
        return job.result(returns)

    def status(self, job_id: str) -> JobHandle:
        """The job in its current state. Raises `NotFound` or `Gone`."""
        return self._handle(self._sender.send(status_request(job_id)))

    def wait(self, job_id: str, timeout: float | None = None) -> JobHandle:
        """Wait until the job has ended, or for ``timeout`` seconds, and return the job.

        Servers wait in whole seconds: the wait can be up to a second longer. Raises `NotFound` or `Gone`.
        """
        until = monotonic() + (inf if timeout is None else timeout)
        while True:
            started_at = monotonic()
            left = max(until - started_at, 0.0)
            reply = self._get_job(job_id, min(left, SLICE), left)
            job = self._handle(reply)
            if job.ended or monotonic() >= until:
                return job
            if monotonic() - started_at < _SHORTEST_WAIT:
                sleep(min(reply.retry_after or _SHORTEST_WAIT, until - monotonic()))

    def watch(self, job_id: str) -> Iterator[JobHandle]:
        """Yield the job now and after every change or progress, until it has ended."""
        seen, idle = b"", 0
        while True:
            reply = self._get_job(job_id, 0.0 if idle < _QUICK_POLLS else 1.0)
            idle = idle + 1 if reply.body == seen else 0
            if not idle:
                seen = reply.body
                yield (job := self._handle(reply))
                if job.ended:
                    return
            sleep(_POLL_INTERVAL)

    def cancel(self, job_id: str) -> JobHandle:
        """Cancel a job. A running job stops soon after. Raises `NotFound` or `WrongState`."""
        return self._handle(self.request("POST", job_path(job_id, "/cancel")))

    def retry(self, job_id: str) -> JobHandle:
        """Resume a failed or cancelled job at the step where it stopped. Raises `NotFound` or `WrongState`.

        The request is not sent again if its response is lost: the job may have failed again meanwhile.
        """
        return self._handle(self.request("POST", job_path(job_id, "/retry"), repeatable=False))

    def forget(self, job_id: str) -> None:
        """Delete an ended job now, if it still exists. Raises `NotFound` or `WrongState`."""
        try:
            self.request("DELETE", job_path(job_id))
        except Gone:  # deleted earlier, perhaps by a request whose response was lost
            return

    def jobs(
        self,
        *,
        state: State | str | None = None,
        name: str | None = None,
        function: str | None = None,
        page: int | None = None,
    ) -> Iterator[JobHandle]:
        """Yield the jobs that match all given filters, newest first. One request reads ``page`` jobs."""
        cursor = None
        while True:
            request = list_request(cursor, page, state=state, name=name, function=function)
            listed = (self._sender.send(request)).read(RawJobPage)
            for raw in listed.jobs:
                yield JobHandle(self, bytes(raw))
            if (cursor := listed.cursor) is None:
                return

    def functions(self) -> list[FunctionSummary]:
        """List the functions."""
        return (self.request("GET", "/v1/function")).read(list[FunctionSummary])

    def function(self, name: str) -> FunctionSummary:
        """Get the function ``name``. Raises `NotFound`."""
        return (self.request("GET", function_path(name))).read(FunctionSummary)

    def workers(self) -> list[WorkerDocument]:
        """List the workers."""
        return (self.request("GET", "/v1/worker")).read(list[WorkerDocument])

    def request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        *,
        params: Mapping[str, str | int] | None = None,
        wait: float | None = 0.0,
        idempotency_key: str | None = None,
        repeatable: bool = True,
    ) -> Reply:
        """Send any request, for what has no method of its own. ``body`` is JSON.

        ``wait`` is how many seconds the server waits for the end of a job, at most 25; with None the
        server decides. Pass ``repeatable=False`` if the request must not run twice.
        """
        request = Request(
            method=method,
            path=path,
            params=params or {},
            body=body,
            wait=wait,
            key=idempotency_key,
            repeatable=repeatable,
        )
        return self._sender.send(request)

    def _get_job(self, job_id: str, wait: float, patience: float = inf) -> Reply:
        try:
            return self._sender.send(status_request(job_id, wait), patience)
        except Unreachable as error:
            error.job_id = job_id  # the job keeps running: tell the caller which one
            raise

    def _handle(self, reply: Reply) -> JobHandle:
        return JobHandle(self, reply.body)
