"""Idempotency keys: who owns them, and the fingerprint that tells one request from another.

A key belongs to a caller and an operation. It is stored under a digest of caller, operation and key, so that
no caller can meet the key of another. The fingerprint is that of the decoded request: neither spaces nor the
order of the keys of an object change it, and Python and HTTP requests have the same one.
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
    """The stored ``name`` of a key, the ``fingerprint`` of its request, and the ``text`` that was sent."""

    name: str
    fingerprint: bytes
    text: str


def key_of_job(
    text: str | None, name: str, stages: AnyStages, options: JobOptions, caller: str | None = None
) -> IdempotencyKey | None:
    """The key of a new job; None if none was sent. ``options`` count as sent: a delay stays a delay.

    ``caller`` is the signed-in subject; None: no sign-in.
    """
    if text is None:
        return None
    dates = [options.scheduled_at, options.expires_at]
    moments = [None if date is None else from_datetime(date) for date in dates]
    seconds = [_float(options.delay), _float(options.result_ttl)]
    request = [name, [*_functions(stages)], _plain(options.data), options.priority, *seconds, *moments]
    return _key(text, caller, "job", request)


def key_of_call(
    text: str | None, name: str, args: bytes, kwargs: bytes, caller: str | None = None
) -> IdempotencyKey | None:
    """The key of a call of a function."""
    if text is None:
        return None
    return _key(text, caller, f"function {name}", [from_json(args), from_json(kwargs)])


def key_of_run(
    text: str | None, group: str, data: bytes, args: Mapping[str, bytes], caller: str | None = None
) -> IdempotencyKey | None:
    """The key of a run of a group."""
    if text is None:
        return None
    request = [from_json(data), {name: from_json(each) for name, each in args.items()}]
    return _key(text, caller, f"group {group}", request)


def key_of_firing(text: str | None, schedule: str, caller: str | None = None) -> IdempotencyKey | None:
    """The key of a request to run a schedule now."""
    return None if text is None else _key(text, caller, f"schedule {schedule}", [])


def _key(text: str, caller: str | None, operation: str, request: list[Any]) -> IdempotencyKey:
    return IdempotencyKey(_digest([caller, operation, text]).hex(), _digest(request), text)


def _digest(value: Any) -> bytes:
    """A digest of plain values. The order of the keys of objects does not change it."""
    return hashlib.blake2b(msgspec.json.encode(value, order="deterministic"), digest_size=16).digest()


def _functions(stages: AnyStages) -> Iterator[Any]:
    for number, entry in enumerate(stages):
        for each in entry if isinstance(entry, list | tuple) else [entry]:
            yield [number, *_function(each)]  # type: ignore[arg-type] # a list of steps, not of their fields


def _function(entry: Entry) -> list[Any]:
    if isinstance(entry, FunctionRequest):
        name, retry = entry.name, entry.retry_options
    else:
        name, retry = entry.function, entry.retry
    if retry is not None:  # its seconds may be integers: make them floats
        retry = msgspec.convert(msgspec.to_builtins(retry), RetryOptions)
    return [name, _plain(entry.args), _plain(entry.kwargs), msgspec.to_builtins(retry), _float(entry.timeout)]


def _float(seconds: float | None) -> float | None:
    """Seconds as a float, so that 5 and 5.0 are the same."""
    return None if seconds is None else float(seconds)


def _plain(value: Raw | bytes) -> Any:
    return from_json(bytes(value))
