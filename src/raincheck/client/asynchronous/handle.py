"""The handle to a job: what is known of it, and what can be asked of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, Self, TypeVar, overload

import msgspec

from raincheck.client.results import result_of
from raincheck.engine.documents import JobDocument
from raincheck.errors import Unfinished, Unreachable
from raincheck.model import State

if TYPE_CHECKING:
    from raincheck.client.asynchronous.client import AsyncClient

T = TypeVar("T")


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
