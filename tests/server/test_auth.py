"""Sign-in over HTTP: which requests are allowed, and the responses to those that are not."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from raincheck import App, Limits
from raincheck.auth import Auth, Scope
from raincheck.auth.passwords import FAILURES_PER_USER
from raincheck.auth.users import add_user
from raincheck.core.errors import ConfigError
from raincheck.server import ROUTES, Server, access, serve
from raincheck.server.endpoints.status import is_alive
from raincheck.server.openapi.document import document
from tests.auth.forging import SECRET, claims, quick_hash, token
from tests.problems import urn
from tests.server.conftest import make_app
from tests.server.test_listener import served

JOB = "01977f3c-0000-7000-8000-000000000000"
PASSWORD = "correct horse"
PUBLIC, READ, WRITE, WORKER = None, "job:read", "job:write", "worker"

NEEDS = {
    ("GET", "/v1/job"): READ,
    ("POST", "/v1/job"): WRITE,
    ("POST", "/v1/job/retry"): WRITE,
    ("POST", "/v1/job/cancel"): WRITE,
    ("POST", "/v1/job/delete"): WRITE,
    ("GET", "/v1/job/{id}"): READ,
    ("DELETE", "/v1/job/{id}"): WRITE,
    ("POST", "/v1/job/{id}/cancel"): WRITE,
    ("POST", "/v1/job/{id}/retry"): WRITE,
    ("GET", "/v1/job/{id}/events"): READ,
    ("GET", "/v1/job/{id}/attempt"): READ,
    ("GET", "/v1/function"): READ,
    ("GET", "/v1/function/{name:path}"): READ,
    ("POST", "/v1/function/{name:path}"): WRITE,
    ("GET", "/v1/group"): READ,
    ("GET", "/v1/group/{name}"): READ,
    ("POST", "/v1/group/{name}"): WRITE,
    ("GET", "/v1/group/{name}/{id}"): READ,
    ("POST", "/v1/group/{name}/{id}/cancel"): WRITE,
    ("GET", "/v1/worker"): READ,
    ("POST", "/v1/worker"): WORKER,
    ("DELETE", "/v1/worker/{id}"): WORKER,
    ("POST", "/v1/worker/{id}/claim"): WORKER,
    ("POST", "/v1/worker/{id}/extend"): WORKER,
    ("POST", "/v1/worker/{id}/finish"): WORKER,
    ("POST", "/v1/worker/{id}/release"): WORKER,
    ("GET", "/v1/count"): READ,
    ("GET", "/v1/schedule"): READ,
    ("GET", "/v1/schedule/{name}"): READ,
    ("PUT", "/v1/schedule/{name}"): WRITE,
    ("DELETE", "/v1/schedule/{name}"): WRITE,
    ("POST", "/v1/schedule/{name}/pause"): WRITE,
    ("POST", "/v1/schedule/{name}/resume"): WRITE,
    ("POST", "/v1/schedule/{name}/run"): WRITE,
    ("POST", "/v1/token"): PUBLIC,
    ("GET", "/openapi.json"): READ,
    ("GET", "/docs"): PUBLIC,
    ("GET", "/docs/{file}"): PUBLIC,
    ("GET", "/"): PUBLIC,
    ("GET", "/healthz"): PUBLIC,
    ("GET", "/readyz"): PUBLIC,
}
"""The scope of each route, a second time: a new route must be added here too."""

CALLERS: dict[str, list[str] | str | None] = {
    "nobody": None,
    "garbage": "Bearer garbage",
    "a stranger": f"Bearer {token(key=b'x' * 32)}",
    "no scope": [],
    **{scope: [scope] for scope in Scope},
    "all but admin": [READ, WRITE, "worker"],
}


@pytest.fixture(scope="session")
def hashed() -> str:
    return quick_hash(PASSWORD)


@pytest.fixture
def users(tmp_path: Path, hashed: str) -> Path:
    path = tmp_path / "users.json"
    add_user(path, "ann", hashed, [Scope.READ, Scope.WRITE])
    return path


@pytest.fixture
def app(tmp_path: Path, users: Path) -> App:
    app = make_app(tmp_path)
    app.auth = Auth(secret=SECRET, users=users)
    return app


@pytest.fixture
async def url(app: App) -> AsyncIterator[str]:
    async with served(app) as (url, _):
        yield url


@pytest.fixture
async def http(url: str) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(base_url=url) as client:
        yield client


def bearer(*scopes: str, **more: Any) -> dict[str, str]:
    """The headers of a caller with these scopes."""
    return {"Authorization": f"Bearer {token(claims(scope=' '.join(scopes), **more))}"}


def headers_of(caller: list[str] | str | None) -> dict[str, str]:
    """Headers of one of the callers."""
    if caller is None:
        return {}
    return {"Authorization": caller} if isinstance(caller, str) else bearer(*caller)


class TestRoutes:
    """Deny by default: every route, with every kind of caller."""

    def test_every_route_is_known_here(self) -> None:
        """None is added without saying what it needs, twice."""
        said = {
            (method, path): None if guarded[0] == access.PUBLIC else str(guarded[0])
            for path, methods in ROUTES.items()
            for method, guarded in methods.items()
        }
        assert said == NEEDS

    @pytest.mark.parametrize("caller", CALLERS.values(), ids=CALLERS)
    async def test_each_lets_in_whom_it_should(
        self, http: httpx2.AsyncClient, caller: list[str] | str | None
    ) -> None:
        """A token without the scope is refused."""
        for (method, path), need in NEEDS.items():
            place = path.replace("{id}", JOB).replace("{name:path}", "add").replace("{file}", "docs.js")
            for each in (method, "HEAD") if method == "GET" else (method,):
                answer = await http.request(each, place, headers=headers_of(caller))
                if need is PUBLIC:
                    refused = None
                elif not isinstance(caller, list):
                    refused = 401
                else:
                    refused = None if need in caller or "admin" in caller else 403
                told = answer.status_code if answer.status_code in (401, 403) else None
                assert (each, path, told) == (each, path, refused)

    @pytest.mark.parametrize(
        "name", ["healthz", "x/readyz", "docs", "x/docs/docs.js", "v1/token", "openapi.json", "x/cancel", ""]
    )
    async def test_no_name_opens_a_door(self, http: httpx2.AsyncClient, name: str) -> None:
        """A function may be called like what is public."""
        for method in ("GET", "POST"):
            assert (await http.request(method, f"/v1/function/{name}")).status_code == 401

    @pytest.mark.parametrize(
        "path",
        ["/v1/job/", "//v1/job", "/v1//job", "/v1/job/../job", "/v1/job/healthz", "/v1/job%2f", "/v1/job;x",
         "/healthz/../v1/job", "/docs/../v1/job", "/V1/job"],
    )  # fmt: skip
    async def test_no_detour_leads_to_jobs(self, http: httpx2.AsyncClient, url: str, path: str) -> None:
        """What is written otherwise is another path."""
        reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
        writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        answer = await reader.read()
        writer.close()
        assert answer.split(b" ")[1] in (b"401", b"404")
        assert b'"jobs"' not in answer

    async def test_methods_and_paths_are_told_to_everybody(self, http: httpx2.AsyncClient) -> None:
        """They are the same on every server, and no secret."""
        assert (await http.options("/v1/job")).status_code == 204
        assert (await http.put("/v1/job")).status_code == 405
        assert (await http.get("/nowhere")).status_code == 404

    @pytest.mark.parametrize("said", [None, "job:reed", "", ...], ids=str)
    def test_what_says_nothing_does_not_start(self, said: Any) -> None:
        """Nothing is open by an omission."""
        guarded = is_alive if said is ... else (said, is_alive)
        with pytest.raises(TypeError, match="GET /new declares neither"):
            access.check_routes({"/new": {"GET": guarded}})


class TestRefusals:
    """The responses to refused requests."""

    async def test_a_stranger_is_told_to_sign_in(self, http: httpx2.AsyncClient) -> None:
        """With the header that says how."""
        answer = await http.get("/v1/job")
        assert answer.headers["www-authenticate"] == 'Bearer realm="raincheck"'
        assert answer.headers["content-type"] == "application/problem+json"
        assert (answer.json()["type"], "POST /v1/token" in answer.json()["detail"]) == (
            urn("not-signed-in"),
            True,
        )

    async def test_a_bad_token_is_told_apart(self, http: httpx2.AsyncClient) -> None:
        """From none, and from one that lacks a scope (RFC 6750 §3.1)."""
        bad = await http.get("/v1/job", headers={"Authorization": "Bearer x"})
        assert bad.headers["www-authenticate"] == 'Bearer realm="raincheck", error="invalid_token"'
        small = await http.post("/v1/job", headers=bearer(READ))
        assert (small.status_code, small.json()["type"]) == (403, urn("not-allowed"))
        assert small.headers["www-authenticate"] == (
            'Bearer realm="raincheck", error="insufficient_scope", scope="job:write"'
        )

    async def test_nothing_changes(self, http: httpx2.AsyncClient) -> None:
        """A caller without a token or with a read scope cannot write."""
        job = {"name": "n", "functions": [{"name": "add"}]}
        made = (await http.post("/v1/job", json=job, headers=bearer(WRITE))).json()["id"]
        for headers in ({}, bearer(READ)):
            for method, path in (
                ("POST", "/v1/job"),
                ("POST", "/v1/function/add"),
                ("POST", f"/v1/job/{made}/cancel"),
                ("DELETE", f"/v1/job/{made}"),
            ):
                await http.request(method, path, json=job, headers=headers)
        (found,) = (await http.get("/v1/job", headers=bearer(READ))).json()["jobs"]
        assert (found["id"], found["state"]) == (made, "pending")

    async def test_two_headers_are_none(self, http: httpx2.AsyncClient) -> None:
        """It is not clear which one is meant."""
        good = bearer(READ)["Authorization"]
        for pair in ((good, good), (good, "Bearer x"), ("Basic YTpi", good)):
            answer = await http.get("/v1/job", headers=[("Authorization", each) for each in pair])
            assert answer.status_code == 401

    async def test_a_token_in_the_address_is_none(self, http: httpx2.AsyncClient) -> None:
        """Addresses are kept by too many."""
        for path in (f"/v1/job?access_token={token()}", f"/v1/function?token={token()}"):
            assert (await http.get(path)).status_code == 401

    async def test_a_token_in_the_body_is_none(self, http: httpx2.AsyncClient) -> None:
        """Nor in a form or a cookie."""
        sent = {"access_token": token()}
        assert (await http.post("/v1/job", data=sent)).status_code == 401
        assert (await http.get("/v1/job", headers={"Cookie": f"access_token={token()}"})).status_code == 401

    async def test_a_long_token_is_refused(self, http: httpx2.AsyncClient) -> None:
        """Longer ones not even by sign-in."""
        for length, status in ((9_000, 401), (40_000, 431)):
            answer = await http.get("/v1/job", headers={"Authorization": f"Bearer {'a' * length}"})
            assert answer.status_code == status

    async def test_a_body_that_nobody_may_send_is_not_read(self, http: httpx2.AsyncClient) -> None:
        """A request is refused before its body is read."""
        answer = await http.post("/v1/job", content=b"x" * 10_000_000, headers={"Content-Type": "text/plain"})
        assert answer.status_code == 401


class TestToken:
    """``POST /v1/token``"""

    async def test_a_password_gives_a_token(self, http: httpx2.AsyncClient) -> None:
        """That is not to be kept by what is between."""
        answer = await http.post("/v1/token", json={"username": "ann", "password": PASSWORD})
        given = answer.json()
        assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
        assert (given["token_type"], given["expires_in"]) == ("Bearer", 3600)
        assert given["scope"] == "job:read job:write"
        signed = {"Authorization": f"Bearer {given['access_token']}"}
        assert (await http.get("/v1/job", headers=signed)).status_code == 200
        assert (await http.post("/v1/function/add", json=[1], headers=signed)).status_code == 202

    async def test_a_name_of_nobody_is_answered_as_a_wrong_password(self, http: httpx2.AsyncClient) -> None:
        """To the letter."""
        wrong = await http.post("/v1/token", json={"username": "ann", "password": "wrong"})
        nobody = await http.post("/v1/token", json={"username": "bob", "password": PASSWORD})
        assert (wrong.status_code, wrong.content) == (nobody.status_code, nobody.content)
        assert wrong.status_code == 401
        assert wrong.headers["www-authenticate"] == 'Bearer realm="raincheck"'
        assert wrong.headers.keys() == nobody.headers.keys()

    async def test_guessing_is_slowed_down(self, http: httpx2.AsyncClient) -> None:
        """`Retry-After` says for how long."""
        for _ in range(FAILURES_PER_USER):
            await http.post("/v1/token", json={"username": "ann", "password": "wrong"})
        answer = await http.post("/v1/token", json={"username": "ann", "password": PASSWORD})
        assert (answer.status_code, answer.json()["type"]) == (429, urn("too-many-attempts"))
        assert 1 <= int(answer.headers["retry-after"]) <= 12
        assert (await http.get("/v1/job", headers=bearer(READ))).status_code == 200

    @pytest.mark.parametrize(
        ("body", "pointer"),
        [
            ({"username": "ann"}, ""),
            ({"username": "ann", "password": 5}, "/password"),
            ({"username": ["ann"], "password": "x"}, "/username"),
            ({"username": "", "password": "x"}, "/username"),
            ({"username": "x" * 101, "password": "x"}, "/username"),
            ({"username": "ann", "password": "x" * 1025}, "/password"),
            ({"username": "ann", "password": PASSWORD, "scope": "admin"}, "/scope"),
            ({"username": "ann", "password": PASSWORD, "scope": "all"}, "/scope"),
            ({"username": "ann", "password": PASSWORD, "admin": True}, "/admin"),
            ([], ""),
        ],
    )
    async def test_bad_input_is_named(self, http: httpx2.AsyncClient, body: Any, pointer: str) -> None:
        """And never repeated."""
        answer = await http.post("/v1/token", json=body)
        assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, pointer)
        assert PASSWORD not in answer.text

    async def test_only_json_will_do(self, http: httpx2.AsyncClient) -> None:
        """A form is what pages of other sites can send."""
        assert (await http.post("/v1/token", data={"username": "ann", "password": "x"})).status_code == 415
        assert (await http.post("/v1/token")).status_code == 400
        json_type = {"Content-Type": "application/json"}
        assert (await http.post("/v1/token", content=b"{", headers=json_type)).status_code == 400
        assert (await http.get("/v1/token")).status_code == 405
        cross = json_type | {"Origin": "https://evil.example"}
        assert (await http.post("/v1/token", content=b"{}", headers=cross)).status_code == 403

    async def test_a_new_user_need_not_wait_for_a_restart(
        self, http: httpx2.AsyncClient, app: App, users: Path, hashed: str
    ) -> None:
        """The file is looked at again."""
        await http.get("/v1/job", headers=bearer(READ))
        await asyncio.to_thread(add_user, users, "bob", hashed, [Scope.READ])
        assert app.auth is not None
        app.auth._service._fresh_until = 0.0
        answer = await http.post("/v1/token", json={"username": "bob", "password": PASSWORD})
        assert answer.json()["scope"] == "job:read"

    async def test_no_secret_is_logged(
        self, http: httpx2.AsyncClient, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Neither the password nor the token is logged, also if they are wrong."""
        caplog.set_level("DEBUG")
        good = await http.post("/v1/token", json={"username": "ann", "password": PASSWORD})
        await http.post("/v1/token", json={"username": "ann", "password": "hunter2 hunter2"})
        await http.get("/v1/job", headers={"Authorization": f"Bearer {good.json()['access_token']}x"})
        for secret in (PASSWORD, "hunter2", good.json()["access_token"], SECRET):
            assert secret not in caplog.text


