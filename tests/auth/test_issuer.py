"""Tokens of an external issuer, whose keys are fetched from a URL."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from raincheck.auth import Auth, issuer
from raincheck.core.errors import NotSignedIn, StoreUnavailable
from tests.auth.forging import b64, claims

ISSUER = "https://issuer.example/"


class Published:
    """The response of the issuer, and how many requests it got."""

    def __init__(self) -> None:
        self.status = 200
        self.body = b'{"keys": []}'
        self.requests = 0
        self.url = ""

    def keys(self, *keys: dict[str, Any]) -> None:
        """Publish these keys."""
        self.body = json.dumps({"keys": keys}).encode()


@pytest.fixture
def published() -> Iterator[Published]:
    """A running issuer."""
    state = Published()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.requests += 1
            self.send_response(state.status)
            self.send_header("Location", "/elsewhere")
            self.send_header("Content-Length", str(len(state.body)))
            self.end_headers()
            self.wfile.write(state.body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        state.url = f"http://127.0.0.1:{server.server_port}/keys"
        yield state
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def private() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


def public(key: Any, kid: str = "one", **more: Any) -> dict[str, Any]:
    """A key as the issuer publishes it."""
    kinds = {
        rsa.RSAPrivateKey: RSAAlgorithm,
        ec.EllipticCurvePrivateKey: ECAlgorithm,
        Ed25519PrivateKey: OKPAlgorithm,
    }
    algorithm = next(algorithm for kind, algorithm in kinds.items() if isinstance(key, kind))
    jwk: dict[str, Any] = algorithm.to_jwk(key.public_key(), as_dict=True)  # type: ignore[attr-defined]
    return jwk | {"kid": kid} | more


def signed(
    key: Any, algorithm: str = "RS256", kid: str | None = "one", typ: str = "JWT", **changes: Any
) -> str:
    """A token of the issuer."""
    headers = {"typ": typ} if kid is None else {"kid": kid, "typ": typ}
    return jwt.encode(claims(**{"iss": ISSUER, **changes}), key, algorithm, headers)


def auth_of(published: Published, algorithm: str = "RS256") -> Auth:
    """Sign-in that accepts the issuer's tokens."""
    return Auth(jwks_url=published.url, issuer=ISSUER, algorithm=algorithm)


@pytest.mark.parametrize("algorithm", ["RS256", "PS256", "ES256", "EdDSA"])
async def test_its_tokens_are_valid(published: Published, private: rsa.RSAPrivateKey, algorithm: str) -> None:
    """With every algorithm that has a public key."""
    key: Any = {"ES256": ec.generate_private_key(ec.SECP256R1()), "EdDSA": Ed25519PrivateKey.generate()}.get(
        algorithm, private
    )
    published.keys(public(key))
    auth = auth_of(published, algorithm)
    for typ in ("JWT", "at+jwt", "application/at+jwt"):
        assert (await auth.verify(signed(key, algorithm, typ=typ))).subject == "ann"
    assert (await auth.verify(signed(key, algorithm, kid=None))).subject == "ann"
    assert published.requests == 1


async def test_scopes_can_be_a_string_or_a_list(published: Published, private: rsa.RSAPrivateKey) -> None:
    """Unknown scopes are ignored."""
    published.keys(public(private))
    auth = auth_of(published)
    for changes in (
        {"scope": "openid job:read"},
        {"scope": None, "scp": ["job:read"]},
        {"scope": None, "scp": "job:read"},
    ):
        assert (await auth.verify(signed(private, **changes))).scopes == {"job:read"}


async def test_other_tokens_are_refused(published: Published, private: rsa.RSAPrivateKey) -> None:
    """With another algorithm, type, issuer, audience or key."""
    published.keys(public(private))
    auth = auth_of(published)
    public_bytes = json.dumps(public(private)).encode()
    wrong = [
        signed(private, "RS512"),
        signed(private, "PS256"),
        signed(private, typ="id_token"),
        signed(private, iss="raincheck"),
        signed(private, aud="other"),
        signed(rsa.generate_private_key(65537, 2048)),
        f"{signed(private).rpartition('.')[0]}.{b64(b'x' * 256)}",
    ]
    for each in wrong:
        with pytest.raises(NotSignedIn):
            await auth.verify(each)
    with pytest.raises(NotSignedIn):
        await auth.verify(_confused(public_bytes))


