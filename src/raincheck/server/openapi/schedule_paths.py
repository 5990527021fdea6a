"""What the OpenAPI document says of schedules."""

from __future__ import annotations

from raincheck.engine.schedules.definition import NAME, NAME_LENGTH
from raincheck.server.openapi.paths import (
    ACCEPTED,
    CALLING,
    ENDED,
    Schema,
    answer,
    in_path,
    json_content,
    listed,
    operation,
    ref,
)

SCHEDULE = in_path("name", {"type": "string", "maxLength": NAME_LENGTH, "pattern": f"^{NAME.pattern}$"})
SCHEDULED = answer("The schedule as it is now.", ref("schemas", "Schedule"))
SCHEDULES: dict[str, Schema] = {
    "/v1/schedule": {
        "get": operation(
            "list_schedules",
            "schedules",
            "List schedules",
            {200: answer("All schedules, by name.", listed("Schedule"))},
        ),
    },
    "/v1/schedule/{name}": {
        "get": operation(
            "get_schedule",
            "schedules",
            "Look at a schedule and its next firings",
            {200: SCHEDULED},
            404,
            parameters=SCHEDULE,
        ),
        "put": operation(
            "put_schedule",
            "schedules",
            "Create or replace a schedule",
            {200: SCHEDULED, 201: answer("It is new.", ref("schemas", "Schedule"), "Location")},
            *(400, 413, 415, 422),
            parameters=SCHEDULE,
            requestBody=json_content(ref("schemas", "ScheduleRequest")),
        ),
        "delete": operation(
            "delete_schedule",
            "schedules",
            "Remove a schedule; its jobs stay",
            {204: {"description": "It is gone."}},
            404,
            parameters=SCHEDULE,
        ),
    },
    "/v1/schedule/{name}/pause": {
        "post": operation(
            "pause_schedule",
            "schedules",
            "Let a schedule fire no more until it is resumed",
            {200: SCHEDULED},
            404,
            parameters=SCHEDULE,
        ),
    },
    "/v1/schedule/{name}/resume": {
        "post": operation(
            "resume_schedule",
            "schedules",
            "Let a paused schedule fire again",
            {200: SCHEDULED},
            404,
            parameters=SCHEDULE,
        ),
    },
    "/v1/schedule/{name}/run": {
        "post": operation(
            "run_schedule",
            "schedules",
            "Run a schedule's job now, beside its firings",
            {200: ENDED, 202: ACCEPTED},
            *(400, 404, 422),
            parameters=(*SCHEDULE, *CALLING),
        ),
    },
}
