"""Idempotency keys: whose they are, and what tells one request from another.

A key belongs to a caller and an operation: what it is stored by is a digest of the three, so that no caller
meets the key of another. The fingerprint is that of the decoded request: neither spaces nor the order of
the keys of an object change it, and Python and HTTP make the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import msgspec
from msgspec import Raw

from raincheck.core.clock import from_datetime
from raincheck.core.codec import from_json
from raincheck.core.model import RetryOptions
from raincheck.core.options import JobOptions
from raincheck.engine.requests import FunctionRequest
from raincheck.engine.validation import AnyStages, Entry


class IdempotencyKey(NamedTuple):
    """A key as it is stored (``name``), its request's ``fingerprint``, and the key as it was ``given``."""

    name: str
    fingerprint: bytes
    given: str


def key_of_job(
    given: str | None, name: str, stages: AnyStages, options: JobOptions, caller: str | None = None
) -> IdempotencyKey | None:
    """The key of a new job; None if none was given. ``options`` count as given: a delay stays a delay.

    ``caller`` is the signed-in subject; None: nobody known.
    """
    if given is None:
        return None
    dates = [options.scheduled_at, options.expires_at]
    moments = [None if date is None else from_datetime(date) for date in dates]
    seconds = [_float(options.delay), _float(options.result_ttl)]
    asked = [name, [*_functions(stages)], _plain(options.data), options.priority, *seconds, *moments]
    return _key(given, caller, "job", asked)


def key_of_call(
    given: str | None, name: str, args: bytes, kwargs: bytes, caller: str | None = None
) -> IdempotencyKey | None:
    """The key of a call of a function."""
    if given is None:
        return None
    return _key(given, caller, f"function {name}", [from_json(args), from_json(kwargs)])


def key_of_run(
    given: str | None, group: str, data: bytes, args: Mapping[str, bytes], caller: str | None = None
) -> IdempotencyKey | None:
    """The key of a run of a group."""
    if given is None:
        return None
    asked = [from_json(data), {name: from_json(each) for name, each in args.items()}]
    return _key(given, caller, f"group {group}", asked)


def key_of_firing(given: str | None, schedule: str, caller: str | None = None) -> IdempotencyKey | None:
    """The key of a job that is made of a schedule by request."""
    return None if given is None else _key(given, caller, f"schedule {schedule}", [])


def _key(given: str, caller: str | None, operation: str, asked: list[Any]) -> IdempotencyKey:
    owner = _digest([caller, operation, given])
    return IdempotencyKey(owner.hex(), _digest(asked), given)


def _digest(value: Any) -> bytes:
    """A digest of plain values, whatever the order of the keys in their objects."""
    return hashlib.blake2b(msgspec.json.encode(value, order="deterministic"), digest_size=16).digest()


def _functions(stages: AnyStages) -> Iterator[Any]:
    for number, entry in enumerate(stages):
        for each in entry if isinstance(entry, list | tuple) else [entry]:
            yield [number, *_function(each)]  # type: ignore[arg-type] # a list of steps, not of their fields


def _function(asked: Entry) -> list[Any]:
    if isinstance(asked, FunctionRequest):
        name, own = asked.name, asked.retry_options
    else:
        name, own = asked.function, asked.retry
    if own is not None:  # whole numbers may have been given for its seconds
        own = msgspec.convert(msgspec.to_builtins(own), RetryOptions)
    return [name, _plain(asked.args), _plain(asked.kwargs), msgspec.to_builtins(own), _float(asked.timeout)]


def _float(seconds: float | None) -> float | None:
    """Seconds as JSON readers have them: 5 and 5.0 are the same."""
    return None if seconds is None else float(seconds)


def _plain(value: Raw | bytes) -> Any:
    return from_json(bytes(value))