def _confused(key: bytes) -> str:
    from tests.auth.forging import header, token

    return token(claims(iss=ISSUER), header(kid="one", typ="JWT"), key)


async def test_unsuitable_keys_are_ignored(published: Published, private: rsa.RSAPrivateKey) -> None:
    """Secrets, encryption keys, keys for other algorithms, invalid keys."""
    secret = {"kty": "oct", "k": b64(b"x" * 40), "kid": "secret"}
    published.keys(
        public(private, use="enc"), public(private, alg="RS512"), secret, {"kty": "RSA", "kid": "one"}, {}
    )
    auth = auth_of(published)
    for each in (signed(private), jwt.encode(claims(iss=ISSUER), b"x" * 40, "HS256", {"kid": "secret"})):
        with pytest.raises((NotSignedIn, StoreUnavailable)):
            await auth.verify(each)


async def test_a_new_key_is_fetched(
    published: Published, private: rsa.RSAPrivateKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When a token names it."""
    monkeypatch.setattr(issuer, "MIN_INTERVAL", 0.0)
    new = Ed25519PrivateKey.generate()
    published.keys(public(Ed25519PrivateKey.generate()))
    auth = auth_of(published, "EdDSA")
    with pytest.raises(NotSignedIn):
        await auth.verify(signed(new, "EdDSA", "two"))
    published.keys(public(new, "two"))
    assert (await auth.verify(signed(new, "EdDSA", "two"))).subject == "ann"


async def test_unknown_key_ids_cause_no_more_fetches(
    published: Published, private: rsa.RSAPrivateKey
) -> None:
    """The keys are fetched at most once in ten seconds, and kept."""
    published.keys(public(private))
    auth = auth_of(published)
    await auth.verify(signed(private))
    attempts = [auth.verify(signed(private, kid=f"made-up-{number}")) for number in range(100)]
    ended = await asyncio.gather(*attempts, return_exceptions=True)
    assert {type(each) for each in ended} == {NotSignedIn}
    assert published.requests == 1
    assert (await auth.verify(signed(private))).subject == "ann"


@pytest.mark.parametrize(
    ("status", "body"),
    [(500, b""), (302, b""), (200, b"no JSON"), (200, b'{"keys": 5}'), (200, b"x" * 300_000), (404, b"{}")],
)
async def test_a_failed_fetch_keeps_the_keys(
    published: Published,
    private: rsa.RSAPrivateKey,
    status: int,
    body: bytes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without any keys the server is unavailable."""
    monkeypatch.setattr(issuer, "MIN_INTERVAL", 0.0)
    published.keys(public(private))
    auth, late = auth_of(published), auth_of(published)
    bearer = signed(private)
    await auth.verify(bearer)
    published.status, published.body = status, body
    with pytest.raises(NotSignedIn):
        await auth.verify(signed(private, kid="two"))
    assert (await auth.verify(bearer)).subject == "ann"
    with pytest.raises(StoreUnavailable):
        await late.verify(bearer)


async def test_a_removed_key_is_refused_soon(
    published: Published, private: rsa.RSAPrivateKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even for cached tokens; no request waits for the fetch."""
    published.keys(public(private))
    auth = auth_of(published)
    bearer = f"Bearer {signed(private)}"
    await auth.check(bearer, "job:read")
    published.keys(public(Ed25519PrivateKey.generate(), "two"), public(private, "three"))
    monkeypatch.setattr(issuer, "REFRESH_AFTER", 0.0)
    monkeypatch.setattr(issuer, "MIN_INTERVAL", 0.0)
    auth._service._fresh_until = 0.0
    await auth.verify(signed(private))
    found = auth._service._issuer
    assert found is not None
    await found._fetching
    with pytest.raises(NotSignedIn, match="unknown key"):
        await auth.check(bearer, "job:read")


async def test_tokens_cannot_be_issued(published: Published) -> None:
    """There is no key to sign with."""
    auth = auth_of(published)
    published.keys(public(Ed25519PrivateKey.generate()))
    auth = auth_of(published, "EdDSA")
    with pytest.raises(Exception, match="no key that can sign"):
        await auth.issue("ann")
