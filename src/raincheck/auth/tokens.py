"""Tokens: JWTs (RFC 7519, RFC 9068), issued and verified."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import jwt
import msgspec
from jwt.api_jws import PyJWS
from msgspec import Struct

from raincheck.auth.keys import Key, Keys
from raincheck.auth.scopes import Scope
from raincheck.clock import new_id
from raincheck.errors import NotSignedIn

LONGEST = 8 * 1024
"""Bytes of a token; a longer one is not even decoded."""

LEEWAY = 30.0
"""Seconds that clocks may differ."""

LONGEST_LIFETIME = 366 * 86400.0
"""Seconds that a token may hold; one that is to hold for longer is a mistake, or made up."""

CACHED = 4096
"""Tokens that are remembered as verified."""

_TYPE = "at+jwt"
_KNOWN = frozenset(Scope)


class Identity(Struct, frozen=True, kw_only=True):
    """Who calls: ``subject`` is a user's name or the issuer's; until ``expires_at`` (seconds since 1970)."""

    subject: str
    scopes: frozenset[Scope]
    expires_at: float
    stamp: str = ""


class _Header(Struct, frozen=True):
    alg: str
    kid: str | None = None
    typ: str | None = None
    crit: Any = None
    b64: Any = None


class _Claims(Struct, frozen=True):
    iss: str
    aud: str | list[str]
    sub: str
    exp: float
    iat: float
    nbf: float = 0.0
    scope: str = ""
    scp: str | list[str] = ""
    stamp: str = ""


_decode_header = msgspec.json.Decoder(_Header).decode
_decode_claims = msgspec.json.Decoder(_Claims).decode
_jws = {name: PyJWS([name]) for name in ("HS256", "EdDSA", "RS256", "PS256", "ES256")}
"""For each algorithm one that knows no other: a token cannot choose (RFC 8725 §3.1)."""


class Rules(Struct, frozen=True, kw_only=True):
    """What a token must say, besides being signed."""

    issuer: str
    audience: str
    typed: bool
    """Whether it must call itself an access token, as ours do; other issuers seldom say it."""


def issue(key: Key, rules: Rules, identity: Identity, issued_at: float) -> str:
    """A token that says who somebody is and what they may do."""
    claims = {
        "iss": rules.issuer,
        "aud": rules.audience,
        "sub": identity.subject,
        "iat": int(issued_at),
        "exp": int(identity.expires_at),
        "jti": new_id(),
        "scope": " ".join(sorted(identity.scopes)),
        **({"stamp": identity.stamp} if identity.stamp else {}),
    }
    headers = {"kid": key.kid, "typ": _TYPE}
    return _jws[key.algorithm].encode(msgspec.json.encode(claims), key.jwk, key.algorithm, headers)


def key_id(token: bytes) -> str | None:
    """The id of the key that a token says it is signed with. Raises `NotSignedIn`."""
    return _header(token).kid


def verify(token: bytes, keys: Keys, rules: Rules, now: float) -> Identity:
    """Who sent the token. Raises `NotSignedIn` if there is anything wrong with it."""
    header = _header(token)
    key = keys.find(header.kid)
    if key is None:
        raise NotSignedIn("the token is signed with an unknown key")
    if header.alg != key.algorithm:
        raise NotSignedIn("the token is signed with another algorithm than its key is for")
    if header.typ is not None or rules.typed:
        _check_type((header.typ or "").lower(), rules)
    try:
        found = _jws[key.algorithm].decode_complete(
            token, key.jwk, [key.algorithm], {"verify_signature": True, "enforce_minimum_key_length": True}
        )
        claims = _decode_claims(found["payload"])
    except jwt.PyJWTError:
        raise NotSignedIn("the token's signature is not right") from None
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError):
        raise NotSignedIn("the token lacks a claim, or has one of the wrong type") from None
    _check_claims(claims, rules, now)
    return Identity(
        subject=claims.sub,
        scopes=_scopes(claims),
        expires_at=claims.exp,
        stamp=claims.stamp if rules.typed else "",
    )


def _header(token: bytes) -> _Header:
    if len(token) > LONGEST:
        raise NotSignedIn(f"the token is longer than {LONGEST} bytes")
    parts = token.split(b".")
    if len(parts) != 3:
        raise NotSignedIn("the token is no signed JWT")
    try:
        header = _decode_header(base64.urlsafe_b64decode(parts[0] + b"=="))
    except (ValueError, msgspec.DecodeError):  # a ValidationError is both
        raise NotSignedIn("the token is no signed JWT") from None
    if header.crit is not None or header.b64 is not None:
        raise NotSignedIn("the token demands an extension that is not known here")
    return header


def _check_type(name: str, rules: Rules) -> None:
    name = name.removeprefix("application/")
    if name != _TYPE and (rules.typed or name != "jwt"):
        raise NotSignedIn("the token is no access token")


def _check_claims(claims: _Claims, rules: Rules, now: float) -> None:
    if claims.iss != rules.issuer:
        raise NotSignedIn("the token is from another issuer")
    if rules.audience not in ([claims.aud] if isinstance(claims.aud, str) else claims.aud):
        raise NotSignedIn("the token is for another audience")
    if not now - LEEWAY < claims.exp:
        raise NotSignedIn("the token has expired")
    if not (claims.iat <= now + LEEWAY and claims.nbf <= now + LEEWAY):
        raise NotSignedIn("the token is not valid yet: is a clock wrong?")
    if not claims.exp - claims.iat <= LONGEST_LIFETIME:
        raise NotSignedIn("the token holds for longer than a token may")


def _scopes(claims: _Claims) -> frozenset[Scope]:
    found = claims.scope or claims.scp
    names = found.split() if isinstance(found, str) else found
    return frozenset(Scope(name) for name in names if name in _KNOWN)


class Verified:
    """Tokens that were verified, by their hash, until they expire."""

    def __init__(self) -> None:
        self._known: dict[bytes, Identity] = {}

    def find(self, token: bytes, now: float) -> Identity | None:
        """Who sent the token, if it was verified and still holds."""
        digest = _digest(token)
        found = self._known.get(digest)
        if found is not None and found.expires_at <= now - LEEWAY:
            del self._known[digest]
            return None
        return found

    def add(self, token: bytes, identity: Identity) -> None:
        """Remember a token; if there are too many, the one that came first is forgotten."""
        if len(self._known) >= CACHED:
            del self._known[next(iter(self._known))]
        self._known[_digest(token)] = identity

    def clear(self) -> None:
        """Forget all: keys or users have changed."""
        self._known.clear()


def _digest(token: bytes) -> bytes:
    return hashlib.blake2b(token, digest_size=32).digest()
