"""The implementation of `Auth`: issues and verifies tokens with keys and users that can change."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from msgspec import Struct

from raincheck.auth.files import WatchedFile
from raincheck.auth.identity import Identity, Scope, Token, admits, allows, parse_scopes
from raincheck.auth.issuer import Issuer
from raincheck.auth.keys import ISSUER_ALGORITHMS, keys_from_file, keys_from_secrets
from raincheck.auth.passwords import Passwords, Throttle
from raincheck.auth.tokens import Rules, TokenCache, issue, key_id, verify
from raincheck.auth.users import User, Users, parse_users
from raincheck.core.clock import monotonic, now
from raincheck.core.errors import ConfigError, Fault, InvalidInput, NotAllowed, NotFound, NotSignedIn

_BEARER: Final = re.compile(rb"bearer +([A-Za-z0-9._~+/=-]+) *", re.IGNORECASE)
"""RFC 6750 §2.1; the scheme's case does not matter (RFC 9110 §11.1)."""

CHECK_INTERVAL = 1.0
"""Seconds between two checks of the files for changes."""

WRONG_LOGIN = "the username or the password is wrong"
NO_USERS = "this server has no users yet. Add one with raincheck user add NAME."


class Settings(Struct, frozen=True, kw_only=True):
    """The parameters of `Auth`. ``lifetime`` is in seconds."""

    secrets: tuple[str, ...]
    secret_file: Path | None
    users: Path | None
    jwks_url: str | None
    algorithm: str
    issuer: str
    audience: str
    lifetime: float

    def __repr__(self) -> str:
        return f"Settings(issuer={self.issuer!r}, audience={self.audience!r})"  # without the secrets


