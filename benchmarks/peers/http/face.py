"""What the apps have in common: the documents that go in and out."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Header
from pydantic import BaseModel

Prefer = Annotated[str | None, Header()]
"""``wait=10``: answer when there is a result."""


class Function(BaseModel):
    """One entry of a job's functions."""

    name: str
    args: list[Any] = []
    kwargs: dict[str, Any] = {}


class NewJob(BaseModel):
    """What is posted."""

    name: str
    functions: list[Function]
    data: dict[str, Any] = {}


class Job(BaseModel):
    """What is known of a job."""

    id: str
    state: str
    result: Any = None
