"""The OpenAPI document: true, whole, and of every function known."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import jsonschema_rs
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from raincheck import App, Limits
from raincheck.core.model import FunctionInfo
from raincheck.engine.documents import encode
from raincheck.server import ROUTES, Server
from raincheck.server.openapi.document import document
from raincheck.server.openapi.schemas import portable
from tests.server.hands import Hands

UNDOCUMENTED = {"/", "/docs", "/docs/{file}", "/openapi.json"}


@pytest.fixture
def openapi(app: App) -> dict[str, Any]:
    infos = {function.name: function.info for function in app.functions}
    openapi: dict[str, Any] = json.loads(encode(document(app.title, app.limits, "", infos)))
    return openapi


def inside(value: Any) -> Iterator[dict[str, Any]]:
    """Every object in a document."""
    if isinstance(value, dict):
        yield value
    for each in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from inside(each)


def operations(openapi: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Every operation, with its path and method."""
    for path, item in openapi["paths"].items():
        for method, operation in item.items():
            yield path, method, operation


class TestForm:
    """It is a proper document of OpenAPI 3.1."""

    def test_every_reference_leads_somewhere(self, openapi: dict[str, Any]) -> None:
        """Within the document."""
        for value in inside(openapi):
            if isinstance(value.get("$ref"), str):
                assert value["$ref"].startswith("#/components/")
                target: Any = openapi
                for part in value["$ref"][2:].split("/"):
                    target = target[part]

    def test_every_schema_is_one(self, openapi: dict[str, Any]) -> None:
        """Of JSON Schema 2020-12; components have names that they may have."""
        assert openapi["openapi"] == "3.1.0"
        schemas = [value["schema"] for value in inside(openapi) if "schema" in value]
        schemas += openapi["components"]["schemas"].values()
        assert len(schemas) > 50
        for schema in schemas:
            jsonschema_rs.meta.validate(schema)
        for kind in openapi["components"].values():
            assert all(re.fullmatch(r"[a-zA-Z0-9_-]+", name) for name in kind)

    def test_a_public_validator_accepts_it(self, openapi: dict[str, Any]) -> None:
        """Also its parameters, and what defaults and examples say."""
        assert list(OpenAPIV31SpecValidator(openapi).iter_errors()) == []

    def test_it_has_what_generators_need(self, openapi: dict[str, Any]) -> None:
        """No schema is false, arrays say what they contain, and no property has a default."""
        for value in inside(openapi):
            assert value.get("items") is not False
            if value.get("type") == "array":
                assert "items" in value or "prefixItems" in value
            for each in value.get("properties", {}).values():
                assert "default" not in each
        names = [
            *openapi["components"]["schemas"],
            *(each["operationId"] for *_, each in operations(openapi)),
        ]
        identifiers = [re.sub("[^a-z0-9]", "", name.lower()) for name in names]
        assert len(identifiers) == len(set(identifiers))

    def test_every_path_is_described(self, openapi: dict[str, Any]) -> None:
        """With all its methods."""
        for path, methods in ROUTES.items():
            if path not in UNDOCUMENTED:
                described = openapi["paths"][path.replace(":path", "")]
                assert set(described) == {method.lower() for method in methods}

    def test_every_operation_is_whole(self, openapi: dict[str, Any]) -> None:
        """A name of its own, a summary, answers, and every name in its path."""
        names = [operation["operationId"] for _, _, operation in operations(openapi)]
        assert len(names) == len(set(names))
        for path, _, operation in operations(openapi):
            assert operation["summary"]
            assert operation["responses"]
            placed = {each["name"] for each in operation.get("parameters", ()) if each.get("in") == "path"}
            assert placed == set(re.findall(r"\{(\w+)\}", path))


