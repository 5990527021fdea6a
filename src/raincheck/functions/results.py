"""Results: written as JSON and checked against the return annotation of their function."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, partial
from typing import Any

from msgspec import Raw

from raincheck.core.codec import Writer
from raincheck.core.errors import UnexpectedResult
from raincheck.functions import libraries
from raincheck.functions.forms import ANYTHING, name_of
from raincheck.functions.schemas import Definitions
from raincheck.functions.values import PLAIN, Forms, Reader, Values


class ResultReader:
    """Reads results as values of one type; what only the hooks of another app know stays plain data."""

    def __init__(self, kind: Any, values: Values = PLAIN) -> None:
        self._kind = kind
        self._values = values

    @cached_property
    def _reader(self) -> Reader:
        reading = Forms(self._values, "result")
        return Reader(reading.form(self._kind), reading)

    def read(self, value: bytes | Raw) -> Any:
        """The result in JSON, as a value of this type. Raises `UnexpectedResult`."""
        try:
            return self._reader.read(value)
        except (ValueError, TypeError, RecursionError) as error:
            raise UnexpectedResult(
                f"the result does not have the type {name_of(self._kind)}: {error}"
            ) from None


class ResultType(ResultReader):
    """The return annotation of a function. Raises `TypeError` if values of this type cannot be JSON."""

    def __init__(self, kind: Any, values: Values) -> None:
        super().__init__(kind, values)
        self._forms = Forms(values, "check")
        self._form = self._forms.form(kind)
        self._forms.schemas([self._form.wire])
        self.write = self._writer()
        """Writes a result as JSON. Raises `NotJSON`, or `UnexpectedResult` if it is not of this type."""

    def _writer(self) -> Writer:
        if self._form is ANYTHING:
            return self._values.to_json
        if self._forms.pydantic and not self._forms.objects:
            try:
                adapter = libraries.pydantic_adapter(self._kind)
            except TypeError:
                pass  # it contains types that pydantic does not know
            else:
                self._form = libraries.pydantic_form(self._kind, "check")
                return partial(self._write_by_pydantic, adapter)
        reader = Reader(self._form, self._forms)
        read = reader.decode if reader.build is None else reader.read
        return self._checked(self._values.to_json, read)

    def _checked(self, to_json: Writer, read: Callable[[bytes], Any]) -> Writer:
        def write(value: Any) -> bytes:
            encoded = to_json(value)
            try:
                read(encoded)
            except (ValueError, RecursionError) as error:
                raise self._unexpected(value, error) from None
            return encoded

        return write

    def _write_by_pydantic(self, adapter: Any, value: Any) -> bytes:
        try:
            dumped = libraries.dumped(adapter, value)
        except (ValueError, RecursionError) as error:
            raise self._unexpected(value, error) from None
        return self._values.to_json(dumped)

    def _unexpected(self, value: Any, error: Exception) -> UnexpectedResult:
        return UnexpectedResult(f"promises {name_of(self._kind)}, and returned {_kind_of(value)}: {error}")

    def schema(self, definitions: Definitions) -> dict[str, Any]:
        """The JSON Schema of the result, with its definitions."""
        (found,), own = self._forms.schemas([self._form.wire])
        schema = definitions.add(found, own, "Output")
        return schema | definitions.used_by(schema)


def _kind_of(value: Any) -> str:
    return "None" if value is None else name_of(type(value))
