"""Requests for jobs and runs: typed values decoded from JSON."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta, Raw, Struct, field

from raincheck.core.errors import InvalidInput
from raincheck.core.model import RetryOptions
from raincheck.core.options import JobOptions, Object, empty_object
from raincheck.engine.filters import BulkRequest
from raincheck.functions.registry import NAME, NAME_LIMIT
from raincheck.functions.signature import fault_of

T = TypeVar("T")

JOB_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
"""What the id of a job looks like."""

Timeout = Annotated[float, Meta(gt=0, le=10 * 366 * 86400)]
Arguments = Annotated[Raw, Meta(extra_json_schema={"type": "array", "items": {}})]
EitherArguments = Annotated[Raw, Meta(extra_json_schema={"type": ["array", "object"]})]
Name = Annotated[str, Meta(extra_json_schema={"minLength": 1})]
FunctionName = Annotated[
    str, Meta(extra_json_schema={"maxLength": NAME_LIMIT, "pattern": f"^{NAME.pattern}$"})
]


class FunctionRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """One entry of a new job's ``functions``.

    ``retry_count`` can be sent, but only as 0: the server counts the attempts.
    """

    name: FunctionName
    args: Arguments = field(default_factory=partial(Raw, b"[]"))
    kwargs: Object = field(default_factory=empty_object)
    retry_count: Annotated[int, Meta(ge=0, le=0)] = 0
    retry_options: RetryOptions | None = None
    timeout: Timeout | None = None


Together = Annotated[list[FunctionRequest], Meta(extra_json_schema={"minItems": 1})]
Stages = Annotated[list[FunctionRequest | Together], Meta(extra_json_schema={"minItems": 1})]


class JobRequest(JobOptions, frozen=True, forbid_unknown_fields=True, omit_defaults=False):
    """A new job. An entry of ``functions`` that is a list is a stage whose functions run in parallel."""

    name: Name
    functions: Stages


class TriggerRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """A new run of a group. ``data`` is merged over the data of every job and of the functions that follow.

    ``args`` replaces the arguments of the first function of jobs, by job name: an array (by position) or an
    object (by name).
    """

    data: Object = field(default_factory=empty_object)
    args: dict[str, EitherArguments] = field(default_factory=dict)


decode_bulk = msgspec.json.Decoder(BulkRequest).decode
decode_job = msgspec.json.Decoder(JobRequest).decode
decode_trigger = msgspec.json.Decoder(TriggerRequest).decode


def decoded(decode: Callable[[bytes], T], body: bytes) -> T:
    """The request in a body. Raises `InvalidInput`."""
    try:
        return decode(body)
    except msgspec.ValidationError as error:
        raise InvalidInput(fault_of(error, "")) from None


def with_long_names(functions: Any) -> Any:
    """The functions of a file in the form of a request. In a file a name alone is a function."""
    if not isinstance(functions, list):
        return functions
    return [[*map(_long, entry)] if isinstance(entry, list) else _long(entry) for entry in functions]


def _long(entry: Any) -> Any:
    return {"name": entry} if isinstance(entry, str) else entry