class TestFunctions:
    """Every function known has an operation of its own."""

    def test_both_ways_to_give_arguments(self, openapi: dict[str, Any]) -> None:
        """By name and by position."""
        call = openapi["paths"]["/v1/function//v1/test-1"]["post"]
        body = call["requestBody"]
        named, placed = body["content"]["application/json"]["schema"]["oneOf"]
        assert (call["operationId"], body["required"]) == ("call_v1_test-1", True)
        assert (named["type"], named["required"]) == ("object", ["city"])
        assert placed["prefixItems"] == [
            {"type": "string"},
            {"type": "integer", "description": "Default: `3`."},
        ]
        result = call["responses"]["200"]["content"]["application/json"]["schema"]["properties"]["result"]
        assert result == {"type": "object", "additionalProperties": {"type": "integer"}}

    def test_the_one_way_that_works(self, openapi: dict[str, Any]) -> None:
        """An argument that goes by position alone leaves no other."""
        call = openapi["paths"]["/v1/function/weather:of"]["post"]
        (placed,) = call["requestBody"]["content"]["application/json"]["schema"]["oneOf"]
        assert placed["prefixItems"] == [{"$ref": "#/components/schemas/weather_of_City"}]
        city = openapi["components"]["schemas"]["weather_of_City"]
        assert set(city["properties"]) == {"name", "country"}

    def test_what_it_does_is_its_docstring(self, openapi: dict[str, Any]) -> None:
        """The first line is the summary."""
        call = openapi["paths"]["/v1/function/add"]["post"]
        assert (call["summary"], call["description"]) == ("Add numbers.", "Add numbers.\n\nAll of them.")
        assert call["requestBody"]["required"] is False

    async def test_those_of_workers_too(self, client: httpx2.AsyncClient, hands: Hands, app: App) -> None:
        """As soon as they are there."""
        await client.get("/openapi.json")
        await hands.register(
            FunctionInfo(name="far/away", parameters={"type": "object"}, positional={"type": "array"})
        )
        await app.engine.workers.read()
        paths = (await client.get("/openapi.json")).json()["paths"]
        assert paths["/v1/function/far/away"]["post"]["operationId"] == "call_far_away"

    async def test_it_is_made_once(self, app: App, hands: Hands) -> None:
        """Until the functions change."""
        server = app.asgi
        assert isinstance(server, Server)
        first = server.openapi.document("", app.engine.workers.infos())
        await app.engine.workers.read()
        assert server.openapi.document("", app.engine.workers.infos()) is first
        await hands.register(FunctionInfo(name="new"))
        await app.engine.workers.read()
        assert server.openapi.document("", app.engine.workers.infos()) is not first

    def test_names_that_look_alike_stay_apart(self) -> None:
        """Each has an operation and components of its own."""
        form = {"$ref": "#/$defs/T[int]", "$defs": {"T[int]": {"type": "object"}}}
        infos = {
            name: FunctionInfo(name=name, parameters=form, positional={"type": "array"})
            for name in ("a/b", "a:b", "a_b", "A_B", "/", ":", "job", "function")
        }
        openapi = document("Names", Limits(), "", infos)
        names = {openapi["paths"][f"/v1/function/{name}"]["post"]["operationId"] for name in infos}
        numbered = [f"call_function_{i}" for i in (2, 3, 4)]  # call_function is the call of any function
        assert names == {"call_A_B", "call_a_b_2", "call_a_b_3", "call_a_b_4", "call_job", *numbered}
        assert "a_b_2_T_int" in openapi["components"]["schemas"]
        assert list(OpenAPIV31SpecValidator(json.loads(encode(openapi))).iter_errors()) == []

    def test_classes_of_one_name_stay_apart(self) -> None:
        """An argument and a result can have different classes with the same name."""
        taken = {"$ref": "#/$defs/T", "$defs": {"T": {"type": "integer"}}}
        returned = {"$ref": "#/$defs/T", "$defs": {"T": {"type": "string"}}}
        info = FunctionInfo(name="f", parameters=taken, positional=taken, returns=returned)
        call = document("Names", Limits(), "", {"f": info})["paths"]["/v1/function/f"]["post"]
        result = call["responses"]["200"]["content"]["application/json"]["schema"]["properties"]["result"]
        assert call["requestBody"]["content"]["application/json"]["schema"]["oneOf"] == [
            {"$ref": "#/components/schemas/f_T"},
            {"$ref": "#/components/schemas/f_T"},
        ]
        assert result == {"$ref": "#/components/schemas/f_T_2"}

    def test_a_component_has_its_name_as_title(self) -> None:
        """Generators name classes after titles, which several classes can have."""
        form = {"$ref": "#/$defs/T", "$defs": {"T": {"type": "object", "title": "Thing"}}}
        info = FunctionInfo(name="f", parameters=form, positional=form, returns=form)
        schemas = document("Names", Limits(), "", {"f": info})["components"]["schemas"]
        assert schemas["f_T"]["title"] == "f_T"


