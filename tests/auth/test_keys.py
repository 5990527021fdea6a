"""Keys: which are accepted, how they change, and how they are configured."""

from __future__ import annotations

import asyncio
import json
import os
from base64 import urlsafe_b64decode
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from raincheck.auth import Auth, service
from raincheck.auth.keys import add_key, read_keys, remove_key
from raincheck.core.errors import ConfigError, NotFound, NotSignedIn
from tests.auth.forging import SECRET, b64, header, token

OTHER = "another-secret-that-is-long-enough-0123456789"

WEAK = {
    "empty line": b" \n",
    "short": b"secret",
    "31 bytes": SECRET[:31].encode(),
    "a sample": b"x" * 64,
    "a public key": b"-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqow=\n",
    "an SSH key": b"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGb9ECWmEzf6FQbrBZ9w7lshQhqowtrb\n",
    "a short key": json.dumps({"kty": "oct", "k": b64(b"short")}).encode(),
    "a sample key": json.dumps({"keys": [{"kty": "oct", "k": b64(b"a" * 32)}]}).encode(),
    "another kind of key": json.dumps({"kty": "RSA", "n": "AQAB", "e": "AQAB"}).encode(),
    "another algorithm": json.dumps({"kty": "oct", "k": b64(b"0123456789" * 7), "alg": "HS512"}).encode(),
    "another curve": json.dumps({"kty": "OKP", "crv": "X25519", "x": b64(b"x" * 32)}).encode(),
    "a broken key": json.dumps({"kty": "oct", "k": 5}).encode(),
    "keys that are none": b'{"keys": 5}',
    "broken JSON": b'{"keys": [',
    "the same twice": f"{SECRET}\n{SECRET}\n".encode(),
}


def private(path: Path, content: bytes | str) -> Path:
    """Write a file that only its owner can read."""
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    path.chmod(0o600)
    return path


