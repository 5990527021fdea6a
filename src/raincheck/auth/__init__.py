"""Sign-in: who can call a server, and what each caller is allowed to do (docs/decisions/0011).

It does not import the web stack, as commands use it too. Signing and hashing need the extra
``raincheck[auth]``, which is imported at the first use.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from raincheck.auth.identity import (
    DEFAULT_SCOPES,
    Identity,
    Scope,
    Token,
    allows,
    parse_scopes,
    worker_scope,
)
from raincheck.core.errors import ConfigError

if TYPE_CHECKING:
    from raincheck.auth.service import Service

__all__ = [
    "DEFAULT_SCOPES",
    "DEFAULT_USERS",
    "Auth",
    "Scope",
    "Token",
    "allows",
    "parse_scopes",
    "require_auth_extra",
    "worker_scope",
]

DEFAULT_USERS = "raincheck-users.json"
"""The default file of users."""


class Auth:
    """The sign-in of a server: the keys that sign tokens, and the users who can get one.

    ``secret`` is a secret of at least 32 bytes, or several, newest first. ``secret_file`` is a file
    with secrets, one per line, or with a JWK set of HS256 or Ed25519 keys. ``users`` is a file that
    ``raincheck user add`` writes. To accept the tokens of an external issuer instead, pass the
    ``jwks_url`` of its keys and the ``algorithm`` that it signs with. Tokens must name this
    ``issuer`` and ``audience``. New tokens are valid for ``lifetime`` seconds. Raises `ConfigError`.
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
            raise ConfigError("sign-in needs exactly one of a secret, a secret file and a JWKS URL")
        if jwks_url and (issuer is None or users is not None):
            raise ConfigError("a JWKS URL needs an issuer. Leave out users: they sign in at the issuer.")
        if not 0 < lifetime <= 366 * 86400:
            raise ConfigError(
                f"the lifetime of a token must be more than 0 s and at most 366 days (got {lifetime:g} s)"
            )
        self._service = self._make_service()

    def __repr__(self) -> str:
        return f"Auth(issuer={self.issuer!r}, audience={self.audience!r})"

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Auth | None:
        """Read the ``RAINCHECK_`` variables. None if they set no secret, secret file or JWKS URL."""
        values = {
            name[10:]: value for name, value in environment.items() if name.startswith("RAINCHECK_") and value
        }
        if not values.keys() & {"SECRET", "SECRET_FILE", "JWKS_URL"}:
            if "USERS" in values:
                raise ConfigError(
                    "there are users, but no secret for tokens. Set --secret-file or RAINCHECK_SECRET_FILE."
                )
            return None
        lifetime = values.get("TOKEN_LIFETIME", "3600")
        try:
            seconds = float(lifetime)
        except ValueError:
            raise ConfigError(
                f"RAINCHECK_TOKEN_LIFETIME must be a number of seconds (got {lifetime!r})"
            ) from None
        return cls(
            secret=values.get("SECRET", ()),
            secret_file=values.get("SECRET_FILE"),
            users=values.get("USERS", None if "JWKS_URL" in values else DEFAULT_USERS),
            jwks_url=values.get("JWKS_URL"),
            algorithm=values.get("JWT_ALGORITHM", "RS256"),
            issuer=values.get("ISSUER"),
            audience=values.get("AUDIENCE", "raincheck"),
            lifetime=seconds,
        )

    async def open(self) -> None:
        """Read and validate the files. Raises `ConfigError`."""
        await self._service.open()

    async def sign_in(
        self, username: str, password: str, scope: str | None = None, *, address: str = ""
    ) -> Token:
        """Issue a token to a user, with the scopes in ``scope``, or by default all scopes of the user.

        Failed attempts are limited by user and by ``address``, the caller's IP address. Raises
        `NotSignedIn`, `TooManyAttempts`, `InvalidInput` for a scope that the user does not have, or
        `NotFound` if this server has no users.
        """
        return await self._service.sign_in(username, password, scope, address)

    async def issue(
        self, subject: str, scopes: Collection[str] = DEFAULT_SCOPES, lifetime: float | None = None
    ) -> Token:
        """Issue a token without a password. Raises `ConfigError` if there is no key to sign it with."""
        return await self._service.issue(subject, parse_scopes(scopes), lifetime)

    async def verify(self, token: str | bytes) -> Identity:
        """The identity in a token. Raises `NotSignedIn` if the token is not valid."""
        return await self._service.verify(token.encode() if isinstance(token, str) else token)

    async def check(self, authorization: str | bytes | None, scope: str) -> Identity:
        """The identity in an ``Authorization`` header, checked for a scope.

        Raises `NotSignedIn`, or `NotAllowed` if the token has neither the scope nor ``admin``.
        """
        header = authorization.encode() if isinstance(authorization, str) else authorization
        return await self._service.check(header, Scope(scope))

    def _make_service(self) -> Service:
        with require_auth_extra():
            from raincheck.auth.service import Service, Settings
        settings = Settings(
            secrets=self.secrets,
            secret_file=self.secret_file,
            users=self.users,
            jwks_url=self.jwks_url,
            algorithm=self.algorithm,
            issuer=self.issuer,
            audience=self.audience,
            lifetime=self.lifetime,
        )
        return Service(settings)


@contextmanager
def require_auth_extra() -> Iterator[None]:
    """Raise `ConfigError` with the package to install if an import in this context fails."""
    try:
        yield
    except ModuleNotFoundError as error:
        message = f"sign-in needs the package {error.name}. Install it: pip install 'raincheck[auth]'"
        raise ConfigError(message) from None
