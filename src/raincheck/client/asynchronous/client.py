"""The client, and the handles to jobs that it gives."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping
from math import inf
from typing import TYPE_CHECKING, Any, Self, TypeVar, Unpack, overload

import msgspec

from raincheck.client.answers import Called, Page, Reply
from raincheck.client.asynchronous.seam import TokenSource, sleep
from raincheck.client.asynchronous.sender import AsyncSender
from raincheck.client.requests import (
    DEFAULT_URL,
    SLICE,
    Request,
    calling,
    function_path,
    job_path,
    listing,
    looking,
    submission,
)
from raincheck.client.results import result_of, typed
from raincheck.client.token import Login
from raincheck.clock import monotonic, new_id
from raincheck.engine.documents import FunctionSummary, JobDocument, WorkerDocument
from raincheck.errors import ConfigError, Gone, Unfinished, Unreachable
from raincheck.functions import step as make_step
from raincheck.model import State, Step
from raincheck.options import JobKeywords, job_options

if TYPE_CHECKING:
    import httpx2

    from raincheck.client.requests import Stages

T = TypeVar("T")

_HASTY = 1.0
"""Seconds. A server that answers a wait sooner, with a job that has not ended, does not want to wait now."""

_LOOK = 0.15
"""Seconds between two looks at a job that is watched."""

_QUICK_LOOKS = 12
"""Looks that find nothing new before the server is rather asked to wait for the end."""


class AsyncClient:
    """A server, by its URL; without one ``RAINCHECK_URL``, else ``http://127.0.0.1:8000``.

    ``token`` is a token, or a function that gives one; or ``username`` and ``password`` get one from the
    server. Either is asked again when the token has been refused or comes to its end. A request that
    failed is sent again, where that cannot do it twice, for up to ``patience`` seconds. ``timeout`` is how
    many seconds a server may say nothing, beside those that it was asked to wait. ``http`` is an
    `httpx2.AsyncClient` of your own, for certificates and proxies; you close it. Raises `ConfigError`.
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
            raise ConfigError("a username needs a password, and a password a username")
        if token is not None and username is not None:
            raise ConfigError("give a token, or a username and a password, not both")
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
        """A step that calls the function ``name``. Raises `NotJSON`."""
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
        """Submit a job: its functions in order, a list among them being a parallel stage.

        Durable when this returns. A function without arguments may be given by its name. Options are those
        of `App.submit`. With ``wait`` it returns once the job has ended, or after as many seconds. Raises
        `InvalidInput` or `NotJSON`, and then nothing was stored.
        """
        until, key = monotonic() + wait, idempotency_key or new_id()
        request = submission(name, functions, key, min(wait, SLICE), job_options(options))
        job = self._handle(await self._sender.send(request))
        if not job.ended and monotonic() < until:
            await job.wait(until - monotonic())
        return job

    @overload
    async def call(
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
    async def call(
        self,
        function: str | Step,
        /,
        *args: Any,
        returns: Any = Any,
        timeout: float | None = None,
        idempotency_key: str | None = None,
        **kwargs: Any,
    ) -> Any: ...
    async def call(
        self,
        function: str | Step,
        /,
        *args: Any,
        returns: Any = Any,
        timeout: float | None = None,
        idempotency_key: str | None = None,
        **kwargs: Any,
    ) -> Any:
        """Call a function, and return its result, as the type ``returns``.

        Waits until there is one, or for ``timeout`` seconds: then it raises `Unfinished`, whose ``job``
        is the handle to go on with. A step may be given in place of name and arguments. Raises
        `JobFailed`, `JobCancelled`, `NotFound`, `InvalidInput`, `UnexpectedResult`.
        """
        made = make_step(function, *args, **kwargs) if isinstance(function, str) else function
        until = monotonic() + (inf if timeout is None else timeout)
        request = calling(made, idempotency_key or new_id(), min(until - monotonic(), SLICE))
        reply = await self._sender.send(request, timeout)
        called = reply.read(Called)
        if called.state is State.DONE:
            return typed(called.result, returns, called.id)
        job = self._handle(reply)
        if not job.ended:
            await job.wait(max(until - monotonic(), 0.0))
        if not job.ended:
            raise Unfinished(f"job {job.id} has not ended within {timeout:g} s; it goes on", job=job)
        return job.result(returns)

    async def status(self, job_id: str) -> AsyncJobHandle:
        """The job as it is now. Raises `NotFound` or `Gone`."""
        return self._handle(await self._sender.send(looking(job_id)))

    async def wait(self, job_id: str, timeout: float | None = None) -> AsyncJobHandle:
        """The job once it has ended, or as it is after ``timeout`` seconds.

        A server counts in whole seconds: the last one may be exceeded. Raises `NotFound` or `Gone`.
        """
        until = monotonic() + (inf if timeout is None else timeout)
        while True:
            begun = monotonic()
            left = max(until - begun, 0.0)
            reply = await self._look(job_id, min(left, SLICE), left)
            job = self._handle(reply)
            if job.ended or monotonic() >= until:
                return job
            if monotonic() - begun < _HASTY:
                await sleep(min(reply.retry_after or _HASTY, until - monotonic()))

    async def watch(self, job_id: str) -> AsyncIterator[AsyncJobHandle]:
        """The job now, and again whenever it has changed or come further, until it has ended."""
        seen, idle = b"", 0
        while True:
            reply = await self._look(job_id, 0.0 if idle < _QUICK_LOOKS else 1.0)
            idle = idle + 1 if reply.body == seen else 0
            if not idle:
                seen = reply.body
                yield (job := self._handle(reply))
                if job.ended:
                    return
            await sleep(_LOOK)

    async def cancel(self, job_id: str) -> AsyncJobHandle:
        """Stop a job; one being run is stopped soon. Raises `NotFound` or `WrongState`."""
        return self._handle(await self.request("POST", job_path(job_id, "/cancel")))

    async def retry(self, job_id: str) -> AsyncJobHandle:
        """Let a failed or cancelled job go on where it ended. Raises `NotFound` or `WrongState`.

        It is not sent again if its answer got lost, for the job may have failed anew by then.
        """
        return self._handle(await self.request("POST", job_path(job_id, "/retry"), repeatable=False))

    async def forget(self, job_id: str) -> None:
        """Remove an ended job now, if it is still there. Raises `NotFound` or `WrongState`."""
        try:
            await self.request("DELETE", job_path(job_id))
        except Gone:  # as it shall be, perhaps by a request whose answer got lost
            return

    async def jobs(
        self,
        *,
        state: State | str | None = None,
        name: str | None = None,
        function: str | None = None,
        page: int | None = None,
    ) -> AsyncIterator[AsyncJobHandle]:
        """The jobs that match all that is given, newest first, read ``page`` by page as you go on."""
        cursor = None
        while True:
            request = listing(cursor, page, state=state, name=name, function=function)
            found = (await self._sender.send(request)).read(Page)
            for raw in found.jobs:
                yield AsyncJobHandle(self, bytes(raw))
            if (cursor := found.cursor) is None:
                return

    async def functions(self) -> list[FunctionSummary]:
        """The functions that can be called."""
        return (await self.request("GET", "/v1/function")).read(list[FunctionSummary])

    async def function(self, name: str) -> FunctionSummary:
        """A function. Raises `NotFound`."""
        return (await self.request("GET", function_path(name))).read(FunctionSummary)

    async def workers(self) -> list[WorkerDocument]:
        """The workers."""
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
        """Send any other request, such as none of the methods sends; ``body`` is JSON.

        ``wait`` is how many seconds the server may wait for the end of a job, at most 25; None leaves it
        to the server. Say if it is not ``repeatable``: if to do it twice is not as good as once.
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

    async def _look(self, job_id: str, wait: float, patience: float = inf) -> Reply:
        try:
            return await self._sender.send(looking(job_id, wait), patience)
        except Unreachable as error:
            error.job_id = job_id  # it goes on, and whoever waits should know which it was
            raise

    def _handle(self, reply: Reply) -> AsyncJobHandle:
        return AsyncJobHandle(self, reply.body)


class AsyncJobHandle:
    """A job as it was when the server last told of it; what is asked through the handle renews that."""

    def __init__(self, client: AsyncClient, raw: bytes) -> None:
        self._client = client
        self._take(raw)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id} {self.state}>"

    @property
    def raw(self) -> bytes:
        """The document as it came: JSON."""
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
        """Whether nothing will happen any more, unless somebody retries the job."""
        return self.state.ended

    @overload
    def result(self, returns: type[T]) -> T: ...
    @overload
    def result(self, returns: Any = Any) -> Any: ...
    def result(self, returns: Any = Any) -> Any:
        """The job's result, as the type ``returns``.

        Raises `JobFailed` or `JobCancelled` if it has none, `Unfinished` if it has not ended, and
        `UnexpectedResult` if the result is of another type.
        """
        if not self.ended:
            raise Unfinished(f"job {self.id} has not ended, it is {self.state}", job=self)
        return result_of(self._document, self._raw, returns)

    async def refresh(self) -> Self:
        """Look at the job, as it is now. Raises `NotFound` or `Gone`."""
        return self._as(await self._client.status(self.id))

    async def wait(self, timeout: float | None = None) -> Self:
        """Wait until the job has ended, or for ``timeout`` seconds: look at `ended`."""
        return self._as(await self._client.wait(self.id, timeout))

    async def watch(self) -> AsyncIterator[JobDocument]:
        """The job now, and again whenever it has changed or come further, until it has ended."""
        async for job in self._client.watch(self.id):
            yield self._as(job).document

    async def cancel(self) -> Self:
        """Stop the job; one being run is stopped soon. Raises `WrongState` if it ended otherwise."""
        return self._as(await self._client.cancel(self.id))

    async def retry(self) -> Self:
        """Let a failed or cancelled job go on where it ended. Raises `WrongState`."""
        return self._as(await self._client.retry(self.id))

    async def forget(self) -> None:
        """Remove the ended job now. Raises `WrongState` if it has not ended."""
        await self._client.forget(self.id)

    def _as(self, other: AsyncJobHandle) -> Self:
        self._raw, self._document = other.raw, other.document
        return self

    def _take(self, raw: bytes) -> None:
        try:
            self._raw, self._document = raw, msgspec.json.decode(raw, type=JobDocument)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Unreachable(f"the server's answer is not understood: {error}") from None
