"""A job of any legal name and data, over HTTP: it comes back as it was sent, the same from every store."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from raincheck import App
from raincheck.core.codec import MAX_DEPTH
from raincheck.core.limits import Limits
from raincheck.core.options import MAX_PRIORITY
from raincheck.functions.registry import NAME, NAME_LIMIT
from tests.contract.steps import HOUR, finish

LIMITS = Limits()
JSON = {"Content-Type": "application/json"}
ENOUGH = 10
"""Functions of a job that are run."""

ITS_OWN = ("id", "created_at", "updated_at", "scheduled_at", "started_at", "finished_at")
"""What is another in every job, whatever was sent."""

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5),
    max_leaves=20,
).filter(lambda value: "\\ud" not in json.dumps(value) or encodes(value))
objects = st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), values, max_size=5)
job_names = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=LIMITS.name)
function_names = st.from_regex(NAME, fullmatch=True).filter(lambda name: len(name) <= NAME_LIMIT)


def encodes(value: Any) -> bool:
    """Whether no text in it has half of a character."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


class Face:
    """A store behind the HTTP API."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._client = httpx2.AsyncClient(
            transport=httpx2.ASGITransport(app.asgi), base_url="http://localhost", headers=JSON
        )

    async def life(self, body: str, result: str) -> list[Any]:
        """The documents of a job: as it was accepted, and once its functions gave ``result``.

        Of very many, only the first give it.
        """
        accepted = await self._client.post("/v1/job", content=body.encode())
        assert accepted.status_code == 202, accepted.text
        job, store = accepted.json(), self._app.engine.store
        functions = [function["name"] for function in flat(job["functions"])][:ENOUGH]
        for function in functions:
            (claim,) = await store.claim("worker", [function], 1, HOUR)
            await finish(store, claim, result.encode())
        later = await self._client.get(f"/v1/job/{job['id']}")
        assert later.status_code == 200
        return [common(accepted.text), common(later.text)]

    async def close(self) -> None:
        """Let go of the store."""
        await self._client.aclose()
        await self._app.close()


@pytest.fixture
async def faces(url: str, tmp_path: Path) -> AsyncIterator[tuple[Face, Face]]:
    """The driver under test, and SQLite."""
    apps = [App(url), App(f"sqlite:///{tmp_path / 'reference.db'}")]
    for app in apps:
        await app.open()
    here, reference = (Face(app) for app in apps)
    yield here, reference
    await here.close()
    await reference.close()


def flat(functions: list[Any]) -> list[dict[str, Any]]:
    """The functions of a job, those of parallel stages too."""
    return [each for entry in functions for each in (entry if isinstance(entry, list) else [entry])]


def exact(text: str) -> Any:
    """JSON with numbers as they are written, and objects with their keys in order."""
    return json.loads(text, object_pairs_hook=tuple, parse_int=str, parse_float=str)


def common(document: str) -> Any:
    """What two jobs have in common that were made of one body."""

    def without(value: Any) -> Any:
        if isinstance(value, tuple):
            return [(key, without(inner)) for key, inner in value if key not in ITS_OWN]
        return [without(inner) for inner in value] if isinstance(value, list) else value

    return without(exact(document))


def entry(document: Any, *path: str | int) -> Any:
    """What is at a path of a document of pairs."""
    for part in path:
        document = document[part] if isinstance(part, int) else dict(document)[part]
    return document


def first_of(document: Any) -> dict[str, Any]:
    """The first function of a document of pairs."""
    first = dict(document)["functions"][0]
    return dict(first if isinstance(first[0], tuple) else first[0])


def body(name: str = "job", function: str = "f", data: Any = None, args: Any = (), **fields: Any) -> str:
    """A request, with characters as they are."""
    functions = [{"name": function, "args": list(args)}]
    whole = {"name": name, "functions": functions, "data": {} if data is None else data, **fields}
    return json.dumps(whole, ensure_ascii=False)


class TestRoundTrips:
    """What is sent is what comes back."""

    @settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(job_names, function_names, objects, st.lists(values, max_size=3), values)
    @example("x", "f", {}, [], None)
    @example("😀" * LIMITS.name, "f" * NAME_LIMIT, {"": ""}, [[], {}, ""], "")
    async def test_whatever_is_legal(
        self,
        faces: tuple[Face, Face],
        name: str,
        function: str,
        data: dict[str, Any],
        args: list[Any],
        result: Any,
    ) -> None:
        """Names, data, arguments and results."""
        here, reference = faces
        sent, given = body(name, function, data, args), json.dumps(result)
        documents = await here.life(sent, given)
        assert documents == await reference.life(sent, given)
        for document in documents:
            assert entry(document, "name") == name
            assert entry(document, "functions", 0, "name") == function
            assert entry(document, "data") == common(json.dumps(data))
            assert entry(document, "functions", 0, "args") == common(json.dumps(args))
        assert entry(documents[1], "state") == "done"
        assert entry(documents[1], "result") == common(given)

    @pytest.mark.parametrize(
        "sent",
        [
            pytest.param('{"name":"x","functions":[{"name":"f"}]}', id="the emptiest"),
            pytest.param(body(data={"x": "x" * (LIMITS.body - 200)}), id="as much data as is let in"),
            pytest.param(body(args=["😀" * (LIMITS.body // 4 - 100)]), id="as long an argument"),
            pytest.param(body(args=[0] * (LIMITS.body // 3 - 100)), id="as many arguments"),
            pytest.param(body(data={f"{n}": n for n in range(40_000)}), id="very many keys"),
            pytest.param(body(args=json.loads("[" * (MAX_DEPTH - 4) + "]" * (MAX_DEPTH - 4))), id="deep"),
            pytest.param(body(args=[10**4000, -(10**4000), 2**63, -(2**63), 2**64]), id="big numbers"),
            pytest.param(body(args=[1e308, 5e-324, 0.1, -0.0, 1e16, 1.0]), id="floats"),
            pytest.param(body().replace('"data": {}', '"data": {"a": 1.50, "b": 1E2}'), id="odd numbers"),
            pytest.param(body(data={"a": "\0\x1f\u2028\ufeff\U0010ffff"}), id="odd characters"),
            pytest.param(body(priority=MAX_PRIORITY), id="the most urgent"),
            pytest.param(body(priority=-MAX_PRIORITY), id="the least urgent"),
            pytest.param(
                json.dumps({"name": "x", "functions": [{"name": f"f{n}"} for n in range(LIMITS.steps)]}),
                id="the longest chain",
            ),
            pytest.param(
                json.dumps({"name": "x", "functions": [[{"name": "f"} for _ in range(LIMITS.steps)]]}),
                id="the widest stage",
            ),
        ],
    )
    async def test_the_largest_and_the_emptiest(self, faces: tuple[Face, Face], sent: str) -> None:
        """At each limit."""
        here, reference = faces
        documents = await here.life(sent, "[]")
        assert documents == await reference.life(sent, "[]")
        was, (accepted, later) = common(sent), documents
        assert entry(accepted, "data") == entry(later, "data") == dict(was).get("data", [])
        assert first_of(accepted)["args"] == first_of(later)["args"] == first_of(was).get("args", [])

    async def test_the_largest_result(self, faces: tuple[Face, Face]) -> None:
        """Comes back whole."""
        here, reference = faces
        result = json.dumps("x" * (LIMITS.result - 2))
        documents = await here.life(body(), result)
        assert documents == await reference.life(body(), result)
        assert entry(documents[1], "result") == "x" * (LIMITS.result - 2)
