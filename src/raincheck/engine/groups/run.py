"""A run of a group, as jobs: the run itself, whose first step gathers, and its members.

The ids of the members follow from that of the run, so that whoever creates them, and how often,
creates the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from msgspec.structs import replace

from raincheck.core.clock import following_id, new_id
from raincheck.core.codec import merge
from raincheck.core.errors import Fault, InvalidInput, TooLarge
from raincheck.core.model import Gather, Job, Member, Step
from raincheck.engine.groups.definition import Group
from raincheck.engine.validation import Validator, argument_faults, object_faults, split_arguments
from raincheck.functions.registry import Functions
from raincheck.functions.signature import Pointers, escape

KEPT = 86400.0
"""Seconds for which members are kept at least: one removed before its run has gathered is a failure."""


def run_of(group: Group, data: bytes, args: Mapping[str, bytes], validator: Validator) -> Job:
    """The draft of a run. ``data`` (a JSON object) goes over that of every job and of the follow-up.

    ``args`` gives jobs, by their names, other arguments for their first function: a JSON array by
    position, an object by name. Raises `InvalidInput` with every fault, or `TooLarge`.
    """
    limits, wrong = validator.limits, [*object_faults(data, "/data")]
    if wrong:
        raise InvalidInput(*wrong)
    members = _given(group.members, args, validator.functions) if args else group.members
    if data != b"{}":
        if group.size + len(data) * len(members) > limits.group:
            raise TooLarge(
                f"the jobs of a group are given at most {limits.group} bytes in all: send less data, or "
                "where it is"
            )
        members = tuple(replace(member, data=merge(member.data, data)) for member in members)
    gather = Step(step_name(group.name), 0, gather=Gather(len(members), group.on_failure, members))
    return Job(
        id=new_id(),
        name=group.name,
        steps=(gather, *(replace(step, stage=step.stage + 1) for step in group.then)),
        data=merge(group.data, data),
        priority=group.priority,
        result_ttl=limits.result_ttl if group.result_ttl is None else group.result_ttl,
        group=group.name,
    )


def step_name(group: str) -> str:
    """What the gathering step of a run is called, where functions are named and listed."""
    return f"group:{group}"


def _given(members: Sequence[Member], args: Mapping[str, bytes], functions: Functions) -> tuple[Member, ...]:
    """The members with other arguments for the first functions of some."""
    unknown = sorted(args.keys() - {member.name for member in members})
    faults = [Fault("no job of the group has this name", f"/args/{escape(name)}") for name in unknown]
    made = []
    for member in members:
        given = args.get(member.name)
        made.append(member if given is None else _with_arguments(member, given, functions, faults))
    if faults:
        raise InvalidInput(*dict.fromkeys(faults))
    return tuple(made)


def _with_arguments(member: Member, given: bytes, functions: Functions, faults: list[Fault]) -> Member:
    at = f"/args/{escape(member.name)}"
    try:
        args, kwargs = split_arguments(given, at)
    except InvalidInput as error:
        faults += error.faults
        return member
    first, *others = member.steps
    function = functions.get(first.function)
    if function is not None:
        faults += argument_faults(function, args, kwargs, Pointers(at, at, at))
    return replace(member, steps=(replace(first, args=args, kwargs=kwargs), *others))


def member_ids(run_id: str, size: int, start: int = 0) -> list[str]:
    """The ids of a run's members, in order, from the one at ``start`` on."""
    return [member_id(run_id, index) for index in range(start, size)]


def member_id(run_id: str, index: int) -> str:
    """The id of one member, which sorts after the run's, by its position."""
    return following_id(run_id, index)


def members_of(run: Job) -> Iterator[Job]:
    """The drafts of the members that a run is still to create."""
    gather = run.steps[0].gather
    for index, member in enumerate(gather.members if gather else ()):
        yield Job(
            id=member_id(run.id, index),
            name=member.name,
            steps=member.steps,
            data=member.data,
            priority=member.priority,
            result_ttl=max(run.result_ttl, KEPT),
            group=run.group,
            run_of=run.id,
        )
