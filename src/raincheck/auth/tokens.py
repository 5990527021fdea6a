"""Issues and verifies tokens: JWTs (RFC 7519, RFC 9068)."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import jwt
import msgspec
from jwt.api_jws import PyJWS
from msgspec import Struct

from raincheck.auth.identity import Identity, is_scope
from raincheck.auth.keys import Key, Keys
from raincheck.core.clock import new_id
from raincheck.core.errors import NotSignedIn

MAX_TOKEN_BYTES = 8 * 1024
"""Maximum length of a token; a longer one is not decoded."""

LEEWAY = 30.0
"""Seconds by which the clocks of two machines can differ."""

MAX_LIFETIME = 366 * 86400.0
"""Maximum lifetime of a token in seconds; a longer one is a mistake or a forgery."""

MAX_CACHED = 4096
"""Maximum number of tokens in the cache."""

_TYPE = "at+jwt"


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
"""A verifier for each algorithm, as a token must not choose its algorithm (RFC 8725 §3.1)."""


class Rules(Struct, frozen=True, kw_only=True):
    """The claims that a token must have, besides its signature."""

    issuer: str
    audience: str
    typed: bool
    """Whether its type must be ``at+jwt``. raincheck sets it; many issuers do not."""


def issue(key: Key, rules: Rules, identity: Identity, issued_at: float) -> str:
    """Sign a token for an identity."""
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
    """The id of the key in the header of a token; not verified. Raises `NotSignedIn`."""
    return _parse_header(token).kid


def verify(token: bytes, keys: Keys, rules: Rules, now: float) -> Identity:
    """The identity in a token. Raises `NotSignedIn` if the token is not valid."""
    header = _parse_header(token)
    key = keys.find(header.kid)
    if key is None:
        raise NotSignedIn("the token is signed with an unknown key")
    if header.alg != key.algorithm:
        raise NotSignedIn("the token is not signed with the algorithm of its key")
    if header.typ is not None or rules.typed:
        _check_type((header.typ or "").lower(), rules)
    try:
        decoded = _jws[key.algorithm].decode_complete(
            token, key.jwk, [key.algorithm], {"verify_signature": True, "enforce_minimum_key_length": True}
        )
        claims = _decode_claims(decoded["payload"])
    except jwt.PyJWTError:
        raise NotSignedIn("the signature of the token is not valid") from None
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError):
        raise NotSignedIn("a claim of the token is missing or has the wrong type") from None
    _check_claims(claims, rules, now)
    return Identity(
        subject=claims.sub,
        scopes=_scopes(claims),
        expires_at=claims.exp,
        stamp=claims.stamp if rules.typed else "",
    )


def _parse_header(token: bytes) -> _Header:
    if len(token) > MAX_TOKEN_BYTES:
        raise NotSignedIn(f"the token is longer than {MAX_TOKEN_BYTES} bytes")
    parts = token.split(b".")
    if len(parts) != 3:
        raise NotSignedIn("the token is not a signed JWT")
    try:
        header = _decode_header(base64.urlsafe_b64decode(parts[0] + b"=="))
    except (ValueError, msgspec.DecodeError):  # a ValidationError is both
        raise NotSignedIn("the token is not a signed JWT") from None
    if header.crit is not None or header.b64 is not None:
        raise NotSignedIn("the token requires an extension that is not supported")
    return header


def _check_type(name: str, rules: Rules) -> None:
    name = name.removeprefix("application/")
    if name != _TYPE and (rules.typed or name != "jwt"):
        raise NotSignedIn("the token is not an access token")


def _check_claims(claims: _Claims, rules: Rules, now: float) -> None:
    if claims.iss != rules.issuer:
        raise NotSignedIn("the token is from another issuer")
    if rules.audience not in ([claims.aud] if isinstance(claims.aud, str) else claims.aud):
        raise NotSignedIn("the token is for another audience")
    if not now - LEEWAY < claims.exp:
        raise NotSignedIn("the token has expired")
    if not (claims.iat <= now + LEEWAY and claims.nbf <= now + LEEWAY):
        raise NotSignedIn("the token is not valid yet. Is the clock of this machine correct?")
    if not claims.exp - claims.iat <= MAX_LIFETIME:
        raise NotSignedIn("the lifetime of the token is more than 366 days")


def _scopes(claims: _Claims) -> frozenset[str]:
    scope = claims.scope or claims.scp
    names = scope.split() if isinstance(scope, str) else scope
    return frozenset(filter(is_scope, names))


class TokenCache:
    """The identities of verified tokens, by the hash of the token, until they expire."""

    def __init__(self) -> None:
        self._identities: dict[bytes, Identity] = {}

    def find(self, token: bytes, now: float) -> Identity | None:
        """The identity of a token; None if it is not in the cache or has expired."""
        digest = _digest(token)
        identity = self._identities.get(digest)
        if identity is not None and identity.expires_at <= now - LEEWAY:
            del self._identities[digest]
            return None
        return identity

    def add(self, token: bytes, identity: Identity) -> None:
        """Add a verified token. A full cache drops its oldest token."""
        if len(self._identities) >= MAX_CACHED:
            del self._identities[next(iter(self._identities))]
        self._identities[_digest(token)] = identity

    def clear(self) -> None:
        """Remove all tokens, after a change of keys or users."""
        self._identities.clear()


def _digest(token: bytes) -> bytes:
    return hashlib.blake2b(token, digest_size=32).digest()
