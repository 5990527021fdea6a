"""Keys that sign and verify tokens, and the file of keys that ``raincheck key`` changes.

Each key is for one algorithm and has an id, its ``kid``.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from jwt import PyJWK, PyJWTError
from jwt.algorithms import OKPAlgorithm

from raincheck.auth.files import locked, read_private, write_private
from raincheck.core.errors import ConfigError, NotFound

MIN_SECRET_BYTES = 32
"""Minimum length of a secret, the output size of HS256 (RFC 7518 §3.2)."""

_MIN_DISTINCT_BYTES = 8
"""Minimum number of different bytes in a secret: random ones have more, examples like ``xxxx`` fewer."""

_ALGORITHMS = {"oct": "HS256", "OKP": "EdDSA", "RSA": "RS256", "EC": "ES256"}
"""The default algorithm for each key type."""

_KEY_TYPES = {"HS256": "oct", "EdDSA": "OKP", "RS256": "RSA", "PS256": "RSA", "ES256": "EC"}

OWN_ALGORITHMS = frozenset(("HS256", "EdDSA"))
"""The algorithms that a server can sign with."""

ISSUER_ALGORITHMS = frozenset(_KEY_TYPES) - {"HS256"}
"""The algorithms of external issuers. HS256 is not one, as its key is secret."""

JWK = dict[str, Any]


class Key(NamedTuple):
    """A key with its id, for one algorithm."""

    kid: str
    jwk: PyJWK
    private: bool

    @property
    def algorithm(self) -> str:
        """The only algorithm that the key is used with."""
        return self.jwk.algorithm_name

    def __repr__(self) -> str:
        return f"Key({self.kid!r}, {self.algorithm})"


class Keys:
    """A set of keys. All of them verify tokens; the first one that can sign signs."""

    def __init__(self, keys: Iterable[Key] = ()) -> None:
        self._keys: dict[str, Key] = {}
        for key in keys:
            if key.kid in self._keys:
                raise ConfigError(f"two keys have the id {key.kid!r}. Remove one of them.")
            self._keys[key.kid] = key

    def __len__(self) -> int:
        return len(self._keys)

    @property
    def signing(self) -> Key | None:
        """The key that signs; None if no key can sign."""
        return next((key for key in self._keys.values() if key.private), None)

    def find(self, kid: str | None) -> Key | None:
        """The key with this id. Without an id, the only key if there is exactly one."""
        if kid is None:
            return next(iter(self._keys.values())) if len(self._keys) == 1 else None
        return self._keys.get(kid)


def keys_from_secrets(values: Sequence[bytes]) -> Keys:
    """Keys for secrets, newest first. Raises `ConfigError` for a secret that can be guessed."""
    return Keys(_secret_key(secret) for secret in values)


def keys_from_file(content: bytes) -> Keys:
    """Parse a file with a JWK set, a JWK, or secrets, one per line, newest first. Raises `ConfigError`."""
    if not content.strip():
        raise ConfigError("the secret file is empty. Add a key with raincheck key add.")
    if content.lstrip()[:1] == b"{":
        return Keys(_own_key(jwk) for jwk in parse_jwks(content))
    return keys_from_secrets([line.strip() for line in content.splitlines() if line.strip()])


def keys_from_issuer(content: bytes, algorithm: str) -> Keys:
    """The keys of an issuer's JWK set that are for this algorithm. Others are ignored."""
    keys: dict[str, Key] = {}
    for jwk in parse_jwks(content):
        if jwk.get("kty") != _KEY_TYPES[algorithm] or jwk.get("alg", algorithm) != algorithm:
            continue
        if jwk.get("use", "sig") == "sig" and (key := _parse_key(jwk, algorithm)) is not None:
            keys.setdefault(key.kid, key)
    return Keys(keys.values())


def parse_jwks(content: bytes) -> list[JWK]:
    """Parse a JWK set or a single JWK. Raises `ConfigError`."""
    try:
        document = msgspec.json.decode(content, type=dict[str, Any])
        return msgspec.convert(document["keys"], list[JWK]) if "keys" in document else [document]
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError):
        raise ConfigError('this is not a JWK set, which is JSON in the form {"keys": [...]}') from None


