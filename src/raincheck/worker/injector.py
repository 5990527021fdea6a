"""What functions get besides their arguments, and what runs around their attempts.

`injecting` opens it for a worker: the lifespan and the dependencies of its functions. The `Injector` has the
values. A function that has dependencies of an attempt, or middleware, has an `Around`.
"""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple

from raincheck.app import App
from raincheck.core.codec import from_json
from raincheck.core.errors import RegistrationError, UnexpectedResult
from raincheck.functions.context import Context
from raincheck.functions.dependencies import Dependency, Open, in_order, opening, opening_here, split
from raincheck.functions.registry import Function, Middleware
from raincheck.functions.signature import Bound

Call = Callable[[], Awaitable[Any]]


class Around:
    """What runs around each attempt of a function: the middleware, and inside it dependencies of the attempt.

    ``opened`` are the dependencies that are open for longer, ``state`` is ``ctx.state``.
    """

    def __init__(
        self, function: Function, middleware: tuple[Middleware, ...], opened: Open, state: Mapping[str, Any]
    ) -> None:
        self._function = function
        self._middleware = middleware
        self._opened = opened
        self._state = state
        self._dependencies: list[Dependency] = []
        if function.mode != "process":  # else they are opened in the child
            self._dependencies = in_order(function.signature.dependencies.values(), opened)

    def is_empty(self) -> bool:
        """Whether there is nothing to run around an attempt."""
        return not self._middleware and not self._dependencies

    async def on_loop(self, bound: Bound, context: Context | None) -> Any:
        """Run an attempt of an async function. Returns its result, or raises."""

        async def call_with_dependencies() -> Any:
            async with opening(self._dependencies, self._opened, self._state, context) as values:
                args, kwargs = self._complete(bound, values, context)
                return await self._function.function(*args, **kwargs)

        args, kwargs = bound
        call = partial(self._function.function, *args, **kwargs)
        return await self._run(call_with_dependencies if self._dependencies else call, context)

    async def in_thread(
        self,
        bound: Bound,
        context: Context | None,
        run: Callable[[Callable[[], Any]], Awaitable[Any]],
        is_stopping: Callable[[], bool],
    ) -> Any:
        """Run an attempt of a function in a thread: ``run`` calls there, and waits for it.

        Dependencies that are not async are opened in the thread, unless an async one needs them. If the
        attempt ``is_stopping`` when the function returns, `CancelledError` is raised, as in async functions.
        """
        if not self._dependencies:
            args, kwargs = bound
            return await self._run(partial(run, partial(self._function.function, *args, **kwargs)), context)
        early, late = split(self._dependencies)

        def call_here(values: Open) -> Any:
            with opening_here(late, values, self._state, context) as values:
                args, kwargs = self._complete(bound, values, context)
                result = self._function.function(*args, **kwargs)
                if is_stopping():
                    raise CancelledError
                return result

        async def call() -> Any:
            async with opening(early, self._opened, self._state, context) as values:
                return await run(partial(call_here, values))

        return await self._run(call, context)

    async def in_process(self, context: Context, run: Call) -> Any:
        """Run an attempt in a child process: ``run`` returns its result and changed data, as JSON."""
        returns = self._function.signature.returns

        async def call() -> Any:
            result, data = await run()
            if data is not None:
                context.data.update(from_json(data))
            try:
                return returns.read(result)
            except UnexpectedResult:  # a type that can be written, and not read
                return from_json(result)

        return await self._run(call, context)

    def _complete(self, bound: Bound, values: Open, context: Context | None) -> Bound:
        """The arguments with what callers do not pass."""
        signature = self._function.signature
        given = {name: values[dependency] for name, dependency in signature.dependencies.items()}
        if signature.context is not None:
            given[signature.context] = context
        return signature.insert([*bound[0]], {**bound[1]}, given)

    async def _run(self, call: Call, context: Context | None) -> Any:
        for middleware in reversed(self._middleware):
            call = partial(middleware, context, call)  # type: ignore[arg-type] # with middleware, it has one
        return await call()


class Extras(NamedTuple):
    """What the attempts of a function get besides their arguments."""

    values: dict[str, Any] | None
    """Those of parameters; None: `Around` adds them, or the child process."""
    context: str | None
    """The name of the parameter for the context."""
    around: Around | None
    """What runs around it."""

    def given(self, context: Context | None) -> dict[str, Any] | None:
        """The values of parameters for which callers pass nothing, by name; None: they come later."""
        if self.values is None or self.context is None:
            return self.values
        return {**self.values, self.context: context}


class Injector:
    """The values that the functions of a worker get, and what runs around each of them."""

    def __init__(
        self,
        functions: Sequence[Function],
        state: Mapping[str, Any] = MappingProxyType({}),
        opened: Open = MappingProxyType({}),
        middleware: tuple[Middleware, ...] = (),
    ) -> None:
        self.state: Mapping[str, Any] = MappingProxyType(dict(state))
        """What the lifespan yielded: ``ctx.state``."""
        self.of_children: list[Dependency] = in_order(
            dependency
            for function in functions
            if function.mode == "process"
            for dependency in function.needs
        )
        """What the child processes open for themselves."""
        self._extras: dict[str, Extras] = {}
        for function in functions:
            around = Around(function, middleware, opened, self.state)
            needs, context = function.signature.dependencies, function.signature.context
            is_known = function.mode != "process" and all(needed in opened for needed in needs.values())
            values = {name: opened[needed] for name, needed in needs.items()} if is_known else None
            if not around.is_empty() or (is_known and (needs or context is not None)):
                self._extras[function.name] = Extras(values, context, None if around.is_empty() else around)

    def extras(self, function: Function) -> Extras | None:
        """What attempts of a function get besides their arguments; None: nothing."""
        return self._extras.get(function.name)


@asynccontextmanager
async def injecting(app: App, functions: Iterable[Function]) -> AsyncIterator[Injector]:
    """Enter the lifespan, and open the dependencies that functions of this process need; close them after.

    Raises what they raise.
    """
    overridden = app.functions.dependencies.overridden
    functions = list(functions)
    here = [function for function in functions if function.mode != "process"]
    for function in functions:
        for dependency in function.needs:
            if function.mode == "process" and dependency in overridden:
                raise RegistrationError(
                    f"{dependency.label} is overridden by a value, which cannot be sent to the child process "
                    f"of {function.name}: run it in this process, as raincheck.testing.running does"
                )
    wanted = in_order((each for f in here for each in f.signature.dependencies.values()), overridden)
    async with AsyncExitStack() as stack:
        state: Mapping[str, Any] | None = None
        if app.lifespan is not None:
            state = await stack.enter_async_context(app.lifespan(app))
        state = MappingProxyType(dict(state or {}))
        once = [dependency for dependency in wanted if dependency.scope == "worker"]
        opened = await stack.enter_async_context(opening(once, overridden, state))
        yield Injector(functions, state, opened, app.functions.middleware)
