"""Refuses what another site's page makes a browser send: there is no sign-in that would stop it."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import ip_address

from raincheck.server.http import Request
from raincheck.server.refusals import CROSS_SITE, OTHER_HOST, Refused

SAFE = frozenset(("GET", "HEAD", "OPTIONS"))


def check_origin(request: Request, local_only: bool) -> None:
    """Raise `Refused` if the request changes something and comes from a page of another site.

    A ``local_only`` server also refuses every other host's name: that name can be made to point here, and
    then its pages are of this site to a browser (DNS rebinding).
    """
    if local_only and not _is_local(request.headers.get(b"host", b"localhost")):
        raise Refused(
            OTHER_HOST,
            "this server is for its own machine: call it as localhost, or serve it with --insecure",
        )
    if request.scope["method"] in SAFE:
        return
    headers = request.headers
    site = headers.get(b"sec-fetch-site")
    if site is not None:
        foreign = site not in (b"same-origin", b"none")
    else:
        origin = headers.get(b"origin")
        foreign = origin is not None and origin.partition(b"://")[2] != headers.get(b"host")
    if foreign:
        raise Refused(
            CROSS_SITE, "a page of another site asked for this: call the API from its own, or not from a page"
        )


@lru_cache(maxsize=64)
def _is_local(host: bytes) -> bool:
    """Whether a ``Host`` is this machine's own name, or an address, which nobody can point elsewhere."""
    name = host.decode("latin-1").rpartition("]")[0].lstrip("[") or host.decode("latin-1").partition(":")[0]
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
