"""What the OpenAPI document says of every path that is always there."""

from __future__ import annotations

from inspect import cleandoc
from typing import Any

import msgspec

from raincheck.core.limits import Limits
from raincheck.engine.documents import (
    FunctionDocument,
)
from raincheck.engine.groups.definition import GROUP_NAME
from raincheck.engine.schedules.documents import PlannedFunction
from raincheck.functions.registry import NAME_LIMIT
from raincheck.server.openapi.schemas import NAMES, SHOWN
from raincheck.server.queries import BARE, KEY_LENGTH, QUOTED, Listing

Schema = dict[str, Any]

SCHEMAS = "#/components/schemas/"
PROBLEMS = {
    400: "The request is malformed.",
    401: "There is no token, or none that holds.",
    403: "The token does not allow it.",
    404: "There is no such thing.",
    409: "The job's state forbids it.",
    410: "The job was there, and was removed.",
    413: "The body is too large.",
    415: "The body is not JSON.",
    422: "The input is not valid; `errors` names what is wrong.",
    429: "There were too many attempts; `Retry-After` says when to try again.",
    500: "The job failed; this is its error.",
}

PARAMETERS: dict[str, Schema] = {
    "Prefer": {
        "name": "Prefer",
        "in": "header",
        "description": "`wait=N`: answer when the job ends, or after N seconds; `respond-async`: at once.",
        "schema": {"type": "string"},
        "example": "wait=10",
    },
    "Idempotency-Key": {
        "name": "Idempotency-Key",
        "in": "header",
        "description": "Makes the request safe to repeat: the same key and body give the same job.",
        "schema": {"type": "string", "maxLength": KEY_LENGTH, "pattern": f"^(?:{QUOTED}|{BARE})$"},
    },
}


def ref(kind: str, name: str) -> Schema:
    """A reference to a component."""
    return {"$ref": f"#/components/{kind}/{name}"}


def answer(description: str, schema: Schema, *headers: str, media: str = "application/json") -> Schema:
    """What an operation answers."""
    shown = {name: {"schema": {"type": "string"}} for name in headers}
    return {"description": description, "content": {media: {"schema": schema}}} | (
        {"headers": shown} if shown else {}
    )


JOB = ref("schemas", "Job")
ENDED = answer("The job has ended.", JOB, "Preference-Applied")
ACCEPTED = answer(
    "The job goes on; `Location` is where to look.", JOB, "Location", "Retry-After", "Preference-Applied"
)


RUN = ref("schemas", "Run")
RUN_ENDED = answer("The run has ended.", RUN, "Preference-Applied")
RUN_ACCEPTED = answer(
    "The run goes on; `Location` is where to look.", RUN, "Location", "Retry-After", "Preference-Applied"
)


def operation(
    name: str,
    tag: str,
    summary: str,
    answers: dict[int, Schema],
    *problems: int,
    parameters: tuple[Schema, ...] = (),
    **more: Any,
) -> Schema:
    """One operation, with the problems it may answer."""
    shown = {str(status): ref("responses", f"Problem{status}") for status in problems}
    answered = {str(status): answer for status, answer in answers.items()}
    return {
        "operationId": name,
        "tags": [tag],
        "summary": summary,
        **({"parameters": list(parameters)} if parameters else {}),
        **more,
        "responses": {**answered, **shown, "5XX": ref("responses", "Problem")},
    }


def json_content(schema: Schema, *, required: bool = True) -> Schema:
    """A request's body."""
    return {"required": required, "content": {"application/json": {"schema": schema}}}


def listed(schema: str) -> Schema:
    """A list of what a component describes."""
    return {"type": "array", "items": ref("schemas", schema)}


def in_path(name: str, schema: Schema) -> tuple[Schema, ...]:
    """The parameter that a path holds."""
    return ({"name": name, "in": "path", "required": True, "schema": schema},)


def _query() -> tuple[Schema, ...]:
    described = msgspec.json.schema(Listing)["$defs"]["Listing"]["properties"]
    described["state"] = ref("schemas", "State")
    plain = {name: {k: v for k, v in each.items() if v != ""} for name, each in described.items()}
    return (
        *({"name": name, "in": "query", "schema": plain[name]} for name in plain if name != "limit"),
        ref("parameters", "Limit"),
    )


def _limit(limits: Limits) -> Schema:
    described = msgspec.json.schema(Listing)["$defs"]["Listing"]["properties"]["limit"]
    return {"name": "limit", "in": "query", "schema": described | {"maximum": limits.page}}


TAGS = [
    {"name": "functions", "description": "What can be called. A name that begins with a slash keeps it."},
    {"name": "jobs", "description": "What was asked for, and what became of it."},
    {"name": "groups", "description": "Jobs that are triggered together, and what follows them."},
    {"name": "schedules", "description": "What is to be done again and again."},
    {"name": "workers", "description": "Who runs the functions."},
    {"name": "sign-in", "description": "A token for a name and a password."},
    {"name": "health", "description": "Whether the server is of use."},
]

ID = in_path("id", {"type": "string", "format": "uuid"})
NAME = in_path("name", {"type": "string"})
GROUP = in_path("name", {"type": "string", "maxLength": NAME_LIMIT, "pattern": f"^{GROUP_NAME.pattern}$"})
RUN_OF_GROUP = (*GROUP, *ID)
PREFER, KEY = ref("parameters", "Prefer"), ref("parameters", "Idempotency-Key")
CALLING = (PREFER, KEY)

