"""Definitions of groups: declared in code or in the configuration file, and checked when the app starts.

A group that is not valid is kept with its faults: it cannot be triggered, and the app starts without it.
Faults point into the group's definition, as the file and ``GET /v1/group/{name}`` show it.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct, field
from msgspec.structs import replace

from raincheck.core.codec import Writer, merge, to_json
from raincheck.core.errors import (
    Fault,
    InvalidFile,
    InvalidInput,
    NotFound,
    NotJSON,
    RegisteredTooLate,
    RegistrationError,
)
from raincheck.core.model import Member, OnFailure, Step
from raincheck.core.options import JobOptions, Object, Priority, TemplateOptions, empty_object, object_of
from raincheck.core.text import short
from raincheck.engine.config_file import ConfigFile
from raincheck.engine.requests import Name, with_long_names
from raincheck.engine.requests import Stages as StagesRequest
from raincheck.engine.validation import At, Stages, Validator, object_faults, ttl_faults
from raincheck.functions.registry import NAME_LIMIT
from raincheck.functions.signature import escape, fault_of

logger = logging.getLogger("raincheck.groups")

GROUP_NAME = re.compile(r"[A-Za-z0-9_:@-][A-Za-z0-9_.:@-]*")
"""A group's name is one segment of a path: a function's name without slashes."""

_NAME_RULE = f"use letters, digits and _ - . : @, at most {NAME_LIMIT} characters, and no dot at the start"

SECTION = "/groups"


class InvalidGroup(InvalidInput):
    """A group's definition is not valid, so that it cannot be triggered."""


class GroupJob(NamedTuple):
    """One job of a group in code: as `App.submit` takes it, its functions in order."""

    name: str
    functions: Stages
    data: Mapping[str, Any] | None = None
    priority: int = 0


class GroupJobRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """One job of a group, its functions in order; a list among them is a parallel stage."""

    name: Name
    functions: StagesRequest
    data: Object = field(default_factory=empty_object)
    priority: Priority = 0


class Definition(TemplateOptions, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=False):
    """A group before it is checked. All its jobs and the functions of ``then`` get ``data``.

    Each of ``jobs`` is a `GroupJobRequest` (in code with steps), or None if it could not be decoded.
    """

    jobs: list[Any]
    then: list[Any] = field(default_factory=list)
    on_failure: OnFailure = "fail"


class Group(Struct, frozen=True):
    """A checked group. With ``faults`` it cannot be triggered. ``then`` are the steps that follow, in
    stages from 0."""

    name: str
    members: tuple[Member, ...] = ()
    then: tuple[Step, ...] = ()
    on_failure: OnFailure = "fail"
    data: bytes = b"{}"
    priority: int = 0
    result_ttl: float | None = None
    faults: tuple[Fault, ...] = ()

    @property
    def size(self) -> int:
        """The bytes of the data and the functions of its jobs."""
        steps = (step for member in self.members for step in member.steps)
        data = sum(len(member.data) for member in self.members)
        return data + sum(len(step.args) + len(step.kwargs) + len(step.function) for step in steps)


