"""Our error for each of the server's and of the client's."""

from __future__ import annotations

from redis import exceptions

from raincheck.errors import StoreError, StoreFull, StoreUnavailable, StoreUnusable

_PASSING = ("LOADING", "READONLY", "CLUSTERDOWN", "TRYAGAIN", "MASTERDOWN", "UNBLOCKED", "BUSY", "NOREPLICAS")
_PASSING_ERRORS = (
    OSError,
    exceptions.ConnectionError,
    exceptions.TimeoutError,
    exceptions.ReadOnlyError,
    exceptions.NoScriptError,
    exceptions.ClusterDownError,
    exceptions.TryAgainError,
    exceptions.AskError,
)


def passes(error: BaseException) -> bool:
    """Whether it may be over in a moment: a start, a failover, a slot being moved, a script to be loaded."""
    return isinstance(error, _PASSING_ERRORS) or _text(error).startswith(_PASSING)


def translate(error: BaseException) -> StoreError:
    """The error to be raised."""
    if isinstance(error, StoreError):
        return error
    text = _text(error)
    if isinstance(error, exceptions.OutOfMemoryError) or "OOM" in text.split(" ")[:3]:
        return StoreFull(
            "the server has no memory left (maxmemory): give it more, or keep results for less long"
        )
    if text.startswith("MISCONF"):
        return StoreFull(f"the server cannot write to its disk: {text}")
    if isinstance(error, exceptions.AuthenticationError | exceptions.NoPermissionError):
        return StoreUnavailable(f"the server does not let us in: {text}")
    if isinstance(error, exceptions.ResponseError) and text.startswith("WRONGTYPE"):
        return StoreUnusable(f"keys of this namespace belong to something else: {text}")
    if "cluster support disabled" in text:
        return StoreUnusable("the server is not part of a cluster: say redis://, not redis+cluster://")
    if isinstance(error, exceptions.TryAgainError):
        return StoreUnavailable("the cluster is moving this slot to another node")
    if isinstance(error, exceptions.ResponseError) and not passes(error):
        return StoreError(f"the server refused: {text}")
    return StoreUnavailable(f"the server cannot be reached: {text}")


def _text(error: BaseException) -> str:
    return str(error) or type(error).__name__
