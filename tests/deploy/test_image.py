"""The image: its content and how it runs. The tests read the Dockerfile and do not build it."""

from __future__ import annotations

import json
import re
import tomllib

from tests.deploy.reading import ROOT, TARGET, instructions, words

DOCKERFILE = instructions(ROOT / "Dockerfile")
FINAL = DOCKERFILE[max(i for i, (name, _) in enumerate(DOCKERFILE) if name == "FROM") :]

_PIN = re.compile(r"^([a-z0-9-]+)==(\S+)", re.MULTILINE)


def pins(name: str) -> dict[str, str]:
    """The packages of a lock file and their versions."""
    return dict(_PIN.findall((ROOT / "requirements" / name).read_text("utf-8")))


def sources() -> list[str]:
    """The files and folders that are copied from the repository."""
    copies = [words(rest) for name, rest in DOCKERFILE if name == "COPY"]
    return [source for copy in copies if not copy[0].startswith("--from") for source in copy[:-1]]


def test_what_is_copied_is_there() -> None:
    """Each source exists, for each example that a compose file uses."""
    for example in ("chain", "groups"):
        copied = [source.replace("$EXAMPLE", example) for source in sources()]
        assert [source for source in copied if not (ROOT / source).exists()] == []


def test_nothing_but_what_is_copied_is_sent_to_the_builder() -> None:
    """`.dockerignore` excludes everything except the sources: no secret, no store, no history."""
    rules = [line for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if line[0] != "#"]
    assert rules[0] == "*"
    sent = {rule[1:] for rule in rules if rule[0] == "!"}
    of_examples = {"examples/*/app.py", "examples/*/resources"}  # and no store that someone left there
    assert sent - of_examples == set(sources()) - {"examples/$EXAMPLE"}
    assert of_examples <= sent


def test_the_app_in_it_is_the_chain_example() -> None:
    """Unless another one is named. The other files call it ``app.py``."""
    assert ("ARG", f"EXAMPLE={TARGET.parent.name}") in FINAL
    assert ("COPY", "examples/$EXAMPLE ./") in FINAL


def test_it_is_not_root() -> None:
    """By a number, which Kubernetes can verify."""
    (user,) = [rest for name, rest in FINAL if name == "USER"]
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)


def test_raincheck_gets_the_signals() -> None:
    """It starts without a shell, and stops with the signal that lets attempts finish."""
    run = dict(FINAL)
    assert json.loads(run["ENTRYPOINT"]) == ["raincheck"]
    assert json.loads(run["CMD"]) == ["--help"]
    assert run["STOPSIGNAL"] == "SIGTERM"


def test_it_has_what_was_tested() -> None:
    """Every version is the one that the tests use."""
    tested = pins("dev.txt")
    assert {name: version for name, version in pins("run.txt").items() if tested[name] != version} == {}


def test_it_has_all_that_raincheck_needs() -> None:
    """Each dependency of the project and of its extras auth and valkey is locked."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    needed = project["dependencies"] + extras["auth"] + extras["valkey"]
    names = {match[0] for each in needed if (match := re.match(r"[a-z0-9-]+", each))}
    assert names - pins("run.txt").keys() == set()
