"""Pages of other origins: which responses a browser hands to them, as the Fetch standard says."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fastapi
import httpx2
import pytest
from fastapi.middleware.cors import CORSMiddleware
from starlette.applications import Starlette
from starlette.routing import Mount

from raincheck import App, Auth
from raincheck.core.errors import ConfigError
from raincheck.server import Server
from tests.problems import urn
from tests.server.conftest import make_app

SHOP = "https://shop.example"
LOCAL = "http://localhost:5173"
FOREIGN = [
    "https://evil.example",
    "https://shop.example.evil.example",
    "https://evilshop.example",
    "http://shop.example",
    "https://shop.example:8443",
    "https://shop.example/",
    "https://SHOP.example",
    "http://localhost",
    "null",
    "",
    "*",
]
CALL = "/v1/function/add"
CROSS = {"sec-fetch-site": "cross-site"}


def cors_check(response: httpx2.Response, origin: str, *, credentials: bool = False) -> bool:
    """Whether a browser hands the response to the page (Fetch standard, "CORS check")."""
    allowed = response.headers.get_list("access-control-allow-origin")
    if len(allowed) != 1 or allowed[0] not in (origin, "*"):
        return False
    if not credentials:
        return True
    return allowed[0] == origin and response.headers.get("access-control-allow-credentials") == "true"


def preflight_check(response: httpx2.Response, origin: str, method: str, *names: str) -> bool:
    """Whether the browser sends the request after this response (Fetch standard, "CORS-preflight fetch")."""
    methods, headers = (
        {each.strip().lower() for each in response.headers.get(f"access-control-allow-{kind}", "").split(",")}
        for kind in ("methods", "headers")
    )
    return (
        cors_check(response, origin)
        and response.is_success
        and method.lower() in methods
        and {name.lower() for name in names} <= headers
    )


async def preflight(
    client: httpx2.AsyncClient, path: str, origin: str, method: str = "POST"
) -> httpx2.Response:
    """Ask whether a page may send a request with JSON, a token and preferences."""
    headers = {
        "origin": origin,
        "access-control-request-method": method,
        "access-control-request-headers": "authorization,content-type,idempotency-key,prefer",
    }
    return await client.options(path, headers=headers | CROSS)


def client_of(application: Any) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(application), base_url="http://localhost")


@pytest.fixture
def app(tmp_path: Path) -> App:
    app = make_app(tmp_path)
    app.allowed_origins = [SHOP, LOCAL]
    return app


class TestAllowed:
    """A page of an allowed origin."""

    @pytest.mark.parametrize("origin", [SHOP, LOCAL])
    @pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "DELETE"])
    async def test_it_may_send_what_the_api_reads(
        self, client: httpx2.AsyncClient, origin: str, method: str
    ) -> None:
        """Its preflight request succeeds, and says so for ten minutes."""
        response = await preflight(client, "/v1/job", origin, method)
        assert (response.status_code, response.content) == (204, b"")
        names = ("Authorization", "Content-Type", "Idempotency-Key", "Prefer")
        assert preflight_check(response, origin, method, *names)
        assert response.headers["access-control-max-age"] == "600"
        assert not preflight_check(response, origin, method, "X-Other")

    async def test_it_reads_the_response_and_its_headers(self, client: httpx2.AsyncClient) -> None:
        """A job is created, and the page can follow it."""
        headers = {"origin": SHOP, "prefer": "respond-async"} | CROSS
        response = await client.post(CALL, json=[1], headers=headers)
        assert response.status_code == 202
        assert cors_check(response, SHOP, credentials=True)
        exposed = response.headers["access-control-expose-headers"].split(", ")
        named = {"location", "retry-after", "preference-applied"}
        assert named <= {*response.headers} & {name.lower() for name in exposed}
        assert {"Link", "Content-Location", "WWW-Authenticate", "Allow"} <= {*exposed}

    @pytest.mark.parametrize(
        ("method", "path", "status"),
        [
            ("GET", "/v1/job/x", 404),
            ("GET", "/v1/nothing", 404),
            ("PUT", "/v1/job", 405),
            ("POST", "/v1/job", 415),
            ("GET", "/v1/job?limit=0", 422),
        ],
    )
    async def test_it_reads_problems(
        self, client: httpx2.AsyncClient, method: str, path: str, status: int
    ) -> None:
        """Also those of wrong paths and methods, whose preflight request succeeds too."""
        assert preflight_check(await preflight(client, path, SHOP, method), SHOP, method)
        content = b"x" if method == "POST" else b""
        response = await client.request(method, path, headers={"origin": SHOP} | CROSS, content=content)
        assert response.status_code == status
        assert cors_check(response, SHOP)

    async def test_responses_depend_on_the_origin(self, client: httpx2.AsyncClient) -> None:
        """A cache must not hand the response for one origin, or for none, to another one."""
        for headers in ({"origin": SHOP}, {"origin": "https://evil.example"}, {}):
            response = await client.get("/v1/job", headers=headers)
            assert response.headers["vary"] == "Origin"

    async def test_a_request_without_an_origin_is_as_ever(self, client: httpx2.AsyncClient) -> None:
        """Programs get no headers for pages."""
        response = await client.post(CALL, json=[1])
        assert response.is_success
        assert not [name for name in response.headers if name.startswith("access-control")]


class TestForeign:
    """A page of an origin that is not allowed."""

    @pytest.mark.parametrize("origin", FOREIGN)
    async def test_it_gets_nothing(self, client: httpx2.AsyncClient, origin: str) -> None:
        """No preflight request succeeds, no response is readable, nothing is changed."""
        assert not preflight_check(await preflight(client, CALL, origin), origin, "POST")
        response = await client.get("/v1/job", headers={"origin": origin} | CROSS)
        assert not [name for name in response.headers if name.startswith("access-control")]
        for method, path in (("POST", CALL), ("POST", "/v1/job/x/cancel"), ("DELETE", "/v1/job/x")):
            response = await client.request(method, path, headers={"origin": origin} | CROSS)
            assert (response.status_code, response.json()["type"]) == (403, urn("cross-site"))
        assert (await client.get("/v1/job")).json()["jobs"] == []

    async def test_options_without_a_preflight_are_the_methods(self, client: httpx2.AsyncClient) -> None:
        """Also for an allowed origin."""
        response = await client.options("/v1/job", headers={"origin": SHOP})
        assert response.headers["allow"] == "GET, HEAD, OPTIONS, POST"
        assert "access-control-allow-methods" not in response.headers


class TestTokens:
    """With a bearer token, which no browser adds by itself, the origin is not checked."""

    SECRET = secrets.token_urlsafe(40)

    def auth(self) -> Auth:
        return Auth(secret=self.SECRET)

    def token(self) -> str:
        import jwt  # here, so that the other tests run without sign-in

        from raincheck.core.clock import now

        claims = {"iss": "raincheck", "aud": "raincheck", "sub": "ann", "scope": "job:write job:read"}
        times = {"iat": int(now()), "exp": int(now()) + 60}
        return jwt.encode(claims | times, self.SECRET, "HS256", headers={"typ": "at+jwt"})

    async def test_a_token_is_enough(self, tmp_path: Path) -> None:
        """A gateway or a WebView with an origin of its own may call."""
        app = make_app(tmp_path)
        app.auth = self.auth()
        headers = {"origin": "https://elsewhere.example", "authorization": f"bearer {self.token()}"}
        async with client_of(app.asgi) as client:
            response = await client.post(CALL, json=[1], headers=headers | CROSS)
            assert response.status_code == 202
            assert not cors_check(response, "https://elsewhere.example")
            headers["authorization"] = "Basic YTpi"  # a browser adds this one by itself
            assert (await client.post(CALL, json=[1], headers=headers | CROSS)).status_code == 403
        await app.close()

    async def test_every_origin_with_a_token(self, tmp_path: Path) -> None:
        """With ``*``, any page may call, but the browser sends and shows nothing of its own."""
        app = make_app(tmp_path)
        app.auth, app.allowed_origins = self.auth(), ["*"]
        anyone = "https://anyone.example"
        async with client_of(app.asgi) as client:
            assert preflight_check(await preflight(client, CALL, anyone), anyone, "POST", "Authorization")
            headers = {"origin": anyone, "authorization": f"Bearer {self.token()}"} | CROSS
            response = await client.post(CALL, json=[1], headers=headers)
            assert response.status_code == 202
            assert cors_check(response, anyone)
            assert not cors_check(response, anyone, credentials=True)
            assert "access-control-allow-credentials" not in response.headers
            refused = await client.post(CALL, json=[1], headers={"origin": anyone} | CROSS)
            assert (refused.status_code, cors_check(refused, anyone)) == (401, True)
        await app.close()

    def test_every_origin_needs_sign_in(self, app: App) -> None:
        """Else any page that somebody opens could run the functions."""
        app.allowed_origins = ["*"]
        with pytest.raises(ConfigError, match="list the allowed origins"):
            _ = app.asgi


class TestMounted:
    """In another application, its middleware decides."""

    @pytest.fixture
    def app(self, tmp_path: Path) -> App:
        return make_app(tmp_path)

    async def test_a_middleware_for_cors_is_enough(self, app: App) -> None:
        """The page reads the response, and its headers stand there once."""
        outer = fastapi.FastAPI()
        outer.add_middleware(CORSMiddleware, allow_origins=[SHOP], allow_methods=["*"], allow_headers=["*"])
        outer.mount("/api", app.asgi)
        async with client_of(outer) as client:
            assert preflight_check(await preflight(client, f"/api{CALL}", SHOP), SHOP, "POST")
            response = await client.post(f"/api{CALL}", json=[1], headers={"origin": SHOP} | CROSS)
            assert (response.status_code, cors_check(response, SHOP)) == (202, True)
        await app.close()

    async def test_without_one_there_is_no_check(self, app: App) -> None:
        """The outer application may have its own."""
        async with client_of(Starlette(routes=[Mount("/api", app.asgi)])) as client:
            headers = {"origin": SHOP} | CROSS
            response = await client.post(f"/api{CALL}", json=[1], headers=headers)
            assert (response.status_code, cors_check(response, SHOP)) == (202, False)
        await app.close()

    async def test_both_may_be_configured(self, app: App) -> None:
        """The response has each header once."""
        app.allowed_origins = [SHOP]
        outer = fastapi.FastAPI()
        outer.add_middleware(CORSMiddleware, allow_origins=[SHOP], allow_credentials=True)
        outer.mount("/api", app.asgi)
        async with client_of(outer) as client:
            response = await client.post(f"/api{CALL}", json=[1], headers={"origin": SHOP} | CROSS)
            assert cors_check(response, SHOP, credentials=True)
        await app.close()


class TestConfiguration:
    """Origins are compared as browsers send them."""

    @pytest.mark.parametrize(
        ("written", "sent"),
        [
            (["HTTPS://Shop.Example"], SHOP),
            (["https://shop.example:443"], SHOP),
            (["http://shop.example:80"], "http://shop.example"),
            (["http://[::1]:8080"], "http://[::1]:8080"),
            ([" https://shop.example ", LOCAL], SHOP),
            (["chrome-extension://abcdefgh"], "chrome-extension://abcdefgh"),
            (["capacitor://localhost"], "capacitor://localhost"),
        ],
    )
    async def test_forms_of_an_origin(self, app: App, written: Sequence[str], sent: str) -> None:
        """The case of letters and a default port do not matter."""
        app.allowed_origins = written
        async with client_of(app.asgi) as client:
            assert cors_check(await client.get("/healthz", headers={"origin": sent}), sent)

    @pytest.mark.parametrize(
        "written",
        [
            *("", "shop.example", "https://shop.example/", "https://shop.example/path", "https://", "null"),
            *(
                "https://*.example",
                "https://a@shop.example",
                "https://shop.example?",
                "https://bücher.example",
            ),
            *(
                "https://shop.example:",
                "https://shop.example:999999",
                "https://shop.example https://b.example",
            ),
        ],
    )
    def test_other_texts_are_refused(self, app: App, written: str) -> None:
        """They would never be equal to what a browser sends."""
        app.allowed_origins = [SHOP, written]
        with pytest.raises(ConfigError, match="is not an origin"):
            _ = app.asgi

    def test_a_text_in_place_of_a_list_is_refused(self, app: App) -> None:
        """Its letters are not origins."""
        app.allowed_origins = SHOP
        with pytest.raises(ConfigError, match=r"write \['https://shop.example'\]"):
            _ = app.asgi

    def test_all_origins_exclude_others(self, app: App) -> None:
        """Whether credentials are allowed would depend on the origin."""
        app.allowed_origins = ["*", SHOP]
        with pytest.raises(ConfigError, match="use \\* alone"):
            _ = app.asgi

    async def test_the_environment(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Several origins are separated by commas or spaces; the code takes precedence."""
        monkeypatch.setenv("RAINCHECK_ALLOWED_ORIGINS", f"{SHOP}, {LOCAL}")
        app, other = make_app(tmp_path), make_app(tmp_path)
        other.allowed_origins = []
        async with client_of(app.asgi) as client, client_of(other.asgi) as strict:
            for origin in (SHOP, LOCAL):
                assert cors_check(await client.get("/healthz", headers={"origin": origin}), origin)
                assert not cors_check(await strict.get("/healthz", headers={"origin": origin}), origin)

    def test_none_is_the_default(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """An empty variable is like none."""
        monkeypatch.setenv("RAINCHECK_ALLOWED_ORIGINS", " , ")
        server = make_app(tmp_path).asgi
        assert isinstance(server, Server)
        assert not server.origins