class TestWithoutUsers:
    """Other ways to be configured."""

    @pytest.mark.parametrize(
        ("auth", "said"),
        [
            (None, "this server has no sign-in"),
            ({"secret": SECRET}, "has no file of users"),
            (
                {"jwks_url": "https://issuer.example/keys", "issuer": "https://issuer.example"},
                "https://issuer.example",
            ),
        ],
    )
    async def test_who_asks_for_a_token_is_told(self, tmp_path: Path, auth: Any, said: str) -> None:
        """Where there is none to be had."""
        app = make_app(tmp_path)
        app.auth = auth and Auth(**auth)
        client = httpx2.AsyncClient(
            transport=httpx2.ASGITransport(Server(app.engine, auth=app.auth)),
            base_url="http://localhost",
        )
        async with client:
            answer = await client.post("/v1/token", json={"username": "ann", "password": PASSWORD})
        assert answer.status_code == 404
        assert said in answer.json()["detail"]

    async def test_a_server_without_sign_in_ignores_tokens(self, tmp_path: Path) -> None:
        """As it always did."""
        async with served(make_app(tmp_path)) as (url, _), httpx2.AsyncClient(base_url=url) as client:
            assert (await client.get("/v1/job", headers={"Authorization": "Bearer x"})).status_code == 200


