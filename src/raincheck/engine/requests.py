"""What callers and files send: records as JSON says them, decoded once."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta, Raw, Struct, field

from raincheck.core.errors import Fault, InvalidInput
from raincheck.core.model import RetryOptions
from raincheck.core.options import JobOptions, Object, empty_object
from raincheck.functions.registry import NAME, NAME_LIMIT
from raincheck.functions.signature import escape, fault_of

T = TypeVar("T")

_UNKNOWN = re.compile(r"object contains unknown field `(.*)`", re.IGNORECASE | re.DOTALL)

Timeout = Annotated[float, Meta(gt=0, le=10 * 366 * 86400)]
Arguments = Annotated[Raw, Meta(extra_json_schema={"type": "array", "items": {}})]
EitherArguments = Annotated[Raw, Meta(extra_json_schema={"type": ["array", "object"]})]
Name = Annotated[str, Meta(extra_json_schema={"minLength": 1})]
FunctionName = Annotated[
    str, Meta(extra_json_schema={"maxLength": NAME_LIMIT, "pattern": f"^{NAME.pattern}$"})
]


class FunctionRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """One entry of a new job's ``functions``.

    ``retry_count`` is for those who send back what they read: a new job has made no attempts.
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
    """A new job. An entry of ``functions`` that is a list is a stage whose members run together."""

    name: Name
    functions: Stages


class TriggerRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """What a run is given: ``data`` over that of every job and of the follow-up, and other arguments.

    ``args`` has, by the names of jobs, the arguments of their first function: an array (by position) or an
    object (by name).
    """

    data: Object = field(default_factory=empty_object)
    args: dict[str, EitherArguments] = field(default_factory=dict)


decode_job = msgspec.json.Decoder(JobRequest).decode
decode_trigger = msgspec.json.Decoder(TriggerRequest).decode


def decoded(decode: Callable[[bytes], T], body: bytes) -> T:
    """What a body asks for. Raises `InvalidInput`."""
    try:
        return decode(body)
    except msgspec.ValidationError as error:
        raise InvalidInput(fault_in(error)) from None


def fault_in(error: msgspec.ValidationError, at: str = "") -> Fault:
    """The fault that a decoder found; an unknown field is pointed at itself, not at its object."""
    fault = fault_of(error, at)
    unknown = _UNKNOWN.fullmatch(fault.detail)
    return fault if unknown is None else fault._replace(pointer=f"{fault.pointer}/{escape(unknown[1])}")


def with_long_names(functions: Any) -> Any:
    """A file's functions as a request has them: in a file, a name alone is a function without arguments."""
    if not isinstance(functions, list):
        return functions
    return [[*map(_named, entry)] if isinstance(entry, list) else _named(entry) for entry in functions]


def _named(entry: Any) -> Any:
    return {"name": entry} if isinstance(entry, str) else entry