VALUES = [
    [],
    [1],
    [1, "a"],
    [1, "a", None],
    {},
    {"a": 1},
    {"b": [1]},
    {"a": 1, "x": 2},
    1,
    1.5,
    "a",
    "z",
    None,
]


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "array", "items": False},
        {"type": "array", "prefixItems": [{"type": "integer"}], "items": False},
        {"type": "array", "prefixItems": [{}, True], "minItems": 1, "maxItems": 1, "items": False},
        {"type": "array", "prefixItems": [{"type": "integer"}], "items": {"type": "string"}},
        {"type": ["array", "null"], "items": False, "default": None},
        {"type": "array", "minItems": 1, "default": []},
        {"type": "object"},
        {"type": "object", "properties": {"a": {"default": 1}, "b": False}},
        {"type": "object", "properties": {"a": {}}, "additionalProperties": False},
        {"type": "object", "properties": {"items": False, "default": {}}},
        {"anyOf": [{"type": "integer"}, {"type": "array", "items": False}]},
        {"enum": ["a", None, False]},
        {"const": {"items": False}},
        {"$ref": "#/$defs/T", "default": {"items": False}},
        {"not": {}},
        {},
        True,
        False,
    ],
    ids=json.dumps,
)
def test_a_portable_schema_accepts_the_same_values(schema: Any) -> None:
    """Only its form changes."""
    names = {"T": "f_T"}
    definition = {"type": "array", "prefixItems": [{"type": "integer"}], "items": False}
    before = {"$defs": {"T": definition}, "allOf": [schema]}
    made = portable(schema, names)
    after = {"components": {"schemas": {"f_T": portable(definition, names)}}, "allOf": [made]}
    for value in [*VALUES, {"items": False}]:
        assert jsonschema_rs.is_valid(after, value) == jsonschema_rs.is_valid(before, value)


def test_a_discriminator_names_components() -> None:
    """Its mapping leads to where the definitions are now."""
    choices = {"oneOf": [{"$ref": "#/$defs/A"}], "discriminator": {"propertyName": "k"}}
    mapped = choices | {"discriminator": {"propertyName": "k", "mapping": {"a": "#/$defs/A"}}}
    component = "#/components/schemas/f_A"
    assert portable(mapped, {"A": "f_A"}) == {
        "oneOf": [{"$ref": component}],
        "discriminator": {"propertyName": "k", "mapping": {"a": component}},
    }
    assert portable(choices, {})["discriminator"] == {"propertyName": "k", "mapping": {}}


def test_defaults_are_described() -> None:
    """A default of the user's own is text, and is not read as a schema."""
    made = portable({"type": "array", "default": [{"items": False}], "description": "Some."}, {})
    assert made == {"type": "array", "items": {}, "description": 'Some. Default: `[{"items":false}]`.'}


class TestTruth:
    """What is answered is what the document says."""

    async def test_documents_are_as_described(
        self, client: httpx2.AsyncClient, hands: Hands, openapi: dict[str, Any]
    ) -> None:
        """Jobs in every state, pages, events, functions, workers, results, problems."""
        await hands.register(FunctionInfo(name="add"))
        job = {"name": "n", "functions": [{"name": "add"}, [{"name": "add"}, {"name": "x"}]]}
        await client.post("/v1/job", json=job)
        await hands.claim("add")
        failed = (await client.post("/v1/job", json=job)).json()["id"]
        await hands.fail("add")
        done = (await client.post("/v1/function/add", json=[])).json()["id"]
        await hands.succeed("add", result=3)
        schedule = {"cron": "0 3 * * *", "functions": job["functions"]}
        await client.put("/v1/schedule/nightly", json=schedule)
        for path, schema in {
            "/v1/job": "JobPage",
            "/v1/job?full=1": "JobPage",
            "/v1/job?fields=state,data": "JobPage",
            "/v1/count": "Counts",
            "/v1/schedule/nightly": "Schedule",
            f"/v1/job/{failed}": "Job",
            f"/v1/job/{done}": "Job",
            "/v1/function/add": "FunctionSummary",
            "/v1/job/x": "Problem",
        }.items():
            validate(openapi, schema, (await client.get(path)).content)
        for path, schema in {
            f"/v1/job/{failed}/events": "Event",
            "/v1/worker": "Worker",
            "/v1/function": "FunctionSummary",
            "/v1/schedule": "Schedule",
        }.items():
            answer = (await client.get(path)).json()
            assert answer
            for each in answer:
                validate(openapi, schema, json.dumps(each))


def validate(openapi: dict[str, Any], schema: str, answer: str | bytes) -> None:
    """Raise unless the answer is as its schema says."""
    root = {"$ref": f"#/components/schemas/{schema}", "components": openapi["components"]}
    jsonschema_rs.validator_for(root, validate_formats=True).validate(json.loads(answer))


def test_the_document_needs_no_store(tmp_path: Path) -> None:
    """It can be made of an app that was never opened."""
    app = App(f"sqlite:///{tmp_path / 'jobs.db'}", title="Weather")
    assert document(app.title, app.limits, "", {})["info"]["title"] == "Weather"