class TestConfigured:
    """When a server starts."""

    async def test_with_a_secret_others_may_reach_it(self, app: App) -> None:
        """And any name will do: a page that was made to point here has no token."""
        stop, started = asyncio.Event(), asyncio.get_running_loop().create_future()
        serving = asyncio.create_task(
            serve(app.engine, "0.0.0.0", 0, stop, started.set_result, auth=app.auth)
        )
        url = (await started).replace("0.0.0.0", "127.0.0.1")
        async with httpx2.AsyncClient(base_url=url) as client:
            headers = {"Host": "jobs.example"}
            assert (await client.get("/v1/job", headers=headers)).status_code == 401
            assert (await client.get("/v1/job", headers=headers | bearer(READ))).status_code == 200
        stop.set()
        await serving

    async def test_the_environment_will_do(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """For an app that says nothing of it."""
        monkeypatch.setenv("RAINCHECK_SECRET", SECRET)
        async with served(make_app(tmp_path)) as (url, _), httpx2.AsyncClient(base_url=url) as client:
            assert (await client.get("/v1/job")).status_code == 401
            assert (await client.get("/v1/job", headers=bearer(READ))).status_code == 200

    @pytest.mark.parametrize(
        "said", [{"SECRET": "short"}, {"SECRET_FILE": "/nowhere"}, {"USERS": "users.json"}], ids=str
    )
    async def test_what_cannot_work_stops_it(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: dict[str, str]
    ) -> None:
        """Before it listens, on any address; --insecure does not help."""
        for name, value in said.items():
            monkeypatch.setenv(f"RAINCHECK_{name}", value)
        for host in ("127.0.0.1", "0.0.0.0"):
            app = make_app(tmp_path)
            with pytest.raises(ConfigError):
                await serve(app.engine, host, 0, asyncio.Event(), insecure=True)
            assert not app.opened

    async def test_it_holds_where_it_is_mounted(self, app: App) -> None:
        """Without its lifespan, and with any prefix."""
        outer = Starlette(routes=[Mount("/api/{tenant}", app.asgi)])
        client = httpx2.AsyncClient(transport=httpx2.ASGITransport(outer), base_url="http://localhost")
        async with client:
            for path in ("x/v1/job", "healthz/v1/job", "docs/v1/function/add", "x/openapi.json"):
                path = f"/api/{path}"
                assert (await client.get(path)).status_code == 401
                assert (await client.get(path, headers=bearer("admin"))).status_code == 200
        await app.close()


class TestOpenAPI:
    """What the document says of it."""

    async def test_every_operation_names_its_scope(self, http: httpx2.AsyncClient) -> None:
        """And that it may refuse."""
        openapi = (await http.get("/openapi.json", headers=bearer(READ))).json()
        assert openapi["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"
        for path, item in openapi["paths"].items():
            for method, operation in item.items():
                known = re.sub(r"^/v1/function/.+", "/v1/function/{name:path}", path)
                need = NEEDS[method.upper(), known]
                assert operation.get("security") == (None if need is None else [{"bearer": [need]}])
                assert need is None or {"401", "403"} <= operation["responses"].keys()

    def test_an_open_server_says_nothing_of_it(self, tmp_path: Path) -> None:
        """Without sign-in, no operation needs a scope."""
        openapi = document("Jobs", Limits(), "", {})
        assert "securitySchemes" not in openapi["components"]
        assert "security" not in json.dumps(openapi["paths"])

    def test_it_is_made_for_whoever_has_to_sign_in(self, app: App) -> None:
        """By the server itself."""
        server = app.asgi
        assert isinstance(server, Server)
        assert b"securitySchemes" in server.openapi.document("", {})
