"""The request and response bodies that the apps share."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Header
from pydantic import BaseModel

Prefer = Annotated[str | None, Header()]
"""``wait=10``: respond when the job has a result."""


class Function(BaseModel):
    """One entry of a job's functions."""

    name: str
    args: list[Any] = []
    kwargs: dict[str, Any] = {}


class NewJob(BaseModel):
    """The body of ``POST /v1/job``."""

    name: str
    functions: list[Function]
    data: dict[str, Any] = {}


class Job(BaseModel):
    """A job."""

    id: str
    state: str
    result: Any = None
