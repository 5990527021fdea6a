"""The client, with a method for each request that a server handles, and the handles of jobs."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping
from math import inf
from typing import TYPE_CHECKING, Any, Self, TypeVar, Unpack, overload

import msgspec

from raincheck.client.asynchronous.compat import TokenSource, sleep
from raincheck.client.asynchronous.sender import AsyncSender
from raincheck.client.requests import (
    DEFAULT_URL,
    LONGEST_WAIT,
    PATIENCE,
    Request,
    attempts_request,
    bulk_request,
    call_request,
    function_path,
    job_path,
    list_request,
    status_request,
    step_of,
    submit_request,
)
from raincheck.client.responses import (
    CallResponse,
    Reply,
    convert_result,
    log_warnings,
    result_of,
    unreadable_response,
)
from raincheck.client.token import Login
from raincheck.core.clock import monotonic, new_id
from raincheck.core.errors import ConfigError, Gone, Unfinished, Unreachable
from raincheck.core.model import State, Step
from raincheck.core.options import JobKeywords, job_options
from raincheck.engine.documents import (
    AttemptDocument,
    AttemptPage,
    FunctionSummary,
    JobDocument,
    JobPage,
    JobSummary,
    WorkerDocument,
)
from raincheck.engine.filters import (
    BulkKeywords,
    BulkResult,
    FilterKeywords,
    Order,
    bulk_of,
    filter_of,
)
from raincheck.functions.registry import Function
from raincheck.functions.registry import step as make_step

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


class AsyncClient:
    """A client of the server at ``url`` (default: ``RAINCHECK_URL``, or ``http://127.0.0.1:8000``).

    ``token`` is a token, or a function that returns one. Alternatively, ``username`` and ``password``
    get a token from the server. Either way, the client gets a new token when the server refuses the
    current one; a token from the server is also renewed before it expires. A failed request is sent
    again for up to ``patience`` seconds, unless it could run twice. ``timeout`` is how many
    seconds the server may take to respond, in addition to the wait of the request. ``http`` is your
    own `httpx2.AsyncClient`, for certificates and proxies; you close it. Raises `ConfigError`.
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
        http: httpx2.AsyncClient | None = None,
    ) -> None:
        if (username is None) != (password is None):
            raise ConfigError("username needs a password, and password needs a username. Pass both.")
        if token is not None and username is not None:
            raise ConfigError("pass either token, or username and password, not both")
        login = None if username is None or password is None else Login(username, password)
        self._sender = AsyncSender(
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

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._sender.aclose()

    @staticmethod
    def step(name: str, /, *args: Any, **kwargs: Any) -> Step:
        """A step that calls the function ``name`` with these arguments. Raises `NotJSON`."""
        return make_step(name, *args, **kwargs)

    async def submit(
        self,
        name: str,
        functions: Stages,
        *,
        idempotency_key: str | None = None,
        wait: float = 0.0,
        **options: Unpack[JobKeywords],
    ) -> AsyncJobHandle:
        """Submit a job that runs ``functions`` in order; a list among them is a parallel stage.

        The job is stored durably when this returns. A function without arguments can be passed as its
        name. The options are those of `App.submit`. With ``wait``, returns when the job has ended, or
        after that many seconds. Raises `InvalidInput` or `NotJSON`; nothing is stored then.
        """
        until, key = monotonic() + wait, idempotency_key or new_id()
        request = submit_request(name, functions, key, min(wait, LONGEST_WAIT), job_options(options))
        job = self._handle(await self._sender.send(request))
        if not job.ended and monotonic() < until:
            await job.wait(until - monotonic())
        return job

    @overload
    async def call(
        self,
        function: str | Step | Function,
        /,
        *args: Any,
        returns: type[T],
        timeout: float | None = None,
        idempotency_key: str | None = None,
        **kwargs: Any,
    ) -> T: ...
    @overload
    async def call(
        self,
        function: Function[..., T],
        /,
        *args: Any,
        timeout: float | None = None,
        idempotency_key: str | None = None,
        **kwargs: Any,
    ) -> T: ...
    @overload
    async def call(
        self,
        function: str | Step | Function,
        /,
        *args: Any,
        returns: Any = Any,
        timeout: float | None = None,
        idempotency_key: str | None = None,
        **kwargs: Any,
    ) -> Any: ...
    async def call(
        self,
        function: str | Step | Function,
        /,
        *args: Any,
        returns: Any = Any,
        timeout: float | None = None,
        idempotency_key: str | None = None,
        **kwargs: Any,
    ) -> Any:
        """Call a function, and return its result, converted to the type ``returns``.

        Waits for the result, by default without a limit. After ``timeout`` seconds it raises
        `Unfinished`; the job keeps running, and the exception's ``job`` is its handle. ``function`` is a
        name, a function of an app in this program, whose arguments are checked here and whose return type
        is the default of ``returns``, or a step, which has its arguments. Raises `JobFailed`,
        `JobCancelled`, `NotFound`, `InvalidInput` or `UnexpectedResult`.
        """
        step = step_of(function, args, kwargs)
        if isinstance(function, Function) and returns is Any:
            returns = function.signature.returns
        until = monotonic() + (inf if timeout is None else timeout)
        request = call_request(step, idempotency_key or new_id(), min(until - monotonic(), PATIENCE))
        reply = await self._sender.send(request, timeout)
        response = reply.read(CallResponse)
        if response.state is State.DONE:
            return convert_result(response.result, returns, response.id)
        job = self._handle(reply)
        if not job.ended:
            log_warnings(job.document)
            await job.wait(max(until - monotonic(), 0.0))
        if not job.ended:
            raise Unfinished(f"job {job.id} has not ended within {timeout:g} s. It keeps running.", job=job)
        return job.result(returns)

    async def status(self, job_id: str) -> AsyncJobHandle:
        """The job in its current state. Raises `NotFound` or `Gone`."""
        return self._handle(await self._sender.send(status_request(job_id)))

    async def wait(self, job_id: str, timeout: float | None = None) -> AsyncJobHandle:
        """Wait until the job has ended, or for ``timeout`` seconds, and return the job.

        Servers wait in whole seconds: the wait can be up to a second longer. Raises `NotFound` or `Gone`.
        """
        until = monotonic() + (inf if timeout is None else timeout)
        while True:
            started_at = monotonic()
            left = max(until - started_at, 0.0)
            reply = await self._get_job(job_id, min(left, LONGEST_WAIT), left)
            job = self._handle(reply)
            if job.ended or monotonic() >= until:
                return job
            if monotonic() - started_at < _SHORTEST_WAIT:
                await sleep(min(reply.retry_after or _SHORTEST_WAIT, until - monotonic()))

    async def watch(self, job_id: str) -> AsyncIterator[AsyncJobHandle]:
        """Yield the job now and after changes, until it has ended.

        It polls the server, at first every 0.15 s, later every second, so it can miss a state that is short.
        """
        seen, idle = b"", 0
        while True:
            reply = await self._get_job(job_id, 0.0 if idle < _QUICK_POLLS else 1.0)
            idle = idle + 1 if reply.body == seen else 0
            if not idle:
                seen = reply.body
                yield (job := self._handle(reply))
                if job.ended:
                    return
            await sleep(_POLL_INTERVAL)

    async def cancel(self, job_id: str) -> AsyncJobHandle:
        """Cancel a job. A running job stops soon after. Raises `NotFound` or `WrongState`."""
        return self._handle(await self.request("POST", job_path(job_id, "/cancel")))

    async def retry(self, job_id: str) -> AsyncJobHandle:
        """Resume a failed or cancelled job at the step where it stopped. Raises `NotFound` or `WrongState`.

        The request is not sent again if its response is lost: the job may have failed again.
        """
        return self._handle(await self.request("POST", job_path(job_id, "/retry"), repeatable=False))

    async def forget(self, job_id: str) -> None:
        """Delete an ended job now, if it still exists. Raises `NotFound` or `WrongState`."""
        try:
            await self.request("DELETE", job_path(job_id))
        except Gone:  # deleted earlier, perhaps by a request whose response was lost
            return

    async def jobs(
        self, *, sort: Order = "newest", page: int | None = None, **filters: Unpack[FilterKeywords]
    ) -> AsyncIterator[JobSummary]:
        """Yield the jobs that match all given filters, newest or oldest first.

        Filters are ``state`` (one or several), ``name``, ``function``, ``group``, ``schedule``, ``error``
        (type or exception), and ``since`` and ``until``: dates, or a timedelta or a text such as ``1h``
        counted back from now. One request reads ``page`` jobs. The documents are short: `status` gets a
        whole one, with arguments, data and results. Raises `InvalidInput`.
        """
        which, cursor = filter_of(filters), None
        while True:
            request = list_request(which, sort, cursor, page)
            listed = (await self._sender.send(request)).read(JobPage)
            for job in listed.jobs:
                yield job
            if (cursor := listed.cursor) is None:
                return

    async def retry_jobs(self, **options: Unpack[BulkKeywords]) -> BulkResult:
        """Resume all failed or cancelled jobs that match the filters of `jobs`; returns their numbers.

        Options are ``every_job``, which an empty filter needs; ``dry_run``: only count the jobs; and
        ``progress``, which is called with the result so far after each part. Raises `InvalidInput`.
        """
        return await self._change_jobs("retry", options)

    async def cancel_jobs(self, **options: Unpack[BulkKeywords]) -> BulkResult:
        """Cancel all unfinished jobs that match; the options are those of `retry_jobs`."""
        return await self._change_jobs("cancel", options)

    async def forget_jobs(self, **options: Unpack[BulkKeywords]) -> BulkResult:
        """Delete all ended jobs that match; the options are those of `retry_jobs`."""
        return await self._change_jobs("delete", options)

    async def attempts(self, job_id: str) -> list[AttemptDocument]:
        """The attempts of a job that have ended, oldest first. Raises `NotFound` or `Gone`.

        Their tracebacks are None if the token has neither the scope ``job:debug`` nor ``admin``.
        """
        attempts: list[AttemptDocument] = []
        cursor = None
        while True:
            page = (await self._sender.send(attempts_request(job_id, cursor))).read(AttemptPage)
            attempts += page.attempts
            if (cursor := page.cursor) is None:
                return attempts

    async def functions(self) -> list[FunctionSummary]:
        """List the functions."""
        return (await self.request("GET", "/v1/function")).read(list[FunctionSummary])

    async def function(self, name: str) -> FunctionSummary:
        """Get the function ``name``. Raises `NotFound`."""
        return (await self.request("GET", function_path(name))).read(FunctionSummary)

    async def workers(self) -> list[WorkerDocument]:
        """List the workers."""
        return (await self.request("GET", "/v1/worker")).read(list[WorkerDocument])

    async def request(
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
        """Send any request, also one without a method in this class. ``body`` is JSON.

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
        return await self._sender.send(request)

    async def _get_job(self, job_id: str, wait: float, patience: float = inf) -> Reply:
        try:
            return await self._sender.send(status_request(job_id, wait), patience)
        except Unreachable as error:
            error.job_id = job_id  # the job keeps running, and the caller needs its id
            raise

    async def _change_jobs(self, operation: str, options: BulkKeywords) -> BulkResult:
        bulk, progress = bulk_of(options)
        result = BulkResult(dry_run=bulk.dry_run)
        while True:
            reply = await self._sender.send(bulk_request(operation, bulk, result.cursor))
            result = result.plus(reply.read(BulkResult))
            if progress is not None:
                progress(result)
            if result.cursor is None:
                return result

    def _handle(self, reply: Reply) -> AsyncJobHandle:
        return AsyncJobHandle(self, reply.body)


class AsyncJobHandle:
    """A job as the server last described it. Every request through the handle updates it."""

    def __init__(self, client: AsyncClient, raw: bytes) -> None:
        self._client = client
        self._set(raw)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id} {self.state}>"

    @property
    def raw(self) -> bytes:
        """The document as the JSON that the server sent."""
        return self._raw

    @property
    def document(self) -> JobDocument:
        """The document."""
        return self._document

    @property
    def id(self) -> str:
        """The job's id."""
        return self._document.id

    @property
    def state(self) -> State:
        """The job's state."""
        return self._document.state

    @property
    def ended(self) -> bool:
        """Whether the job is done, failed or cancelled."""
        return self.state.ended

    @overload
    def result(self, returns: type[T]) -> T: ...
    @overload
    def result(self, returns: Any = Any) -> Any: ...
    def result(self, returns: Any = Any) -> Any:
        """The job's result, converted to the type ``returns``.

        Raises `JobFailed` or `JobCancelled` if the job has no result, `Unfinished` if it has not
        ended, and `UnexpectedResult` if the result has another type.
        """
        if not self.ended:
            raise Unfinished(
                f"job {self.id} has no result yet: it is {self.state}. Wait for it first.", job=self
            )
        return result_of(self._document, self._raw, returns)

    async def refresh(self) -> Self:
        """Get the job's current state. Raises `NotFound` or `Gone`."""
        return self._update(await self._client.status(self.id))

    async def wait(self, timeout: float | None = None) -> Self:
        """Wait until the job has ended, or for ``timeout`` seconds; `ended` says which."""
        return self._update(await self._client.wait(self.id, timeout))

    async def watch(self) -> AsyncIterator[JobDocument]:
        """Yield the job's document now and after changes, until it has ended. See `AsyncClient.watch`."""
        async for job in self._client.watch(self.id):
            yield self._update(job).document

    async def cancel(self) -> Self:
        """Cancel the job. A running job stops soon after. Raises `WrongState` if it is done or failed."""
        return self._update(await self._client.cancel(self.id))

    async def retry(self) -> Self:
        """Resume a failed or cancelled job at the step where it stopped. Raises `WrongState`."""
        return self._update(await self._client.retry(self.id))

    async def attempts(self) -> list[AttemptDocument]:
        """The attempts of the job that have ended, oldest first. See `AsyncClient.attempts`."""
        return await self._client.attempts(self.id)

    async def forget(self) -> None:
        """Delete the ended job now. Raises `WrongState` if it has not ended."""
        await self._client.forget(self.id)

    def _update(self, other: AsyncJobHandle) -> Self:
        self._raw, self._document = other.raw, other.document
        return self

    def _set(self, raw: bytes) -> None:
        try:
            self._raw, self._document = raw, msgspec.json.decode(raw, type=JobDocument)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise unreadable_response(error) from None
