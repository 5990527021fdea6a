"""The groups that an app has: declared in code or in its configuration file, checked when it starts.

One that is not valid is kept with what is wrong with it, and stands in nobody's way.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import NamedTuple

from raincheck.errors import Fault, InvalidFile, InvalidInput, NotFound, RegisteredTooLate, RegistrationError
from raincheck.functions import Functions
from raincheck.groups.definition import Definition, Group, checked, from_plain, is_group_name
from raincheck.limits import Limits
from raincheck.signature import escape
from raincheck.yamlfile import Document

logger = logging.getLogger("raincheck.groups")

SECTION = "/groups"


class InvalidGroup(InvalidInput):
    """A group's definition is not valid, so that it cannot be triggered."""


class Declared(NamedTuple):
    """A group by its name: what it is, or the faults of its definition, with file and line."""

    name: str
    group: Group | None
    faults: tuple[Fault, ...] = ()


class Groups:
    """The groups of one app."""

    def __init__(self) -> None:
        self._coded: dict[str, Definition] = {}
        self._declared: dict[str, Declared] | None = None

    def add(self, name: str, definition: Definition) -> None:
        """Declare a group in code.

        Raises `RegistrationError` for a bad name or one that is taken, `RegisteredTooLate` after start.
        """
        if not is_group_name(name):
            raise RegistrationError(
                f"{name[:100]!r} cannot be a group's name: letters, digits and _ - . : @, the first no dot"
            )
        if self._declared is not None:
            raise RegisteredTooLate(f"the group {name!r} cannot be declared: the app has started")
        if name in self._coded:
            raise RegistrationError(f"there is a group named {name!r} already")
        self._coded[name] = definition

    def check(self, document: Document | None, functions: Functions, limits: Limits) -> None:
        """Check all that was declared, in code and in a file: from now on it can be triggered."""
        coded = {name: _coded(name, each, functions, limits) for name, each in self._coded.items()}
        filed = {each.name: each for each in in_file(document, functions, limits)} if document else {}
        for name in coded.keys() & filed.keys():
            filed[name] = Declared(name, None, (Fault("is declared in code, too", _at(name)),))
        if document is not None:
            filed = {name: _located(document, each) for name, each in filed.items()}
        self._declared = {**coded, **filed}
        for each in self:
            if each.group is None:
                logger.warning("the group %r is not valid: %s", each.name, InvalidGroup(*each.faults))

    def __iter__(self) -> Iterator[Declared]:
        declared = self._declared or {}
        return iter([declared[name] for name in sorted(declared)])

    def find(self, name: str) -> Declared:
        """A group, valid or not. Raises `NotFound`."""
        found = (self._declared or {}).get(name)
        if found is None:
            raise NotFound(f"no group is named {name[:100]!r}: GET /v1/group lists them")
        return found

    def valid(self, name: str) -> Group:
        """A group that can be triggered. Raises `NotFound`, or `InvalidGroup` with its faults."""
        found = self.find(name)
        if found.group is None:
            raise InvalidGroup(*found.faults)
        return found.group


def _coded(name: str, definition: Definition, functions: Functions, limits: Limits) -> Declared:
    try:
        return Declared(name, checked(name, definition, functions, limits))
    except InvalidInput as error:
        return Declared(name, None, error.faults)


def in_file(document: Document, functions: Functions, limits: Limits) -> Iterator[Declared]:
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
            yield Declared(name, checked(name, from_plain(plain), functions, limits))
        except InvalidInput as error:
            at = _at(name)
            faults = (fault._replace(pointer=f"{at}{fault.pointer}") for fault in error.faults)
            yield Declared(name, None, tuple(faults))


def _at(name: str) -> str:
    return f"{SECTION}/{escape(name)}"


def _located(document: Document, declared: Declared) -> Declared:
    """A group whose faults say where in the file they are, too."""
    where = f"{document.path}:{{}}: {{}}".format
    faults = (f._replace(detail=where(document.line(f.pointer), f.detail)) for f in declared.faults)
    return declared._replace(faults=tuple(faults))
