"""The functions of the configuration file: what may be declared, and what an error says."""

from __future__ import annotations

from pathlib import Path

import pytest

from raincheck import App
from raincheck.core.errors import ConfigError, InvalidFile, RegistrationError
from raincheck.core.model import RetryOptions
from raincheck.functions.registry import Function

SECRET = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
URL = "https://functions.example/f"


def read(folder: Path, text: str) -> App:
    """An app that has read a file, with ``SECRET`` and ``URL`` replaced in it."""
    file = folder / "raincheck.yaml"
    file.write_text(text.replace("SECRET", SECRET).replace("URL", URL), encoding="utf-8")
    app = App("sqlite:///:memory:", config=file)

    @app.function
    def here() -> None:
        """A function in code."""

    app.engine.read_config()
    return app


def faults(folder: Path, text: str) -> list[str]:
    """The faults of a file, without its path."""
    with pytest.raises(InvalidFile) as raised:
        read(folder, text)
    return [str(fault).partition("raincheck.yaml:")[2] for fault in raised.value.faults]


def function(folder: Path, options: str) -> Function:
    """The function of a file with these options."""
    found = read(folder, f"functions:\n  f: {{url: URL, secret: SECRET, {options}}}").functions.get("f")
    assert found is not None
    return found


def test_a_function_has_the_options_of_its_declaration(tmp_path: Path) -> None:
    """As one in code."""
    found = function(tmp_path, "retry: {retry_limit: 5, delay: 2}, timeout: 7, wait: 1, doc: Says hello.")
    assert (found.name, found.mode, found.timeout, found.wait) == ("f", "push", 7, 1)
    assert found.retry == RetryOptions(retry_limit=5, delay=2)
    assert found.info.doc == "Says hello."


def test_a_function_needs_no_options(tmp_path: Path) -> None:
    """It has one attempt of at most a minute."""
    found = function(tmp_path, "")
    assert (found.retry.retry_limit, found.timeout, found.wait) == (1, 60, 5)
    assert (found.info.parameters, found.info.positional, found.info.returns) == ({}, {}, {})


def test_retry_is_a_number_of_attempts_or_options(tmp_path: Path) -> None:
    """As in code."""
    assert function(tmp_path, "retry: 3").retry.retry_limit == 3


def test_concurrency_bounds_the_calls_of_a_worker(tmp_path: Path) -> None:
    """By the attribute that every function has."""
    assert function(tmp_path, "concurrency: 2").concurrency == 2


def test_arguments_by_name_are_also_arguments_by_position(tmp_path: Path) -> None:
    """In the order of their schemas."""
    info = function(
        tmp_path,
        "parameters: {type: object, properties: {a: {$ref: '#/$defs/n'}, b: {type: string}}, required: [a], "
        "additionalProperties: false, $defs: {n: {type: integer}}}",
    ).info
    assert info.positional == {
        "type": "array",
        "prefixItems": [{"$ref": "#/$defs/n"}, {"type": "string"}],
        "minItems": 1,
        "items": False,
        "$defs": {"n": {"type": "integer"}},
    }


def test_the_functions_of_the_file_are_beside_those_of_the_code(tmp_path: Path) -> None:
    """Those of the code come first."""
    app = read(tmp_path, "functions: {/v1/f: {url: URL, secret: SECRET}, g: {url: URL, secret: SECRET}}")
    assert app.functions.names == ("here", "/v1/f", "g")


