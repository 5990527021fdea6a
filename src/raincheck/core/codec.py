"""Encoding and decoding: the only module that knows the formats.

Records are MessagePack arrays; user values are JSON (RFC 8259) bytes.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from itertools import accumulate, count
from operator import sub
from typing import Any

import msgspec

from raincheck.core.errors import NotJSON
from raincheck.core.libraries import Encode, Writer, plain
from raincheck.core.model import EndedAttempt, Job, Schedule, WorkerInfo

__all__ = [
    "MAX_DEPTH",
    "Encode",
    "Writer",
    "check_json",
    "decode_attempt",
    "decode_job",
    "decode_schedule",
    "decode_worker",
    "encode_attempt",
    "encode_job",
    "encode_schedule",
    "encode_worker",
    "from_json",
    "merge",
    "to_json",
    "too_deep",
    "writer",
]

MAX_DEPTH = 64
"""Levels to which JSON may be nested, in requests and in results."""

_record_encoder = msgspec.msgpack.Encoder()
_record_decoder = msgspec.msgpack.Decoder(Job)
_json_encoder = msgspec.json.Encoder()
_json_decoder = msgspec.json.Decoder()
_strict_encoder = json.JSONEncoder(allow_nan=False, check_circular=False)
_object_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])

_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)  # unclosed to the end: never tried twice
_ESCAPE = re.compile(rb"\\.", re.DOTALL)
_SQUARE = bytes.maketrans(b"{}", b"[]")
_NO_BRACKET = bytes(set(range(256)) - set(b"[]{}"))

encode_job = _record_encoder.encode
"""The record (bytes) of a `Job`."""

decode_job = _record_decoder.decode
"""The `Job` of a record (bytes)."""

encode_attempt = _record_encoder.encode
"""The value (bytes) of a journal's entry for an `EndedAttempt`."""

decode_attempt = msgspec.msgpack.Decoder(EndedAttempt).decode
"""The `EndedAttempt` in the value of an entry (bytes)."""

encode_worker = msgspec.json.Encoder().encode
"""The record (bytes) of a `WorkerInfo`: JSON, because the schemas of its functions may have any numbers."""

decode_worker = msgspec.json.Decoder(WorkerInfo).decode
"""The `WorkerInfo` in a record (bytes)."""

encode_schedule = _record_encoder.encode
"""The record (bytes) of a `Schedule`."""

decode_schedule = msgspec.msgpack.Decoder(Schedule).decode
"""The `Schedule` of a record (bytes)."""

from_json = _json_decoder.decode
"""JSON bytes as plain Python values."""


def writer(encode: Encode | None = None, *, argument: bool = False) -> Writer:
    """A function that writes values as JSON bytes, as `to_json` does.

    ``encode`` makes values of other types writable; ``argument``: the values are arguments of a function.
    """
    hook = partial(_plain, encode, argument)
    to_bytes = msgspec.json.Encoder(enc_hook=hook).encode

    def write(value: Any) -> bytes:
        try:
            encoded = to_bytes(value)
        except (TypeError, ValueError, RecursionError) as error:
            raise NotJSON(_not_json_detail(value, error, to_bytes)) from None
        if too_deep(encoded):
            raise NotJSON(f"not JSON: nested deeper than {MAX_DEPTH} levels")
        if b"null" in encoded and value is not None:  # a None inside, or a NaN, which msgspec encodes as null
            _check_finite(msgspec.to_builtins(value, enc_hook=hook))
        return encoded

    return write


_HINTS = {
    "coroutine": " (write await before the call)",
    "generator": " (make it a list)",
    "async_generator": " (make it a list)",
}
"""By type: what to write instead of a value that cannot be encoded."""


def _plain(encode: Encode | None, argument: bool, value: Any) -> Any:
    """A value that msgspec cannot encode, as one that it can. Raises `TypeError`."""
    if isinstance(value, msgspec.Raw):  # only `msgspec.to_builtins` does not know it
        return None
    try:
        return plain(value, argument=argument)
    except NotImplementedError:
        pass
    if encode is not None:
        with suppress(NotImplementedError):
            return encode(value)
    as_key = " as a key" if isinstance(value, tuple | frozenset) else ""  # as a value they are known
    hint = _HINTS.get(type(value).__name__, "")
    raise TypeError(f"a value of type {type(value).__qualname__} is unsupported{as_key}{hint}")


to_json = writer()
"""A value as JSON bytes: plain data, dataclasses, dates and the like (docs/reference/values.md).

Raises `NotJSON` for other values; the message says what is wrong and where. NaN, infinities, lone surrogates
and nesting over `MAX_DEPTH` are errors too.
"""


def merge(target: bytes, *changes: bytes) -> bytes:
    """The JSON object ``target`` with the top-level keys of ``changes``; later changes win."""
    merged = _object_decoder.decode(target)
    for each in changes:
        merged.update(_object_decoder.decode(each))
    return _json_encoder.encode(merged)


def too_deep(document: bytes, limit: int = MAX_DEPTH) -> bool:
    """Whether JSON bytes are nested deeper than ``limit`` levels."""
    if document.count(b"[") + document.count(b"{") <= limit:
        return False
    brackets = _STRING.sub(b"", document).translate(_SQUARE, _NO_BRACKET)
    opened = accumulate(map(len, brackets.split(b"]")))  # opening brackets before each closing bracket
    deepest: int = max(map(sub, opened, count()))
    return deepest > limit


def check_json(document: bytes, depth: int = MAX_DEPTH) -> None:
    """Raise `NotJSON` unless bytes from outside are JSON that all parsers read in the same way.

    This excludes nesting over ``depth`` levels, numbers beyond a float, and duplicate keys in an object.
    """
    if too_deep(document, depth):
        raise NotJSON(f"nested deeper than {depth} levels")
    try:
        value = _json_decoder.decode(document)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise NotJSON(f"not JSON: {error}") from None
    # a duplicate key is in the value once; without an object there are no keys
    if b"{" in document and _quotes(document) != _quotes(_json_encoder.encode(value)):
        raise NotJSON("an object has the same key twice")


def _quotes(document: bytes) -> int:
    """The number of quotes that begin or end a string."""
    return (_ESCAPE.sub(b"", document) if b"\\" in document else document).count(b'"')


def _check_finite(plain: Any) -> None:
    try:
        _strict_encoder.encode(plain)
    except ValueError:
        path = _path_to(plain, lambda value: isinstance(value, float) and not math.isfinite(value))
        raise NotJSON(f"not JSON: a number that is not finite, at {path or 'a key'}") from None


def _not_json_detail(value: Any, error: Exception, encode: Writer) -> str:
    def is_not_json(each: Any) -> bool:
        try:
            encode(each)
        except (TypeError, ValueError, RecursionError):
            return True
        return False

    try:
        path = _path_to(value, is_not_json)
    except RecursionError:
        path = None
    if path is None or isinstance(error, RecursionError):
        return "not JSON: nested too deeply, or a container that contains itself"
    return f"not JSON: {error}, at {path}"


def _path_to(value: Any, wrong: Callable[[Any], bool], path: str = "$") -> str | None:
    """The JSONPath of the innermost value in plain containers that is ``wrong``; None: there is none."""
    for step, child in _children(value):
        if (found := _path_to(child, wrong, path + step)) is not None:
            return found
    return path if wrong(value) else None


def _children(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, child in value.items():
            yield f".{key}".encode(errors="backslashreplace").decode(), child
    elif isinstance(value, list | tuple):
        for i, child in enumerate(value):
            yield f"[{i}]", child
