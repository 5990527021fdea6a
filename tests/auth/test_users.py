"""Users: their file, signing in, and being slowed down."""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from time import process_time

import pytest

from raincheck.auth import Auth, Scope, throttle
from raincheck.auth import passwords as checking
from raincheck.auth.passwords import Passwords, hash_password
from raincheck.auth.throttle import Throttle
from raincheck.auth.users import add_user, read_users, remove_user
from raincheck.errors import ConfigError, InvalidInput, NotAllowed, NotFound, NotSignedIn, TooManyAttempts
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


def look_again(auth: Auth) -> None:
    """Let the second pass after which files are looked at again."""
    auth._service._fresh_until = 0.0


class TestFile:
    """What is kept of users."""

    def test_it_holds_no_password(self, users: Path) -> None:
        """But a hash, for its owner alone."""
        assert PASSWORD not in users.read_text()
        assert json.loads(users.read_text())["users"][0]["password"].startswith("$argon2id$")
        assert users.stat().st_mode & 0o777 == 0o600

    def test_users_come_and_go(self, users: Path, hashed: str) -> None:
        """A name is taken once, unless it is to be changed."""
        add_user(users, "bob", hashed, [Scope.ADMIN])
        with pytest.raises(InvalidInput, match="already"):
            add_user(users, "bob", hashed, BOTH)
        add_user(users, "bob", hashed, [Scope.READ], replace=True)
        assert {user.name: user.scopes for user in read_users(users)} == {"ann": BOTH, "bob": ("job:read",)}
        remove_user(users, "ann")
        assert [user.name for user in read_users(users)] == ["bob"]
        with pytest.raises(NotFound):
            remove_user(users, "ann")

    @pytest.mark.parametrize("name", ["", "-x", "a b", "a\n", "a:b", "../a", "x" * 101, "ä"])
    def test_a_name_is_plain(self, users: Path, hashed: str, name: str) -> None:
        """It reaches logs and terminals."""
        with pytest.raises(InvalidInput):
            add_user(users, name, hashed, BOTH)

    @pytest.mark.parametrize("password", ["", "short", "x" * 1025])
    def test_a_password_is_neither_short_nor_endless(self, password: str) -> None:
        """The error does not repeat it."""
        with pytest.raises(InvalidInput, match="8 to 1024") as refused:
            hash_password(password)
        assert not password or password not in str(refused.value)

    def test_many_changes_at_once_lose_none(self, users: Path, hashed: str) -> None:
        """Each waits for the other."""
        names = [f"user{number}" for number in range(20)]
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda name: add_user(users, name, hashed, BOTH), names))
        assert {user.name for user in read_users(users)} == {"ann", *names}
        assert {path.name for path in users.parent.iterdir()} == {"users.json", ".users.json.lock"}

    def test_a_link_stays_one(self, users: Path, hashed: str) -> None:
        """What it leads to is changed."""
        link = users.with_name("link.json")
        link.symlink_to(users)
        add_user(link, "bob", hashed, BOTH)
        assert link.is_symlink()
        assert len(read_users(users)) == 2

    @pytest.mark.parametrize("content", ["", "{", "[]", '{"users": [{"name": "ann"}]}', '{"users": 1}'])
    def test_a_broken_file_is_said(self, auth: Auth, users: Path, content: str) -> None:
        """With its name, when the server starts."""
        users.write_text(content)
        with pytest.raises(ConfigError, match=str(users)):
            asyncio.run(auth.open())