async def refreshed(auth: Auth, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the next request check the files for changes."""
    monkeypatch.setattr(service, "CHECK_INTERVAL", 0.0)
    auth._service._fresh_until = 0.0


@pytest.mark.parametrize("content", WEAK.values(), ids=WEAK)
async def test_a_weak_or_invalid_key_is_refused(tmp_path: Path, content: bytes) -> None:
    """The error names the file, and does not show its content."""
    file = private(tmp_path / "secret", content)
    with pytest.raises(ConfigError) as refused:
        await Auth(secret_file=file).open()
    assert str(file) in str(refused.value)
    for word in content.decode().split():
        assert len(word) < 20 or word not in str(refused.value)


@pytest.mark.parametrize("secret", ["short", "x" * 40])
def test_a_weak_secret_is_refused(secret: str) -> None:
    """Without reading a file."""
    with pytest.raises(ConfigError, match="can be guessed"):
        Auth(secret=secret)


async def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    """As is a directory."""
    for path in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(ConfigError, match="cannot read"):
            await Auth(secret_file=path).open()


@pytest.mark.skipif(os.name != "posix", reason="modes are of POSIX")
@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
async def test_a_file_writable_by_others_is_refused(tmp_path: Path, mode: int) -> None:
    """Its writers could sign any token."""
    file = private(tmp_path / "secret", SECRET)
    file.chmod(mode)
    with pytest.raises(ConfigError, match="chmod 600"):
        await Auth(secret_file=file).open()


@pytest.mark.skipif(os.name != "posix", reason="modes are of POSIX")
@pytest.mark.parametrize("mode", [0o644, 0o640])
async def test_a_file_readable_by_others_is_a_warning(
    tmp_path: Path, mode: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Platforms that provide secrets do that, so it is not an error."""
    file = private(tmp_path / "secret", SECRET)
    file.chmod(mode)
    await Auth(secret_file=file).open()
    assert f"{file} is readable by others" in caplog.text
    assert SECRET not in caplog.text


async def test_the_newest_secret_signs_and_all_verify(tmp_path: Path) -> None:
    """Existing tokens stay valid after a change of the secret."""
    old = await Auth(secret=OTHER).issue("ann")
    both = Auth(secret_file=private(tmp_path / "secret", f"{SECRET}\n{OTHER}\n"))
    assert (await both.verify(old.access_token)).subject == "ann"
    new = await both.issue("ann")
    assert (await Auth(secret=SECRET).verify(new.access_token)).subject == "ann"
    with pytest.raises(NotSignedIn, match="unknown key"):
        await Auth(secret=OTHER).verify(new.access_token)


async def test_with_several_keys_a_token_must_name_its_key(tmp_path: Path) -> None:
    """The keys are not tried one after the other."""
    auth = Auth(secret_file=private(tmp_path / "secret", f"{SECRET}\n{OTHER}\n"))
    with pytest.raises(NotSignedIn, match="unknown key"):
        await auth.verify(token())


async def test_a_removed_key_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a running server as well, even for cached tokens."""
    file = private(tmp_path / "secret", SECRET)
    auth = Auth(secret_file=file)
    bearer = f"Bearer {(await auth.issue('ann')).access_token}"
    await auth.check(bearer, "job:read")
    private(tmp_path / "secret", OTHER)
    await refreshed(auth, monkeypatch)
    with pytest.raises(NotSignedIn, match="unknown key"):
        await auth.check(bearer, "job:read")


@pytest.mark.parametrize("content", [b"", b"{", b"short", None])
async def test_an_invalid_change_keeps_the_keys(
    tmp_path: Path, content: bytes | None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The error is logged once."""
    file = private(tmp_path / "secret", SECRET)
    auth = Auth(secret_file=file)
    bearer = f"Bearer {(await auth.issue('ann')).access_token}"
    file.unlink()
    if content is not None:
        private(file, content)
    await refreshed(auth, monkeypatch)
    for _ in range(3):
        assert (await auth.check(bearer, "job:read")).subject == "ann"
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert str(file) in caplog.text


@pytest.mark.parametrize("algorithm", ["HS256", "EdDSA"])
async def test_a_generated_key_signs(tmp_path: Path, algorithm: str) -> None:
    """Its file is private, and tokens have its id."""
    file = tmp_path / "keys.json"
    kid = await asyncio.to_thread(add_key, file, algorithm)
    auth = Auth(secret_file=file)
    issued = (await auth.issue("ann")).access_token
    head = json.loads(urlsafe_b64decode(issued.split(".")[0] + "=="))
    assert head == {"alg": algorithm, "kid": kid, "typ": "at+jwt"}
    assert (await auth.verify(issued)).subject == "ann"
    assert file.stat().st_mode & 0o777 == 0o600


async def test_the_algorithm_can_change(tmp_path: Path) -> None:
    """Each key is only used with its own."""
    file = tmp_path / "keys.json"
    await asyncio.to_thread(add_key, file, "HS256")
    old = (await Auth(secret_file=file).issue("ann")).access_token
    kid = await asyncio.to_thread(add_key, file, "EdDSA")
    auth = Auth(secret_file=file)
    assert (await auth.verify(old)).subject == "ann"
    secret = b64(b"x" * 40)
    with pytest.raises(NotSignedIn, match="not signed with the algorithm of its key"):
        await auth.verify(token(head=header(kid=kid), key=secret.encode()))


def test_the_only_key_cannot_be_removed(tmp_path: Path) -> None:
    """Without a key, no user could sign in."""
    file = tmp_path / "keys.json"
    kid = add_key(file, "HS256")
    with pytest.raises(ConfigError, match="only key"):
        remove_key(file, kid)
    with pytest.raises(NotFound):
        remove_key(file, "x")
    new = add_key(file, "HS256")
    remove_key(file, kid)
    assert [jwk["kid"] for jwk in read_keys(file)] == [new]


def test_a_file_of_secrets_is_not_changed(tmp_path: Path) -> None:
    """It is edited by hand."""
    file = private(tmp_path / "secret", SECRET)
    with pytest.raises(ConfigError, match="by hand"):
        add_key(file, "HS256")
    assert file.read_text() == SECRET


async def test_a_public_key_verifies_but_does_not_sign(tmp_path: Path) -> None:
    """Issuing a token is an error."""
    key = Ed25519PrivateKey.generate()
    jwk = {"kty": "OKP", "crv": "Ed25519", "x": b64(key.public_key().public_bytes_raw())}
    auth = Auth(secret_file=private(tmp_path / "public.json", json.dumps(jwk)))
    assert (await auth.verify(token(head=header(alg="EdDSA"), key=key))).subject == "ann"
    with pytest.raises(ConfigError, match="no key that can sign"):
        await auth.issue("ann")
    users = Auth(secret_file=tmp_path / "public.json", users=tmp_path / "users.json")
    with pytest.raises(NotFound, match="no key that can sign"):
        await users.sign_in("ann", "correct horse")


class TestEnvironment:
    """The RAINCHECK_ variables."""

    def test_without_variables_there_is_no_sign_in(self) -> None:
        """An empty variable counts as unset."""
        assert Auth.from_environment({}) is None
        assert Auth.from_environment({"RAINCHECK_SECRET": "", "RAINCHECK_AUDIENCE": "x"}) is None

    def test_all_variables(self, tmp_path: Path) -> None:
        """Each sets one option."""
        auth = Auth.from_environment(
            {
                "RAINCHECK_SECRET": SECRET,
                "RAINCHECK_USERS": str(tmp_path / "users"),
                "RAINCHECK_ISSUER": "us",
                "RAINCHECK_AUDIENCE": "jobs",
                "RAINCHECK_TOKEN_LIFETIME": "60",
            }
        )
        assert auth is not None
        assert (auth.secrets, auth.users, auth.issuer, auth.audience, auth.lifetime) == (
            (SECRET,), tmp_path / "users", "us", "jobs", 60.0,
        )  # fmt: skip

    @pytest.mark.parametrize(
        ("environment", "message"),
        [
            ({"RAINCHECK_USERS": "users.json"}, "no secret"),
            ({"RAINCHECK_SECRET": "short"}, "can be guessed"),
            ({"RAINCHECK_SECRET": SECRET, "RAINCHECK_SECRET_FILE": "x"}, "one of"),
            ({"RAINCHECK_SECRET": SECRET, "RAINCHECK_TOKEN_LIFETIME": "1h"}, "a number of seconds"),
            ({"RAINCHECK_SECRET": SECRET, "RAINCHECK_TOKEN_LIFETIME": "0"}, "366 days"),
            ({"RAINCHECK_SECRET": SECRET, "RAINCHECK_TOKEN_LIFETIME": "nan"}, "366 days"),
            ({"RAINCHECK_JWKS_URL": "https://issuer.example/keys"}, "needs an issuer"),
            ({"RAINCHECK_JWKS_URL": "http://issuer.example/keys", "RAINCHECK_ISSUER": "x"}, "https"),
            ({"RAINCHECK_JWKS_URL": "file:///etc/passwd", "RAINCHECK_ISSUER": "x"}, "https"),
            (
                {"RAINCHECK_JWKS_URL": "https://a:b@c.example/", "RAINCHECK_ISSUER": "x"},
                "must not contain a username or password",
            ),
            (
                {
                    "RAINCHECK_JWKS_URL": "https://issuer.example/keys",
                    "RAINCHECK_ISSUER": "x",
                    "RAINCHECK_JWT_ALGORITHM": "HS256",
                },
                "must be one of",
            ),
        ],
    )
    def test_invalid_combinations_are_errors(self, environment: dict[str, str], message: str) -> None:
        """A mistake does not make the server open."""
        with pytest.raises(ConfigError, match=message):
            Auth.from_environment(environment)