PATHS: dict[str, Schema] = {
    "/v1/job": {
        "get": operation(
            "list_jobs",
            "jobs",
            "List jobs, newest first",
            {200: answer("Some jobs.", ref("schemas", "JobPage"), "Link")},
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
    "/v1/job/{id}": {
        "get": operation(
            "get_job",
            "jobs",
            "Look at a job, or wait for its end",
            {200: answer("The job as it is now.", JOB, "Retry-After", "Preference-Applied")},
            *(404, 410),
            parameters=(*ID, PREFER),
        ),
        "delete": operation(
            "delete_job",
            "jobs",
            "Forget an ended job",
            {204: {"description": "It is gone."}},
            *(404, 409, 410),
            parameters=ID,
        ),
    },
    "/v1/job/{id}/cancel": {
        "post": operation(
            "cancel_job", "jobs", "Stop a job", {200: ENDED, 202: ACCEPTED}, *(404, 409, 410), parameters=ID
        ),
    },
    "/v1/job/{id}/retry": {
        "post": operation(
            "retry_job",
            "jobs",
            "Let a failed or cancelled job go on",
            {200: ENDED, 202: ACCEPTED},
            *(404, 409, 410),
            parameters=ID,
        ),
    },
    "/v1/job/{id}/events": {
        "get": operation(
            "list_events",
            "jobs",
            "See what happened to a job",
            {200: answer("Its latest events, oldest first.", listed("Event"))},
            *(404, 410),
            parameters=ID,
        ),
    },
    "/v1/function": {
        "get": operation(
            "list_functions",
            "functions",
            "List what can be called",
            {200: answer("All functions known.", listed("FunctionSummary"))},
        ),
    },
    "/v1/function/{name}": {
        "get": operation(
            "get_function",
            "functions",
            "Look at one function",
            {200: answer("What is known of it.", ref("schemas", "FunctionSummary"))},
            404,
            parameters=NAME,
        ),
        "post": operation(
            "call_function",
            "functions",
            "Call a function by its name",
            {
                200: answer("It was quick enough.", ref("schemas", "Call"), "Preference-Applied"),
                202: ACCEPTED,
            },
            *(400, 404, 409, 413, 415, 422, 500),
            parameters=(*NAME, *CALLING),
            requestBody=json_content({"type": ["array", "object"]}, required=False),
        ),
    },
    "/v1/group": {
        "get": operation(
            "list_groups", "groups", "List the groups", {200: answer("All groups.", listed("GroupSummary"))}
        ),
    },
    "/v1/group/{name}": {
        "get": operation(
            "get_group",
            "groups",
            "Look at a group and its latest runs",
            {200: answer("The group.", ref("schemas", "Group"))},
            404,
            parameters=GROUP,
        ),
        "post": operation(
            "trigger_group",
            "groups",
            "Run the jobs of a group",
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
            "See how a run goes, or wait for its end",
            {200: answer("The run as it is now.", RUN, "Retry-After", "Preference-Applied")},
            *(404, 410),
            parameters=(*RUN_OF_GROUP, PREFER),
        ),
    },
    "/v1/group/{name}/{id}/cancel": {
        "post": operation(
            "cancel_run",
            "groups",
            "Stop a run and its jobs",
            {200: RUN_ENDED, 202: RUN_ACCEPTED},
            *(404, 409, 410),
            parameters=RUN_OF_GROUP,
        ),
    },
    "/v1/worker": {
        "get": operation(
            "list_workers",
            "workers",
            "See who is there",
            {200: answer("All workers known.", listed("Worker"))},
        ),
    },
    "/v1/count": {
        "get": operation(
            "count",
            "jobs",
            "Count jobs by state, and what waits by function",
            {200: answer("How many of everything.", ref("schemas", "Counts"))},
        ),
    },
    "/v1/token": {
        "post": operation(
            "create_token",
            "sign-in",
            "Sign in",
            {200: answer("A token.", ref("schemas", "Token"))},
            *(400, 401, 404, 413, 415, 422, 429),
            requestBody=json_content(ref("schemas", "TokenRequest")),
        ),
    },
    "/healthz": {
        "get": operation(
            "is_alive",
            "health",
            "Ask whether the server lives",
            {200: answer("It does.", {"type": "object"})},
        ),
    },
    "/readyz": {
        "get": operation(
            "is_ready",
            "health",
            "Ask whether the store answers",
            {200: answer("It does.", {"type": "object"})},
        ),
    },
}


def components(limits: Limits) -> dict[str, Schema]:
    """The components that all operations share."""
    _, found = msgspec.json.schema_components(
        [*SHOWN, FunctionDocument, PlannedFunction], ref_template=f"{SCHEMAS}{{name}}"
    )
    found["JobRequest"]["properties"]["name"]["maxLength"] = limits.name
    for request in ("JobRequest", "ScheduleRequest"):
        found[request]["properties"]["functions"]["maxItems"] = limits.steps
    problem = ref("schemas", "Problem")
    responses = {
        f"Problem{status}": answer(words, problem, media="application/problem+json")
        for status, words in PROBLEMS.items()
    }
    responses["Problem"] = answer(
        "The server or its store failed.", problem, media="application/problem+json"
    )
    return {
        "parameters": {**PARAMETERS, "Limit": _limit(limits)},
        "schemas": {NAMES.get(name, name): _renamed(schema) for name, schema in found.items()},
        "responses": responses,
    }


def _renamed(value: Any) -> Any:
    """A schema with the names that its records have outside."""
    if isinstance(value, list):
        return [_renamed(each) for each in value]
    if not isinstance(value, dict):
        return value
    renamed = {key: _renamed(each) for key, each in value.items()}
    if isinstance(target := renamed.get("$ref"), str):
        name = target.removeprefix(SCHEMAS)
        renamed["$ref"] = SCHEMAS + NAMES.get(name, name)
    if isinstance(words := renamed.get("description"), str):
        renamed["description"] = cleandoc(words).replace("``", "`")
    if isinstance(title := renamed.get("title"), str):
        renamed["title"] = NAMES.get(title, title)
    return renamed