class Groups:
    """The groups of one app."""

    def __init__(self) -> None:
        self._in_code: dict[str, Definition] = {}
        self._checked: dict[str, Group] | None = None

    def add(self, name: str, definition: Definition) -> None:
        """Declare a group in code.

        Raises `RegistrationError` for a bad name or one that is taken, `RegisteredTooLate` after start.
        """
        if not is_group_name(name):
            raise RegistrationError(f"{name[:100]!r} is not a valid group name: {_NAME_RULE}")
        if self._checked is not None:
            raise RegisteredTooLate(
                f"the group {name!r} cannot be declared: the app has started; declare groups at import"
            )
        if name in self._in_code:
            raise RegistrationError(f"a group named {name!r} is already declared: use another name")
        self._in_code[name] = definition

    def check(self, file: ConfigFile | None, validator: Validator) -> None:
        """Check all groups, of the code and of the file. From now on they can be triggered."""
        in_code = {name: _check_code(name, each, validator) for name, each in self._in_code.items()}
        in_file = {group.name: group for group in groups_in(file, validator)} if file else {}
        for name in in_code.keys() & in_file.keys():
            in_file[name] = Group(name, faults=(Fault("is also declared in code", _pointer(name)),))
        if file is not None:
            in_file = {name: _with_lines(file, group) for name, group in in_file.items()}
        self._checked = {**in_code, **in_file}
        for group in self:
            if group.faults:
                logger.warning("group %r is not valid: %s", group.name, InvalidGroup(*group.faults))

    def __iter__(self) -> Iterator[Group]:
        groups = self._checked or {}
        return iter([groups[name] for name in sorted(groups)])

    def __contains__(self, name: object) -> bool:
        return name in (self._checked or {})

    def find(self, name: str) -> Group:
        """A group, valid or not. Raises `NotFound`."""
        group = (self._checked or {}).get(name)
        if group is None:
            raise NotFound(f"no group is named {name[:100]!r}: GET /v1/group lists the groups")
        return group

    def find_valid(self, name: str) -> Group:
        """A group that can be triggered. Raises `NotFound`, or `InvalidGroup` with its faults."""
        group = self.find(name)
        if group.faults:
            raise InvalidGroup(*group.faults)
        return group


def is_group_name(name: str) -> bool:
    """Whether a name may be a group's."""
    return len(name) <= NAME_LIMIT and GROUP_NAME.fullmatch(name) is not None


def from_code(
    jobs: Sequence[GroupJob],
    then: Stages,
    on_failure: OnFailure,
    options: TemplateOptions,
    to_json: Writer = to_json,
) -> Definition:
    """The definition of a group declared in code; ``to_json`` writes the data of jobs.

    Raises `RegistrationError` for jobs that are not `GroupJob`s, and `NotJSON`.
    """
    given: Iterable[Any] = jobs
    wrong = [job for job in given if not isinstance(job, GroupJob)]
    if wrong:
        got = short(wrong[0])
        raise RegistrationError(f"expected a list of jobs, got {got} in it: write [GroupJob(name, [steps])]")
    requests = [
        GroupJobRequest(name, functions, object_of(data, to_json), priority)  # type: ignore[arg-type] # steps
        for name, functions, data, priority in jobs
    ]
    return Definition(
        jobs=requests,
        then=list(then),
        on_failure=on_failure,
        data=options.data,
        priority=options.priority,
        result_ttl=options.result_ttl,
    )


def from_plain(plain: Any) -> tuple[Definition, list[Fault]]:
    """The definition of a group in a file, as far as it can be decoded, and the faults of the rest.

    Raises `InvalidInput` if nothing of it can be decoded.
    """
    faults: list[Fault] = []
    definition = _decode_group(plain, faults)
    jobs = [_decode_job(job, f"/jobs/{i}", faults) for i, job in enumerate(definition.jobs)]
    then: list[Any] = []
    if definition.then:
        then = _decode(with_long_names(definition.then), StagesRequest, "/then", faults) or []
    return replace(definition, jobs=jobs, then=then), faults


def _decode_group(plain: Any, faults: list[Fault]) -> Definition:
    """A definition without the fields that cannot be decoded."""
    try:
        return msgspec.json.decode(to_json(plain), type=Definition)
    except NotJSON as error:
        raise InvalidInput(Fault(str(error))) from None
    except msgspec.ValidationError as error:
        faults.append(fault_of(error, ""))
    key = faults[-1].pointer.split("/")[1:2]
    if not isinstance(plain, dict) or key in ([], ["jobs"]) or key[0] not in plain:
        raise InvalidInput(*faults)
    return _decode_group({name: each for name, each in plain.items() if name != key[0]}, faults)


def _decode_job(plain: Any, at: str, faults: list[Fault]) -> Any:
    if isinstance(plain, dict) and "functions" in plain:
        plain = {**plain, "functions": with_long_names(plain["functions"])}
    return _decode(plain, GroupJobRequest, at, faults)


