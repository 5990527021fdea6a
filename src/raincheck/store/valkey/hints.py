"""What processes tell each other by publish and subscribe: hints where something changed, and no more.

Whoever waits looks again when it is told, and once in a while in any case.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress

import msgspec

from raincheck.core.model import Job
from raincheck.store.listeners import Listeners
from raincheck.store.valkey.claim_waiters import ClaimWaiters


class Hint(msgspec.Struct, array_like=True):
    """Functions with new places, jobs that changed, and the process that says so."""

    functions: list[str]
    jobs: list[str]
    origin: str = ""


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Hint).decode


class Hints:
    """Tells the listeners and the waiting claims of this process; ``origin`` is its name among the others."""

    def __init__(self, listeners: Listeners, waiters: ClaimWaiters, origin: str) -> None:
        self._listeners = listeners
        self._waiters = waiters
        self._origin = origin

    @property
    def wanted(self) -> bool:
        """Whether anybody in this process waits for a hint."""
        return self._listeners.present or self._waiters.wanted

    def message(self, functions: Iterable[str], job_ids: list[str]) -> bytes:
        """A hint for other processes; empty if there is nothing to say."""
        names = list(functions)
        return _encode(Hint(names, job_ids, self._origin)) if names or job_ids else b""

    def tell(self, jobs: Mapping[str, Job | None], functions: Iterable[str]) -> None:
        """Tell this process of what it has written."""
        if jobs:
            self._listeners.notify(jobs)
        if functions:
            self._waiters.wake(functions)

    def tell_all(self) -> None:
        """Anything may have changed: let all that wait look again."""
        self._listeners.notify({})
        self._waiters.wake(None)

    def hear(self, message: bytes) -> None:
        """Tell this process what another one has published."""
        with suppress(msgspec.MsgspecError):
            hint = _decode(message)
            if hint.origin != self._origin:
                self.tell(dict.fromkeys(hint.jobs), hint.functions)
