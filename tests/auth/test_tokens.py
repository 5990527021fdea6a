"""Which tokens are accepted and which are refused."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from raincheck.auth import Auth, Scope
from raincheck.auth.identity import Identity
from raincheck.auth.tokens import MAX_CACHED, TokenCache
from raincheck.core.errors import InvalidInput, NotAllowed, NotSignedIn
from tests.auth.forging import SECRET, b64, claims, header, token

NOW = int(time.time())

CLAIMS = {
    "no iss": claims(iss=None),
    "another iss": claims(iss="evil"),
    "iss in a list": claims(iss=["raincheck"]),
    "no aud": claims(aud=None),
    "another aud": claims(aud="other"),
    "no matching aud among many": claims(aud=["a", "b"]),
    "aud with a matching prefix": claims(aud="raincheck2"),
    "no sub": claims(sub=None),
    "sub is a number": claims(sub=1),
    "no exp": claims(exp=None),
    "expired": claims(iat=NOW - 7200, exp=NOW - 3600),
    "exp is text": claims(exp="9999999999"),
    "exp is true": claims(exp=True),
    "exp is null": claims() | {"exp": None},
    "exp is NaN": json.dumps(claims(exp=float("nan"))).encode(),
    "exp is infinite": json.dumps(claims(exp=float("inf"))).encode(),
    "exp is far": claims(exp=1e308),
    "exp is years ahead": claims(exp=NOW + 2 * 366 * 86400),
    "no iat": claims(iat=None),
    "iat ahead": claims(iat=NOW + 3600, exp=NOW + 7200),
    "nbf ahead": claims(nbf=NOW + 3600),
    "nbf is text": claims(nbf="now"),
    "scope is a number": claims(scope=5),
    "no object": [1],
    "no JSON": b"{",
    "not UTF-8": b'{"iss": "\xff"}',
    "very deep": b"[" * 2000,
}

HEADERS = {
    "alg none": header(alg="none"),
    "alg None": header(alg="None"),
    "alg nOnE": header(alg="nOnE"),
    "alg empty": header(alg=""),
    "no alg": header(alg=None),
    "alg is a list": header(alg=["HS256"]),
    "alg HS512": header(alg="HS512"),
    "alg RS256": header(alg="RS256"),
    "alg EdDSA": header(alg="EdDSA"),
    "kid of a file": header(kid="../../../../dev/null"),
    "kid of SQL": header(kid="' OR 1=1 --"),
    "kid very long": header(kid="k" * 5000),
    "kid is a number": header(kid=1),
    "kid empty": header(kid=""),
    "crit": header(crit=["exp"]),
    "crit unknown": header(crit=["x"], x=1),
    "b64": header(b64=False, crit=["b64"]),
    "an id token": header(typ="JWT"),
    "no typ": header(typ=None),
    "no object": [1],
    "no JSON": b"{",
}

SHAPES = {
    "empty": "",
    "a word": "token",
    "dots": "..",
    "two parts": token().rpartition(".")[0],
    "no signature": token().rpartition(".")[0] + ".",
    "five parts, as encrypted ones have": f"{token()}.a.b",
    "the signature cut": token()[:-3],
    "the signature changed": token()[:-3] + ("abc" if not token().endswith("abc") else "def"),
    "a blank in it": token().replace(".", ". ", 1),
    "padded": f"{token()}====",
    "other alphabet": token(claims(sub="?" * 30 + ">" * 30)).replace("_", "/").replace("-", "+") + "+",
    "long": token(claims(sub="x" * 8192)),
    "very long": "a" * 1_000_000,
    "not ASCII": "tökén.ü.ö",
    "another secret": token(key=b"x" * 32),
    "an empty secret": token(key=b""),
}


@pytest.fixture(scope="module")
def auth() -> Auth:
    return Auth(secret=SECRET)


async def test_a_valid_token_is_accepted(auth: Auth) -> None:
    """Whoever has the secret can make one."""
    identity = await auth.verify(token())
    assert (identity.subject, identity.scopes) == ("ann", frozenset({Scope.READ, Scope.WRITE}))


async def test_an_issued_token_is_accepted(auth: Auth) -> None:
    """With its subject, scopes and expiry."""
    issued = await auth.issue("ci", ["job:read"], lifetime=90)
    identity = await auth.verify(issued.access_token)
    assert (issued.token_type, issued.expires_in, issued.scope) == ("Bearer", 90, "job:read")
    assert (identity.subject, identity.scopes) == ("ci", frozenset({Scope.READ}))
    assert identity.expires_at == pytest.approx(time.time() + 90, abs=5)


@pytest.mark.parametrize(
    "payload",
    [
        claims(aud=["other", "raincheck"]),
        claims(exp=NOW + 3600.5),
        claims(nbf=NOW),
        claims(extra={"x": [1]}, jti="1"),
    ],
    ids=["several audiences", "a fraction", "nbf", "more claims"],
)
async def test_other_valid_claims_are_accepted(auth: Auth, payload: dict[str, Any]) -> None:
    """Every form that the standard allows."""
    assert (await auth.verify(token(payload))).subject == "ann"


async def test_clocks_can_differ_by_the_leeway(auth: Auth) -> None:
    """In both directions."""
    now = int(time.time())
    for payload in (claims(iat=now - 60, exp=now - 10), claims(iat=now + 20), claims(nbf=now + 20)):
        assert (await auth.verify(token(payload))).subject == "ann"


@pytest.mark.parametrize("bad", CLAIMS.values(), ids=CLAIMS)
async def test_claims_are_checked(auth: Auth, bad: Any) -> None:
    """Although the signature is valid."""
    with pytest.raises(NotSignedIn):
        await auth.verify(token(bad))


@pytest.mark.parametrize("bad", HEADERS.values(), ids=HEADERS)
async def test_headers_are_checked(auth: Auth, bad: Any) -> None:
    """A header can choose neither the algorithm nor the key."""
    with pytest.raises(NotSignedIn):
        await auth.verify(token(head=bad))


@pytest.mark.parametrize("bad", SHAPES.values(), ids=SHAPES)
async def test_other_text_is_refused(auth: Auth, bad: str) -> None:
    """Before its content is used."""
    with pytest.raises(NotSignedIn):
        await auth.verify(bad)


async def test_a_key_in_the_header_is_not_used(auth: Auth) -> None:
    """Nor one at a URL in the header."""
    attackers_key = b"y" * 32
    jwk = {"kty": "oct", "k": b64(attackers_key)}
    for more in ({"jwk": jwk}, {"jku": "http://127.0.0.1:1/keys"}, {"x5u": "http://127.0.0.1:1/"}):
        with pytest.raises(NotSignedIn):
            await auth.verify(token(head=header(**more), key=attackers_key))


async def test_a_public_key_is_not_a_secret(tmp_path: Path) -> None:
    """A token signed by HMAC with an Ed25519 public key is refused."""
    private = Ed25519PrivateKey.generate()
    raw = private.public_key().public_bytes_raw()
    pem = private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    file = tmp_path / "keys.json"
    file.write_text(json.dumps({"keys": [{"kty": "OKP", "crv": "Ed25519", "x": b64(raw), "kid": "a"}]}))
    file.chmod(0o600)
    auth = Auth(secret_file=file)
    assert (await auth.verify(token(head=header(alg="EdDSA"), key=private))).subject == "ann"
    for key in (raw, pem, b64(raw).encode()):
        for alg in ("HS256", "EdDSA"):
            with pytest.raises(NotSignedIn):
                await auth.verify(token(head=header(alg=alg, kid="a"), key=key))


async def test_unknown_scopes_are_ignored(auth: Auth) -> None:
    """Also names that resemble known ones."""
    identity = await auth.verify(token(claims(scope="Admin admin2 job:readx openid")))
    assert identity.scopes == frozenset()
    with pytest.raises(NotAllowed):
        await auth.check(f"Bearer {token(claims(scope='job:write'))}", "job:read")


async def test_admin_includes_every_scope(auth: Auth) -> None:
    """No other scope includes another one."""
    admin = f"Bearer {token(claims(scope='admin'))}"
    for scope in ("job:read", "job:write", "worker", "admin"):
        assert (await auth.check(admin, scope)).subject == "ann"
    worker = f"Bearer {token(claims(scope='worker'))}"
    for scope in ("job:read", "job:write", "admin"):
        with pytest.raises(NotAllowed, match=scope):
            await auth.check(worker, scope)


@pytest.mark.parametrize("before", ["Bearer ", "bearer ", "BEARER ", "Bearer    "])
async def test_the_case_of_the_scheme_does_not_matter(auth: Auth, before: str) -> None:
    """Nor does the number of spaces after it (RFC 9110 §11.4)."""
    assert (await auth.check(f"{before}{token()} ", "job:read")).subject == "ann"


@pytest.mark.parametrize(
    "wrong",
    [
        None, "", "Bearer", "Bearer ", "Basic YTpi", f"Token {token()}", token(), f"Bearer:{token()}",
        f"Bearer {token()}, Bearer {token()}", f"Bearer {token()} {token()}", f"Bearer\t{token()}",
        f"Bearer\x0b{token()}", f'Bearer "{token()}"', f"Bearer {token()}\n",
    ],
)  # fmt: skip
async def test_an_invalid_header_is_refused(auth: Auth, wrong: str | None) -> None:
    """It must be one Bearer scheme with one token."""
    with pytest.raises(NotSignedIn):
        await auth.check(wrong, "job:read")


async def test_an_unknown_scope_cannot_be_issued(auth: Auth) -> None:
    """It is an error."""
    with pytest.raises(InvalidInput, match="unknown scope 'job:reed'"):
        await auth.issue("ci", ["job:reed"])


def test_a_cached_token_expires() -> None:
    """The cache does not extend its lifetime."""
    cache = TokenCache()
    identity = Identity(subject="ann", scopes=frozenset(), expires_at=100.0)
    cache.add(b"token", identity)
    assert cache.find(b"token", 129.0) == identity
    assert cache.find(b"token", 130.0) is None
    assert cache.find(b"token", 129.0) is None


def test_the_cache_has_a_maximum_size() -> None:
    """The oldest token is dropped first."""
    cache = TokenCache()
    identity = Identity(subject="ann", scopes=frozenset(), expires_at=100.0)
    for number in range(MAX_CACHED + 1):
        cache.add(b"%d" % number, identity)
    assert cache.find(b"0", 50.0) is None
    assert cache.find(b"1", 50.0) == cache.find(b"%d" % MAX_CACHED, 50.0) == identity


async def test_nothing_shows_a_secret(auth: Auth) -> None:
    """Neither by repr nor in errors."""
    issued = await auth.issue("ci")
    with pytest.raises(NotSignedIn) as refused:
        await auth.verify(token(key=b"x" * 32))
    for shown in (
        repr(auth),
        repr(issued),
        str(issued),
        repr(auth._service._keys.signing),
        str(refused.value),
    ):
        assert SECRET not in shown
        assert issued.access_token not in shown
