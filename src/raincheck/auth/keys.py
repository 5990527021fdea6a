"""Keys that sign tokens and tell true ones: each is for one algorithm, and found by its ``kid``."""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from jwt import PyJWK, PyJWTError
from jwt.algorithms import OKPAlgorithm

from raincheck.errors import ConfigError

SHORTEST = 32
"""Bytes of the shortest secret: as many as HS256 yields (RFC 7518 §3.2)."""

_DISTINCT = 8
"""Different bytes that a secret has at least; one that was drawn has more, a sample like ``xxxx`` fewer."""

_TYPES = {"oct": "HS256", "OKP": "EdDSA", "RSA": "RS256", "EC": "ES256"}
"""The algorithm that a type of key is for, unless another is configured."""

_FITTING = {"HS256": "oct", "EdDSA": "OKP", "RS256": "RSA", "PS256": "RSA", "ES256": "EC"}

OWN = frozenset(("HS256", "EdDSA"))
"""The algorithms of keys that this server signs with."""

FOREIGN = frozenset(_FITTING) - {"HS256"}
"""The algorithms that an issuer elsewhere may use: a secret is not published."""

JWK = dict[str, Any]


class Key(NamedTuple):
    """One key: its id, and the only algorithm it is used with."""

    kid: str
    jwk: PyJWK
    private: bool

    @property
    def algorithm(self) -> str:
        """The algorithm."""
        return self.jwk.algorithm_name

    def __repr__(self) -> str:
        return f"Key({self.kid!r}, {self.algorithm})"


class Keys:
    """A set of keys. The first that can sign does; all of them verify."""

    def __init__(self, keys: Iterable[Key] = ()) -> None:
        self._keys: dict[str, Key] = {}
        for key in keys:
            if key.kid in self._keys:
                raise ConfigError(f"two keys have the id {key.kid!r}: remove one")
            self._keys[key.kid] = key

    def __len__(self) -> int:
        return len(self._keys)

    @property
    def signing(self) -> Key | None:
        """The key that signs: the first that can."""
        return next((key for key in self._keys.values() if key.private), None)

    def find(self, kid: str | None) -> Key | None:
        """The key of this id; without an id the only key, if there is just one."""
        if kid is None:
            return next(iter(self._keys.values())) if len(self._keys) == 1 else None
        return self._keys.get(kid)


def from_secrets(found: Sequence[bytes]) -> Keys:
    """Keys of secrets, the newest first. Raises `ConfigError` for one that could be guessed."""
    return Keys(_secret(secret) for secret in found)


def from_file(content: bytes) -> Keys:
    """The keys in a file: a JWK set, a JWK, or secrets, one a line, newest first. Raises `ConfigError`."""
    if not content.strip():
        raise ConfigError("the file of the secret is empty: write one with raincheck key add")
    if content.lstrip()[:1] == b"{":
        return Keys(_own(jwk) for jwk in jwks_of(content))
    return from_secrets([line.strip() for line in content.splitlines() if line.strip()])


def from_issuer(content: bytes, algorithm: str) -> Keys:
    """The keys that an issuer publishes which fit the algorithm; others are for other uses."""
    keys: dict[str, Key] = {}
    for jwk in jwks_of(content):
        if jwk.get("kty") != _FITTING[algorithm] or jwk.get("alg", algorithm) != algorithm:
            continue
        if jwk.get("use", "sig") == "sig" and (key := _key(jwk, algorithm)) is not None:
            keys.setdefault(key.kid, key)
    return Keys(keys.values())


def jwks_of(content: bytes) -> list[JWK]:
    """The JWKs in a JWK set, or the single one. Raises `ConfigError` if it is neither."""
    try:
        found = msgspec.json.decode(content, type=dict[str, Any])
        return msgspec.convert(found["keys"], list[JWK]) if "keys" in found else [found]
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError):
        raise ConfigError('this is no JWK set: one is {"keys": [...]} in JSON') from None


def new_jwk(algorithm: str) -> JWK:
    """A new key for HS256 or EdDSA, with an id of its own."""
    jwk: JWK
    if algorithm == "HS256":
        secret = base64.urlsafe_b64encode(secrets.token_bytes(SHORTEST)).rstrip(b"=").decode()
        jwk = {"kty": "oct", "k": secret}
    else:
        jwk = OKPAlgorithm.to_jwk(Ed25519PrivateKey.generate(), as_dict=True)
    return {**jwk, "kid": secrets.token_hex(6), "alg": algorithm, "use": "sig"}


def _secret(secret: bytes) -> Key:
    if secret.startswith((b"-----BEGIN", b"ssh-")):
        raise ConfigError(
            "the secret is a key file's content, which may be public: raincheck key add makes one"
        )
    _check(secret)
    kid = hashlib.blake2b(secret, digest_size=6, person=b"raincheck kid").hexdigest()
    return Key(kid, PyJWK({"kty": "oct", "k": base64.urlsafe_b64encode(secret).decode()}, "HS256"), True)


def _check(secret: bytes) -> None:
    how = "one drawn by chance is safe: raincheck key add FILE, or openssl rand -base64 32"
    if len(secret) < SHORTEST:
        raise ConfigError(f"a secret of {len(secret)} bytes can be guessed, {SHORTEST} are needed; {how}")
    if len(set(secret)) < _DISTINCT:
        raise ConfigError(f"a secret of {len(set(secret))} different bytes can be guessed; {how}")


def _own(jwk: JWK) -> Key:
    """A key of ours. Raises `ConfigError`, which must not show it."""
    algorithm = _TYPES.get(jwk.get("kty", ""), "")
    if algorithm not in OWN or jwk.get("alg", algorithm) != algorithm:
        raise ConfigError("a key must be an oct key for HS256 or an Ed25519 key for EdDSA")
    key = _key(jwk, algorithm)
    if key is None:
        raise ConfigError(
            f"the key {str(jwk.get('kid', ''))[:50]!r} cannot be used: raincheck key add makes one"
        )
    if algorithm == "HS256":
        _check(key.jwk.key)
    return key


def _key(jwk: JWK, algorithm: str) -> Key | None:
    """A JWK as a key; None if it is broken."""
    try:
        made = PyJWK(jwk, algorithm)
    except (PyJWTError, ValueError, TypeError, KeyError, AttributeError):
        return None
    kid = jwk.get("kid")
    if not isinstance(kid, str):
        kid = hashlib.blake2b(repr(sorted(jwk.items())).encode(), digest_size=6).hexdigest()
    return Key(kid, made, "d" in jwk or algorithm == "HS256")
