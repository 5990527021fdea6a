"""Parameters for which callers pass no argument: the context, and dependencies, found by their type."""

from __future__ import annotations

import asyncio
import collections.abc
import inspect
import types
import typing
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    AsyncExitStack,
    ExitStack,
    asynccontextmanager,
    contextmanager,
)
from inspect import Parameter
from typing import Any, Literal

from raincheck.core.errors import RegistrationError
from raincheck.functions.context import Context
from raincheck.functions.forms import name_of

Scope = Literal["worker", "attempt"]

_REST = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)

_PLAIN = {"builtins", "collections", "collections.abc", "datetime", "decimal", "enum", "pathlib", "types"}
_PLAIN |= {"typing", "uuid"}
"""Modules whose types are those of arguments."""

_YIELDED = (
    *(collections.abc.AsyncIterator, collections.abc.AsyncGenerator, collections.abc.AsyncIterable),
    *(collections.abc.Iterator, collections.abc.Generator, collections.abc.Iterable),
)


class _Injected:
    """The default of a parameter that gets a dependency: type checkers see that callers need not pass it."""

    def __repr__(self) -> str:
        return "injected"

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(
            f"no {name!r}: nothing was passed for this parameter. In a direct call, pass it yourself"
        )


injected: Any = _Injected()
"""The default of a parameter that gets a dependency: ``pool: Pool = injected``.

It tells type checkers that callers do not pass it. Registration fails if no dependency has the type.
"""


class Dependency:
    """A function whose value others get by its type.

    ``type`` is the type of what it returns or yields, ``scope`` how long that is open. ``needs`` are the
    dependencies that its parameters get, ``context`` and ``state`` the names of the parameters for those.
    Raises `RegistrationError`.
    """

    def __init__(self, function: Callable[..., Any], scope: Scope, known: Dependencies) -> None:
        self.function = function
        self.scope = scope
        self.label: str = getattr(function, "__qualname__", repr(function))
        if scope not in ("worker", "attempt"):
            raise RegistrationError(f"{self.label}: scope must be 'worker' or 'attempt' (got {scope!r})")
        if inspect.isclass(function) or not callable(function):
            raise RegistrationError(f"{self.label} is no function: write one that returns it")
        parameters, hints = read_signature(function, self.label)
        self.is_async = inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)
        self.yields = inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)
        self.type = self._type(hints.get("return"))
        self.context = context_name(parameters, hints)
        self.needs = known.of_parameters(parameters, hints, self.label)
        self.state = next(
            (p.name for p in parameters if p.name == "state" and p.name not in self.needs), None
        )
        self._check(parameters, hints)

    def _type(self, kind: Any) -> Any:
        if kind is None:
            raise RegistrationError(
                f"{self.label} has no return annotation: it says which parameters get what it returns"
            )
        is_iterator = typing.get_origin(kind) in _YIELDED and len(typing.get_args(kind)) > 0
        if is_iterator and not self.yields:
            raise RegistrationError(
                f"{self.label} returns an iterator, and has no yield of its own: remove @contextmanager or "
                "@asynccontextmanager, which @app.dependency replaces"
            )
        if self.yields and not is_iterator:
            raise RegistrationError(
                f"{self.label} uses yield: annotate it with what it yields, as in -> "
                f"{'AsyncIterator' if self.is_async else 'Iterator'}[{name_of(kind)}]"
            )
        kind = typing.get_args(kind)[0] if is_iterator else kind
        if not _can_be_injected(kind):
            raise RegistrationError(
                f"{self.label}: {name_of(kind)} cannot be the type of a dependency, because it is that of "
                "many arguments: return a class of your own, a NewType, or Annotated[...]"
            )
        return kind

    def _check(self, parameters: list[Parameter], hints: dict[str, Any]) -> None:
        if self.context is not None and self.scope == "worker":
            raise RegistrationError(
                f"{self.label} is opened once per worker, where there is no job, so it has no context: use "
                "@app.dependency(scope='attempt')"
            )
        for name, needed in self.needs.items():
            if needed.scope == "attempt" and self.scope == "worker":
                raise RegistrationError(
                    f"{self.label} is opened once per worker, and its parameter {name!r} for each attempt "
                    f"({needed.label}): use @app.dependency(scope='attempt') for both"
                )
        found = {*self.needs, self.context, self.state}
        for parameter in parameters:
            name = parameter.name
            if parameter.kind is Parameter.POSITIONAL_ONLY:
                raise RegistrationError(f"{self.label}: its parameter {name!r} must have no / after it")
            if name in found or parameter.default is not Parameter.empty or parameter.kind in _REST:
                continue
            if hints.get(name) == self.type:
                raise RegistrationError(f"{self.label} needs {name_of(self.type)}, which is what it returns")
            raise RegistrationError(
                f"{self.label}: nothing gives its parameter {name!r}. Declare a dependency that returns "
                f"{name_of(hints[name]) if name in hints else 'its type'} above it, with @app.dependency"
            )

    def fits(self, annotation: Any) -> bool:
        """Whether a parameter with this annotation gets its value."""
        return bool(_without_none(annotation) == self.type)

    def __repr__(self) -> str:
        return f"<Dependency {self.label}>"


