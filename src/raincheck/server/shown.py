"""The records that the OpenAPI document shows, and what they are called there."""

from __future__ import annotations

from raincheck.auth import Token
from raincheck.documents import (
    CallDocument,
    CountDocument,
    EventDocument,
    FunctionDocument,
    FunctionSummary,
    JobDocument,
    JobPage,
    WorkerDocument,
)
from raincheck.groups.documents import GroupDocument, GroupSummary, RunDocument
from raincheck.model import Problem
from raincheck.schedules.documents import PlannedFunction, ScheduleDocument
from raincheck.schedules.requests import ScheduleRequest
from raincheck.server.bodies import JobRequest, TokenRequest
from raincheck.server.groups import TriggerRequest

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
