"""Results of jobs, as the type that is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Raw, Struct

from raincheck.client.answers import failed
from raincheck.errors import JobCancelled, UnexpectedResult
from raincheck.model import State

if TYPE_CHECKING:
    from raincheck.engine.documents import JobDocument


class _Ended(Struct, frozen=True):
    result: Raw


def result_of(document: JobDocument, raw: bytes, returns: Any) -> Any:
    """The result of an ended job. Raises `JobFailed`, `JobCancelled` or `UnexpectedResult`."""
    if document.state is State.CANCELLED:
        raise JobCancelled(f"job {document.id} was cancelled", job_id=document.id, problem=document.error)
    if document.state is State.FAILED:
        raise failed(document.id, document.error)
    return typed(msgspec.json.decode(raw, type=_Ended).result, returns, document.id)


def typed(result: Raw, returns: Any, job_id: str) -> Any:
    """A result as the type ``returns``. Raises `UnexpectedResult` if it is not of it."""
    try:
        return msgspec.json.decode(result, type=returns)
    except msgspec.ValidationError as error:
        raise UnexpectedResult(f"the result of job {job_id} is not what was asked for: {error}") from None
