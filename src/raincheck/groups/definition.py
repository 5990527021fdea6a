"""What a group is: its jobs, what follows them, and every check that comes before it can be triggered.

Faults point into the group's definition as the file and ``GET /v1/group/{name}`` show it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import msgspec
from msgspec import Raw, Struct, field
from msgspec.structs import replace

from raincheck.codec import merge, to_json
from raincheck.errors import Fault, InvalidInput, NotJSON
from raincheck.functions import NAME_LIMIT, Functions
from raincheck.limits import Limits
from raincheck.model import LONGEST, Member, OnFailure, Seconds, Step
from raincheck.requests import Name, Object, Priority, Stages, container_faults, fault_in, steps_of
from raincheck.submission import Stages as Steps
from raincheck.submission import draft

GROUP_NAME = re.compile(r"[A-Za-z0-9_:@-][A-Za-z0-9_.:@-]*")
"""A group's name is one part of a path: that of a function without slashes."""

_OBJECT = partial(Raw, b"{}")


class GroupJob(NamedTuple):
    """One job of a group in code: as `App.submit` takes it, its functions in order."""

    name: str
    functions: Steps
    data: Mapping[str, Any] | None = None
    priority: int = 0


class GroupJobRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """One job of a group, its functions in order; a list among them is a stage run together."""

    name: Name
    functions: Stages
    data: Object = field(default_factory=_OBJECT)
    priority: Priority = 0


class GroupRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """A group: its jobs, and the functions that follow once all of them have ended."""

    jobs: list[Raw]
    then: list[Raw] = field(default_factory=list)
    on_failure: OnFailure = "fail"
    data: Object = field(default_factory=_OBJECT)
    priority: Priority = 0
    result_ttl: Seconds | None = None


class Definition(NamedTuple):
    """A group before it is checked. ``data`` is JSON: what all its jobs, and the follow-up, are given."""

    jobs: Sequence[tuple[str, Steps, bytes, int]]
    then: Steps = ()
    on_failure: OnFailure = "fail"
    data: bytes = b"{}"
    priority: int = 0
    result_ttl: float | None = None


class Group(Struct, frozen=True):
    """A group that can be triggered. ``then`` are the steps that follow, in stages from 0."""

    name: str
    members: tuple[Member, ...]
    then: tuple[Step, ...] = ()
    on_failure: OnFailure = "fail"
    data: bytes = b"{}"
    priority: int = 0
    result_ttl: float | None = None

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
    jobs: Sequence[GroupJob],
    then: Steps,
    on_failure: OnFailure,
    data: Mapping[str, Any] | None,
    priority: int,
    result_ttl: float | None,
) -> Definition:
    """A group as code says it. Raises `NotJSON`."""
    made = [(name, steps, to_json(own or {}), rank) for name, steps, own, rank in jobs]
    return Definition(made, then, on_failure, to_json(data or {}), priority, result_ttl)


def from_plain(plain: Any) -> Definition:
    """A group as a file says it. Raises `InvalidInput` with every fault found."""
    faults: list[Fault] = []
    asked = _decoded_group(plain, faults)
    jobs = []
    for i, raw in enumerate(asked.jobs):
        job = _decoded(raw, GroupJobRequest, f"/jobs/{i}", faults)
        if job is not None:
            faults += _object_faults(job.data, f"/jobs/{i}/data")
            faults += container_faults(job.functions, f"/jobs/{i}/functions")
            jobs.append((job.name, steps_of(job.functions), bytes(job.data), job.priority))
    then = _decoded(Raw(msgspec.json.encode(asked.then)), Stages, "/then", faults) if asked.then else []
    faults += _object_faults(asked.data, "/data")
    faults += container_faults(then or [], "/then")
    if faults:
        raise InvalidInput(*faults)
    return Definition(
        jobs, steps_of(then or []), asked.on_failure, bytes(asked.data), asked.priority, asked.result_ttl
    )


