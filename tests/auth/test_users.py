"""Users: their file, signing in, and the limit on failed attempts."""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from time import process_time

import pytest

from raincheck.auth import Auth, Scope, passwords
from raincheck.auth.passwords import Passwords, Throttle, hash_password
from raincheck.auth.users import add_user, read_users, remove_user
from raincheck.core.errors import (
    ConfigError,
    InvalidInput,
    NotAllowed,
    NotFound,
    NotSignedIn,
    TooManyAttempts,
)
from tests.auth.forging import SECRET, quick_hash

PASSWORD = "correct horse"
BOTH = (Scope.READ, Scope.WRITE)


@pytest.fixture(scope="module")
def hashed() -> str:
    return quick_hash(PASSWORD)


@pytest.fixture
def users(tmp_path: Path, hashed: str) -> Path:
    path = tmp_path / "users.json"
    add_user(path, "ann", hashed, BOTH)
    return path


@pytest.fixture
def auth(users: Path) -> Auth:
    return Auth(secret=SECRET, users=users)


def expire_check(auth: Auth) -> None:
    """Make the next request check the files for changes."""
    auth._service._fresh_until = 0.0


class TestFile:
    """The file of users."""

    def test_it_has_no_passwords(self, users: Path) -> None:
        """It has hashes, and is private."""
        assert PASSWORD not in users.read_text()
        assert json.loads(users.read_text())["users"][0]["password"].startswith("$argon2id$")
        assert users.stat().st_mode & 0o777 == 0o600

    def test_users_are_added_replaced_and_removed(self, users: Path, hashed: str) -> None:
        """Only ``replace`` changes an existing user."""
        add_user(users, "bob", hashed, [Scope.ADMIN])
        with pytest.raises(InvalidInput, match="exists already"):
            add_user(users, "bob", hashed, BOTH)
        add_user(users, "bob", hashed, [Scope.READ], replace=True)
        assert {user.name: user.scopes for user in read_users(users)} == {"ann": BOTH, "bob": ("job:read",)}
        remove_user(users, "ann")
        assert [user.name for user in read_users(users)] == ["bob"]
        with pytest.raises(NotFound):
            remove_user(users, "ann")

    @pytest.mark.parametrize("name", ["", "-x", "a b", "a\n", "a:b", "../a", "x" * 101, "ä"])
    def test_an_invalid_name_is_refused(self, users: Path, hashed: str, name: str) -> None:
        """Names appear in logs and on terminals."""
        with pytest.raises(InvalidInput):
            add_user(users, name, hashed, BOTH)

    @pytest.mark.parametrize("password", ["", "short", "x" * 1025])
    def test_the_length_of_a_password_is_limited(self, password: str) -> None:
        """The error does not contain the password."""
        with pytest.raises(InvalidInput, match="8 to 1024") as refused:
            hash_password(password)
        assert not password or password not in str(refused.value)

    def test_concurrent_changes_are_not_lost(self, users: Path, hashed: str) -> None:
        """They wait for each other."""
        names = [f"user{number}" for number in range(20)]
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda name: add_user(users, name, hashed, BOTH), names))
        assert {user.name for user in read_users(users)} == {"ann", *names}
        assert {path.name for path in users.parent.iterdir()} == {"users.json", ".users.json.lock"}

    def test_a_symbolic_link_is_kept(self, users: Path, hashed: str) -> None:
        """The file that it points to changes."""
        link = users.with_name("link.json")
        link.symlink_to(users)
        add_user(link, "bob", hashed, BOTH)
        assert link.is_symlink()
        assert len(read_users(users)) == 2

    @pytest.mark.parametrize("content", ["", "{", "[]", '{"users": [{"name": "ann"}]}', '{"users": 1}'])
    def test_an_invalid_file_is_an_error(self, auth: Auth, users: Path, content: str) -> None:
        """When the server starts; the error names the file."""
        users.write_text(content)
        with pytest.raises(ConfigError, match=str(users)):
            asyncio.run(auth.open())


