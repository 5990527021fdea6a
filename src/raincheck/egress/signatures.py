"""Signatures of requests by Standard Webhooks (https://www.standardwebhooks.com), with shared secrets."""

from __future__ import annotations

import hashlib
import hmac
from base64 import b64decode, b64encode
from collections.abc import Sequence

PREFIX = "whsec_"
SHORTEST, LONGEST = 24, 64
"""Bytes of a secret."""

HOW_TO_MAKE = "make one with: echo whsec_$(openssl rand -base64 32)"


def parse_secret(text: str) -> bytes:
    """The bytes of a secret: ``whsec_`` and base64 of 24 to 64 bytes.

    Raises `ValueError`; the message does not contain the secret.
    """
    encoded = text.removeprefix(PREFIX)
    if encoded == text:
        raise ValueError(f"a secret begins with {PREFIX}: {HOW_TO_MAKE}")
    try:
        secret = b64decode(encoded, validate=True)
    except ValueError:
        raise ValueError(f"a secret is {PREFIX} and base64: {HOW_TO_MAKE}") from None
    if not SHORTEST <= len(secret) <= LONGEST:
        raise ValueError(
            f"a secret has {SHORTEST} to {LONGEST} bytes before base64, got {len(secret)}: {HOW_TO_MAKE}"
        )
    return secret


def signed_headers(message_id: str, now: float, body: bytes, secrets: Sequence[bytes]) -> dict[str, str]:
    """The three headers that sign a request, with a signature by each secret.

    ``message_id`` is the same in all requests that repeat a message; it has no dot.
    """
    timestamp = str(int(now))
    signed = b"%b.%b.%b" % (message_id.encode(), timestamp.encode(), body)
    signatures = (b64encode(hmac.digest(secret, signed, hashlib.sha256)).decode() for secret in secrets)
    return {
        "webhook-id": message_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": " ".join(f"v1,{signature}" for signature in signatures),
    }
