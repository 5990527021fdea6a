"""Functions that are declared by their schemas, because their code runs in another program."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from functools import cached_property
from typing import Any

from raincheck.core.codec import from_json
from raincheck.core.errors import Fault, InvalidArguments, InvalidInput, UnexpectedResult
from raincheck.core.model import FunctionInfo, RetryOptions
from raincheck.functions.offered import ArgumentSchemas, schema_faults
from raincheck.functions.registry import DEFAULT_WAIT, Function
from raincheck.functions.results import ResultType
from raincheck.functions.schemas import Schema
from raincheck.functions.signature import Bound, Pointers, Signature, pointer
from raincheck.functions.values import PLAIN

Call = Callable[..., Coroutine[Any, Any, Any]]
"""Takes the context of an attempt and its arguments, and returns the result as plain JSON values."""


class Schemas:
    """JSON Schemas (2020-12): of the arguments by name, of those by position, and of the result.

    ``parameters`` is an object schema, whose ``properties`` are also the arguments by position, in order,
    unless ``positional``, an array schema, says more. Empty ones accept all. Raises `InvalidInput`.
    """

    def __init__(
        self,
        parameters: Schema | None = None,
        positional: Schema | None = None,
        returns: Schema | None = None,
    ) -> None:
        faults = [
            *schema_faults(parameters or {}, "/parameters", "object"),
            *schema_faults(positional or {}, "/positional", "array"),
            *schema_faults(returns or {}, "/returns"),
        ]
        if faults:
            raise InvalidInput(*faults)
        self.parameters = parameters or {}
        self.positional = _by_position(self.parameters) if positional is None else positional
        self.returns = returns or {}


class DeclaredFunction(Function):
    """A function that ``call`` runs, checked by its schemas. ``mode`` says in its document how it runs."""

    def __init__(
        self,
        call: Call,
        name: str,
        schemas: Schemas,
        *,
        doc: str = "",
        mode: str,
        retry: RetryOptions | int = RetryOptions(),
        timeout: float | None = None,
        wait: float = DEFAULT_WAIT,
        concurrency: int | None = None,
    ) -> None:
        super().__init__(call, name, retry=retry, timeout=timeout, wait=wait, concurrency=concurrency)
        self.__name__ = self.__qualname__ = name
        self.__doc__ = doc
        self.mode = mode
        self.signature = DeclaredSignature(call, name, schemas)


class DeclaredSignature(Signature):
    """Arguments are checked by schemas, and passed on as plain JSON values after the context."""

    def __init__(self, call: Call, name: str, schemas: Schemas) -> None:
        super().__init__(call)
        self._schemas = schemas
        info = FunctionInfo(name=name, parameters=schemas.parameters, positional=schemas.positional)
        self._arguments = ArgumentSchemas(info)
        self._names: list[str] = [*schemas.parameters.get("properties", ())]
        self.returns = DeclaredResult(schemas.returns)

    def check(self, args: bytes, kwargs: bytes, at: Pointers = Pointers()) -> None:
        """Raise `InvalidArguments` unless the arguments fit; ``at`` says where they are in the request."""
        by_position, by_name = from_json(args), from_json(kwargs)
        faults = [*self._arguments.faults(by_position, by_name, at)]
        if faults or len(by_position) > len(self._names) > 0:
            self._refuse(faults)
            return
        named = dict(zip(self._names, by_position, strict=False)) | by_name
        self._refuse([Fault(each.message[:300], at.step) for each in self._together.iter_errors(named)])

    def _refuse(self, faults: list[Fault]) -> None:
        if faults:
            raise InvalidArguments(*faults)

    @cached_property
    def _together(self) -> Any:
        """Checks what a schema says of several arguments together, wherever they are passed."""
        return _validator(self._schemas.parameters)

    def bind(
        self, args: bytes, kwargs: bytes, at: Pointers = Pointers(), given: Mapping[str, Any] | None = None
    ) -> Bound:
        """Check and decode JSON arguments, and `insert` what is ``given``. Raises `InvalidArguments`."""
        self.check(args, kwargs, at)
        return self.insert(from_json(args), from_json(kwargs), given)

    def schemas(self) -> tuple[Schema, Schema, Schema]:
        """The declared schemas."""
        return self._schemas.parameters, self._schemas.positional, self._schemas.returns


class DeclaredResult(ResultType):
    """Writes results as JSON, and checks them by a schema."""

    def __init__(self, schema: Schema) -> None:
        super().__init__(Any, PLAIN)
        self._schema = schema
        write = self.write

        def checked(value: Any) -> bytes:
            if (error := next(self._validator.iter_errors(value), None)) is not None:
                at = pointer(error.instance_path)
                where = f" at {at}" if at else ""
                raise UnexpectedResult(f"promises another result: {error.message[:300]}{where}")
            return write(value)

        self.write = checked if schema else write

    @cached_property
    def _validator(self) -> Any:
        return _validator(self._schema)


def _validator(schema: Schema) -> Any:
    """The validator of a schema. Raises `ValueError` if it is not valid."""
    from jsonschema_rs import Draft202012Validator  # here: programs without such functions do not use it

    return Draft202012Validator(schema, mask="the value", offline=True)


def _by_position(parameters: Schema) -> Schema:
    """The schema of the arguments by position that those by name describe."""
    if not parameters:
        return {}
    properties = parameters.get("properties", {})
    required = [name in parameters.get("required", ()) for name in properties]
    schema: Schema = {
        "type": "array",
        "prefixItems": [*properties.values()],
        "minItems": required.count(True),
        "items": parameters.get("additionalProperties", True),
    }
    if not properties:
        del schema["prefixItems"]
    schema |= {"$defs": parameters["$defs"]} if "$defs" in parameters else {}
    return {} if schema_faults(schema, "") else schema  # it can refer to another place
