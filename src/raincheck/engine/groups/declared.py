"""The groups that an app has: declared in code or in its configuration file, checked when it starts.

A group that is not valid is kept with its faults, and does not keep the app from starting.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

from msgspec.structs import replace

from raincheck.core.errors import (
    Fault,
    InvalidFile,
    InvalidInput,
    NotFound,
    RegisteredTooLate,
    RegistrationError,
)
from raincheck.engine.groups.definition import Definition, Group, checked, from_plain, is_group_name
from raincheck.engine.validation import Validator
from raincheck.engine.yaml_document import Document
from raincheck.functions.signature import escape

logger = logging.getLogger("raincheck.groups")

SECTION = "/groups"


class InvalidGroup(InvalidInput):
    """A group's definition is not valid, so that it cannot be triggered."""


class Groups:
    """The groups of one app."""

    def __init__(self) -> None:
        self._coded: dict[str, Definition] = {}
        self._checked: dict[str, Group] | None = None

    def add(self, name: str, definition: Definition) -> None:
        """Declare a group in code.

        Raises `RegistrationError` for a bad name or one that is taken, `RegisteredTooLate` after start.
        """
        if not is_group_name(name):
            raise RegistrationError(
                f"{name[:100]!r} cannot be a group's name: letters, digits and _ - . : @, the first no dot"
            )
        if self._checked is not None:
            raise RegisteredTooLate(f"the group {name!r} cannot be declared: the app has started")
        if name in self._coded:
            raise RegistrationError(f"there is a group named {name!r} already")
        self._coded[name] = definition

    def check(self, document: Document | None, validator: Validator) -> None:
        """Check all groups, those of code and of a file: from now on they can be triggered."""
        coded = {name: _coded(name, each, validator) for name, each in self._coded.items()}
        filed = {each.name: each for each in in_file(document, validator)} if document else {}
        for name in coded.keys() & filed.keys():
            filed[name] = Group(name, faults=(Fault("is declared in code, too", _at(name)),))
        if document is not None:
            filed = {name: _located(document, each) for name, each in filed.items()}
        self._checked = {**coded, **filed}
        for each in self:
            if each.faults:
                logger.warning("the group %r is not valid: %s", each.name, InvalidGroup(*each.faults))

    def __iter__(self) -> Iterator[Group]:
        known = self._checked or {}
        return iter([known[name] for name in sorted(known)])

    def __contains__(self, name: object) -> bool:
        return name in (self._checked or {})

    def find(self, name: str) -> Group:
        """A group, valid or not. Raises `NotFound`."""
        found = (self._checked or {}).get(name)
        if found is None:
            raise NotFound(f"no group is named {name[:100]!r}: GET /v1/group lists them")
        return found

    def valid(self, name: str) -> Group:
        """A group that can be triggered. Raises `NotFound`, or `InvalidGroup` with its faults."""
        found = self.find(name)
        if found.faults:
            raise InvalidGroup(*found.faults)
        return found


def _coded(name: str, definition: Definition, validator: Validator) -> Group:
    try:
        return checked(name, definition, validator)
    except InvalidInput as error:
        return Group(name, faults=error.faults)


def in_file(document: Document, validator: Validator) -> Iterator[Group]:
    """The groups that a file declares; faults point into it.

    Raises `InvalidFile` if its section is no mapping.
    """
    section = document.data.get("groups") if isinstance(document.data, dict) else None
    if section is None:
        return
    if not isinstance(section, dict):
        raise InvalidFile(document.locate(Fault("expected a mapping of groups by name", SECTION)))
    for name, plain in section.items():
        try:
            definition, faults = from_plain(plain)
            yield checked(name, definition, validator, faults)
        except InvalidInput as error:
            at = _at(name)
            found = (fault._replace(pointer=f"{at}{fault.pointer}") for fault in error.faults)
            yield Group(name, faults=tuple(found))


def _at(name: str) -> str:
    return f"{SECTION}/{escape(name)}"


def _located(document: Document, group: Group) -> Group:
    """A group whose faults also say where in the file they are."""
    where = f"{document.path}:{{}}: {{}}".format
    faults = (f._replace(detail=where(document.line(f.pointer), f.detail)) for f in group.faults)
    return replace(group, faults=tuple(faults))
