"""Sign-in: who may call, and what they may do (docs/decisions/0011).

Nothing here needs the web stack: the commands that look after keys and users use it too. What signs
and hashes is the extra ``raincheck[auth]``, loaded when it is first needed.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from raincheck.auth.scopes import USUAL, Scope, allows, scopes_of
from raincheck.errors import ConfigError

if TYPE_CHECKING:
    from raincheck.auth.service import Service
    from raincheck.auth.tokens import Identity

__all__ = ["DEFAULT_USERS", "USUAL", "Auth", "Scope", "Token", "allows", "installed", "scopes_of"]

DEFAULT_USERS = "raincheck-users.json"
"""The file of users unless it is said."""

MISSING = "sign-in needs more than was installed: pip install 'raincheck[auth]'"


class Token(Struct, frozen=True, kw_only=True):
    """What a caller who signed in is given; ``expires_in`` is in seconds, ``scope`` divided by blanks."""

    access_token: str
    token_type: str = "Bearer"  # noqa: S105 - no secret but the name of a scheme
    expires_in: int
    scope: str

    def __repr__(self) -> str:
        return f"Token(expires_in={self.expires_in}, scope={self.scope!r})"


class Auth:
    """Who may call: the keys that tokens are signed with, and the users who may ask for one.

    ``secret`` is a secret of 32 bytes or more, or several, the newest first; ``secret_file`` a file of
    secrets, one a line, or of a JWK set with HS256 or Ed25519 keys. ``users`` is a file made by
    ``raincheck user add``. Instead, tokens of an issuer elsewhere are taken: ``jwks_url`` is where it
    publishes its keys, ``algorithm`` what it signs with. ``issuer`` and ``audience`` are what a token
    must name, ``lifetime`` how many seconds one of ours holds. Raises `ConfigError`.
    """

    def __init__(
        self,
        *,
        secret: str | Sequence[str] = (),
        secret_file: str | Path | None = None,
        users: str | Path | None = None,
        jwks_url: str | None = None,
        algorithm: str = "RS256",
        issuer: str | None = None,
        audience: str = "raincheck",
        lifetime: float = 3600.0,
    ) -> None:
        self.secrets = (secret,) if isinstance(secret, str) else tuple(secret)
        self.secret_file = None if secret_file is None else Path(secret_file)
        self.users = None if users is None else Path(users)
        self.jwks_url = jwks_url
        self.algorithm = algorithm
        self.issuer = issuer or "raincheck"
        self.audience = audience
        self.lifetime = lifetime
        if sum(map(bool, (self.secrets, secret_file, jwks_url))) != 1:
            raise ConfigError("sign-in needs one of a secret, a file of secrets or keys, and an issuer's URL")
        if jwks_url and (issuer is None or users is not None):
            raise ConfigError("an issuer's URL needs the issuer's name, and no users: they sign in there")
        if not 0 < lifetime <= 366 * 86400:
            raise ConfigError("a token holds for more than 0 seconds, and for 366 days at most")
        self._service = self._make()

    def __repr__(self) -> str:
        return f"Auth(issuer={self.issuer!r}, audience={self.audience!r})"

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Auth | None:
        """What the ``RAINCHECK_`` variables say; None if none of them names a secret, file or issuer."""
        said = {
            name[10:]: value for name, value in environment.items() if name.startswith("RAINCHECK_") and value
        }
        if not said.keys() & {"SECRET", "SECRET_FILE", "JWKS_URL"}:
            if "USERS" in said:
                raise ConfigError("RAINCHECK_USERS is set, but no secret to sign their tokens with is")
            return None
        lifetime = said.get("TOKEN_LIFETIME", "3600")
        try:
            seconds = float(lifetime)
        except ValueError:
            raise ConfigError(f"RAINCHECK_TOKEN_LIFETIME is a number of seconds, not {lifetime!r}") from None
        return cls(
            secret=said.get("SECRET", ()),
            secret_file=said.get("SECRET_FILE"),
            users=said.get("USERS", None if "JWKS_URL" in said else DEFAULT_USERS),
            jwks_url=said.get("JWKS_URL"),
            algorithm=said.get("JWT_ALGORITHM", "RS256"),
            issuer=said.get("ISSUER"),
            audience=said.get("AUDIENCE", "raincheck"),
            lifetime=seconds,
        )

    async def open(self) -> None:
        """Read the files, so that what is wrong with them is said now. Raises `ConfigError`."""
        await self._service.open()

    async def sign_in(
        self, username: str, password: str, scope: str | None = None, *, address: str = ""
    ) -> Token:
        """A token for a user, with all scopes that are theirs or those named in ``scope``.

        ``address`` is where the user asks from; who sends wrong passwords has to wait. Raises
        `NotSignedIn`, `TooManyAttempts`, or `InvalidInput` for a scope that is not theirs.
        """
        return await self._service.sign_in(username, password, scope, address)

    async def issue(
        self, subject: str, scopes: Collection[str] = USUAL, lifetime: float | None = None
    ) -> Token:
        """A token without a password: who calls this has the key. Raises `ConfigError` if nobody here has."""
        return await self._service.issue(subject, scopes_of(scopes), lifetime)

    async def verify(self, token: str | bytes) -> Identity:
        """Who a token is of. Raises `NotSignedIn` if it does not hold."""
        return await self._service.verify(token.encode() if isinstance(token, str) else token)

    async def check(self, authorization: str | bytes | None, scope: str) -> Identity:
        """Who sends this ``Authorization`` header, if they may do what needs the scope.

        Raises `NotSignedIn`, or `NotAllowed` if the token has neither the scope nor ``admin``.
        """
        header = authorization.encode() if isinstance(authorization, str) else authorization
        return await self._service.check(header, Scope(scope))

    def _make(self) -> Service:
        with installed():
            from raincheck.auth.service import Service
        return Service(self)


@contextmanager
def installed() -> Iterator[None]:
    """Say what to install, as a `ConfigError`, if what signs and hashes cannot be imported."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise ConfigError(f"{MISSING} ({error.name} is missing)") from None