class Service:
    """Issues tokens and verifies them."""

    def __init__(self, settings: Settings) -> None:
        if settings.jwks_url and settings.algorithm not in ISSUER_ALGORITHMS:
            raise ConfigError(
                f"the algorithm of an issuer must be one of {', '.join(sorted(ISSUER_ALGORITHMS))}"
            )
        self._settings = settings
        self._rules = Rules(
            issuer=settings.issuer, audience=settings.audience, typed=settings.jwks_url is None
        )
        self._keys = keys_from_secrets([secret.encode() for secret in settings.secrets])
        self._key_file = WatchedFile(settings.secret_file, keys_from_file) if settings.secret_file else None
        self._users = WatchedFile(settings.users, parse_users, Users) if settings.users else None
        self._verified = TokenCache()
        self._issuer = (
            Issuer(settings.jwks_url, settings.algorithm, self._verified.clear) if settings.jwks_url else None
        )
        self._passwords = Passwords()
        self._throttle = Throttle()
        self._opened = False
        self._fresh_until = 0.0

    async def open(self) -> None:
        """Read the files. Raises `ConfigError`."""
        for file in (self._key_file, self._users):
            if file is not None:
                await file.load()
        if self._key_file is not None:
            self._keys = self._key_file.value
        self._opened = True

    async def sign_in(self, username: str, password: str, scope: str | None, address: str) -> Token:
        """See `Auth.sign_in`."""
        if self._issuer is not None:
            raise NotFound(f"this server accepts tokens of {self._settings.issuer}. Sign in there.")
        if self._users is None:
            raise NotFound(
                "this server has no file of users. Make one with raincheck user add, and configure it."
            )
        await self._refresh(force=True)  # a user who was added a moment ago can sign in
        if self._keys.signing is None:
            raise NotFound("this server has no key that can sign a token. Sign in at a server that has one.")
        self._throttle.attempt(username, address)
        user = self._users.value.find(username)
        hashed = None if user is None else user.password
        if not await self._passwords.check(password, hashed) or user is None:
            raise NotSignedIn(WRONG_LOGIN if len(self._users.value) else NO_USERS)
        self._throttle.succeeded(username, address)
        return self._token(user.name, _requested_scopes(user, scope), self._settings.lifetime, user.stamp)

    async def issue(self, subject: str, scopes: frozenset[str], lifetime: float | None) -> Token:
        """See `Auth.issue`."""
        await self._refresh()
        return self._token(subject, scopes, lifetime or self._settings.lifetime, "")

    def cached_identity(self, authorization: bytes | None) -> Identity | None:
        """The identity in a header that was verified before; None if it must be verified again."""
        if authorization is None or monotonic() >= self._fresh_until:
            return None
        return self._verified.find(authorization, now())

    async def check(self, authorization: bytes | None, scope: Scope) -> Identity:
        """See `Auth.check`."""
        identity = self.cached_identity(authorization)
        if identity is None:
            if authorization is None:
                raise NotSignedIn(
                    "the request has no token. Send Authorization: Bearer TOKEN, with one of POST /v1/token."
                )
            match = _BEARER.fullmatch(authorization)
            if match is None:
                raise NotSignedIn("the Authorization header is not valid. Send Authorization: Bearer TOKEN.")
            identity = await self.verify(match[1])
            self._verified.add(authorization, identity)
        if not admits(identity.scopes, scope):
            raise NotAllowed(
                f"the token does not have the scope {scope}. Sign in with that scope.", scope=scope
            )
        return identity

    async def verify(self, token: bytes) -> Identity:
        """See `Auth.verify`."""
        await self._refresh()
        keys = self._keys
        if self._issuer is not None:
            if self._issuer.keys.find(key_id(token)) is None:
                await self._issuer.fetch()
            keys = self._issuer.keys
        identity = verify(token, keys, self._rules, now())
        return self._current_identity(identity) if identity.stamp and self._users is not None else identity

    def _current_identity(self, identity: Identity) -> Identity:
        """The identity with the scopes that the user still has. Raises `NotSignedIn` without the user."""
        assert self._users is not None  # noqa: S101 - the caller checks it
        user = self._users.value.find(identity.subject)
        if user is None or user.stamp != identity.stamp:
            raise NotSignedIn("the user was removed or has a new password. Sign in again.")
        return Identity(
            subject=identity.subject,
            scopes=frozenset(scope for scope in identity.scopes if allows(user.scopes, scope)),
            expires_at=identity.expires_at,
            stamp=identity.stamp,
        )

    def _token(self, subject: str, scopes: frozenset[str], lifetime: float, stamp: str) -> Token:
        key = self._keys.signing
        if key is None:
            raise ConfigError("there is no key that can sign a token. Add one with raincheck key add.")
        issued_at = now()
        identity = Identity(subject=subject, scopes=scopes, expires_at=issued_at + lifetime, stamp=stamp)
        return Token(
            access_token=issue(key, self._rules, identity, issued_at),
            expires_in=int(lifetime),
            scope=" ".join(sorted(scopes)),
        )

    async def _refresh(self, *, force: bool = False) -> None:
        """Read changed files, at most once per `CHECK_INTERVAL`. A change clears the cache of tokens."""
        if not self._opened:
            await self.open()
        if monotonic() < self._fresh_until and not force:
            return
        self._fresh_until = monotonic() + CHECK_INTERVAL
        if self._issuer is not None:
            await self._issuer.refresh()
        changed = [await file.refresh() for file in (self._key_file, self._users) if file is not None]
        if any(changed):
            self._keys = self._key_file.value if self._key_file else self._keys
            self._verified.clear()


def _requested_scopes(user: User, scope: str | None) -> frozenset[str]:
    """The scopes in ``scope``, or all scopes of the user. Raises `InvalidInput` for other scopes."""
    granted = frozenset(user.scopes)
    if not scope:
        return granted
    requested = parse_scopes(scope.split())
    if missing := [name for name in sorted(requested) if not allows(granted, name)]:
        raise InvalidInput(Fault(f"the user does not have the scope {', '.join(missing)}", "/scope"))
    return requested
