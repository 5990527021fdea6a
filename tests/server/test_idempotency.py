"""``Idempotency-Key``: a submission that is safe to repeat."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx2
import pytest

from tests.problems import urn
from tests.server.hands import Hands, count_jobs

JOB = b'{"name":"one","functions":[{"name":"add","args":[1]}]}'
JSON = {"content-type": "application/json"}


async def post(
    client: httpx2.AsyncClient, key: str, body: bytes = JOB, path: str = "/v1/job", prefer: str = "wait=0"
) -> Any:
    """Send with a key."""
    headers = {"content-type": "application/json", "idempotency-key": key, "prefer": prefer}
    encoded = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    return await client.post(path, content=body, headers=encoded)


async def test_a_repeated_request_gives_the_same_job(client: httpx2.AsyncClient) -> None:
    """There is one job, however often it is sent."""
    first, again = await post(client, '"k-1"'), await post(client, '"k-1"')
    assert first.json() == again.json()
    assert (first.status_code, again.status_code) == (202, 202)
    assert await count_jobs(client) == 1


async def test_twins_give_one_job(client: httpx2.AsyncClient) -> None:
    """This holds for requests at the same time too."""
    answers = await asyncio.gather(*(post(client, "k-1") for _ in range(20)))
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert await count_jobs(client) == 1


async def test_the_job_is_given_as_it_is_now(client: httpx2.AsyncClient, hands: Hands) -> None:
    """A replay shows what became of it; 200 says that it has ended."""
    job = (await post(client, "k-1")).json()
    claim = await hands.claim("add")
    assert (await post(client, "k-1")).json()["state"] == "doing"
    await client.post(f"/v1/job/{job['id']}/cancel")
    await hands.stop(claim)
    for prefer in ("wait=0", "wait=5"):
        answer = await post(client, "k-1", prefer=prefer)
        assert (answer.status_code, answer.json()["state"]) == (200, "cancelled")


async def test_a_replay_waits_too(client: httpx2.AsyncClient, hands: Hands) -> None:
    """A call repeated after a lost connection gets the result of the first."""
    first = await post(client, "k-1", b"[1, 2]", "/v1/function/add")
    assert first.status_code == 202
    working = asyncio.create_task(hands.succeed("add", result=3))
    again = await client.post(
        "/v1/function/add", content=b"[1, 2]", headers={**JSON, "idempotency-key": "k-1", "prefer": "wait=5"}
    )
    await working
    assert again.json() == {"id": first.json()["id"], "state": "done", "result": 3}


async def test_a_key_is_for_one_request(client: httpx2.AsyncClient) -> None:
    """Another content with the same key is refused."""
    await post(client, "k-1")
    answer = await post(client, "k-1", b'{"name":"two","functions":[{"name":"add","args":[1]}]}')
    assert (answer.status_code, answer.json()["type"]) == (422, urn("idempotency-mismatch"))
    assert await count_jobs(client) == 1


@pytest.mark.parametrize(
    ("bare", "quoted"), [("k-1", '"k-1"'), ("a/b:c=d", '"a/b:c=d"'), ("x" * 255, '"' + "x" * 255 + '"')]
)
async def test_a_key_may_be_quoted_or_bare(client: httpx2.AsyncClient, bare: str, quoted: str) -> None:
    """Both are the same key."""
    assert (await post(client, bare)).json()["id"] == (await post(client, quoted)).json()["id"]


async def test_a_quoted_key_may_hold_quotes(client: httpx2.AsyncClient) -> None:
    """They are escaped, as in any structured field."""
    keys = [r'"a \"b\" \\ c"', r'"a \"b\" c"']
    first, again, other = [await post(client, keys[i]) for i in (0, 0, 1)]
    assert first.json()["id"] == again.json()["id"] != other.json()["id"]


async def test_other_keys_give_other_jobs(client: httpx2.AsyncClient) -> None:
    """Without a key, too, every request is a job of its own."""
    for key in ("k-1", "K-1"):
        await post(client, key)
    for _ in range(2):
        await client.post("/v1/job", content=JOB, headers=JSON)
    assert await count_jobs(client) == 4


@pytest.mark.parametrize(
    "key",
    [
        *("", '""', " ", '"open', 'open"', '"a"b"', "a, b", '"a", "b"', '"a";p=1', "a b"),
        *('"tab\t"', '"\\n"', '"\u00e9"', "\u00ff"),
        *("x" * 256, "x" * 4000, '"' + "x" * 256 + '"'),
    ],
)
async def test_a_key_that_is_none_is_refused(client: httpx2.AsyncClient, key: str) -> None:
    """Nothing is stored."""
    answer = await post(client, key)
    assert (answer.status_code, answer.json()["type"]) == (400, urn("malformed"))
    assert await count_jobs(client) == 0