def _decoded_group(plain: Any, faults: list[Fault]) -> GroupRequest:
    """The whole of a definition; what is wrong in it is noted and left out, as far as it can be."""
    try:
        return msgspec.json.decode(to_json(plain), type=GroupRequest)
    except NotJSON as error:
        raise InvalidInput(Fault(str(error))) from None
    except msgspec.ValidationError as error:
        faults.append(fault_in(error))
    key = faults[-1].pointer.split("/")[1:2]
    if not isinstance(plain, dict) or key in ([], ["jobs"]) or key[0] not in plain:
        raise InvalidInput(*faults)
    return _decoded_group({name: each for name, each in plain.items() if name != key[0]}, faults)


def _decoded(raw: Raw, kind: Any, at: str, faults: list[Fault]) -> Any:
    """A part of a definition, a function's name alone being a function; None if there is a fault."""
    plain = msgspec.json.decode(raw)
    functions = plain.get("functions") if isinstance(plain, dict) else plain
    if isinstance(functions, list):
        written = [_function(entry) for entry in functions]
        plain = {**plain, "functions": written} if isinstance(plain, dict) else written
    try:
        return msgspec.json.decode(msgspec.json.encode(plain), type=kind)
    except msgspec.ValidationError as error:
        faults.append(fault_in(error, at))
        return None


def _function(entry: Any) -> Any:
    if isinstance(entry, list):
        return [{"name": each} if isinstance(each, str) else each for each in entry]
    return {"name": entry} if isinstance(entry, str) else entry


def _object_faults(raw: Raw, at: str) -> Iterator[Fault]:
    if bytes(raw)[:1] != b"{":
        yield Fault("expected an object", at)


def checked(name: str, definition: Definition, functions: Functions, limits: Limits) -> Group:
    """The group that a definition makes. Raises `InvalidInput` with every fault found."""
    faults: list[Fault] = []
    members: list[Member] = []
    if not is_group_name(name):
        words = f"letters, digits and _ - . : @, at most {NAME_LIMIT}, and the first no dot"
        faults.append(Fault(f"{name[:100]!r} cannot be a group's name: {words}"))
    if not definition.jobs:
        faults.append(Fault("a group has at least one job", "/jobs"))
    if len(definition.jobs) > limits.members:
        raise InvalidInput(*faults, Fault(f"a group has at most {limits.members} jobs", "/jobs"))

    def drafted(label: str, steps: Steps, data: bytes, priority: int, at: str) -> Member | None:
        try:
            made = draft(
                label, steps, data=data, now=0.0, priority=priority, functions=functions, limits=limits
            )
        except InvalidInput as error:
            faults.extend(fault._replace(pointer=f"{at}{fault.pointer}") for fault in error.faults)
            return None
        return Member(made.name, made.steps, made.data, made.priority)

    for i, (label, steps, data, priority) in enumerate(definition.jobs):
        member = drafted(label, steps, data, priority or definition.priority, f"/jobs/{i}")
        if member is not None:
            members.append(replace(member, data=merge(definition.data, member.data)))
    then = None
    if definition.then:
        then = drafted("then", definition.then, definition.data, definition.priority, "#then")
    if not 0 <= (definition.result_ttl or 0.0) <= LONGEST:
        faults.append(Fault(f"lies between 0 and {LONGEST:.0f} seconds", "/result_ttl"))
    group = Group(
        name,
        tuple(members),
        () if then is None else then.steps,
        definition.on_failure,
        definition.data,
        definition.priority,
        definition.result_ttl,
    )
    if group.size > limits.group:
        faults.append(Fault(f"the jobs of a group are given at most {limits.group} bytes in all", "/jobs"))
    if faults:
        raise InvalidInput(*(_in_then(fault) for fault in faults))
    return group


def _in_then(fault: Fault) -> Fault:
    """A fault of the job that was drafted of what follows, as one of ``then``."""
    return fault._replace(pointer=re.sub(r"^#then(/functions)?", "/then", fault.pointer))
