"""Sign-in on the command line: login, logout, token, user and key."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from raincheck.auth.identity import Scope
from raincheck.auth.keys import add_key
from raincheck.auth.users import add_user
from raincheck.cli import main, sign_in
from tests.auth.forging import SECRET, quick_hash
from tests.cli.conftest import Outcome, Run
from tests.cli.processes import APP, running, serving, store_in

PASSWORD = "correct horse"


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a server with sign-in."""
    folder = tmp_path_factory.mktemp("server")
    add_key(folder / "keys.json", "EdDSA")
    hashed = quick_hash(PASSWORD)
    add_user(folder / "users.json", "ann", hashed, [Scope.READ, Scope.WRITE])
    add_user(folder / "users.json", "reader", hashed, [Scope.READ])
    options = ("--secret-file", str(folder / "keys.json"), "--users", str(folder / "users.json"))
    with serving(folder, *options) as (_, url):
        yield url


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty configuration folder."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RAINCHECK_TOKEN", raising=False)
    return tmp_path / "raincheck" / "tokens.json"


@pytest.fixture
def signed_in(run: Run) -> Run:
    """Runs commands after a sign-in."""
    assert run("login", "--username", "ann", stdin=f"{PASSWORD}\n").code == 0
    return run


def offline(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str, stdin: str = ""
) -> Outcome:
    """Run a command that needs no server."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
    try:
        code = main(words)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    return Outcome(code, *capsys.readouterr())


class TestCalling:
    """Commands that call a server."""

    @pytest.mark.parametrize(
        "command", [["jobs"], ["call", "add", "1"], ["status", "x"], ["functions"], ["workers"]]
    )
    def test_without_a_token_the_error_names_login(self, run: Run, url: str, command: list[str]) -> None:
        """The exit code is 2."""
        ran = run(*command)
        assert (ran.code, ran.out) == (2, "")
        assert f"raincheck login --url {url}" in ran.err

    def test_after_login_all_commands_work(self, signed_in: Run, tmp_path: Path) -> None:
        """Submit, call, status, watch, cancel, list."""
        assert signed_in("call", "add", "1", "2") == (0, "3.0\n", "")
        file = tmp_path / "job.json"
        file.write_text(json.dumps({"name": "n", "functions": [{"name": "add", "args": [1]}]}))
        job = signed_in("submit", str(file), "--wait", "--json").job_id
        for command in (["status", job], ["watch", job], ["jobs"], ["functions"], ["workers"]):
            assert signed_in(*command).code == 0
        waiting = signed_in("call", "nap", "30", "--no-wait").out.strip()
        assert signed_in("cancel", waiting).code == 0

    def test_a_wrong_password_is_refused(self, run: Run, home: Path) -> None:
        """No token is stored."""
        ran = run("login", "--username", "ann", stdin="wrong password\n")
        assert (ran.code, home.exists()) == (2, False)
        assert "the username or the password is wrong" in ran.err
        assert "wrong password" not in ran.err

    def test_a_missing_scope_is_named(self, run: Run) -> None:
        """The error does not suggest to sign in."""
        assert run("login", "--username", "ann", "--scope", "job:read", stdin=PASSWORD).code == 0
        assert run("jobs").code == 0
        ran = run("call", "add", "1")
        assert ran.code == 2
        assert "does not have the scope job:write" in ran.err
        assert "raincheck login" not in ran.err

    def test_the_token_file_is_private(self, signed_in: Run, home: Path, url: str) -> None:
        """The token is stored for the URL of its server."""
        assert home.stat().st_mode & 0o777 == 0o600
        assert home.parent.stat().st_mode & 0o777 == 0o700
        assert list(json.loads(home.read_text())) == [url]
        assert PASSWORD not in home.read_text()

    def test_the_token_is_not_sent_to_another_server(self, signed_in: Run, url: str) -> None:
        """Not even to the same server under another name."""
        ran = signed_in("jobs", "--url", url.replace("127.0.0.1", "localhost"))
        assert ran.code == 2
        assert "the request has no token" in ran.err

    def test_logout_deletes_the_token(self, signed_in: Run, home: Path) -> None:
        """A second logout says that there is none."""
        assert signed_in("logout").code == 0
        assert json.loads(home.read_text()) == {}
        assert signed_in("jobs").code == 2
        assert "not signed in" in signed_in("logout").err

    def test_other_sources_of_the_token(
        self, signed_in: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A file, else the environment, else the login."""
        token = signed_in("token").out.strip()
        file = tmp_path / "token"
        file.write_text(f"{token}\n")
        file.chmod(0o600)
        assert msgspec.json.decode(signed_in("token", "--json").out) == {"access_token": token}
        monkeypatch.setenv("RAINCHECK_TOKEN", "garbage")
        assert signed_in("jobs").code == 2
        assert signed_in("jobs", "--token-file", str(file)).code == 0
        monkeypatch.setenv("RAINCHECK_TOKEN", token)
        signed_in("logout")
        assert signed_in("jobs").code == 0

    @pytest.mark.parametrize("content", ["", "two words", "line\nline", "ünï", "a\r\nX-Evil: 1"])
    def test_an_invalid_token_is_not_sent(
        self, run: Run, tmp_path: Path, content: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It could be another secret."""
        file = tmp_path / "token"
        file.write_text(content, encoding="utf-8")
        file.chmod(0o600)
        ran = run("jobs", "--token-file", str(file))
        assert (ran.code, ran.err) == (
            2,
            f"Error: {file} does not contain a token. raincheck token prints one.\n",
        )
        if content:
            monkeypatch.setenv("RAINCHECK_TOKEN", content)
            assert "RAINCHECK_TOKEN does not contain a token" in run("jobs").err

    def test_token_without_a_login_is_an_error(self, run: Run) -> None:
        """stdout is empty, as curl reads it."""
        ran = run("token")
        assert (ran.code, ran.out) == (2, "")
        assert "raincheck login" in ran.err

    @pytest.mark.parametrize("content", ["{", "[]", '{"a": 1}'])
    def test_an_invalid_token_file_is_an_error(self, run: Run, home: Path, content: str) -> None:
        """The message says what to do."""
        home.parent.mkdir()
        home.write_text(content)
        home.chmod(0o600)
        ran = run("jobs")
        assert ran.code == 2
        assert "sign in again" in ran.err

    def test_a_terminal_prompts_for_the_password(self, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without showing it."""
        prompts = list[str]()

        def getpass(prompt: str) -> str:
            prompts.append(prompt)
            return PASSWORD

        main_end, terminal = os.openpty()
        with open(main_end, "rb", buffering=0), open(terminal) as stdin:  # noqa: PTH123 - descriptors, no paths
            monkeypatch.setattr(sys, "stdin", stdin)
            monkeypatch.setattr(sign_in, "getpass", getpass)
            assert main(["login", "--username", "ann", "--url", url]) == 0
            assert main(["user", "add", "bob"]) == 0
        assert prompts == ["Password of ann: ", "Password for bob: ", "Repeat the password: "]

    def test_an_empty_stdin_is_an_error(self, run: Run) -> None:
        """The message says that the password is missing."""
        ran = run("login", "--username", "ann")
        assert ran.code == 2
        assert "stdin has no password" in ran.err

    @pytest.mark.parametrize(
        "words",
        [
            ["login", "--password", "x"],
            ["user", "add", "x", "--password", "x"],
            ["serve", "a.py", "--secret", "x"],
        ],
    )
    def test_no_option_takes_a_secret(
        self, words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Every user of the machine can read command lines."""
        ran = offline(monkeypatch, capsys, *words)
        assert ran.code == 2
        assert "Unknown option" in ran.err


class TestManaging:
    """Commands that manage users, keys and servers."""

    def test_users_are_added_listed_and_removed(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """No output has the password."""
        assert offline(monkeypatch, capsys, "user", "add", "ann", stdin=PASSWORD).code == 0
        bob = offline(monkeypatch, capsys, "user", "add", "bob", "--scope", "admin", "--generate")
        assert len(bob.out.strip()) == 32
        again = offline(monkeypatch, capsys, "user", "add", "ann", stdin=PASSWORD)
        assert (again.code, "exists already" in again.err) == (2, True)
        listed = json.loads(offline(monkeypatch, capsys, "user", "list", "--json").out)
        assert [(user["name"], user["scopes"]) for user in listed] == [
            ("ann", ["job:read", "job:write"]),
            ("bob", ["admin"]),
        ]
        shown = offline(monkeypatch, capsys, "user", "list").out
        assert "ann    job:read job:write" in shown
        assert "argon2" not in shown
        assert offline(monkeypatch, capsys, "user", "remove", "ann").code == 0
        assert offline(monkeypatch, capsys, "user", "remove", "ann").code == 3

    @pytest.mark.parametrize(
        ("words", "stdin", "message"),
        [
            (["a b"], PASSWORD, "/name"),
            (["ann"], "short", "/password"),
            (["ann", "--scope", "all"], PASSWORD, "unknown scope 'all'"),
            (["ann"], "", "no password"),
            (["ann", "--users", "/nowhere/users.json"], PASSWORD, "cannot write"),
        ],
    )
    def test_invalid_users_are_refused(
        self,
        words: list[str],
        stdin: str,
        message: str,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        """No file is created."""
        ran = offline(monkeypatch, capsys, "user", "add", *words, stdin=stdin)
        assert ran.code == 2
        assert message in ran.err
        assert not (tmp_path / "raincheck-users.json").exists()

    def test_keys_are_added_listed_and_removed(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """The output has only their ids."""
        old = offline(monkeypatch, capsys, "key", "add", "keys.json").out.strip()
        new = offline(monkeypatch, capsys, "key", "add", "keys.json", "--algorithm", "EdDSA").out.strip()
        shown = offline(monkeypatch, capsys, "key", "list", "keys.json").out
        assert [line.split() for line in shown.splitlines()[1:]] == [[new, "EdDSA"], [old, "HS256"]]
        assert offline(monkeypatch, capsys, "key", "remove", "keys.json", old).code == 0
        assert offline(monkeypatch, capsys, "key", "remove", "keys.json", old).code == 3
        assert offline(monkeypatch, capsys, "key", "remove", "keys.json", new).code == 2

    def test_a_server_without_sign_in_says_so_once(self, tmp_path: Path) -> None:
        """On a loopback address."""
        with serving(tmp_path) as (server, _):
            assert "".join(server.lines).count("no sign-in is configured") == 1

    def test_a_server_with_sign_in_names_login(self, tmp_path: Path) -> None:
        """On another address it also warns about missing TLS."""
        add_key(tmp_path / "keys.json", "HS256")
        options = ("--secret-file", str(tmp_path / "keys.json"), "--host", "0.0.0.0")
        with serving(tmp_path, *options) as (server, _):
            printed = "".join(server.lines)
        assert "Callers must sign in" in printed
        assert "TLS" in printed

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (["--host", "0.0.0.0"], "no sign-in is configured"),
            (["--secret-file", "nowhere"], "cannot read"),
            (["--users", "users.json"], "no secret"),
            (["--users", "users.json", "--insecure"], "no secret"),
        ],
    )
    def test_an_unsafe_server_does_not_start(self, tmp_path: Path, options: list[str], message: str) -> None:
        """The error says what to do instead."""
        store = ("--store", store_in(tmp_path), "--port", "0")
        with running("server", APP, *store, *options, cwd=tmp_path) as server:
            assert message in server.rest()
            assert server.process.wait(60) == 2

    @pytest.mark.long
    def test_the_demo_needs_no_sign_in(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """It ignores the environment."""
        environment = os.environ | {"RAINCHECK_SECRET": SECRET, "RAINCHECK_TOKEN": "garbage"}
        done = subprocess.run(
            [sys.executable, "-m", "raincheck", "demo"],
            env=environment,
            capture_output=True,
            timeout=100,
            check=False,
        )
        assert done.returncode == 0, done.stderr.decode()

    @pytest.mark.parametrize(
        "command", [["user", "add", "ann"], ["key", "add", "keys.json"], ["server", APP]]
    )
    def test_a_missing_package_is_named(self, tmp_path: Path, command: list[str]) -> None:
        """With the command that installs it."""
        blocked = "import sys; sys.modules['jwt'] = sys.modules['argon2'] = None; import raincheck.cli as cli"
        program = f"{blocked}; sys.exit(cli.main({command!r}))"
        environment = os.environ | {"RAINCHECK_SECRET": SECRET}
        done = subprocess.run(
            [sys.executable, "-c", program],
            env=environment,
            cwd=tmp_path,
            input=PASSWORD,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert done.returncode == 2
        assert "pip install 'raincheck[auth]'" in done.stderr
