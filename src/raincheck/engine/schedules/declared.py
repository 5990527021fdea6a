"""The schedules that an app declares, in code and in its file: put by each server and worker that starts."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from msgspec.structs import replace

from raincheck.core.codec import encode_schedule
from raincheck.core.errors import Fault, InvalidFile, InvalidInput, RegistrationError
from raincheck.core.model import Schedule
from raincheck.engine.groups.declared import Groups
from raincheck.engine.schedules.requests import in_file, pointer_to
from raincheck.engine.validation import Validator
from raincheck.engine.yaml_document import Document


class DeclaredSchedules:
    """The schedules of one app."""

    def __init__(self, groups: Groups, validator: Validator) -> None:
        self._groups = groups
        self._validator = validator
        self._coded: list[Schedule] = []
        self._filed: list[Schedule] = []

    def __iter__(self) -> Iterator[Schedule]:
        return iter([*self._coded, *self._filed])

    def add(self, schedule: Schedule) -> None:
        """Note a schedule that code declares. Raises `RegistrationError` if its name is taken."""
        if any(other.name == schedule.name for other in self._coded):
            raise RegistrationError(f"{schedule.name}: a schedule of this name is declared already")
        self._coded.append(_marked(schedule))

    def read(self, document: Document | None, now: float) -> None:
        """Note the schedules of the app's file, in place of those it had before. Raises `InvalidFile`."""
        filed = [] if document is None else in_file(document, self._validator, now)
        self._filed = [_marked(each) for each in filed]
        coded = {each.name: each for each in self._coded}
        for name, each in coded.items():
            for fault in self._group_faults(each):
                raise RegistrationError(f"schedule {name}: {fault.detail}")
        faults = [Fault("is declared in code already", pointer_to(e.name)) for e in filed if e.name in coded]
        for each in filed:
            faults += [Fault(what, pointer_to(each.name) + at) for what, at in self._group_faults(each)]
        if faults and document is not None:
            raise InvalidFile(*map(document.locate, faults))

    def check(self, made: Schedule) -> None:
        """Raise `InvalidInput` unless the group that it triggers is known here."""
        faults = self._group_faults(made)
        if faults:
            raise InvalidInput(*faults)

    def _group_faults(self, made: Schedule) -> list[Fault]:
        if made.group is None or made.group in self._groups:
            return []
        return [Fault(f"no group is named {made.group!r} here", "/group")]


def _marked(made: Schedule) -> Schedule:
    """A declaration with its fingerprint, which tells it from another one of its name."""
    return replace(made, declared=hashlib.blake2b(encode_schedule(made), digest_size=16).digest())
