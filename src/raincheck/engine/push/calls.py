"""One call of a push function: a signed request (Standard Webhooks), and what its response means.

An error has a message for callers; what they must not see, such as addresses and the body of the response, is
in its ``traceback``.
"""

from __future__ import annotations

from typing import Any

import msgspec

from raincheck.core.clock import now, to_datetime
from raincheck.core.codec import check_json, from_json, to_json
from raincheck.core.errors import AddressNotAllowed, NotJSON, PushFailed, RequestFailed
from raincheck.core.limits import Limits
from raincheck.core.retry import parse_retry_after
from raincheck.core.text import plain
from raincheck.egress.client import Egress, Response, Target
from raincheck.egress.signatures import signed_headers
from raincheck.engine.push.secrets import Secrets
from raincheck.functions.context import Context
from raincheck.version import VERSION

RESULT_TYPE = "application/vnd.raincheck.result+json"
"""The media type of a response with a result and changes of the job's data."""

MAX_RETRY_AFTER = 86400.0
"""Seconds that a response can postpone the next attempt by."""

SHOWN_BODY = 2000
"""Characters of a response's body that an attempt shows."""

SHOWN_DETAIL = 1000
"""Characters of a problem document that an error repeats."""

_SHOWN_HEADERS = ("content-type", "retry-after", "location")
_RETRYABLE = (408, 429)


class _ResultAndData(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A response of the type `RESULT_TYPE`: ``data`` has the changed top-level keys of the job's data."""

    result: Any = None
    data: dict[str, Any] = {}


class PushCall:
    """Calls the function ``name`` at ``target``, with requests signed by ``secrets``.

    ``timeout`` is that of the function, for steps without one of their own, in seconds.
    """

    def __init__(
        self,
        name: str,
        target: Target,
        secrets: Secrets,
        egress: Egress,
        limits: Limits,
        timeout: float,
    ) -> None:
        self._name = name
        self._target = target
        self._secrets = secrets
        self._egress = egress
        self._limits = limits
        self._timeout = timeout

    async def run(self, ctx: Context, /, *args: Any, **kwargs: Any) -> Any:
        """Send the request of an attempt and return the result. Raises `PushFailed`."""
        sent_at = now()
        body = self._body(ctx, args, kwargs, sent_at)
        message_id = f"{ctx.job.id}_{ctx.index}"
        headers = {
            "Content-Type": "application/json",
            "Accept": f"application/json, {RESULT_TYPE}, application/problem+json",
            "User-Agent": f"raincheck/{VERSION}",
            **signed_headers(message_id, sent_at, body, self._secrets.values),
        }
        try:
            response = await self._egress.post(self._target, headers, body, self._limits.result)
        except AddressNotAllowed as error:
            raise PushFailed(
                "the address of its URL is not in an allowed network", traceback=str(error), fatal=True
            ) from None
        except RequestFailed as error:
            raise PushFailed(
                "its URL sent no complete response", traceback=f"{error.peer}: {error}"
            ) from None
        return self._result(ctx, response)

    def _body(self, ctx: Context, args: tuple[Any, ...], kwargs: dict[str, Any], sent_at: float) -> bytes:
        timeout = self._timeout if ctx.step.timeout is None else ctx.step.timeout
        ends_at = sent_at + timeout
        if ctx.job.expires_at is not None:
            ends_at = min(ends_at, ctx.job.expires_at)
        return to_json(
            {
                "function": self._name,
                "args": args,
                "kwargs": kwargs,
                "data": msgspec.Raw(ctx.job.data),
                "previous": ctx.previous,
                "job": ctx.job.id,
                "name": ctx.job.name,
                "step": ctx.index,
                "attempt": ctx.attempt,
                "token": ctx.token,
                "deadline": to_datetime(ends_at),
            }
        )

    def _result(self, ctx: Context, response: Response) -> Any:
        """The result in a response; changes of data are made in ``ctx``. Raises `PushFailed`."""
        if not 200 <= response.status < 300:
            raise _failure(response)
        if response.is_cut:
            limit = self._limits.result
            raise _unusable(response, f"a body of more than {limit} bytes, the limit of a result")
        if not response.body:
            return None
        kind = _media_type(response)
        if not (kind == "application/json" or kind.endswith("+json")):
            raise _unusable(response, f"a body of the type {kind or 'unknown'} instead of application/json")
        if response.headers.get("content-encoding", "identity") != "identity":
            raise _unusable(response, "a compressed body, which was not accepted")
        try:
            check_json(response.body)
        except NotJSON as error:
            raise _unusable(response, f"a body that is {error}") from None
        if kind != RESULT_TYPE:
            return from_json(response.body)
        try:
            found = msgspec.json.decode(response.body, type=_ResultAndData)
        except msgspec.ValidationError as error:
            raise _unusable(response, f"a body that is not a {RESULT_TYPE}: {error}") from None
        ctx.data.update(found.data)
        return found.result


def _media_type(response: Response) -> str:
    return response.headers.get("content-type", "").partition(";")[0].strip().lower()


def _unusable(response: Response, what: str) -> PushFailed:
    """The error of a response with success whose body is no result: another attempt would get the same."""
    message = plain(f"its URL responded {response.phrase} with {what}")
    return PushFailed(message, traceback=_shown(response), fatal=True)


def _failure(response: Response) -> PushFailed:
    """The error of a response without success."""
    is_retryable = response.status in _RETRYABLE or response.status >= 500
    message = f"its URL responded {response.phrase}"
    if 300 <= response.status < 400:
        message += ", and redirects are not followed"
    elif detail := _problem_detail(response):
        message += f": {detail}"
    retry_after = None
    if is_retryable:
        retry_after = parse_retry_after(response.headers.get("retry-after", ""), now())
    return PushFailed(
        message,
        traceback=_shown(response),
        fatal=not is_retryable,
        retry_after=None if retry_after is None else min(retry_after, MAX_RETRY_AFTER),
    )


def _problem_detail(response: Response) -> str:
    """The detail of a problem document (RFC 9457), or else its title; empty for another body."""
    if _media_type(response) != "application/problem+json":
        return ""
    try:
        problem = from_json(response.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""
    texts = (problem.get("detail"), problem.get("title")) if isinstance(problem, dict) else ()
    return next((plain(text[:SHOWN_DETAIL]) for text in texts if isinstance(text, str) and text), "")


def _shown(response: Response) -> str:
    """The status, some headers and the beginning of the body of a response, as text."""
    text = response.body.decode("utf-8", "replace")
    more = "" if len(text) <= SHOWN_BODY and not response.is_cut else "..."
    headers = "".join(
        f"{name}: {response.headers[name][:SHOWN_BODY]}\n"
        for name in _SHOWN_HEADERS
        if name in response.headers
    )
    return plain(f"HTTP {response.phrase}\n{headers}\n{text[:SHOWN_BODY]}{more}".rstrip())
