"""Replies of several shards, of which some may be errors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from raincheck.core.errors import StoreError


def sift(answers: Sequence[Any]) -> list[Any]:
    """The answers among what may be failures of the store. Raises one of these if there is nothing else."""
    good = [answer for answer in answers if not isinstance(answer, StoreError)]
    for answer in good or answers[:1]:
        if isinstance(answer, BaseException):
            raise answer
    return good
