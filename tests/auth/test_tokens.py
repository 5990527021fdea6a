"""Which tokens hold, and which do not, however they were made."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from raincheck.auth import Auth, Scope
from raincheck.auth.tokens import CACHED, Identity, Verified
from raincheck.errors import InvalidInput, NotAllowed, NotSignedIn
from tests.auth.forging import SECRET, b64, claims, header, token

NOW = int(time.time())

CLAIMS = {
    "no iss": claims(iss=None),
    "another iss": claims(iss="evil"),
    "iss in a list": claims(iss=["raincheck"]),
    "no aud": claims(aud=None),
    "another aud": claims(aud="other"),
    "no aud of ours among many": claims(aud=["a", "b"]),
    "aud that begins like ours": claims(aud="raincheck2"),
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


async def test_a_good_one_holds(auth: Auth) -> None:
    """It need not be made by raincheck; the secret will do."""
    identity = await auth.verify(token())
    assert (identity.subject, identity.scopes) == ("ann", frozenset({Scope.READ, Scope.WRITE}))


async def test_what_is_issued_holds(auth: Auth) -> None:
    """For as long as it says, and with what it says."""
    issued = await auth.issue("ci", ["job:read"], lifetime=90)
    identity = await auth.verify(issued.access_token)
    assert (issued.token_type, issued.expires_in, issued.scope) == ("Bearer", 90, "job:read")
    assert (identity.subject, identity.scopes) == ("ci", frozenset({Scope.READ}))
    assert identity.expires_at == pytest.approx(time.time() + 90, abs=5)


@pytest.mark.parametrize(
    "good",
    [
        claims(aud=["other", "raincheck"]),
        claims(exp=NOW + 300.5),
        claims(iat=NOW - 7200, exp=NOW - 5),
        claims(nbf=NOW),
        claims(extra={"x": [1]}, jti="1"),
    ],
    ids=["several audiences", "a fraction", "a clock a little late", "nbf", "more claims"],
)
async def test_other_good_ones_hold(auth: Auth, good: dict[str, Any]) -> None:
    """What a standard lets a token say, it may say."""
    assert (await auth.verify(token(good))).subject == "ann"


@pytest.mark.parametrize("bad", CLAIMS.values(), ids=CLAIMS)
async def test_claims_are_checked(auth: Auth, bad: Any) -> None:
    """A right signature is not enough."""
    with pytest.raises(NotSignedIn):
        await auth.verify(token(bad))


@pytest.mark.parametrize("bad", HEADERS.values(), ids=HEADERS)
async def test_headers_are_checked(auth: Auth, bad: Any) -> None:
    """A header chooses neither algorithm nor key."""
    with pytest.raises(NotSignedIn):
        await auth.verify(token(head=bad))


@pytest.mark.parametrize("bad", SHAPES.values(), ids=SHAPES)
async def test_what_is_no_token_is_refused(auth: Auth, bad: str) -> None:
    """As what it is, before anything of it is believed."""
    with pytest.raises(NotSignedIn):
        await auth.verify(bad)


async def test_a_key_in_the_header_is_not_used(auth: Auth) -> None:
    """Whoever brings a key along brings nothing."""
    mine = b"y" * 32
    jwk = {"kty": "oct", "k": b64(mine)}
    for more in ({"jwk": jwk}, {"jku": "http://127.0.0.1:1/keys"}, {"x5u": "http://127.0.0.1:1/"}):
        with pytest.raises(NotSignedIn):
            await auth.verify(token(head=header(**more), key=mine))


async def test_a_public_key_is_no_secret(tmp_path: Path) -> None:
    """A token signed by HMAC with the public half of an Ed25519 key does not hold."""
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


async def test_unknown_scopes_give_nothing(auth: Auth) -> None:
    """Nor do names that look like ours."""
    identity = await auth.verify(token(claims(scope="Admin admin2 job:readx openid")))
    assert identity.scopes == frozenset()
    with pytest.raises(NotAllowed):
        await auth.check(f"Bearer {token(claims(scope='job:write'))}", "job:read")


async def test_admin_may_do_everything(auth: Auth) -> None:
    """And nothing else stands for another."""
    admin = f"Bearer {token(claims(scope='admin'))}"
    for scope in ("job:read", "job:write", "worker", "admin"):
        assert (await auth.check(admin, scope)).subject == "ann"
    worker = f"Bearer {token(claims(scope='worker'))}"
    for scope in ("job:read", "job:write", "admin"):
        with pytest.raises(NotAllowed, match=scope):
            await auth.check(worker, scope)


@pytest.mark.parametrize("before", ["Bearer ", "bearer ", "BEARER ", "Bearer    "])
async def test_the_case_of_the_scheme_does_not_matter(auth: Auth, before: str) -> None:
    """Nor does how many blanks follow it (RFC 9110 §11.4)."""
    assert (await auth.check(f"{before}{token()} ", "job:read")).subject == "ann"


@pytest.mark.parametrize(
    "wrong",
    [
        None, "", "Bearer", "Bearer ", "Basic YTpi", f"Token {token()}", token(), f"Bearer:{token()}",
        f"Bearer {token()}, Bearer {token()}", f"Bearer {token()} {token()}", f"Bearer\t{token()}",
        f"Bearer\x0b{token()}", f'Bearer "{token()}"', f"Bearer {token()}\n",
    ],
)  # fmt: skip
async def test_another_header_is_refused(auth: Auth, wrong: str | None) -> None:
    """One Bearer and one token, or nobody is signed in."""
    with pytest.raises(NotSignedIn):
        await auth.check(wrong, "job:read")


async def test_scopes_must_be_known_to_be_issued(auth: Auth) -> None:
    """A slip of the pen is said."""
    with pytest.raises(InvalidInput, match="no scope 'job:reed'"):
        await auth.issue("ci", ["job:reed"])


def test_what_is_remembered_ends_when_it_expires() -> None:
    """Having been verified once does not make a token hold for longer."""
    known = Verified()
    identity = Identity(subject="ann", scopes=frozenset(), expires_at=100.0)
    known.add(b"token", identity)
    assert known.find(b"token", 129.0) == identity
    assert known.find(b"token", 130.0) is None
    assert known.find(b"token", 129.0) is None


def test_no_more_are_remembered_than_fit() -> None:
    """What came first is forgotten first."""
    known = Verified()
    identity = Identity(subject="ann", scopes=frozenset(), expires_at=100.0)
    for number in range(CACHED + 1):
        known.add(b"%d" % number, identity)
    assert known.find(b"0", 50.0) is None
    assert known.find(b"1", 50.0) == known.find(b"%d" % CACHED, 50.0) == identity


async def test_nothing_shows_a_secret(auth: Auth) -> None:
    """Neither what holds one, when it is printed, nor an error."""
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
