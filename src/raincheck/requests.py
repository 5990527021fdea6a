"""What callers and files send: functions of a job, as JSON says them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta, Raw, Struct, field

from raincheck.errors import Fault, InvalidInput
from raincheck.functions import NAME, NAME_LIMIT
from raincheck.model import RetryOptions, Step
from raincheck.signature import escape, fault_of
from raincheck.submission import MAX_PRIORITY
from raincheck.submission import Stages as Steps

T = TypeVar("T")

_UNKNOWN = re.compile(r"object contains unknown field `(.*)`", re.IGNORECASE | re.DOTALL)

Priority = Annotated[int, Meta(ge=-MAX_PRIORITY, le=MAX_PRIORITY)]
Timeout = Annotated[float, Meta(gt=0, le=10 * 366 * 86400)]
Arguments = Annotated[Raw, Meta(extra_json_schema={"type": "array", "items": {}})]
Object = Annotated[Raw, Meta(extra_json_schema={"type": "object"})]
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
    kwargs: Object = field(default_factory=partial(Raw, b"{}"))
    retry_count: Annotated[int, Meta(ge=0, le=0)] = 0
    retry_options: RetryOptions | None = None
    timeout: Timeout | None = None


Together = Annotated[list[FunctionRequest], Meta(extra_json_schema={"minItems": 1})]
Stages = Annotated[list[FunctionRequest | Together], Meta(extra_json_schema={"minItems": 1})]


def steps_of(stages: Sequence[FunctionRequest | list[FunctionRequest]]) -> Steps:
    """The steps that a job's functions ask for."""
    return [_step(entry) if isinstance(entry, FunctionRequest) else [*map(_step, entry)] for entry in stages]


def _step(asked: FunctionRequest) -> Step:
    return Step(asked.name, 0, bytes(asked.args), bytes(asked.kwargs), asked.retry_options, asked.timeout)


def container_faults(
    stages: Sequence[FunctionRequest | list[FunctionRequest]], at: str = "/functions"
) -> Iterator[Fault]:
    """Arguments that are no array, or no object: their decoder leaves them as they came."""
    for number, entry in enumerate(stages):
        members = [entry] if isinstance(entry, FunctionRequest) else entry
        for i, function in enumerate(members):
            place = f"{at}/{number}" if isinstance(entry, FunctionRequest) else f"{at}/{number}/{i}"
            if bytes(function.args)[:1] != b"[":
                yield Fault("expected an array", f"{place}/args")
            if bytes(function.kwargs)[:1] != b"{":
                yield Fault("expected an object", f"{place}/kwargs")


def decoded(decode: Callable[[bytes], T], body: bytes) -> T:
    """What a body asks for. Raises `InvalidInput`."""
    try:
        return decode(body)
    except msgspec.ValidationError as error:
        raise InvalidInput(fault_in(error)) from None


def check_containers(data: Raw, stages: Sequence[FunctionRequest | list[FunctionRequest]]) -> None:
    """Raise `InvalidInput` for data that is no object, and for arguments of the wrong form."""
    faults = [] if bytes(data)[:1] == b"{" else [Fault("expected an object", "/data")]
    faults += container_faults(stages)
    if faults:
        raise InvalidInput(*faults)


def fault_in(error: msgspec.ValidationError, at: str = "") -> Fault:
    """What is wrong with JSON; an unknown field is pointed at itself, not at what it is in."""
    fault = fault_of(error, at)
    unknown = _UNKNOWN.fullmatch(fault.detail)
    return fault if unknown is None else fault._replace(pointer=f"{fault.pointer}/{escape(unknown[1])}")