def new_jwk(algorithm: str) -> JWK:
    """Generate a key for HS256 or EdDSA, with a random id."""
    jwk: JWK
    if algorithm == "HS256":
        secret = base64.urlsafe_b64encode(secrets.token_bytes(MIN_SECRET_BYTES)).rstrip(b"=").decode()
        jwk = {"kty": "oct", "k": secret}
    else:
        jwk = OKPAlgorithm.to_jwk(Ed25519PrivateKey.generate(), as_dict=True)
    return {**jwk, "kid": secrets.token_hex(6), "alg": algorithm, "use": "sig"}


def read_keys(path: Path) -> list[JWK]:
    """The keys in a file; empty if the file does not exist. Raises `ConfigError`."""
    if not path.exists():
        return []
    content = read_private(path)
    if content.lstrip()[:1] != b"{":
        raise ConfigError(
            f"{path} has secrets, one per line, not keys. Add a new secret as its first line by hand."
        )
    try:
        keys_from_file(content)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    return parse_jwks(content)


def add_key(path: Path, algorithm: str) -> str:
    """Add a key that signs all new tokens; returns its id."""
    jwk = new_jwk(algorithm)
    _change_file(path, lambda keys: keys.insert(0, jwk))
    return str(jwk["kid"])


def remove_key(path: Path, kid: str) -> None:
    """Remove a key and invalidate the tokens signed with it.

    Raises `NotFound`, or `ConfigError` if it is the only key.
    """

    def remove(keys: list[JWK]) -> None:
        remaining = [key for key in keys if key.get("kid") != kid]
        if len(remaining) == len(keys):
            raise NotFound(f"the key {kid[:100]!r} does not exist in {path}")
        if not remaining:
            raise ConfigError(f"{kid} is the only key in {path}. Add another key first.")
        keys[:] = remaining

    _change_file(path, remove)


def _secret_key(secret: bytes) -> Key:
    if secret.startswith((b"-----BEGIN", b"ssh-")):
        raise ConfigError(
            "the secret looks like a PEM or SSH key, which can be public. Make a key with raincheck key add."
        )
    _check_strength(secret)
    kid = hashlib.blake2b(secret, digest_size=6, person=b"raincheck kid").hexdigest()
    return Key(kid, PyJWK({"kty": "oct", "k": base64.urlsafe_b64encode(secret).decode()}, "HS256"), True)


def _check_strength(secret: bytes) -> None:
    advice = "Make a random one: raincheck key add FILE, or openssl rand -base64 32"
    if len(secret) < MIN_SECRET_BYTES:
        raise ConfigError(
            f"a secret of {len(secret)} bytes can be guessed: it needs {MIN_SECRET_BYTES}. {advice}"
        )
    if len(set(secret)) < _MIN_DISTINCT_BYTES:
        raise ConfigError(f"a secret with only {len(set(secret))} different bytes can be guessed. {advice}")


def _own_key(jwk: JWK) -> Key:
    """A key that can sign here. Raises `ConfigError`, which does not show the key."""
    algorithm = _ALGORITHMS.get(jwk.get("kty", ""), "")
    if algorithm not in OWN_ALGORITHMS or jwk.get("alg", algorithm) != algorithm:
        raise ConfigError(
            "a key must be an oct key for HS256 or an Ed25519 key for EdDSA. Make one with raincheck key add"
        )
    key = _parse_key(jwk, algorithm)
    if key is None:
        raise ConfigError(
            f"the key {str(jwk.get('kid', ''))[:50]!r} is not valid. Make one with raincheck key add."
        )
    if algorithm == "HS256":
        _check_strength(key.jwk.key)
    return key


def _parse_key(jwk: JWK, algorithm: str) -> Key | None:
    """Parse a JWK; None if it is not valid."""
    try:
        parsed = PyJWK(jwk, algorithm)
    except (PyJWTError, ValueError, TypeError, KeyError, AttributeError):
        return None
    kid = jwk.get("kid")
    if not isinstance(kid, str):
        kid = hashlib.blake2b(repr(sorted(jwk.items())).encode(), digest_size=6).hexdigest()
    return Key(kid, parsed, "d" in jwk or algorithm == "HS256")


def _change_file(path: Path, change: Callable[[list[JWK]], None]) -> None:
    with locked(path):
        keys = read_keys(path)
        change(keys)
        write_private(path, msgspec.json.format(msgspec.json.encode({"keys": keys}), indent=2) + b"\n")
