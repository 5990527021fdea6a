"""Made-up requests, after the OpenAPI document and against it: proper ones are answered as described,
improper ones refused, and none ends with the server's fault."""

from __future__ import annotations

import json
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable

from raincheck import Limits
from raincheck.auth import Auth
from raincheck.core.clock import now
from raincheck.server import Server
from tests.auth.forging import SECRET, claims, token
from tests.server.conftest import make_app

if TYPE_CHECKING:
    from schemathesis import Case
    from schemathesis.schemas import APIOperation

OPAQUE = ("cursor", "Prefer", "Idempotency-Key", "until")
"""Parameters whose values only a server gives, or depend on another, or that have tests of their own."""

BEYOND_SCHEMAS = (
    "POST /v1/job",
    "POST /v1/worker",
    "PUT /v1/schedule/{name}",
    *(f"POST /v1/job/{operation}" for operation in ("retry", "cancel", "delete")),
)
"""A date must lie ahead, an integer be written as one, a cron expression be one, a filter of many jobs not be
empty, the schema of a function be valid: no schema can say so."""

PARTS = 3
"""All operations in one test would take too long on a slow machine."""

REFUSED = ["400", "401", "404", "405", "413", "415", "422", "429"]
"""What an improper request is answered with."""

fuzz = settings(
    max_examples=settings().max_examples // 5,
    derandomize=True,
    deadline=None,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.filterwarnings("ignore::hypothesis.errors.HypothesisDeprecationWarning")
@pytest.mark.generated
@pytest.mark.timeout(600)
@pytest.mark.parametrize("mode", ["positive", "negative"])
@pytest.mark.parametrize("part", range(PARTS))
def test_no_request_ends_badly(tmp_path: Path, mode: str, part: int) -> None:
    """Every operation, with proper requests and with improper ones, and without a token too."""
    import schemathesis  # here: it takes a third of a second in each process that collects tests
    from schemathesis.specs.openapi.checks import positive_data_acceptance

    app = make_app(tmp_path, Limits(wait=0.0, steps=20))
    app.auth = Auth(secret=SECRET)
    server = app.asgi
    headers = {"Authorization": f"Bearer {token(claims(scope='admin', exp=now() + 600))}"}
    assert isinstance(server, Server)
    infos = {function.name: function.info for function in app.functions}
    schema = schemathesis.openapi.from_dict(without_opaque(json.loads(server.openapi.document("", infos))))
    schema.app = server
    schema.config.generation.with_security_parameters = False  # the token is given, not made up
    schema.config.checks.negative_data_rejection.expected_statuses = REFUSED
    tried = 0

    @given(data=st.data())
    @fuzz
    def check(operation: APIOperation[Any, Any, Any, Any], data: st.DataObject) -> None:
        nonlocal tried
        case: Case[Any] = data.draw(operation.as_strategy(generation_mode=schemathesis.GenerationMode(mode)))
        tried += 1
        beyond = operation.label in BEYOND_SCHEMAS
        excluded: list[Any] = [positive_data_acceptance] if beyond else []
        case.call_and_validate(excluded_checks=excluded, headers=headers)

    for result in islice(schema.get_all_operations(), part, None, PARTS):
        with suppress(Unsatisfiable):  # of a request that takes nothing, nothing can be wrong
            check(result.ok())  # type: ignore[union-attr]
    assert tried > 4 * fuzz.max_examples


def without_opaque(value: Any) -> Any:
    """The document without the parameters that cannot be made up."""
    if isinstance(value, list):
        return [without_opaque(each) for each in value if not is_opaque(each)]
    if isinstance(value, dict):
        return {key: without_opaque(each) for key, each in value.items()}
    return value


def is_opaque(value: Any) -> bool:
    """Whether this is such a parameter, or refers to one."""
    return isinstance(value, dict) and (
        value.get("name") in OPAQUE
        or str(value.get("$ref", "")).removeprefix("#/components/parameters/") in OPAQUE
    )
