# Generated from src/raincheck/client/asynchronous/handle.py by tools/twin.py: do not edit.
"""The handle of a job: its last known document, and the methods that act on the job."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Self, TypeVar, overload

import msgspec

from raincheck.client.responses import unreadable_response
from raincheck.client.results import result_of
from raincheck.documents import JobDocument
from raincheck.errors import Unfinished
from raincheck.model import State

if TYPE_CHECKING:
    from raincheck.client.blocking.client import Client

T = TypeVar("T")


class JobHandle:
    """A job as the server last described it. Every request through the handle updates it."""

    def __init__(self, client: Client, raw: bytes) -> None:
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

    def refresh(self) -> Self:
        """Get the job's current state. Raises `NotFound` or `Gone`."""
        return self._update(self._client.status(self.id))

    def wait(self, timeout: float | None = None) -> Self:
        """Wait until the job has ended, or for ``timeout`` seconds; `ended` says which."""
        return self._update(self._client.wait(self.id, timeout))

    def watch(self) -> Iterator[JobDocument]:
        """Yield the job's document now and after every change or progress, until the job has ended."""
        for job in self._client.watch(self.id):
            yield self._update(job).document

    def cancel(self) -> Self:
        """Cancel the job. A running job stops soon after. Raises `WrongState` if it is done or failed."""
        return self._update(self._client.cancel(self.id))

    def retry(self) -> Self:
        """Resume a failed or cancelled job at the step where it stopped. Raises `WrongState`."""
        return self._update(self._client.retry(self.id))

    def forget(self) -> None:
        """Delete the ended job now. Raises `WrongState` if it has not ended."""
        self._client.forget(self.id)

    def _update(self, other: JobHandle) -> Self:
        self._raw, self._document = other.raw, other.document
        return self

    def _set(self, raw: bytes) -> None:
        try:
            self._raw, self._document = raw, msgspec.json.decode(raw, type=JobDocument)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise unreadable_response(error) from None
