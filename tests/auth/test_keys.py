"""Keys: which are safe, how they are changed, and where they come from."""

from __future__ import annotations

import asyncio
import json
import os
from base64 import urlsafe_b64decode
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from raincheck.auth import Auth, service
from raincheck.auth.keyfile import add_key, read_keys, remove_key
from raincheck.errors import ConfigError, NotFound, NotSignedIn
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
    """A file that only its owner may read."""
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    path.chmod(0o600)
    return path


async def refreshed(auth: Auth, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the time pass after which files are looked at again."""
    monkeypatch.setattr(service, "LOOK_AGAIN", 0.0)
    auth._service._fresh_until = 0.0


@pytest.mark.parametrize("content", WEAK.values(), ids=WEAK)
async def test_what_could_be_guessed_is_refused(tmp_path: Path, content: bytes) -> None:
    """The error says which file, and does not show what is in it."""
    file = private(tmp_path / "secret", content)
    with pytest.raises(ConfigError) as refused:
        await Auth(secret_file=file).open()
    assert str(file) in str(refused.value)
    for word in content.decode().split():
        assert len(word) < 20 or word not in str(refused.value)


@pytest.mark.parametrize("secret", ["short", "x" * 40])
def test_a_weak_secret_is_refused_at_once(secret: str) -> None:
    """It needs no file to be read."""
    with pytest.raises(ConfigError, match="can be guessed"):
        Auth(secret=secret)


async def test_a_file_must_be_there(tmp_path: Path) -> None:
    """And be a file."""
    for path in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(ConfigError, match="cannot be read"):
            await Auth(secret_file=path).open()


@pytest.mark.skipif(os.name != "posix", reason="modes are of POSIX")
@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
async def test_others_must_not_write_it(tmp_path: Path, mode: int) -> None:
    """Whoever writes it may sign anything."""
    file = private(tmp_path / "secret", SECRET)
    file.chmod(mode)
    with pytest.raises(ConfigError, match="chmod 600"):
        await Auth(secret_file=file).open()


@pytest.mark.skipif(os.name != "posix", reason="modes are of POSIX")
@pytest.mark.parametrize("mode", [0o644, 0o640])
async def test_that_others_may_read_it_is_said(
    tmp_path: Path, mode: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Platforms that hand out secrets do it so, and it is no reason not to start."""
    file = private(tmp_path / "secret", SECRET)
    file.chmod(mode)
    await Auth(secret_file=file).open()
    assert f"others may read {file}" in caplog.text
    assert SECRET not in caplog.text


async def test_the_newest_signs_and_all_verify(tmp_path: Path) -> None:
    """So a secret can be changed while tokens of before still hold."""
    old = await Auth(secret=OTHER).issue("ann")
    both = Auth(secret_file=private(tmp_path / "secret", f"{SECRET}\n{OTHER}\n"))
    assert (await both.verify(old.access_token)).subject == "ann"
    new = await both.issue("ann")
    assert (await Auth(secret=SECRET).verify(new.access_token)).subject == "ann"
    with pytest.raises(NotSignedIn, match="unknown key"):
        await Auth(secret=OTHER).verify(new.access_token)


async def test_with_several_keys_a_token_must_say_which(tmp_path: Path) -> None:
    """They are not tried one after the other."""
    auth = Auth(secret_file=private(tmp_path / "secret", f"{SECRET}\n{OTHER}\n"))
    with pytest.raises(NotSignedIn, match="unknown key"):
        await auth.verify(token())


async def test_a_key_removed_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To a server that runs, too, and though it had verified the token before."""
    file = private(tmp_path / "secret", SECRET)
    auth = Auth(secret_file=file)
    mine = f"Bearer {(await auth.issue('ann')).access_token}"
    await auth.check(mine, "job:read")
    private(tmp_path / "secret", OTHER)
    await refreshed(auth, monkeypatch)
    with pytest.raises(NotSignedIn, match="unknown key"):
        await auth.check(mine, "job:read")


@pytest.mark.parametrize("content", [b"", b"{", b"short", None])
async def test_a_broken_change_changes_nothing(
    tmp_path: Path, content: bytes | None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The keys of before hold, and the log says what is wrong, once."""
    file = private(tmp_path / "secret", SECRET)
    auth = Auth(secret_file=file)
    mine = f"Bearer {(await auth.issue('ann')).access_token}"
    file.unlink()
    if content is not None:
        private(file, content)
    await refreshed(auth, monkeypatch)
    for _ in range(3):
        assert (await auth.check(mine, "job:read")).subject == "ann"
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert str(file) in caplog.text


@pytest.mark.parametrize("algorithm", ["HS256", "EdDSA"])
async def test_a_made_key_signs(tmp_path: Path, algorithm: str) -> None:
    """Its file is for its owner alone, and its id is in the token."""
    file = tmp_path / "keys.json"
    kid = await asyncio.to_thread(add_key, file, algorithm)
    auth = Auth(secret_file=file)
    issued = (await auth.issue("ann")).access_token
    head = json.loads(urlsafe_b64decode(issued.split(".")[0] + "=="))
    assert head == {"alg": algorithm, "kid": kid, "typ": "at+jwt"}
    assert (await auth.verify(issued)).subject == "ann"
    assert file.stat().st_mode & 0o777 == 0o600


async def test_kinds_of_keys_may_change(tmp_path: Path) -> None:
    """Each key keeps to its algorithm meanwhile."""
    file = tmp_path / "keys.json"
    await asyncio.to_thread(add_key, file, "HS256")
    old = (await Auth(secret_file=file).issue("ann")).access_token
    kid = await asyncio.to_thread(add_key, file, "EdDSA")
    auth = Auth(secret_file=file)
    assert (await auth.verify(old)).subject == "ann"
    secret = b64(b"x" * 40)
    with pytest.raises(NotSignedIn, match="another algorithm"):
        await auth.verify(token(head=header(kid=kid), key=secret.encode()))


def test_the_last_key_stays(tmp_path: Path) -> None:
    """Without any, nobody could sign in."""
    file = tmp_path / "keys.json"
    kid = add_key(file, "HS256")
    with pytest.raises(ConfigError, match="only key"):
        remove_key(file, kid)
    with pytest.raises(NotFound):
        remove_key(file, "x")
    new = add_key(file, "HS256")
    remove_key(file, kid)
    assert [jwk["kid"] for jwk in read_keys(file)] == [new]


def test_a_file_of_secrets_is_left_alone(tmp_path: Path) -> None:
    """It is changed by hand, as it was made."""
    file = private(tmp_path / "secret", SECRET)
    with pytest.raises(ConfigError, match="by hand"):
        add_key(file, "HS256")
    assert file.read_text() == SECRET


async def test_who_has_only_the_public_half_cannot_sign(tmp_path: Path) -> None:
    """But can tell what the private half signed."""
    key = Ed25519PrivateKey.generate()
    jwk = {"kty": "OKP", "crv": "Ed25519", "x": b64(key.public_key().public_bytes_raw())}
    auth = Auth(secret_file=private(tmp_path / "public.json", json.dumps(jwk)))
    assert (await auth.verify(token(head=header(alg="EdDSA"), key=key))).subject == "ann"
    with pytest.raises(ConfigError, match="no key here can sign"):
        await auth.issue("ann")


class TestEnvironment:
    """What variables say."""

    def test_nothing_said_is_no_sign_in(self) -> None:
        """An empty variable says nothing."""
        assert Auth.from_environment({}) is None
        assert Auth.from_environment({"RAINCHECK_SECRET": "", "RAINCHECK_AUDIENCE": "x"}) is None

    def test_all_of_it(self, tmp_path: Path) -> None:
        """Each has its variable."""
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
        ("said", "message"),
        [
            ({"RAINCHECK_USERS": "users.json"}, "no secret"),
            ({"RAINCHECK_SECRET": "short"}, "can be guessed"),
            ({"RAINCHECK_SECRET": SECRET, "RAINCHECK_SECRET_FILE": "x"}, "one of"),
            ({"RAINCHECK_SECRET": SECRET, "RAINCHECK_TOKEN_LIFETIME": "1h"}, "number of seconds"),
            ({"RAINCHECK_SECRET": SECRET, "RAINCHECK_TOKEN_LIFETIME": "0"}, "366 days"),
            ({"RAINCHECK_SECRET": SECRET, "RAINCHECK_TOKEN_LIFETIME": "nan"}, "366 days"),
            ({"RAINCHECK_JWKS_URL": "https://issuer.example/keys"}, "issuer's name"),
            ({"RAINCHECK_JWKS_URL": "http://issuer.example/keys", "RAINCHECK_ISSUER": "x"}, "https"),
            ({"RAINCHECK_JWKS_URL": "file:///etc/passwd", "RAINCHECK_ISSUER": "x"}, "https"),
            ({"RAINCHECK_JWKS_URL": "https://a:b@c.example/", "RAINCHECK_ISSUER": "x"}, "no password"),
            (
                {
                    "RAINCHECK_JWKS_URL": "https://issuer.example/keys",
                    "RAINCHECK_ISSUER": "x",
                    "RAINCHECK_JWT_ALGORITHM": "HS256",
                },
                "algorithm is one of",
            ),
        ],
    )
    def test_what_cannot_work_is_said(self, said: dict[str, str], message: str) -> None:
        """And nothing is open by a slip."""
        with pytest.raises(ConfigError, match=message):
            Auth.from_environment(said)