def test_a_name_of_the_file_cannot_be_registered_again(tmp_path: Path) -> None:
    """In whatever order they are declared."""
    app = read(tmp_path, "functions: {f: {url: URL, secret: SECRET}}")
    with pytest.raises(RegistrationError, match="a function named 'f' is already registered"):
        app.function("f")(lambda: None)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("functions: []", ["1: /functions: expected a mapping of functions by name"]),
        ("functions: {f: URL}", ["1: /functions/f: Expected `object`, got `str`"]),
        (
            "functions:\n\n  here: {url: URL, secret: SECRET}",
            ["3: /functions/here: is also declared in code: use another name, or remove one of the two"],
        ),
        ('functions:\n  "a b": {url: URL}', ["2: /functions/a b: 'a b' is not a valid function name"]),
        (
            'functions:\n  "a\\r\\nEvil: 1": {url: URL}',
            ["2: /functions/a\r\nEvil: 1: 'a\\r\\nEvil: 1' is not a valid function name"],
        ),
        (
            "functions:\n  f:\n    secret: SECRET\n  g:\n    url: URL\n    secret: SECRET\n    time: 3",
            [
                "2: /functions/f: Object missing required field `url`",
                "7: /functions/g/time: Object contains unknown field `time`",
            ],
        ),
        (
            "functions:\n  f:\n    url: URL\n    secret: SECRET\n    retry: 0",
            ["5: /functions/f/retry: Expected `int` >= 1"],
        ),
        (
            "functions:\n  f:\n    url: URL\n    secret: SECRET\n    timeout: 1h",
            ["5: /functions/f/timeout: Expected `float`, got `str`"],
        ),
        (
            "functions:\n  f:\n    url: URL",
            [
                "2: /functions/f: set one of secret_file, secret_env and secret; "
                "make one with: echo whsec_$(openssl rand -base64 32)"
            ],
        ),
        (
            "functions:\n  f:\n    url: URL\n    secret: SECRET\n    secret_env: X",
            [
                "5: /functions/f/secret_env: set one of secret_file, secret_env and secret, "
                "not secret and secret_env"
            ],
        ),
        (
            "functions:\n  f:\n    url: URL\n    secret: hunter2",
            [
                "4: /functions/f/secret: a secret begins with whsec_: "
                "make one with: echo whsec_$(openssl rand -base64 32)"
            ],
        ),
        (
            "functions:\n  f:\n    url: ftp://h/\n    secret: SECRET",
            ["3: /functions/f/url: must begin with http:// or https://"],
        ),
        (
            "functions:\n  f:\n    url: http://10.1.2.3:8179/\n    secret: SECRET",
            [
                "3: /functions/f/url: 10.1.2.3 is a private address, which is not allowed. To allow it, "
                "add `allowed_networks: ['10.1.2.3/32']` to the configuration file, or set "
                "RAINCHECK_ALLOWED_NETWORKS=10.1.2.3/32"
            ],
        ),
        (
            "functions:\n  f:\n    url: http://localhost:8179/\n    secret: SECRET",
            [
                "3: /functions/f/url: 127.0.0.1 is a loopback address, which is not allowed. To allow it, "
                "add `allowed_networks: ['127.0.0.1/32']` to the configuration file, or set "
                "RAINCHECK_ALLOWED_NETWORKS=127.0.0.1/32"
            ],
        ),
        (
            "functions:\n  f:\n    url: URL\n    secret: SECRET\n    parameters:\n      type: array",
            ["5: /functions/f/parameters: must be a schema with type: object"],
        ),
        (
            "functions:\n  f:\n    url: URL\n    secret: SECRET\n    returns:\n      properties: {a: 3}",
            [
                "6: /functions/f/returns/properties/a: is not a JSON Schema: the value is not of types "
                '"boolean", "object"'
            ],
        ),
        ("allowed_networks: 10.0.0.0/8", ["1: /allowed_networks: expected a list of networks"]),
        (
            "allowed_networks:\n  - 10.0.0.0/8\n  - here",
            [
                "3: /allowed_networks/1: expected a network such as 10.0.0.0/8 or fd00::/8: 'here' does not "
                "appear to be an IPv4 or IPv6 network"
            ],
        ),
        (
            "function: {}",
            ["1: /function: unknown section: use one of allowed_networks, functions, groups, schedules"],
        ),
    ],
)
def test_faults_name_the_line_and_the_field(tmp_path: Path, text: str, expected: list[str]) -> None:
    """All of them at once."""
    assert faults(tmp_path, text) == expected


def test_the_environment_allows_networks_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In addition to those of the file."""
    monkeypatch.setenv("RAINCHECK_ALLOWED_NETWORKS", "127.0.0.0/8, ::1/128")
    text = (
        "allowed_networks: [10.0.0.0/8]\nfunctions: {f: {url: 'http://localhost/', secret: SECRET}, "
        "g: {url: 'http://10.0.0.1/', secret: SECRET}}"
    )
    assert len(read(tmp_path, text).functions) == 3


def test_a_variable_that_is_not_valid_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what is wrong."""
    monkeypatch.setenv("RAINCHECK_ALLOWED_NETWORKS", "everything")
    with pytest.raises(ConfigError, match="RAINCHECK_ALLOWED_NETWORKS: expected a network such as"):
        read(tmp_path, "")


@pytest.mark.parametrize(
    ("content", "detail"),
    [
        (None, "cannot read .*: No such file"),
        ("", "there is no secret"),
        ("whsec_", "a secret has 24 to 64 bytes"),
        ("hunter2", "a secret begins with whsec_"),
    ],
)
def test_a_file_with_secrets_is_checked(tmp_path: Path, content: str | None, detail: str) -> None:
    """When a worker starts."""
    app = read(tmp_path, "functions: {f: {url: URL, secret_file: own}}")
    if content is not None:
        (tmp_path / "own").write_text(content)
        (tmp_path / "own").chmod(0o600)
    with pytest.raises(InvalidFile, match=f":1: /functions/f/secret_file: {detail}") as caught:
        app.engine.push.load_secrets(["f"])
    assert "hunter2" not in str(caught.value)
