"""Results of jobs, converted to the type that the caller asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Raw, Struct

from raincheck.client.responses import job_cancelled, job_failed
from raincheck.core.errors import UnexpectedResult
from raincheck.core.model import State

if TYPE_CHECKING:
    from raincheck.engine.documents import JobDocument


class _ResultField(Struct, frozen=True):
    result: Raw


def result_of(document: JobDocument, raw: bytes, returns: Any) -> Any:
    """The result of an ended job. Raises `JobFailed`, `JobCancelled` or `UnexpectedResult`."""
    if document.state is State.CANCELLED:
        raise job_cancelled(document.id, document.error)
    if document.state is State.FAILED:
        raise job_failed(document.id, document.error)
    return convert_result(msgspec.json.decode(raw, type=_ResultField).result, returns, document.id)


def convert_result(result: Raw, returns: Any, job_id: str) -> Any:
    """Decode a result as the type ``returns``. Raises `UnexpectedResult` if it has another type."""
    try:
        return msgspec.json.decode(result, type=returns)
    except msgspec.ValidationError as error:
        raise UnexpectedResult(
            f"the result of job {job_id} does not have the type `returns`: {error}"
        ) from None