class TestSigningIn:
    """A token for a username and a password."""

    async def test_it_returns_a_token(self, auth: Auth) -> None:
        """With all scopes of the user."""
        token = await auth.sign_in("ann", PASSWORD)
        assert token.scope == "job:read job:write"
        assert (await auth.verify(token.access_token)).subject == "ann"

    async def test_it_can_request_fewer_scopes(self, auth: Auth) -> None:
        """But not others."""
        token = await auth.sign_in("ann", PASSWORD, "job:read")
        assert (await auth.verify(token.access_token)).scopes == {"job:read"}
        for more in ("admin", "job:read admin", "nothing"):
            with pytest.raises(InvalidInput, match="scope"):
                await auth.sign_in("ann", PASSWORD, more)

    async def test_a_new_user_can_sign_in_at_once(self, auth: Auth, users: Path, hashed: str) -> None:
        """Although the file was checked less than a second ago."""
        await auth.sign_in("ann", PASSWORD)
        await asyncio.to_thread(add_user, users, "new", hashed, [Scope.READ])
        assert (await auth.sign_in("new", PASSWORD)).scope == "job:read"

    async def test_a_worker_can_request_fewer_functions(self, auth: Auth, users: Path, hashed: str) -> None:
        """Those that its own pattern includes."""
        await asyncio.to_thread(add_user, users, "mailer", hashed, ["worker:mail:*"])
        assert (await auth.sign_in("mailer", PASSWORD)).scope == "worker:mail:*"
        token = await auth.sign_in("mailer", PASSWORD, "worker:mail:send")
        assert (await auth.verify(token.access_token)).scopes == {"worker:mail:send"}
        assert (await auth.check(f"Bearer {token.access_token}", "worker")).subject == "mailer"
        for other in ("worker", "worker:*", "worker:pay", "worker:mail*"):
            with pytest.raises(InvalidInput, match="scope"):
                await auth.sign_in("mailer", PASSWORD, other)

    async def test_an_admin_can_request_any_scope(self, auth: Auth, users: Path, hashed: str) -> None:
        """As admin includes every scope."""
        await asyncio.to_thread(add_user, users, "root", hashed, [Scope.ADMIN])
        token = await auth.sign_in("root", PASSWORD, "worker")
        assert (await auth.verify(token.access_token)).scopes == {"worker"}

    @pytest.mark.parametrize(
        ("name", "password"),
        [
            *(("ann", wrong) for wrong in ("wrong", "", "correct horse ", "x" * 1024, "\ud800")),
            *((wrong, PASSWORD) for wrong in ("nobody", "Ann", "ann ", "", "ann\x00", "é\ud800")),
        ],
    )
    async def test_a_wrong_name_and_a_wrong_password_look_alike(
        self, auth: Auth, name: str, password: str
    ) -> None:
        """The message is the same."""
        with pytest.raises(NotSignedIn, match=r"^the username or the password is wrong$"):
            await auth.sign_in(name, password)

    async def test_an_unknown_name_takes_as_long(
        self, auth: Auth, users: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Otherwise the time would reveal which users exist. CPU time is measured, not waiting."""
        monkeypatch.setattr(passwords, "FAILURES_PER_USER", 1000)
        real = await asyncio.to_thread(hash_password, PASSWORD)
        await asyncio.to_thread(add_user, users, "ann", real, BOTH, replace=True)
        await auth.open()

        async def took(name: str) -> float:
            started_at = process_time()
            with pytest.raises(NotSignedIn):
                await auth.sign_in(name, "wrong")
            return process_time() - started_at

        times = [(await took("ann"), await took("nobody")) for _ in range(3)]
        known, unknown = median(each[0] for each in times), median(each[1] for each in times)
        assert 0.4 < unknown / known < 2.5

    async def test_without_users_the_error_says_how_to_add_one(self, auth: Auth, users: Path) -> None:
        """The file can be created later."""
        await asyncio.to_thread(users.unlink)
        with pytest.raises(NotSignedIn, match="raincheck user add"):
            await auth.sign_in("ann", PASSWORD)

    async def test_checks_do_not_block_the_event_loop(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """They run in threads, and their number is limited."""
        limit = 5
        monkeypatch.setattr(passwords, "MAX_PENDING", limit)
        checker = Passwords()
        checks = [asyncio.create_task(checker.check("wrong", None)) for _ in range(limit)]
        await asyncio.sleep(0)
        with pytest.raises(TooManyAttempts):
            await checker.check("wrong", None)
        assert not any(check.done() for check in checks)
        assert await asyncio.gather(*checks) == [False] * limit


class TestChanges:
    """Changes of the file take effect within a second, for existing tokens too."""

    @pytest.fixture
    async def header(self, auth: Auth, monkeypatch: pytest.MonkeyPatch) -> str:
        """The header of a user who has signed in."""
        token = await auth.sign_in("ann", PASSWORD)
        header = f"Bearer {token.access_token}"
        await auth.check(header, "job:write")
        return header

    async def test_a_removed_user_is_refused(self, auth: Auth, users: Path, header: str) -> None:
        """Before the token expires."""
        await asyncio.to_thread(remove_user, users, "ann")
        expire_check(auth)
        with pytest.raises(NotSignedIn, match="was removed"):
            await auth.check(header, "job:read")

    async def test_a_new_password_invalidates_tokens(
        self, auth: Auth, users: Path, header: str, hashed: str
    ) -> None:
        """Stolen ones too."""
        another = quick_hash("another password")
        await asyncio.to_thread(add_user, users, "ann", another, BOTH, replace=True)
        expire_check(auth)
        with pytest.raises(NotSignedIn, match="has a new password"):
            await auth.check(header, "job:read")

    async def test_a_removed_scope_is_refused(
        self, auth: Auth, users: Path, header: str, hashed: str
    ) -> None:
        """The other scopes remain."""
        await asyncio.to_thread(add_user, users, "ann", hashed, [Scope.READ], replace=True)
        expire_check(auth)
        assert (await auth.check(header, "job:read")).scopes == {"job:read"}
        with pytest.raises(NotAllowed):
            await auth.check(header, "job:write")

    async def test_a_change_is_noticed_by_itself(self, auth: Auth, users: Path, header: str) -> None:
        """Without another sign-in."""
        await asyncio.to_thread(remove_user, users, "ann")
        noticed = False
        while not noticed:
            try:
                await auth.check(header, "job:read")
                await asyncio.sleep(0.01)
            except NotSignedIn:
                noticed = True

    async def test_without_the_file_there_are_no_users(self, auth: Auth, users: Path, header: str) -> None:
        """After a deletion of the file, no user can sign in."""
        await asyncio.to_thread(users.unlink)
        expire_check(auth)
        with pytest.raises(NotSignedIn):
            await auth.check(header, "job:read")


class TestThrottle:
    """Failed attempts are limited."""

    async def test_after_too_many_failures_attempts_are_refused(self, auth: Auth) -> None:
        """Even with the right password, as guessing would continue otherwise."""
        for _ in range(passwords.FAILURES_PER_USER):
            with pytest.raises(NotSignedIn):
                await auth.sign_in("ann", "wrong", address="192.0.2.1")
        with pytest.raises(TooManyAttempts) as refused:
            await auth.sign_in("ann", PASSWORD, address="192.0.2.1")
        assert 1 <= refused.value.retry_after <= passwords.MINUTE / passwords.FAILURES_PER_USER
        assert (await auth.sign_in("ann", PASSWORD, address="192.0.2.2")).scope

    async def test_concurrent_attempts_are_limited_too(self, auth: Auth) -> None:
        """Each is counted before its password is checked."""
        attempts = [auth.sign_in("ann", "wrong", address="192.0.2.1") for _ in range(15)]
        ended = await asyncio.gather(*attempts, return_exceptions=True)
        assert [type(each) for each in ended].count(NotSignedIn) == passwords.FAILURES_PER_USER

    def test_a_success_clears_the_failures(self) -> None:
        """A mistyped password is not an attack."""
        throttled = Throttle()
        for _ in range(20):
            throttled.attempt("ann", "192.0.2.1")
            throttled.attempt("ann", "192.0.2.1")
            throttled.succeeded("ann", "192.0.2.1")

    def test_the_failures_of_an_address_are_limited(self) -> None:
        """For all usernames together; other addresses are not affected."""
        throttled = Throttle()
        for number in range(passwords.FAILURES_PER_ADDRESS):
            throttled.attempt(f"user{number}", "192.0.2.1")
        with pytest.raises(TooManyAttempts):
            throttled.attempt("ann", "192.0.2.1")
        throttled.attempt("ann", "192.0.2.2")

    def test_an_ipv6_network_counts_as_one_address(self) -> None:
        """A household has billions of addresses."""
        throttled = Throttle()
        for number in range(passwords.FAILURES_PER_USER):
            throttled.attempt("ann", f"2001:db8::{number}")
        with pytest.raises(TooManyAttempts):
            throttled.attempt("ann", "2001:db8::ffff")
        throttled.attempt("ann", "2001:db8:0:1::1")

    def test_failures_expire(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """One more attempt is possible after a fifth of a minute."""
        now = 1000.0
        monkeypatch.setattr(passwords, "monotonic", lambda: now)
        throttled = Throttle()
        for _ in range(passwords.FAILURES_PER_USER):
            throttled.attempt("ann", "")
        now += passwords.MINUTE / passwords.FAILURES_PER_USER - 1
        with pytest.raises(TooManyAttempts) as refused:
            throttled.attempt("ann", "")
        assert refused.value.retry_after == 1
        now += 1
        throttled.attempt("ann", "")

    def test_the_number_of_buckets_is_limited(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Invented names cannot fill the memory."""
        monkeypatch.setattr(passwords, "MAX_BUCKETS", 10)
        throttled = Throttle()
        for number in range(40):
            throttled.attempt(f"user{number}", f"192.0.2.{number}")
        assert len(throttled._buckets) == 10