def _decode(plain: Any, kind: Any, at: str, faults: list[Fault]) -> Any:
    """A part of a definition; None if it has a fault."""
    try:
        return msgspec.json.decode(msgspec.json.encode(plain), type=kind)
    except msgspec.ValidationError as error:
        faults.append(fault_of(error, at))
        return None


def checked(
    name: str, definition: Definition, validator: Validator, decode_faults: Sequence[Fault] = ()
) -> Group:
    """The group of a definition. Raises `InvalidInput` with ``decode_faults`` and all other faults."""
    faults, limits = [*decode_faults], validator.limits
    if not is_group_name(name):
        faults.append(Fault(f"{name[:100]!r} is not a valid group name: {_NAME_RULE}"))
    if not definition.jobs:
        faults.append(Fault("a group needs at least one job", "/jobs"))
    if len(definition.jobs) > limits.members:
        raise InvalidInput(*faults, Fault(f"a group can have at most {limits.members} jobs", "/jobs"))
    own_faults = [*object_faults(definition.data, "/data"), *ttl_faults(definition.result_ttl or 0.0)]
    data = bytes(definition.data) if not any(fault.pointer == "/data" for fault in own_faults) else b"{}"
    members = [
        _member(job, data, definition.priority, f"/jobs/{i}", validator, faults)
        for i, job in enumerate(definition.jobs)
        if job is not None
    ]
    group = Group(
        name,
        tuple(member for member in members if member is not None),
        _follow_up(definition.then, validator, faults),
        definition.on_failure,
        data,
        definition.priority,
        definition.result_ttl,
    )
    if group.size > limits.group:
        own_faults.append(
            Fault(f"data and arguments of all jobs together can have at most {limits.group} bytes", "/jobs")
        )
    if faults or own_faults:
        raise InvalidInput(*faults, *own_faults)
    return group


def _member(
    job: GroupJobRequest, data: bytes, priority: int, at: str, validator: Validator, faults: list[Fault]
) -> Member | None:
    """A job of a group, its data merged over the group's; None if it has faults."""
    options = JobOptions(data=job.data, priority=job.priority or priority)
    try:
        draft = validator.draft(job.name, job.functions, options, 0.0, At(at, f"{at}/functions"))
    except InvalidInput as error:
        faults += error.faults
        return None
    return Member(draft.name, draft.steps, merge(data, draft.data), draft.priority)


def _follow_up(stages: Sequence[Any], validator: Validator, faults: list[Fault]) -> tuple[Step, ...]:
    """The steps that follow the jobs of a group."""
    try:
        return validator.steps(stages, "/then") if stages else ()
    except InvalidInput as error:
        faults += error.faults
        return ()


def _check_code(name: str, definition: Definition, validator: Validator) -> Group:
    """The group of a definition in code, valid or not."""
    try:
        return checked(name, definition, validator)
    except InvalidInput as error:
        return Group(name, faults=error.faults)


def groups_in(file: ConfigFile, validator: Validator) -> Iterator[Group]:
    """The groups that a file declares, valid or not. Faults point into the file.

    Raises `InvalidFile` if its section is not a mapping.
    """
    section = file.data.get("groups") if isinstance(file.data, dict) else None
    if section is None:
        return
    if not isinstance(section, dict):
        raise InvalidFile(file.locate(Fault("expected a mapping of groups by name", SECTION)))
    for name, plain in section.items():
        try:
            definition, faults = from_plain(plain)
            yield checked(name, definition, validator, faults)
        except InvalidInput as error:
            moved = (fault._replace(pointer=_pointer(name) + fault.pointer) for fault in error.faults)
            yield Group(name, faults=tuple(moved))


def _pointer(name: str) -> str:
    return f"{SECTION}/{escape(name)}"


def _with_lines(file: ConfigFile, group: Group) -> Group:
    """A group whose faults also name the file and the line.

    Callers read them, so an absolute path is left out: it would describe the server.
    """
    name = file.path.name if file.path.is_absolute() else file.path
    faults = [
        fault._replace(detail=f"{name}:{file.line(fault.pointer)}: {fault.detail}") for fault in group.faults
    ]
    return replace(group, faults=tuple(faults))
