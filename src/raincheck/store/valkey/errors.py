"""Our error for each of the server's and of the client's."""

from __future__ import annotations

from ssl import SSLCertVerificationError

from hiredis import ReplyError
from redis import exceptions

from raincheck.core.errors import StoreError, StoreFull, StoreUnavailable, StoreUnusable

_PASSING = {
    *("LOADING", "READONLY", "CLUSTERDOWN", "TRYAGAIN", "MASTERDOWN", "UNBLOCKED", "BUSY", "NOREPLICAS"),
    *("NOSCRIPT", "MOVED", "ASK"),
}
"""Replies that may be others in a moment: a start, a failover, a slot being moved, a script to be loaded."""

_PASSING_ERRORS = (OSError, exceptions.ConnectionError, exceptions.TimeoutError, exceptions.BusyLoadingError)

_SHUT_OUT = ("NOAUTH", "WRONGPASS", "NOPERM")


def code_of(error: BaseException) -> str:
    """The first word of an error reply; empty for any other error."""
    return str(error).partition(" ")[0] if isinstance(error, ReplyError) else ""


def passes(error: BaseException) -> bool:
    """Whether the same command may succeed in a moment."""
    if isinstance(error, exceptions.AuthenticationError):
        return False
    if isinstance(error.__context__, SSLCertVerificationError):
        return False
    return isinstance(error, _PASSING_ERRORS) or code_of(error) in _PASSING


def translate(error: BaseException) -> StoreError:
    """The error to be raised."""
    if isinstance(error, StoreError):
        return error
    text, code = str(error) or type(error).__name__, code_of(error)
    if code == "OOM":
        return StoreFull(
            "the server has no memory left (maxmemory): give it more, or keep results for less long"
        )
    if code == "MISCONF":
        return StoreFull(f"the server cannot write to its disk: {text}")
    if code in _SHUT_OUT or isinstance(error, exceptions.AuthenticationError | exceptions.NoPermissionError):
        return StoreUnavailable(f"the server does not let us in: {text}")
    if code == "WRONGTYPE":
        return StoreUnusable(f"keys of this namespace belong to something else: {text}")
    if "cluster support disabled" in text:
        return StoreUnusable("the server is not part of a cluster: say redis://, not redis+cluster://")
    if code == "TRYAGAIN":
        return StoreUnavailable("the cluster is moving this slot to another node")
    if isinstance(error, ReplyError | exceptions.ResponseError) and not passes(error):
        return StoreError(f"the server refused: {text}")
    return StoreUnavailable(f"the server cannot be reached: {text}")
