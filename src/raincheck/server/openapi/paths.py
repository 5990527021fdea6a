"""The paths of the OpenAPI document: an operation for each route, without those of single functions."""

from __future__ import annotations

from typing import Any

import msgspec

from raincheck.engine.groups.definitions import GROUP_NAME
from raincheck.engine.schedules.definitions import NAME, NAME_LENGTH
from raincheck.functions.registry import NAME_LIMIT
from raincheck.server.openapi.components import response
from raincheck.server.openapi.schemas import Schema, ref
from raincheck.server.parameters import Listing

JOB = ref("schemas", "Job")
ENDED = response("The job has ended.", JOB, "Preference-Applied")
ACCEPTED = response(
    "The job has not ended. `Location` is its URL.", JOB, "Location", "Retry-After", "Preference-Applied"
)


RUN = ref("schemas", "Run")
RUN_ENDED = response("The run has ended.", RUN, "Preference-Applied")
RUN_ACCEPTED = response(
    "The run has not ended. `Location` is its URL.", RUN, "Location", "Retry-After", "Preference-Applied"
)


def operation(
    name: str,
    tag: str,
    summary: str,
    responses: dict[int, Schema],
    *problems: int,
    parameters: tuple[Schema, ...] = (),
    **more: Any,
) -> Schema:
    """One operation, with its responses and problems."""
    by_status = {str(status): each for status, each in responses.items()}
    by_status |= {str(status): ref("responses", f"Problem{status}") for status in problems}
    return {
        "operationId": name,
        "tags": [tag],
        "summary": summary,
        **({"parameters": list(parameters)} if parameters else {}),
        **more,
        "responses": {**by_status, "5XX": ref("responses", "Problem")},
    }


def json_content(schema: Schema, *, required: bool = True) -> Schema:
    """The body of a request."""
    return {"required": required, "content": {"application/json": {"schema": schema}}}


def listed(schema: str) -> Schema:
    """An array of a component."""
    return {"type": "array", "items": ref("schemas", schema)}


def in_path(name: str, schema: Schema) -> tuple[Schema, ...]:
    """The parameter in a path."""
    return ({"name": name, "in": "path", "required": True, "schema": schema},)


def _query() -> tuple[Schema, ...]:
    """The parameters of a list of jobs."""
    described = msgspec.json.schema(Listing)["$defs"]["Listing"]["properties"]
    described["state"] = {"type": "array", "items": ref("schemas", "State")}
    plain = {name: {k: v for k, v in each.items() if v not in ("", ())} for name, each in described.items()}
    return (
        *({"name": name, "in": "query", "schema": plain[name]} for name in plain if name != "limit"),
        ref("parameters", "Limit"),
    )


CURSOR: Schema = {
    "name": "cursor",
    "in": "query",
    "description": "The `cursor` of the page before.",
    "schema": {"type": "string", "maxLength": 200},
}

TAGS = [
    {"name": "functions", "description": "Lists and calls functions. The leading slash is part of the name."},
    {"name": "jobs", "description": "Creates, lists and controls jobs."},
    {
        "name": "groups",
        "description": "Triggers groups: jobs that run together, and functions that follow them.",
    },
    {"name": "schedules", "description": "Submits jobs by cron expression or interval."},
    {
        "name": "workers",
        "description": "Lists the workers, which run the functions. The other calls are for workers.",
    },
    {"name": "sign-in", "description": "Creates a token for a user."},
    {"name": "health", "description": "Checks whether the server is alive and ready."},
]

ID = in_path("id", {"type": "string", "format": "uuid"})
FUNCTION = in_path("name", {"type": "string"})
GROUP = in_path("name", {"type": "string", "maxLength": NAME_LIMIT, "pattern": f"^{GROUP_NAME.pattern}$"})
SCHEDULE = in_path("name", {"type": "string", "maxLength": NAME_LENGTH, "pattern": f"^{NAME.pattern}$"})
SCHEDULED = response("The schedule as it is now.", ref("schemas", "Schedule"))
RUN_OF_GROUP = (*GROUP, *ID)
WORKER = (
    *in_path("id", {"type": "string", "maxLength": 100}),
    ref("parameters", "Worker-Token"),
)
PREFER, KEY = ref("parameters", "Prefer"), ref("parameters", "Idempotency-Key")
CALLING = (PREFER, KEY)


def _bulk(verb: str) -> Schema:
    """The operation that changes all jobs that match a filter."""
    return {
        "post": operation(
            f"{verb}_jobs",
            "jobs",
            f"{verb.capitalize()} the jobs that match a filter, in bounded parts",
            {200: response("What was done, and the cursor of the rest.", ref("schemas", "BulkResult"))},
            *(400, 413, 415, 422),
            requestBody=json_content(ref("schemas", "BulkRequest")),
        )
    }


