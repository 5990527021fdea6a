"""The secrets that sign the requests to a push function, and where they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from raincheck.core.errors import ConfigError, Fault, InvalidInput
from raincheck.egress.signatures import HOW_TO_MAKE, parse_secret


class Secrets:
    """Secrets in one of three places: in the configuration file (``secret``), in a file of their own (one a
    line), in an environment variable (separated by spaces). The first is the newest. Raises `InvalidInput`.

    `load` reads them, so that a server without workers needs neither the file nor the variable.
    """

    def __init__(
        self, secret: str | Sequence[str] | None, file: str | None, variable: str | None, folder: Path
    ) -> None:
        given = {"secret": secret, "secret_file": file, "secret_env": variable}
        names = [name for name, value in given.items() if value is not None]
        if len(names) != 1:
            what = "set one of secret_file, secret_env and secret"
            what += f", not {' and '.join(names)}" if names else f"; {HOW_TO_MAKE}"
            raise InvalidInput(Fault(what, f"/{names[-1]}" if names else ""))
        self._field = f"/{names[0]}"
        self._file = None if file is None else folder / file
        self._variable = variable
        self.values: tuple[bytes, ...] = ()
        """Their bytes, once they are loaded."""
        if secret is not None:
            self.values = self._parse([secret] if isinstance(secret, str) else secret)

    def load(self, environ: Mapping[str, str]) -> None:
        """Read them from their file or their environment variable. Raises `InvalidInput`."""
        if self._variable is not None:
            if self._variable not in environ:
                raise InvalidInput(
                    Fault(f"the environment variable {self._variable} is not set", self._field)
                )
            self.values = self._parse(environ[self._variable].split())
        if self._file is not None:
            from raincheck.auth.files import read_private  # here: other programs need no sign-in

            try:
                content = read_private(self._file)
            except ConfigError as error:
                raise InvalidInput(Fault(str(error), self._field)) from None
            self.values = self._parse(content.decode("utf-8", "replace").split())

    def _parse(self, texts: Sequence[str]) -> tuple[bytes, ...]:
        if not texts:
            raise InvalidInput(Fault(f"there is no secret: {HOW_TO_MAKE}", self._field))
        try:
            return tuple(map(parse_secret, texts))
        except ValueError as error:
            raise InvalidInput(Fault(str(error), self._field)) from None