Open = Mapping[Dependency, Any]
"""The values of dependencies that are open."""


class Dependencies:
    """The dependencies of an app, found by their types."""

    def __init__(self) -> None:
        self._by_type: dict[Any, Dependency] = {}
        self.overridden: dict[Dependency, Any] = {}
        """Values that replace dependencies."""

    def add(self, dependency: Dependency) -> None:
        """Add a dependency. Raises `RegistrationError` if another one has its type."""
        if (other := self.get(dependency.type)) is not None:
            raise RegistrationError(
                f"{dependency.label} and {other.label} both return {name_of(dependency.type)}: a parameter "
                "of this type could get either. Give one of them a type of its own, such as a NewType"
            )
        self._by_type[dependency.type] = dependency

    def get(self, kind: Any) -> Dependency | None:
        """The dependency of this type; None: there is none."""
        try:
            return self._by_type.get(kind)
        except TypeError:  # the annotation contains something that cannot be hashed
            return None

    def of_parameters(
        self, parameters: Collection[Parameter], hints: Mapping[str, Any], label: str
    ) -> dict[str, Dependency]:
        """The dependencies that these parameters get, by name. Raises `RegistrationError`."""
        found: dict[str, Dependency] = {}
        for parameter in parameters:
            kind = _without_none(hints.get(parameter.name))
            dependency = None if parameter.kind in _REST else self.get(kind)
            if dependency is not None:
                found[parameter.name] = dependency
            elif parameter.default is injected:
                raise RegistrationError(
                    f"{label}: no dependency returns {'the type' if kind is None else name_of(kind)} of its "
                    f"parameter {parameter.name!r}. Declare one above it, with @app.dependency"
                )
        return found

    def __iter__(self) -> Iterator[Dependency]:
        return iter(self._by_type.values())

    @contextmanager
    def override(self, kind: object, value: object) -> Iterator[None]:
        """Within the block, what is opened has ``value`` in place of the dependency of this type."""
        dependency = self.get(kind)
        if dependency is None:
            known = ", ".join(name_of(each) for each in self._by_type) or "none"
            raise RegistrationError(f"no dependency returns {name_of(kind)}; the dependencies are: {known}")
        before = self.overridden
        self.overridden = {**before, dependency: value}
        try:
            yield
        finally:
            self.overridden = before


NO_DEPENDENCIES = Dependencies()


def in_order(dependencies: Iterable[Dependency], known: Collection[Dependency] = ()) -> list[Dependency]:
    """These and those that they need, each once, after those that it needs; without ``known`` ones."""
    order: dict[Dependency, None] = {}
    for dependency in dependencies:
        if dependency not in known and dependency not in order:
            order |= dict.fromkeys(in_order(dependency.needs.values(), {*known, *order}))
            order[dependency] = None
    return list(order)


def split(dependencies: Sequence[Dependency]) -> tuple[Sequence[Dependency], Sequence[Dependency]]:
    """Those that have to be opened on the loop, for the async ones among them; and the others."""
    after = max((at for at, each in enumerate(dependencies, 1) if each.is_async), default=0)
    return dependencies[:after], dependencies[after:]


@asynccontextmanager
async def opening(
    dependencies: Iterable[Dependency],
    known: Open,
    state: Mapping[str, Any],
    context: Context | None = None,
) -> AsyncIterator[Open]:
    """Open dependencies, in this order; yields their values and those of ``known``.

    Those of ``async def`` run on the loop, others in a thread.
    """
    values = dict(known)
    error: BaseException | None = None
    async with AsyncExitStack() as stack:
        for dependency in dependencies:
            given = _given(dependency, values, state, context)
            with _named(dependency):
                values[dependency] = await _open(stack, dependency, given)
        try:
            yield values
        except BaseException as raised:
            error = raised
            raise
    if error is not None:
        raise error  # one that catches it does not undo it


