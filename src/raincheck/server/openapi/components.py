"""The components of the OpenAPI document: schemas, parameters and problems that operations share."""

from __future__ import annotations

import msgspec

from raincheck.auth import Token
from raincheck.core.limits import Limits
from raincheck.core.model import Problem
from raincheck.engine.documents import (
    AttemptDocument,
    AttemptPage,
    CallDocument,
    CountDocument,
    EventDocument,
    FunctionDocument,
    FunctionSummary,
    JobDocument,
    JobPage,
    JobSummary,
    StepSummary,
    WorkerDocument,
)
from raincheck.engine.filters import BulkRequest, BulkResult
from raincheck.engine.groups.documents import GroupDocument, GroupSummary, RunDocument
from raincheck.engine.remote.protocol import (
    Claimed,
    ClaimRequest,
    Extended,
    ExtendRequest,
    Finished,
    FinishedAttempt,
    FinishRequest,
    Registered,
    Registration,
    ReleaseRequest,
)
from raincheck.engine.requests import JobRequest, TriggerRequest
from raincheck.engine.schedules.definitions import ScheduleRequest
from raincheck.engine.schedules.documents import PlannedFunction, ScheduleDocument
from raincheck.server.access import TokenRequest
from raincheck.server.openapi.schemas import SCHEMAS, Schema, portable, ref
from raincheck.server.parameters import BARE, KEY_LENGTH, QUOTED, Listing
from raincheck.server.problems import TYPES

PROBLEMS = {
    400: "The request is malformed.",
    401: "The token is missing or not valid.",
    403: "The token does not have the required scope, or `Worker-Token` is wrong.",
    404: "Not found.",
    409: "The state of the job does not allow the operation.",
    410: "The job was removed.",
    413: "The body is too large.",
    415: "The body is not JSON.",
    422: "The input is not valid. `errors` lists the fields.",
    429: "Too many sign-in attempts. Retry after `Retry-After` seconds.",
    500: "The job failed. The problem is its error.",
}

PARAMETERS: dict[str, Schema] = {
    "Prefer": {
        "name": "Prefer",
        "in": "header",
        "description": "`wait=N`: wait up to N seconds for the job to end. `respond-async`: do not wait.",
        "schema": {"type": "string"},
        "example": "wait=10",
    },
    "Idempotency-Key": {
        "name": "Idempotency-Key",
        "in": "header",
        "description": "Makes the request safe to repeat: the same key and request return the same job.",
        "schema": {"type": "string", "maxLength": KEY_LENGTH, "pattern": f"^(?:{QUOTED}|{BARE})$"},
    },
    "Worker-Token": {
        "name": "Worker-Token",
        "in": "header",
        "required": True,
        "description": "The `token` of the registration.",
        "schema": {"type": "string"},
    },
}


RECORDS = (
    AttemptDocument,
    AttemptPage,
    BulkRequest,
    BulkResult,
    CallDocument,
    ClaimRequest,
    Claimed,
    CountDocument,
    EventDocument,
    ExtendRequest,
    Extended,
    FinishRequest,
    Finished,
    FinishedAttempt,
    FunctionDocument,
    FunctionSummary,
    GroupDocument,
    GroupSummary,
    JobDocument,
    JobPage,
    JobRequest,
    JobSummary,
    PlannedFunction,
    Problem,
    Registered,
    Registration,
    ReleaseRequest,
    RunDocument,
    ScheduleDocument,
    ScheduleRequest,
    StepSummary,
    Token,
    TokenRequest,
    TriggerRequest,
    WorkerDocument,
)
NAMES = {
    "AttemptDocument": "Attempt",
    "CallDocument": "Call",
    "Claimed": "WorkerClaimed",
    "ClaimRequest": "WorkerClaim",
    "CountDocument": "Counts",
    "Ending": "AttemptEnding",
    "EventDocument": "Event",
    "Extended": "WorkerExtended",
    "ExtendRequest": "WorkerExtend",
    "Finished": "WorkerFinished",
    "FinishRequest": "WorkerFinish",
    "FunctionDocument": "Function",
    "GroupDocument": "Group",
    "GroupJobDocument": "GroupJob",
    "JobDocument": "Job",
    "MemberDocument": "Member",
    "Registered": "WorkerRegistered",
    "Registration": "WorkerRegistration",
    "ReleaseRequest": "WorkerRelease",
    "RunDocument": "Run",
    "ScheduleDocument": "Schedule",
    "WorkerDocument": "Worker",
}
"""The names of schemas that differ from the name of their class."""


def response(description: str, schema: Schema, *headers: str, media: str = "application/json") -> Schema:
    """A response of an operation."""
    documented = {name: {"schema": {"type": "string"}} for name in headers}
    return {"description": description, "content": {media: {"schema": schema}}} | (
        {"headers": documented} if documented else {}
    )


def components(limits: Limits) -> dict[str, Schema]:
    """All components but those of single functions."""
    _, schemas = msgspec.json.schema_components([*RECORDS], ref_template=f"{SCHEMAS}{{name}}")
    schemas["JobRequest"]["properties"]["name"]["maxLength"] = limits.name
    for request in ("JobRequest", "ScheduleRequest"):
        schemas[request]["properties"]["functions"]["maxItems"] = limits.steps
    schemas["JobSummary"]["required"] = ["id"]  # the query chooses the others
    listed = [{"$ref": f"{SCHEMAS}{name}"} for name in ("JobDocument", "JobSummary")]
    schemas["JobPage"]["properties"]["jobs"]["items"] = {"anyOf": listed}
    schemas["Problem"]["properties"]["type"] |= {"format": "uri", "examples": TYPES}
    problem = ref("schemas", "Problem")
    responses = {
        f"Problem{status}": response(description, problem, media="application/problem+json")
        for status, description in PROBLEMS.items()
    }
    responses["Problem"] = response(
        "The server or its store failed.", problem, media="application/problem+json"
    )
    return {
        "parameters": {**PARAMETERS, "Limit": _limit(limits)},
        "schemas": {NAMES.get(name, name): portable(schema, NAMES) for name, schema in schemas.items()},
        "responses": responses,
    }


def _limit(limits: Limits) -> Schema:
    described = msgspec.json.schema(Listing)["$defs"]["Listing"]["properties"]["limit"]
    return {"name": "limit", "in": "query", "schema": described | {"maximum": limits.page}}