class TestSigningIn:
    """A name and a password for a token."""

    async def test_it_gives_a_token(self, auth: Auth) -> None:
        """With all that the user may do."""
        token = await auth.sign_in("ann", PASSWORD)
        assert token.scope == "job:read job:write"
        assert (await auth.verify(token.access_token)).subject == "ann"

    async def test_it_gives_less_if_less_is_asked_for(self, auth: Auth) -> None:
        """And never more."""
        token = await auth.sign_in("ann", PASSWORD, "job:read")
        assert (await auth.verify(token.access_token)).scopes == {"job:read"}
        for more in ("admin", "job:read admin", "nothing"):
            with pytest.raises(InvalidInput, match="scope"):
                await auth.sign_in("ann", PASSWORD, more)

    async def test_who_has_just_been_added_is_let_in(self, auth: Auth, users: Path, hashed: str) -> None:
        """Though the file was looked at less than a second ago."""
        await auth.sign_in("ann", PASSWORD)
        await asyncio.to_thread(add_user, users, "new", hashed, [Scope.READ])
        assert (await auth.sign_in("new", PASSWORD)).scope == "job:read"

    async def test_an_admin_may_ask_for_anything(self, auth: Auth, users: Path, hashed: str) -> None:
        """For admin is all of it."""
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
    async def test_wrong_is_wrong_in_one_way(self, auth: Auth, name: str, password: str) -> None:
        """Whether the name or the password is, nobody is told."""
        with pytest.raises(NotSignedIn, match=r"^the name or the password is wrong$"):
            await auth.sign_in(name, password)

    async def test_the_name_of_nobody_takes_as_long(
        self, auth: Auth, users: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Or time would tell who is a user. What is measured is work: waiting depends on the machine."""
        monkeypatch.setattr(throttle, "FAILURES", 1000)
        real = await asyncio.to_thread(hash_password, PASSWORD)
        await asyncio.to_thread(add_user, users, "ann", real, BOTH, replace=True)
        await auth.open()

        async def took(name: str) -> float:
            began = process_time()
            with pytest.raises(NotSignedIn):
                await auth.sign_in(name, "wrong")
            return process_time() - began

        times = [(await took("ann"), await took("nobody")) for _ in range(5)]
        known, unknown = median(each[0] for each in times), median(each[1] for each in times)
        assert 0.4 < unknown / known < 2.5

    async def test_without_users_it_says_how_to_add_one(self, auth: Auth, users: Path) -> None:
        """The file may come later."""
        await asyncio.to_thread(users.unlink)
        with pytest.raises(NotSignedIn, match="raincheck user add"):
            await auth.sign_in("ann", PASSWORD)

    async def test_the_loop_is_free_meanwhile(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Passwords are checked in threads, and no more than can wait."""
        waiting = 5
        monkeypatch.setattr(checking, "WAITING", waiting)
        passwords = Passwords()
        checks = [asyncio.create_task(passwords.check("wrong", None)) for _ in range(waiting)]
        await asyncio.sleep(0)
        with pytest.raises(TooManyAttempts):
            await passwords.check("wrong", None)
        assert not any(check.done() for check in checks)
        assert await asyncio.gather(*checks) == [False] * waiting


class TestChanges:
    """What changes in the file holds within a second, for tokens given before as well."""

    @pytest.fixture
    async def header(self, auth: Auth, monkeypatch: pytest.MonkeyPatch) -> str:
        """That of a user who signed in."""
        token = await auth.sign_in("ann", PASSWORD)
        header = f"Bearer {token.access_token}"
        await auth.check(header, "job:write")
        return header

    async def test_who_is_removed_is_out(self, auth: Auth, users: Path, header: str) -> None:
        """At once, and not when the token expires."""
        await asyncio.to_thread(remove_user, users, "ann")
        look_again(auth)
        with pytest.raises(NotSignedIn, match="gone"):
            await auth.check(header, "job:read")

    async def test_a_new_password_ends_what_the_old_one_began(
        self, auth: Auth, users: Path, header: str, hashed: str
    ) -> None:
        """Whoever stole a token is out too."""
        another = quick_hash("another password")
        await asyncio.to_thread(add_user, users, "ann", another, BOTH, replace=True)
        look_again(auth)
        with pytest.raises(NotSignedIn, match="another password"):
            await auth.check(header, "job:read")

    async def test_a_scope_taken_away_is_gone(
        self, auth: Auth, users: Path, header: str, hashed: str
    ) -> None:
        """The others stay."""
        await asyncio.to_thread(add_user, users, "ann", hashed, [Scope.READ], replace=True)
        look_again(auth)
        assert (await auth.check(header, "job:read")).scopes == {"job:read"}
        with pytest.raises(NotAllowed):
            await auth.check(header, "job:write")

    async def test_it_is_seen_within_a_second(self, auth: Auth, users: Path, header: str) -> None:
        """Without anybody doing anything."""
        await asyncio.to_thread(remove_user, users, "ann")
        seen = False
        while not seen:
            try:
                await auth.check(header, "job:read")
                await asyncio.sleep(0.01)
            except NotSignedIn:
                seen = True

    async def test_without_the_file_nobody_is_a_user(self, auth: Auth, users: Path, header: str) -> None:
        """A file that is gone lets nobody in."""
        await asyncio.to_thread(users.unlink)
        look_again(auth)
        with pytest.raises(NotSignedIn):
            await auth.check(header, "job:read")


class TestThrottle:
    """Who guesses has to wait."""

    async def test_wrong_passwords_make_one_wait(self, auth: Auth) -> None:
        """The right one too, then: or guessing would go on."""
        for _ in range(throttle.FAILURES):
            with pytest.raises(NotSignedIn):
                await auth.sign_in("ann", "wrong", address="192.0.2.1")
        with pytest.raises(TooManyAttempts) as refused:
            await auth.sign_in("ann", PASSWORD, address="192.0.2.1")
        assert 1 <= refused.value.retry_after <= throttle.MINUTE / throttle.FAILURES
        assert (await auth.sign_in("ann", PASSWORD, address="192.0.2.2")).scope

    async def test_many_at_once_gain_nothing(self, auth: Auth) -> None:
        """Each is counted before its password is looked at."""
        tries = [auth.sign_in("ann", "wrong", address="192.0.2.1") for _ in range(15)]
        ended = await asyncio.gather(*tries, return_exceptions=True)
        assert [type(each) for each in ended].count(NotSignedIn) == throttle.FAILURES

    def test_the_right_one_forgets_the_wrong_ones(self) -> None:
        """A slip of the finger is no attack."""
        slow = Throttle()
        for _ in range(20):
            slow.attempt("ann", "192.0.2.1")
            slow.attempt("ann", "192.0.2.1")
            slow.succeeded("ann", "192.0.2.1")

    def test_many_names_from_one_address_are_an_attack(self) -> None:
        """Whichever they are; other addresses have nothing to do with it."""
        slow = Throttle()
        for number in range(throttle.OF_ADDRESS):
            slow.attempt(f"user{number}", "192.0.2.1")
        with pytest.raises(TooManyAttempts):
            slow.attempt("ann", "192.0.2.1")
        slow.attempt("ann", "192.0.2.2")

    def test_a_network_of_ipv6_is_one_address(self) -> None:
        """A household has billions of them."""
        slow = Throttle()
        for number in range(throttle.FAILURES):
            slow.attempt("ann", f"2001:db8::{number}")
        with pytest.raises(TooManyAttempts):
            slow.attempt("ann", "2001:db8::ffff")
        slow.attempt("ann", "2001:db8:0:1::1")

    def test_it_is_forgotten_in_time(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """One more try after a fifth of a minute."""
        now = 1000.0
        monkeypatch.setattr(throttle, "monotonic", lambda: now)
        slow = Throttle()
        for _ in range(throttle.FAILURES):
            slow.attempt("ann", "")
        now += throttle.MINUTE / throttle.FAILURES - 1
        with pytest.raises(TooManyAttempts) as refused:
            slow.attempt("ann", "")
        assert refused.value.retry_after == 1
        now += 1
        slow.attempt("ann", "")

    def test_its_memory_is_bounded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Whoever makes names up cannot fill it."""
        monkeypatch.setattr(throttle, "KNOWN", 10)
        slow = Throttle()
        for number in range(40):
            slow.attempt(f"user{number}", f"192.0.2.{number}")
        assert len(slow._buckets) == 10
