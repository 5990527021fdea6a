"""Rules that hold for the calls of a worker at any time, whatever is checked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from raincheck.cli.terminal import one_line
from raincheck.cli.worker_check.proxy import Call

_REFUSED = (400, 401, 403, 405, 413, 415, 422)
"""Statuses that say that the worker has sent a wrong call. Each call can meet a 404, 429 or 5xx."""


def broken_rules(calls: Sequence[Call], token: str | None) -> Iterator[tuple[str, str]]:
    """What the calls should have been, and what they were; ``token`` is the one that the worker was given."""
    tokens = {call.reply["id"]: call.reply["token"] for call in calls if _is_registration(call)}
    for call in calls:
        if call.kind == "other":
            continue
        if token is not None and call.headers.get("authorization") != f"Bearer {token}":
            yield "each call has Authorization: Bearer and the value of RAINCHECK_TOKEN", f"{call} has not"
        if call.worker in tokens and call.headers.get("worker-token") != tokens[call.worker]:
            yield "each call has the Worker-Token of the registration", f"{call} has not"
        elif call.worker is not None and call.worker not in tokens:
            yield "each call names the id of the worker's registration", f"{call} names {call.worker!r}"
        if call.status in _REFUSED:
            yield "the server accepts each call", f"{call}: {one_line(call.reply)}"
    yield from _finished_twice(calls)
    yield from _refused_results(calls)
    yield from _extended_after_loss(calls)


def _is_registration(call: Call) -> bool:
    return call.kind == "register" and call.status == 201


def _finished_twice(calls: Sequence[Call]) -> Iterator[tuple[str, str]]:
    """Attempts that were finished again although the worker had the response to the first time."""
    answered: set[str] = set()
    for call in calls:
        if call.kind == "finish":
            for each in call.attempts:
                if each.get("id") in answered:
                    yield "the worker finishes an attempt once, unless it gets no response", "it did so again"
            answered.update(each["id"] for each in call.answers)


def _refused_results(calls: Sequence[Call]) -> Iterator[tuple[str, str]]:
    for call in calls:
        for each in call.answers:
            if each.get("outcome") == "refused":
                yield "the server accepts each result", one_line(each.get("problem"))


def _extended_after_loss(calls: Sequence[Call]) -> Iterator[tuple[str, str]]:
    """Attempts that were extended although the worker had been told that it has lost them."""
    lost: set[str] = set()
    for call in calls:
        if call.kind == "extend":
            for each in call.attempts:
                if each.get("id") in lost:
                    yield "the worker drops an attempt that it has lost", "it extends it still"
            lost.update(each["id"] for each in call.stops if each["reason"] == "lost")
