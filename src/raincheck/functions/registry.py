"""The functions of an app: registered by decorator, found by name."""

from __future__ import annotations

import copy
import inspect
import re
import warnings
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from difflib import get_close_matches
from functools import cached_property, update_wrapper
from typing import TYPE_CHECKING, Any, Concatenate, Generic, TypeVar, overload

import msgspec

from raincheck.core.errors import ConfigError, InvalidInput, RegisteredTooLate, RegistrationError, RetryLater
from raincheck.core.model import MAX_SECONDS, FunctionInfo, R_co, RetryOptions, Step
from raincheck.core.retry import check
from raincheck.core.text import matches, seconds_detail, short
from raincheck.functions.context import Context
from raincheck.functions.dependencies import NO_DEPENDENCIES, Dependencies, Dependency, Scope, in_order
from raincheck.functions.signature import Signature
from raincheck.functions.values import PLAIN, Values

if TYPE_CHECKING:
    from typing_extensions import ParamSpec  # a type checker has its own; `Function` alone has any types

    P = ParamSpec("P", default=...)
else:
    from typing import ParamSpec

    P = ParamSpec("P")

R = TypeVar("R")

Middleware = Callable[[Context, Callable[[], Awaitable[Any]]], Awaitable[Any]]
"""Runs around an attempt: gets its context, and what runs the function or the next middleware."""

NAME_LIMIT = 200
NAME = re.compile(r"/?[A-Za-z0-9_:@-][A-Za-z0-9_.:@-]*(/[A-Za-z0-9_:@-][A-Za-z0-9_.:@-]*)*")

OPTIONS = ("retry", "timeout", "process", "wait", "concurrency")
"""The options of a function."""

DEFAULT_WAIT = 5.0
"""Seconds for which a call waits for its result, unless the call or the function sets another time."""


def is_function_name(name: str) -> bool:
    """Whether a function can have this name: ASCII parts separated by ``/``, none starting with a dot."""
    return len(name) <= NAME_LIMIT and NAME.fullmatch(name) is not None


