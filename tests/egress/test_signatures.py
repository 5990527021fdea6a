"""Signatures by Standard Webhooks, verified by the package of its authors."""

from __future__ import annotations

import time
from base64 import b64encode

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from raincheck.egress.signatures import parse_secret, signed_headers

OLD = "whsec_" + b64encode(b"old secret, of 26 bytes...").decode()
NEW = "whsec_" + b64encode(bytes(range(32))).decode()


@pytest.mark.parametrize("secret", [OLD, NEW])
def test_each_secret_verifies_a_request(secret: str) -> None:
    """So that a receiver can have either of them while secrets are changed."""
    body = '{"name": "Zoë"}'.encode()
    headers = signed_headers("msg_1", time.time(), body, [parse_secret(NEW), parse_secret(OLD)])
    assert Webhook(secret).verify(body, headers) == {"name": "Zoë"}


def test_a_body_that_was_changed_is_not_verified() -> None:
    """Nor is one with another secret."""
    headers = signed_headers("msg_1", time.time(), b"[1]", [parse_secret(NEW)])
    for secret, body in ((NEW, b"[2]"), (OLD, b"[1]")):
        with pytest.raises(WebhookVerificationError):
            Webhook(secret).verify(body, headers)


@pytest.mark.parametrize(
    ("text", "detail"),
    [
        ("hunter2", "a secret begins with whsec_"),
        ("whsec_hunter2!", "a secret is whsec_ and base64"),
        ("whsec_aHVudGVyMg==", "a secret has 24 to 64 bytes before base64, got 7"),
        ("whsec_" + b64encode(bytes(65)).decode(), "a secret has 24 to 64 bytes before base64, got 65"),
    ],
)
def test_invalid_secrets_are_refused(text: str, detail: str) -> None:
    """The error does not repeat them."""
    with pytest.raises(ValueError, match=detail) as caught:
        parse_secret(text)
    assert text not in str(caught.value)
    assert "hunter2" not in str(caught.value)
