"""The sections ``functions`` and ``allowed_networks`` of the configuration file."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import Meta, Struct

from raincheck.core.codec import to_json
from raincheck.core.errors import ConfigError, Fault, InvalidFile, InvalidInput
from raincheck.core.limits import Limits
from raincheck.core.model import RetryOptions, Seconds
from raincheck.egress.addresses import VARIABLE, AllowedNetworks, Network, parse_address, parse_networks
from raincheck.engine.config_file import ConfigFile
from raincheck.engine.push.secrets import Secrets
from raincheck.engine.requests import Timeout, decoded
from raincheck.functions.registry import DEFAULT_WAIT, Function, Functions, is_function_name
from raincheck.functions.signature import escape

if TYPE_CHECKING:
    from raincheck.egress.client import Egress, Target
    from raincheck.functions.declared import DeclaredFunction

SECTION = "/functions"
NETWORKS = "/allowed_networks"

DEFAULT_TIMEOUT = 60.0
"""Seconds that an attempt may take, unless the function sets another time."""

AtLeastOne = Annotated[int, Meta(ge=1)]


class PushDefinition(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A function of the file, before its URL, its secrets and its schemas are checked."""

    url: str
    secret: str | list[str] | None = None
    secret_file: str | None = None
    secret_env: str | None = None
    retry: AtLeastOne | RetryOptions = 1
    timeout: Timeout = DEFAULT_TIMEOUT
    wait: Seconds = DEFAULT_WAIT
    concurrency: AtLeastOne | None = None
    doc: str = ""
    parameters: dict[str, Any] | None = None
    positional: dict[str, Any] | None = None
    returns: dict[str, Any] | None = None


decode_push = msgspec.json.Decoder(PushDefinition).decode


class PushFunctions:
    """The push functions of an app: `read` registers those of the file, and a worker runs them inside
    `running`."""

    def __init__(self, functions: Functions, limits: Limits) -> None:
        self._functions = functions
        self._limits = limits
        self._file: ConfigFile | None = None
        self._secrets: dict[str, Secrets] = {}
        self._egress: Egress | None = None

    def read(self, file: ConfigFile | None) -> int:
        """Register the functions of the file in place of those that were read before; returns their number.

        Raises `InvalidFile` with every fault, and `ConfigError` for one of the environment.
        """
        allowed = AllowedNetworks(_allowed_networks(file, os.environ))
        section = _section(file, "functions", dict, "a mapping of functions by name")
        self._file, self._secrets, self._egress = file, {}, None
        functions: list[DeclaredFunction] = []
        faults: list[Fault] = []
        if section:
            from raincheck.egress.client import Egress  # here: other programs load no HTTP client

            self._egress = Egress(allowed)
            for name, value in section.items():
                try:
                    functions.append(self._function(name, value, allowed, self._egress))
                except InvalidInput as error:
                    faults += _below(name, error)
        self._check(faults)
        self._functions.set_in_file(functions)
        return len(functions)

    def _function(self, name: str, value: Any, allowed: AllowedNetworks, egress: Egress) -> DeclaredFunction:
        """A function of the file. Raises `InvalidInput`."""
        from raincheck.engine.push.calls import PushCall
        from raincheck.functions.declared import DeclaredFunction, Schemas

        if not is_function_name(name):
            raise InvalidInput(Fault(f"{name[:100]!r} is not a valid function name"))
        if self._functions.is_in_code(name):
            raise InvalidInput(Fault("is also declared in code: use another name, or remove one of the two"))
        definition = decoded(decode_push, to_json(value))
        schemas = Schemas(definition.parameters, definition.positional, definition.returns)
        target = _target(definition.url, allowed)
        folder = Path() if self._file is None else self._file.path.parent
        secrets = Secrets(definition.secret, definition.secret_file, definition.secret_env, folder)
        self._secrets[name] = secrets
        call = PushCall(name, target, secrets, egress, self._limits, definition.timeout)
        return DeclaredFunction(
            call.run,
            name,
            schemas,
            doc=definition.doc,
            mode="push",
            retry=definition.retry,
            timeout=definition.timeout,
            wait=definition.wait,
            concurrency=definition.concurrency,
        )

    def load_secrets(self, names: Iterable[str]) -> None:
        """Read the secrets of functions from where they are. Raises `InvalidFile` with every fault."""
        faults: list[Fault] = []
        for name in names:
            try:
                self._secrets[name].load(os.environ)
            except InvalidInput as error:
                faults += _below(name, error)
        self._check(faults)

    def _check(self, faults: list[Fault]) -> None:
        if faults and self._file is not None:
            raise InvalidFile(*map(self._file.locate, faults))

    @asynccontextmanager
    async def running(self, functions: Iterable[Function]) -> AsyncIterator[None]:
        """Run those of ``functions`` that are in the file, on this event loop.

        Their secrets are read, and connections are pooled until the last worker of the loop leaves. Raises
        `InvalidFile`.
        """
        names = [function.name for function in functions if function.name in self._secrets]
        if self._egress is None or not names:
            yield
            return
        await asyncio.to_thread(self.load_secrets, names)
        async with self._egress:
            yield


def _section(file: ConfigFile | None, name: str, kind: type, expected: str) -> Any:
    """A section of the file; None if there is none. Raises `InvalidFile`."""
    value = None if file is None else (file.data or {}).get(name)
    if file is not None and value is not None and not isinstance(value, kind):
        raise InvalidFile(file.locate(Fault(f"expected {expected}", f"/{name}")))
    return value


def _allowed_networks(file: ConfigFile | None, environ: Mapping[str, str]) -> list[Network]:
    """The networks that the file and the environment allow. Raises `InvalidFile` or `ConfigError`."""
    section = _section(file, "allowed_networks", list, "a list of networks") or []
    try:
        networks = parse_networks(section)
    except InvalidInput as error:
        faults = [fault._replace(pointer=NETWORKS + fault.pointer) for fault in error.faults]
        raise InvalidFile(*(file.locate(fault) for fault in faults if file)) from None
    try:
        return networks + parse_networks(environ.get(VARIABLE, "").replace(",", " ").split())
    except InvalidInput as error:
        raise ConfigError(f"{VARIABLE}: {error.faults[0].detail}") from None


def _below(name: str, error: InvalidInput) -> list[Fault]:
    """The faults of a function, with pointers into the file."""
    return [fault._replace(pointer=f"{SECTION}/{escape(name)}{fault.pointer}") for fault in error.faults]


def _target(url: str, allowed: AllowedNetworks) -> Target:
    """The target of a URL. Raises `InvalidInput`, also if its host is an address that is not allowed."""
    from raincheck.egress.client import parse_url

    try:
        target = parse_url(url)
    except ValueError as error:
        raise InvalidInput(Fault(str(error), "/url")) from None
    is_local = target.host.rstrip(".").rpartition(".")[2] == "localhost"  # RFC 6761: it is this machine
    address = "127.0.0.1" if is_local else target.host
    if (is_local or parse_address(address)) and (why := allowed.refusal(address)) is not None:
        raise InvalidInput(Fault(why, "/url"))
    return target