class Function(Generic[P, R_co]):
    """A registered function. A call runs it directly, as if it were not decorated.

    To a type checker, ``P`` are the parameters that callers pass, so without the context, and ``R_co`` is the
    type of the result; `inspect.signature` and ``help`` show those of the undecorated function.
    """

    __name__: str
    __qualname__: str
    __wrapped__: Callable[..., Any]
    """The undecorated function."""

    def __init__(
        self,
        function: Callable[..., Any],
        name: str,
        *,
        retry: RetryOptions | int = RetryOptions(),
        timeout: float | None = None,
        process: bool = False,
        wait: float = DEFAULT_WAIT,
        concurrency: int | None = None,
        submit: Callable[[Step], Awaitable[Any]] | None = None,
        values: Values = PLAIN,
        dependencies: Dependencies = NO_DEPENDENCIES,
        middleware: Sequence[Middleware] = (),
    ) -> None:
        options = _checked_options(name, retry, timeout, wait)
        if concurrency is not None and (type(concurrency) is not int or concurrency < 1):
            raise RegistrationError(
                f"{name}: concurrency must be an integer of at least 1, or None (got {short(concurrency)})"
            )
        update_wrapper(self, function)  # first: it copies the attributes of the function
        self.function = function
        self.name = name
        self.retry = options
        self.timeout = timeout
        self.wait = wait
        self.concurrency = concurrency
        """How many attempts of it a worker process runs at once; None: as many as it has slots."""
        self.signature = Signature(function, values, dependencies)
        self.needs = in_order(self.signature.dependencies.values())
        """Its dependencies and theirs, each after those that it needs."""
        self.wants_context = (
            self.signature.context is not None
            or len(middleware) > 0
            or any(dependency.context is not None for dependency in self.needs)
        )
        """Whether it, or what runs around it, gets the context."""
        if process and "<" in getattr(function, "__qualname__", "<"):
            raise RegistrationError(
                f"{name}: a function that runs in a process must be defined at module level, where "
                "the child process can find it"
            )
        if process:
            _check_hooks(name, values)
            _check_dependencies(name, self.needs)
        self.mode = "process" if process else "async" if is_async(function) else "thread"
        self._submit = submit

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<Function {self.name}>"

    def step(self, /, *args: P.args, **kwargs: P.kwargs) -> Step[R_co]:
        """A step of a job that calls this function. Raises `NotJSON` or `InvalidArguments`."""
        made: Step[R_co] = _step(self.name, args, kwargs, self.signature.values)
        self.signature.check(made.args, made.kwargs)
        return made

    async def call(self, /, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Submit a job with this function only, wait until it ends, and return its result.

        The result has the annotated type. Raises `JobFailed` or `JobCancelled` if the job ends without a
        result, and `UnexpectedResult` if the result of a worker does not have that type.
        """
        if self._submit is None:
            raise RegistrationError(f"{self.name} is not registered with an app")
        result: R_co = await self._submit(self.step(*args, **kwargs))
        return result

    def with_submit(self, submit: Callable[[Step], Awaitable[Any]]) -> Function[P, R_co]:
        """A copy whose `call` uses ``submit``. The registry keeps the original, which holds no app."""
        function = copy.copy(self)
        function._submit = submit
        return function

    @cached_property
    def info(self) -> FunctionInfo:
        """The description of the function for callers."""
        parameters, positional, returns = self.signature.schemas()
        return FunctionInfo(
            name=self.name,
            doc=inspect.cleandoc(self.__doc__ or ""),
            parameters=parameters,
            positional=positional,
            returns=returns,
            retry=self.retry,
            timeout=self.timeout,
            wait=self.wait,
            mode=self.mode,
            concurrency=self.concurrency,
        )


def _checked_options(
    name: str, retry: RetryOptions | int, timeout: float | None, wait: float
) -> RetryOptions:
    """The retry options. Raises `RegistrationError` if an option is invalid."""
    try:
        options = RetryOptions.of(retry)
        check(options)
    except InvalidInput as error:
        raise RegistrationError(f"{name}: {error}") from None
    except msgspec.ValidationError as error:
        raise RegistrationError(f"{name}: invalid retry options: {error}") from None
    for option, seconds in (("timeout", timeout), ("wait", wait)):
        if (option, seconds) != ("timeout", None) and (detail := seconds_detail(seconds)):
            raise RegistrationError(f"{name}: {option} {detail}")
    if timeout is not None and not 0 < timeout <= MAX_SECONDS:
        raise RegistrationError(
            f"{name}: timeout must be above 0, at most {MAX_SECONDS:.0f} seconds (got {timeout!r})"
        )
    if not 0 <= wait <= MAX_SECONDS:
        raise RegistrationError(
            f"{name}: wait must be between 0 and {MAX_SECONDS:.0f} seconds (got {wait!r})"
        )
    return options


def is_async(function: Callable[..., Any]) -> bool:
    """Whether calling it returns a coroutine."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)


def _check_hooks(name: str, values: Values) -> None:
    """Raise `RegistrationError` unless a child process can find the hooks of an app by their names."""
    for hook in (values.encode, values.decode):
        module, qualname = getattr(hook, "__module__", None), getattr(hook, "__qualname__", "<none>")
        if hook is not None and ("<" in qualname or module is None or inspect.ismethod(hook)):
            raise RegistrationError(
                f"{name}: encode and decode of the app must be functions defined with def at module level, "
                f"where the child process of process=True can find them (got {hook!r})"
            )


def _check_dependencies(name: str, needs: Sequence[Dependency]) -> None:
    """Raise `RegistrationError` unless a child process can open these."""
    for dependency in needs:
        if "<" in dependency.label or inspect.ismethod(dependency.function):
            raise RegistrationError(
                f"{name}: its dependency {dependency.label} must be defined with def at module level, where "
                "the child process of process=True can find it"
            )
        if dependency.state is not None:
            raise RegistrationError(
                f"{name}: its dependency {dependency.label} needs the state of the lifespan, which does not "
                "run in the child process of process=True"
            )


def check_middleware(middleware: Any) -> None:
    """Raise `RegistrationError` unless this is an async function with two parameters."""
    label = getattr(middleware, "__qualname__", short(middleware))
    wanted = "middleware is async def NAME(ctx, call_next)"
    if not callable(middleware) or not is_async(middleware):
        raise RegistrationError(f"{label} is no async function: {wanted}")
    try:
        inspect.signature(middleware).bind(None, None)
    except (TypeError, ValueError) as error:
        raise RegistrationError(f"{label} cannot be called with two arguments ({error}): {wanted}") from None


def step(name: str, /, *args: Any, **kwargs: Any) -> Step:
    """A step that calls the function ``name``, which can be unknown to this process. Raises `NotJSON`."""
    return _step(name, args, kwargs, PLAIN)


def _step(name: str, args: tuple[Any, ...], kwargs: dict[str, Any], values: Values) -> Step[Any]:
    to_json = values.arguments_to_json
    return Step(name, 0, to_json(args) if args else b"[]", to_json(kwargs) if kwargs else b"{}")


def step_detail(value: object) -> str:
    """What is wrong with a value that is not a step, and what to write instead."""
    if isinstance(value, Function):
        return f"got the function {value.name}: write {value.__name__}.step(...), with its arguments"
    if isinstance(value, str):
        return f"got a string: write step({short(value).partition(' ')[2]}, ...), with the arguments"
    if inspect.iscoroutine(value):
        value.close()  # or Python would warn that nothing awaits it
    what = "a coroutine" if inspect.iscoroutine(value) else short(value)
    return f"got {what}: function(...) calls the function here, write function.step(...)"


def stages_detail(value: object) -> str | None:
    """What is wrong with the functions of a job, and what to write instead; None: they are a list."""
    if isinstance(value, list | tuple):
        return None
    if isinstance(value, Step | Function | str):
        return "expected a list of steps: write [function.step(...)]"
    if isinstance(value, Sequence):
        return None
    if inspect.iscoroutine(value):
        return f"expected a list of steps, {step_detail(value)}"
    return f"expected a list of steps, got {short(value)}"


class Functions:
    """A registry of functions; it is closed when the app starts."""

    def __init__(self, values: Values = PLAIN, middleware: Sequence[Middleware] = ()) -> None:
        self.values = values
        """How the values of these functions become JSON and back."""
        self.middleware = tuple(middleware)
        """What runs around each attempt, the outermost first."""
        self.dependencies = Dependencies()
        """What functions get by type, besides their arguments."""
        self._functions: dict[str, Function] = {}
        self._closed = False

    def add(self, function: Function) -> None:
        """Register a function.

        Raises `RegistrationError` if the name is invalid or in use, `RegisteredTooLate` after `close`.
        """
        self._check_open(function.name)
        if not is_function_name(function.name):
            raise RegistrationError(
                f"{function.name[:100]!r} is not a valid function name. Use letters, digits and _ - . : @ in "
                f"parts separated by /, at most {NAME_LIMIT} characters; no part can start with a dot"
            )
        if function.name in self._functions:
            raise RegistrationError(f"a function named {function.name!r} is already registered")
        self._functions[function.name] = function

    def _check_open(self, name: str) -> None:
        if self._closed:
            raise RegisteredTooLate(
                f"{name!r} cannot be registered: the app has started. "
                "Register functions before that, at import"
            )

    def add_dependency(self, function: Callable[..., Any], scope: Scope) -> None:
        """Register a dependency. Raises `RegistrationError`, or `RegisteredTooLate` after `close`."""
        self._check_open(getattr(function, "__qualname__", short(function)))
        dependency = Dependency(function, scope, self.dependencies)
        for each in self:
            for argument in each.signature.arguments:
                if argument.annotation == dependency.type:
                    raise RegistrationError(
                        f"{dependency.label} comes too late: callers of {each.name} pass its argument "
                        f"{argument.name!r}, which has this type. Declare a dependency above the functions "
                        "that need it"
                    )
        self.dependencies.add(dependency)

    def close(self) -> None:
        """Accept no more functions."""
        self._closed = True

    def get(self, name: str) -> Function | None:
        """The function of this name, or None."""
        return self._functions.get(name)

    def select(self, patterns: Sequence[str]) -> list[Function]:
        """The functions whose names match one of ``patterns``, without those that match one after ``!``.

        ``*`` matches any characters. Without a pattern that selects, all are selected. Raises `ConfigError`
        for a pattern that matches no function, and if no function is left.
        """
        for pattern in patterns:
            if not any(matches(pattern.removeprefix("!"), name) for name in self.names):
                raise ConfigError(f"no function matches {pattern!r}. {self._names_like(pattern)}")
        excluded = [pattern[1:] for pattern in patterns if pattern.startswith("!")]
        included = [pattern for pattern in patterns if not pattern.startswith("!")] or ["*"]
        selected = [
            function
            for function in self
            if any(matches(pattern, function.name) for pattern in included)
            and not any(matches(pattern, function.name) for pattern in excluded)
        ]
        if patterns and not selected:
            raise ConfigError(f"{', '.join(patterns)} leaves no function to offer")
        return selected

    def _names_like(self, pattern: str) -> str:
        close = get_close_matches(pattern.strip("!*"), self.names, 3, 0.5)
        if close:
            return f"Did you mean {' or '.join(map(repr, close))}?"
        shown = ", ".join(self.names[:10]) + (", ..." if len(self.names) > 10 else "")
        return f"The functions are: {shown}"

    def __iter__(self) -> Iterator[Function]:
        return iter(self._functions.values())

    def __len__(self) -> int:
        return len(self._functions)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all functions, in the order of registration."""
        return tuple(self._functions)


class FunctionDecorator:
    """Registers functions: ``@app.function``, or ``@app.function("name", timeout=30)``.

    A call with a function registers it; another call returns a decorator with this name and these options.
    The result of an ``async def`` is what it returns when it is awaited.
    """

    def __init__(
        self,
        functions: Functions,
        submit: Callable[[Step], Awaitable[Any]],
        name: str | None = None,
        **options: Any,
    ) -> None:
        self._functions = functions
        self._submit = submit
        self._name = name
        self._options = options

    # The first pair is for functions without annotations, whose first parameter could be the context.
    @overload
    def __call__(
        self, function: Callable[Concatenate[_Unknown, ...], Coroutine[Any, Any, R]], /
    ) -> Function[..., R]: ...
    @overload
    def __call__(self, function: Callable[Concatenate[_Unknown, ...], R], /) -> Function[..., R]: ...
    @overload
    def __call__(
        self, function: Callable[Concatenate[Context, P], Coroutine[Any, Any, R]], /
    ) -> Function[P, R]: ...
    @overload
    def __call__(self, function: Callable[Concatenate[Context, P], R], /) -> Function[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> Function[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> Function[P, R]: ...
    @overload
    def __call__(
        self,
        name: str | None = None,
        *,
        retry: RetryOptions | int = ...,
        timeout: float | None = ...,
        process: bool = ...,
        wait: float = ...,
        concurrency: int | None = ...,
    ) -> FunctionDecorator: ...
    def __call__(self, name: Any = None, **options: Any) -> Any:
        """Register a function, or return a decorator with a name and options.

        Raises `RegistrationError`, or `RegisteredTooLate` if the app has started.
        """
        if unknown := [option for option in options if option not in OPTIONS]:
            raise RegistrationError(
                f"app.function has no option {unknown[0]!r}: it takes name, {', '.join(OPTIONS)}"
            )
        options = self._options | options
        if name is None or isinstance(name, str):
            return FunctionDecorator(self._functions, self._submit, name or self._name, **options)
        plain = _plain_function(name)
        functions = self._functions
        function: Function = Function(
            plain,
            self._name or _name_of(plain),
            values=functions.values,
            dependencies=functions.dependencies,
            middleware=functions.middleware,
            **options,
        )
        functions.add(function)
        if function.retry.retry_limit == 1 and _names_retry_later(plain):
            warnings.warn(
                f"{function.name} uses RetryLater, but has one attempt: allow more with "
                "@app.function(retry=5)",
                stacklevel=2,
            )
        return function.with_submit(self._submit)


def _names_retry_later(function: Callable[..., Any]) -> bool:
    code = getattr(function, "__code__", None)
    return code is not None and RetryLater.__name__ in code.co_names


def _name_of(function: Callable[..., Any]) -> str:
    name: str = getattr(function, "__name__", "<unnamed>")
    if name.startswith("<"):
        raise RegistrationError(
            f"{short(function)} has no name: write app.function('name')(...), or define it with def"
        )
    return name


def _plain_function(target: Any) -> Any:
    """What a decorator was applied to, if a worker can call it. Raises `RegistrationError`."""
    if isinstance(target, Function):  # decorated already: of another app, or to get a second name
        return target.function
    if isinstance(target, staticmethod):
        target = target.__func__
    label = getattr(target, "__qualname__", short(target))
    if inspect.iscoroutine(target):
        target.close()
        raise RegistrationError(f"{label}(...) was called: pass the function itself, without ()")
    if inspect.isclass(target):
        raise RegistrationError(f"{label} is a class: register a function that creates and uses it")
    if isinstance(target, classmethod) or _is_method(target):
        raise RegistrationError(
            f"{label} is a method, and a worker has no object to call it on: move it out of its class"
        )
    if inspect.isgeneratorfunction(target) or inspect.isasyncgenfunction(target):
        raise RegistrationError(
            f"{label} is a generator, whose values cannot be stored: return a list instead of using yield"
        )
    if not callable(target):
        raise RegistrationError(f"expected a function or its name, got {short(target)}")
    return target


def _is_method(target: Any) -> bool:
    """Whether this is a function in the body of a class, with a parameter for the object."""
    if not inspect.isfunction(target) or "." not in target.__qualname__.rpartition("<locals>.")[2]:
        return False
    first = next(iter(inspect.signature(target).parameters), None)
    return first in ("self", "cls")


class _Unknown:
    """A type that only a parameter without a type accepts. No value has it."""