def _worker_call(name: str, summary: str, request: str, responses: dict[int, Schema]) -> Schema:
    """An operation that a worker calls for its attempts."""
    return {
        "post": operation(
            name,
            "workers",
            summary,
            responses,
            *(400, 403, 404, 413, 415, 422),
            parameters=WORKER,
            requestBody=json_content(ref("schemas", request)),
        )
    }


PATHS: dict[str, Schema] = {
    "/v1/job": {
        "get": operation(
            "list_jobs",
            "jobs",
            "List jobs, newest first",
            {200: response("A page of jobs.", ref("schemas", "JobPage"), "Link")},
            422,
            parameters=_query(),
        ),
        "post": operation(
            "create_job",
            "jobs",
            "Create a job",
            {200: ENDED, 202: ACCEPTED},
            *(400, 413, 415, 422),
            parameters=CALLING,
            requestBody=json_content(ref("schemas", "JobRequest")),
        ),
    },
    "/v1/job/retry": _bulk("retry"),
    "/v1/job/cancel": _bulk("cancel"),
    "/v1/job/delete": _bulk("delete"),
    "/v1/job/{id}": {
        "get": operation(
            "get_job",
            "jobs",
            "Get a job, or wait for its end",
            {200: response("The job as it is now.", JOB, "Retry-After", "Preference-Applied")},
            *(404, 410),
            parameters=(*ID, PREFER),
        ),
        "delete": operation(
            "delete_job",
            "jobs",
            "Delete an ended job",
            {204: {"description": "Deleted."}},
            *(404, 409, 410),
            parameters=ID,
        ),
    },
    "/v1/job/{id}/cancel": {
        "post": operation(
            "cancel_job", "jobs", "Cancel a job", {200: ENDED, 202: ACCEPTED}, *(404, 409, 410), parameters=ID
        ),
    },
    "/v1/job/{id}/retry": {
        "post": operation(
            "retry_job",
            "jobs",
            "Continue a failed or cancelled job",
            {200: ENDED, 202: ACCEPTED},
            *(404, 409, 410),
            parameters=ID,
        ),
    },
    "/v1/job/{id}/events": {
        "get": operation(
            "list_events",
            "jobs",
            "List the events of a job",
            {200: response("The latest events, oldest first.", listed("Event"))},
            *(404, 410),
            parameters=ID,
        ),
    },
    "/v1/job/{id}/attempt": {
        "get": operation(
            "list_attempts",
            "jobs",
            "List the attempts of a job",
            {200: response("A page of attempts, oldest first.", ref("schemas", "AttemptPage"), "Link")},
            *(404, 410, 422),
            parameters=(*ID, ref("parameters", "Limit"), CURSOR),
        ),
    },
    "/v1/function": {
        "get": operation(
            "list_functions",
            "functions",
            "List functions",
            {200: response("All known functions, sorted by name.", listed("FunctionSummary"))},
        ),
    },
    "/v1/function/{name}": {
        "get": operation(
            "get_function",
            "functions",
            "Get a function",
            {200: response("The function.", ref("schemas", "FunctionSummary"))},
            404,
            parameters=FUNCTION,
        ),
        "post": operation(
            "call_function",
            "functions",
            "Call a function",
            {
                200: response("The result.", ref("schemas", "Call"), "Preference-Applied"),
                202: ACCEPTED,
            },
            *(400, 404, 409, 413, 415, 422, 500),
            parameters=(*FUNCTION, *CALLING),
            requestBody=json_content({"type": ["array", "object"], "items": {}}, required=False),
        ),
    },
    "/v1/group": {
        "get": operation(
            "list_groups",
            "groups",
            "List groups",
            {200: response("All groups, sorted by name.", listed("GroupSummary"))},
        ),
    },
    "/v1/group/{name}": {
        "get": operation(
            "get_group",
            "groups",
            "Get a group and its latest runs",
            {200: response("The group.", ref("schemas", "Group"))},
            404,
            parameters=GROUP,
        ),
        "post": operation(
            "trigger_group",
            "groups",
            "Trigger a group",
            {200: RUN_ENDED, 202: RUN_ACCEPTED},
            *(400, 404, 413, 415, 422),
            parameters=(*GROUP, *CALLING),
            requestBody=json_content(ref("schemas", "TriggerRequest"), required=False),
        ),
    },
    "/v1/group/{name}/{id}": {
        "get": operation(
            "get_run",
            "groups",
            "Get a run, or wait for its end",
            {200: response("The run as it is now.", RUN, "Retry-After", "Preference-Applied")},
            *(404, 410),
            parameters=(*RUN_OF_GROUP, PREFER),
        ),
    },
    "/v1/group/{name}/{id}/cancel": {
        "post": operation(
            "cancel_run",
            "groups",
            "Cancel a run and its jobs",
            {200: RUN_ENDED, 202: RUN_ACCEPTED},
            *(404, 409, 410),
            parameters=RUN_OF_GROUP,
        ),
    },
    "/v1/schedule": {
        "get": operation(
            "list_schedules",
            "schedules",
            "List schedules",
            {200: response("All schedules, sorted by name.", listed("Schedule"))},
        ),
    },
    "/v1/schedule/{name}": {
        "get": operation(
            "get_schedule",
            "schedules",
            "Get a schedule and its next firings",
            {200: SCHEDULED},
            404,
            parameters=SCHEDULE,
        ),
        "put": operation(
            "put_schedule",
            "schedules",
            "Create or replace a schedule",
            {200: SCHEDULED, 201: response("The new schedule.", ref("schemas", "Schedule"), "Location")},
            *(400, 413, 415, 422),
            parameters=SCHEDULE,
            requestBody=json_content(ref("schemas", "ScheduleRequest")),
        ),
        "delete": operation(
            "delete_schedule",
            "schedules",
            "Delete a schedule; its jobs stay",
            {204: {"description": "Deleted."}},
            404,
            parameters=SCHEDULE,
        ),
    },
    "/v1/schedule/{name}/pause": {
        "post": operation(
            "pause_schedule",
            "schedules",
            "Pause a schedule",
            {200: SCHEDULED},
            404,
            parameters=SCHEDULE,
        ),
    },
    "/v1/schedule/{name}/resume": {
        "post": operation(
            "resume_schedule",
            "schedules",
            "Resume a paused schedule",
            {200: SCHEDULED},
            404,
            parameters=SCHEDULE,
        ),
    },
    "/v1/schedule/{name}/run": {
        "post": operation(
            "run_schedule",
            "schedules",
            "Run the job of a schedule now",
            {200: ENDED, 202: ACCEPTED},
            *(400, 404, 422),
            parameters=(*SCHEDULE, *CALLING),
        ),
    },
    "/v1/worker": {
        "get": operation(
            "list_workers",
            "workers",
            "List workers",
            {200: response("All known workers.", listed("Worker"))},
        ),
        "post": operation(
            "register_worker",
            "workers",
            "Register a worker",
            {
                201: response(
                    "The id and the token of the worker.", ref("schemas", "WorkerRegistered"), "Location"
                )
            },
            *(400, 403, 413, 415, 422),
            requestBody=json_content(ref("schemas", "WorkerRegistration")),
        ),
    },
    "/v1/worker/{id}": {
        "delete": operation(
            "remove_worker",
            "workers",
            "Leave: remove the registration of a worker",
            {204: {"description": "Removed. Leases that the worker holds run out."}},
            *(403, 404),
            parameters=WORKER,
        ),
    },
    "/v1/worker/{id}/claim": _worker_call(
        "claim_attempts",
        "Claim attempts, or wait for one",
        "WorkerClaim",
        {200: response("The attempts to run.", ref("schemas", "WorkerClaimed"))},
    ),
    "/v1/worker/{id}/extend": _worker_call(
        "extend_attempts",
        "Extend leases; report progress and log lines; learn what has to stop",
        "WorkerExtend",
        {200: response("What has to stop.", ref("schemas", "WorkerExtended"))},
    ),
    "/v1/worker/{id}/finish": _worker_call(
        "finish_attempts",
        "Finish attempts with results or errors",
        "WorkerFinish",
        {200: response("What became of each attempt.", ref("schemas", "WorkerFinished"))},
    ),
    "/v1/worker/{id}/release": _worker_call(
        "release_attempts",
        "Give back attempts that have not begun",
        "WorkerRelease",
        {204: {"description": "Given back."}},
    ),
    "/v1/count": {
        "get": operation(
            "count",
            "jobs",
            "Count jobs by state and queued steps by function",
            {200: response("The counts.", ref("schemas", "Counts"))},
        ),
    },
    "/v1/token": {
        "post": operation(
            "create_token",
            "sign-in",
            "Sign in",
            {200: response("The token.", ref("schemas", "Token"))},
            *(400, 401, 404, 413, 415, 422, 429),
            requestBody=json_content(ref("schemas", "TokenRequest")),
        ),
    },
    "/healthz": {
        "get": operation(
            "is_alive",
            "health",
            "Check whether the server is alive",
            {200: response("The server is alive.", {"type": "object"})},
        ),
    },
    "/readyz": {
        "get": operation(
            "is_ready",
            "health",
            "Check whether the store responds",
            {200: response("The server is ready.", {"type": "object"})},
        ),
    },
}
