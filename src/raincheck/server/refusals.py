"""What a request can be refused for before anybody looks at what it means."""

from __future__ import annotations

from typing import NamedTuple

from raincheck.core.errors import RaincheckError


class Kind(NamedTuple):
    """A kind of problem: its ``type``, its title and the status it is answered with."""

    type: str
    title: str
    status: int


MALFORMED = Kind("malformed", "The request is malformed", 400)
CROSS_SITE = Kind("cross-site", "The request comes from another site", 403)
NO_PATH = Kind("not-found", "There is nothing at this path", 404)
NO_METHOD = Kind("method-not-allowed", "The method is not for this path", 405)
TOO_SLOW = Kind("too-slow", "The request took too long to arrive", 408)
MEDIA_TYPE = Kind("unsupported-media-type", "The body is not JSON", 415)
OTHER_HOST = Kind("other-host", "The request is for another host", 421)
HEAD_TOO_LARGE = Kind("head-too-large", "The request's headers are too large", 431)
NOT_READY = Kind("not-ready", "The server is not ready", 503)


class Refused(RaincheckError):
    """The request is refused: which kind of problem, and what to do about it."""

    def __init__(self, kind: Kind, detail: str, *headers: tuple[bytes, bytes]) -> None:
        super().__init__(detail)
        self.kind = kind
        self.headers = headers
