"""What an `Auth` does, with keys and users that may change while it does."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from raincheck.auth import Token
from raincheck.auth.files import Watched
from raincheck.auth.issuer import Issuer
from raincheck.auth.keys import FOREIGN, from_file, from_secrets
from raincheck.auth.passwords import Passwords
from raincheck.auth.scopes import Scope, allows, scopes_of
from raincheck.auth.throttle import Throttle
from raincheck.auth.tokens import Identity, Rules, Verified, issue, key_id, verify
from raincheck.auth.users import User, Users, users_in
from raincheck.clock import monotonic, now
from raincheck.errors import ConfigError, Fault, InvalidInput, NotAllowed, NotFound, NotSignedIn

if TYPE_CHECKING:
    from raincheck.auth import Auth

_BEARER: Final = re.compile(rb"bearer +([A-Za-z0-9._~+/=-]+) *", re.IGNORECASE)
"""RFC 6750 §2.1; the scheme's case does not matter (RFC 9110 §11.1)."""

LOOK_AGAIN = 1.0
"""Seconds after which files are looked at again: as late takes effect what was changed in them."""

WRONG = "the name or the password is wrong"
NOBODY = "there are no users yet: add one with raincheck user add NAME"


class Service:
    """Issues tokens and verifies them."""

    def __init__(self, auth: Auth) -> None:
        if auth.jwks_url and auth.algorithm not in FOREIGN:
            raise ConfigError(f"an issuer's algorithm is one of {', '.join(sorted(FOREIGN))}")
        self._auth = auth
        self._rules = Rules(issuer=auth.issuer, audience=auth.audience, typed=auth.jwks_url is None)
        self._keys = from_secrets([secret.encode() for secret in auth.secrets])
        self._key_file = Watched(auth.secret_file, from_file) if auth.secret_file else None
        self._users = Watched(auth.users, users_in, Users) if auth.users else None
        self._verified = Verified()
        self._issuer = Issuer(auth.jwks_url, auth.algorithm, self._verified.clear) if auth.jwks_url else None
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
        """What `Auth.sign_in` does."""
        if self._issuer is not None:
            raise NotFound(f"tokens for this server come from {self._auth.issuer}: sign in there")
        if self._users is None:
            raise NotFound("there are no users here: configure a file of users, made by raincheck user add")
        await self._refresh(at_once=True)  # who was added a moment ago is let in
        if self._keys.signing is None:
            raise NotFound("no key here can sign a token: sign in where there is one")
        self._throttle.attempt(username, address)
        user = self._users.value.find(username)
        hashed = None if user is None else user.password
        if not await self._passwords.check(password, hashed) or user is None:
            raise NotSignedIn(WRONG if len(self._users.value) else NOBODY)
        self._throttle.succeeded(username, address)
        return self._token(user.name, _wanted(user, scope), self._auth.lifetime, user.stamp)

    async def issue(self, subject: str, scopes: frozenset[Scope], lifetime: float | None) -> Token:
        """What `Auth.issue` does."""
        await self._refresh()
        return self._token(subject, scopes, lifetime or self._auth.lifetime, "")

    def known(self, authorization: bytes | None) -> Identity | None:
        """Who sends this header, if that is known without looking again at anything."""
        if authorization is None or monotonic() >= self._fresh_until:
            return None
        return self._verified.find(authorization, now())

    async def check(self, authorization: bytes | None, scope: Scope) -> Identity:
        """What `Auth.check` does."""
        identity = self.known(authorization)
        if identity is None:
            if authorization is None:
                raise NotSignedIn("there is no token: send Authorization: Bearer and one of POST /v1/token")
            match = _BEARER.fullmatch(authorization)
            if match is None:
                raise NotSignedIn("send one Authorization header: Bearer, a blank and the token")
            identity = await self.verify(match[1])
            self._verified.add(authorization, identity)
        if not allows(identity.scopes, scope):
            raise NotAllowed(f"the token does not allow this: it needs the scope {scope}", scope=scope)
        return identity

    async def verify(self, token: bytes) -> Identity:
        """What `Auth.verify` does."""
        await self._refresh()
        keys = self._keys
        if self._issuer is not None:
            if self._issuer.keys.find(key_id(token)) is None:
                await self._issuer.fetch()
            keys = self._issuer.keys
        identity = verify(token, keys, self._rules, now())
        return self._still(identity) if identity.stamp and self._users is not None else identity

    def _still(self, identity: Identity) -> Identity:
        """A user's identity as far as the file of users still says so."""
        assert self._users is not None  # noqa: S101 - asked before
        user = self._users.value.find(identity.subject)
        if user is None or user.stamp != identity.stamp:
            raise NotSignedIn("the user is gone, or has another password: sign in again")
        return Identity(
            subject=identity.subject,
            scopes=frozenset(scope for scope in identity.scopes if allows(user.scopes, scope)),
            expires_at=identity.expires_at,
            stamp=identity.stamp,
        )

    def _token(self, subject: str, scopes: frozenset[Scope], lifetime: float, stamp: str) -> Token:
        key = self._keys.signing
        if key is None:
            raise ConfigError("no key here can sign a token")
        issued_at = now()
        identity = Identity(subject=subject, scopes=scopes, expires_at=issued_at + lifetime, stamp=stamp)
        return Token(
            access_token=issue(key, self._rules, identity, issued_at),
            expires_in=int(lifetime),
            scope=" ".join(sorted(scopes)),
        )

    async def _refresh(self, *, at_once: bool = False) -> None:
        """Know what has changed since a second ago; of what was verified before, nothing is sure then."""
        if not self._opened:
            await self.open()
        if monotonic() < self._fresh_until and not at_once:
            return
        self._fresh_until = monotonic() + LOOK_AGAIN
        if self._issuer is not None:
            await self._issuer.refresh()
        changed = [await file.refresh() for file in (self._key_file, self._users) if file is not None]
        if any(changed):
            self._keys = self._key_file.value if self._key_file else self._keys
            self._verified.clear()


def _wanted(user: User, scope: str | None) -> frozenset[Scope]:
    """The scopes a user asks for, all of theirs if none. Raises `InvalidInput` for others'."""
    theirs = frozenset(user.scopes)
    if not scope:
        return theirs
    wanted = scopes_of(scope.split())
    if missing := [name for name in sorted(wanted) if not allows(theirs, name)]:
        raise InvalidInput(Fault(f"you have no scope {', '.join(missing)}", "/scope"))
    return wanted
