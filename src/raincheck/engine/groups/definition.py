"""What a group is: its jobs, the functions that follow them, and the checks before it can be triggered.

Faults point into the group's definition, as the file and ``GET /v1/group/{name}`` show it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct, field
from msgspec.structs import replace

from raincheck.core.codec import merge, to_json
from raincheck.core.errors import Fault, InvalidInput, NotJSON
from raincheck.core.model import Member, OnFailure, Step
from raincheck.core.options import JobOptions, Object, Priority, TemplateOptions, empty_object, object_of
from raincheck.engine.requests import Name, fault_in, with_long_names
from raincheck.engine.requests import Stages as StagesRequest
from raincheck.engine.validation import At, Stages, Validator, object_faults, ttl_faults
from raincheck.functions.registry import NAME_LIMIT

GROUP_NAME = re.compile(r"[A-Za-z0-9_:@-][A-Za-z0-9_.:@-]*")
"""A group's name is one part of a path: that of a function without slashes."""


class GroupJob(NamedTuple):
    """One job of a group in code: as `App.submit` takes it, its functions in order."""

    name: str
    functions: Stages
    data: Mapping[str, Any] | None = None
    priority: int = 0


class GroupJobRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """One job of a group, its functions in order; a list among them is a stage run together."""

    name: Name
    functions: StagesRequest
    data: Object = field(default_factory=empty_object)
    priority: Priority = 0


class Definition(TemplateOptions, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=False):
    """A group before it is checked. ``data`` is given to all its jobs and to the functions of ``then``.

    Each of ``jobs`` is a `GroupJobRequest` (in code with steps); None, if it could not be understood.
    """

    jobs: list[Any]
    then: list[Any] = field(default_factory=list)
    on_failure: OnFailure = "fail"


class Group(Struct, frozen=True):
    """A group that can be triggered, unless it has ``faults``. ``then`` are the steps that follow, in
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
        """Bytes that its jobs are given."""
        steps = (step for member in self.members for step in member.steps)
        given = sum(len(member.data) for member in self.members)
        return given + sum(len(step.args) + len(step.kwargs) + len(step.function) for step in steps)


def is_group_name(name: str) -> bool:
    """Whether a name may be a group's."""
    return len(name) <= NAME_LIMIT and GROUP_NAME.fullmatch(name) is not None


def from_code(
    jobs: Sequence[GroupJob], then: Stages, on_failure: OnFailure, options: TemplateOptions
) -> Definition:
    """A group as code says it. Raises `NotJSON`."""
    made = [
        GroupJobRequest(name, functions, object_of(data), priority)  # type: ignore[arg-type] # steps
        for name, functions, data, priority in jobs
    ]
    return Definition(
        jobs=made,
        then=list(then),
        on_failure=on_failure,
        data=options.data,
        priority=options.priority,
        result_ttl=options.result_ttl,
    )


def from_plain(plain: Any) -> tuple[Definition, list[Fault]]:
    """A group as a file says it, as far as it can be understood, and what is wrong with the rest.

    Raises `InvalidInput` if it cannot be understood at all.
    """
    faults: list[Fault] = []
    asked = _decoded_group(plain, faults)
    jobs = [_decoded_job(job, f"/jobs/{i}", faults) for i, job in enumerate(asked.jobs)]
    then = _decoded(with_long_names(asked.then), StagesRequest, "/then", faults) if asked.then else []
    return replace(asked, jobs=jobs, then=then or []), faults


def _decoded_group(plain: Any, faults: list[Fault]) -> Definition:
    """The whole of a definition; fields that cannot be understood are left out, as far as possible."""
    try:
        return msgspec.json.decode(to_json(plain), type=Definition)
    except NotJSON as error:
        raise InvalidInput(Fault(str(error))) from None
    except msgspec.ValidationError as error:
        faults.append(fault_in(error))
    key = faults[-1].pointer.split("/")[1:2]
    if not isinstance(plain, dict) or key in ([], ["jobs"]) or key[0] not in plain:
        raise InvalidInput(*faults)
    return _decoded_group({name: each for name, each in plain.items() if name != key[0]}, faults)


def _decoded_job(plain: Any, at: str, faults: list[Fault]) -> Any:
    if isinstance(plain, dict) and "functions" in plain:
        plain = {**plain, "functions": with_long_names(plain["functions"])}
    return _decoded(plain, GroupJobRequest, at, faults)


def _decoded(plain: Any, kind: Any, at: str, faults: list[Fault]) -> Any:
    """A part of a definition; None if there is a fault."""
    try:
        return msgspec.json.decode(msgspec.json.encode(plain), type=kind)
    except msgspec.ValidationError as error:
        faults.append(fault_in(error, at))
        return None


def checked(name: str, definition: Definition, validator: Validator, known: Sequence[Fault] = ()) -> Group:
    """The group that a definition makes. Raises `InvalidInput` with the faults ``known`` and all others."""
    faults, limits = [*known], validator.limits
    if not is_group_name(name):
        words = f"letters, digits and _ - . : @, at most {NAME_LIMIT}, and the first no dot"
        faults.append(Fault(f"{name[:100]!r} cannot be a group's name: {words}"))
    if not definition.jobs:
        faults.append(Fault("a group has at least one job", "/jobs"))
    if len(definition.jobs) > limits.members:
        raise InvalidInput(*faults, Fault(f"a group has at most {limits.members} jobs", "/jobs"))
    wrong = [*object_faults(definition.data, "/data"), *ttl_faults(definition.result_ttl or 0.0)]
    data = bytes(definition.data) if not any(fault.pointer == "/data" for fault in wrong) else b"{}"
    jobs = [
        _member(job, data, definition.priority, f"/jobs/{i}", validator, faults)
        for i, job in enumerate(definition.jobs)
        if job is not None
    ]
    group = Group(
        name,
        tuple(member for member in jobs if member is not None),
        _then(definition.then, validator, faults),
        definition.on_failure,
        data,
        definition.priority,
        definition.result_ttl,
    )
    if group.size > limits.group:
        wrong.append(Fault(f"the jobs of a group are given at most {limits.group} bytes in all", "/jobs"))
    if faults or wrong:
        raise InvalidInput(*faults, *wrong)
    return group


def _member(
    job: GroupJobRequest, data: bytes, priority: int, at: str, validator: Validator, faults: list[Fault]
) -> Member | None:
    """A job of a group, with the group's data below its own; None if it has faults."""
    options = JobOptions(data=job.data, priority=job.priority or priority)
    try:
        made = validator.draft(job.name, job.functions, options, 0.0, At(at, f"{at}/functions"))
    except InvalidInput as error:
        faults += error.faults
        return None
    return Member(made.name, made.steps, merge(data, made.data), made.priority)


def _then(stages: Sequence[Any], validator: Validator, faults: list[Fault]) -> tuple[Step, ...]:
    """The steps that follow the jobs of a group."""
    try:
        return validator.steps(stages, "/then") if stages else ()
    except InvalidInput as error:
        faults += error.faults
        return ()