@contextmanager
def opening_here(
    dependencies: Iterable[Dependency], known: Open, state: Mapping[str, Any], context: Context | None
) -> Iterator[Open]:
    """Open dependencies that are not async, in this thread; as `opening`."""
    values = dict(known)
    error: BaseException | None = None
    with ExitStack() as stack:
        for dependency in dependencies:
            given = _given(dependency, values, state, context)
            with _named(dependency):
                values[dependency] = _open_here(stack, dependency, given)
        try:
            yield values
        except BaseException as raised:
            error = raised
            raise
    if error is not None:
        raise error


def _given(
    dependency: Dependency, values: Open, state: Mapping[str, Any], context: Context | None
) -> dict[str, Any]:
    given = {name: values[needed] for name, needed in dependency.needs.items()}
    if dependency.state is not None:
        given[dependency.state] = state
    if dependency.context is not None:
        given[dependency.context] = context
    return given


async def _open(stack: AsyncExitStack, dependency: Dependency, given: dict[str, Any]) -> Any:
    function = dependency.function
    if not dependency.yields:
        return await (function(**given) if dependency.is_async else asyncio.to_thread(function, **given))
    manager: AbstractAsyncContextManager[Any]
    if dependency.is_async:
        manager = asynccontextmanager(function)(**given)
    else:
        manager = _InThread(contextmanager(function)(**given))
    value = await manager.__aenter__()
    if dependency.scope == "attempt":
        stack.push_async_exit(manager)
    else:  # whatever happens to the worker is no reason not to close it
        stack.push_async_callback(manager.__aexit__, None, None, None)
    return value


def _open_here(stack: ExitStack, dependency: Dependency, given: dict[str, Any]) -> Any:
    if dependency.yields:
        return stack.enter_context(contextmanager(dependency.function)(**given))
    return dependency.function(**given)


@contextmanager
def _named(dependency: Dependency) -> Iterator[None]:
    """Say which dependency did not open."""
    try:
        yield
    except BaseException as error:
        error.add_note(f"raised while the dependency {dependency.label} was opened")
        raise


class _InThread(AbstractAsyncContextManager[Any]):
    """Enters and leaves a context manager in a thread. What was entered is left, also after a cancel."""

    def __init__(self, manager: AbstractContextManager[Any]) -> None:
        self._manager = manager

    async def __aenter__(self) -> Any:
        entering = asyncio.ensure_future(asyncio.to_thread(self._manager.__enter__))
        try:
            return await asyncio.shield(entering)
        except asyncio.CancelledError as error:
            await asyncio.wait([entering])
            if entering.exception() is None:
                await self.__aexit__(type(error), error, error.__traceback__)
            raise

    async def __aexit__(self, *exc_info: Any) -> bool | None:
        return await asyncio.to_thread(self._manager.__exit__, *exc_info)


def read_signature(function: Callable[..., Any], label: str) -> tuple[list[Parameter], dict[str, Any]]:
    """The parameters of a function, and its annotations by name. Raises `RegistrationError`."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
        return parameters, typing.get_type_hints(function, include_extras=True)
    except NameError as error:
        raise RegistrationError(
            f"{label}: unknown name in an annotation ({error}); define or import it at module level"
        ) from error
    except (AttributeError, SyntaxError, TypeError, ValueError) as error:
        raise RegistrationError(
            f"{label}: the signature cannot be read ({error}); register a function defined with def"
        ) from error


def context_name(parameters: Iterable[Parameter], hints: Mapping[str, Any]) -> str | None:
    """The name of the parameter that gets the context."""
    for parameter in parameters:
        named = parameter.name == "ctx" and parameter.name not in hints
        annotated = _without_none(hints.get(parameter.name)) is Context
        if parameter.kind not in _REST and (named or annotated):
            return parameter.name
    return None


def _without_none(kind: Any) -> Any:
    """``Pool`` of ``Pool | None``: a parameter may be left out in direct calls."""
    if typing.get_origin(kind) not in (typing.Union, types.UnionType):
        return kind
    others = [each for each in typing.get_args(kind) if each is not types.NoneType]
    return others[0] if len(others) == 1 else kind


def _can_be_injected(kind: Any) -> bool:
    """Whether a type says which value is meant: not one of all kinds of arguments."""
    if isinstance(kind, typing.NewType) or typing.get_origin(kind) is typing.Annotated:
        return True
    plain = typing.get_origin(kind) or kind
    return inspect.isclass(plain) and plain.__module__ not in _PLAIN and plain is not Context
