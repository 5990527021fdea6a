"""The records that the OpenAPI document shows, and what they are called there."""

from __future__ import annotations

from raincheck.auth import Token
from raincheck.core.model import Problem
from raincheck.engine.documents import (
    CallDocument,
    CountDocument,
    EventDocument,
    FunctionDocument,
    FunctionSummary,
    JobDocument,
    JobPage,
    WorkerDocument,
)
from raincheck.engine.groups.documents import GroupDocument, GroupSummary, RunDocument
from raincheck.engine.requests import JobRequest, TriggerRequest
from raincheck.engine.schedules.documents import PlannedFunction, ScheduleDocument
from raincheck.engine.schedules.requests import ScheduleRequest
from raincheck.server.bodies import TokenRequest

SHOWN = (
    CallDocument,
    CountDocument,
    EventDocument,
    FunctionDocument,
    FunctionSummary,
    GroupDocument,
    GroupSummary,
    JobDocument,
    JobPage,
    JobRequest,
    PlannedFunction,
    Problem,
    RunDocument,
    ScheduleDocument,
    ScheduleRequest,
    Token,
    TokenRequest,
    TriggerRequest,
    WorkerDocument,
)
NAMES = {
    "CallDocument": "Call",
    "CountDocument": "Counts",
    "EventDocument": "Event",
    "FunctionDocument": "Function",
    "GroupDocument": "Group",
    "GroupJobDocument": "GroupJob",
    "JobDocument": "Job",
    "MemberDocument": "Member",
    "RunDocument": "Run",
    "ScheduleDocument": "Schedule",
    "WorkerDocument": "Worker",
}
"""What a record is called outside, where that is not its class's name."""
