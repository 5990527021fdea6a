"""Makes tokens by hand, as an attacker does, and cheap password hashes, without code of raincheck."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from base64 import urlsafe_b64encode
from typing import Any

from argon2 import PasswordHasher
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

SECRET = "0123456789abcdef0123456789abcdef-a-secret-for-tests"


def quick_hash(password: str) -> str:
    """A hash that is quick to check, for tests that only need to sign in."""
    return PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(password)


def b64(data: bytes) -> str:
    """Base64 as in tokens."""
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def claims(**changes: Any) -> dict[str, Any]:
    """Valid claims with changes; None removes a claim."""
    now = int(time.time())
    good = {
        "iss": "raincheck",
        "aud": "raincheck",
        "sub": "ann",
        "iat": now,
        "exp": now + 3600,
        "scope": "job:read job:write",
    }
    return {name: value for name, value in (good | changes).items() if value is not None}


def header(**changes: Any) -> dict[str, Any]:
    """A valid header with changes."""
    good = {"alg": "HS256", "typ": "at+jwt"}
    return {name: value for name, value in (good | changes).items() if value is not None}


def token(payload: Any = None, head: Any = None, key: bytes | Ed25519PrivateKey | None = None) -> str:
    """A token with these claims, signed with HMAC or Ed25519, regardless of its header."""
    key = SECRET.encode() if key is None else key
    parts = [head or header(), payload if payload is not None else claims()]
    text = ".".join(b64(part if isinstance(part, bytes) else json.dumps(part).encode()) for part in parts)
    if isinstance(key, bytes):
        signature = hmac.new(key, text.encode(), hashlib.sha256).digest()
    else:
        signature = key.sign(text.encode())
    return f"{text}.{b64(signature)}"
