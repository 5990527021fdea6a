"""A worker over HTTP, by hand: each call of the protocol is a method."""

from __future__ import annotations

from typing import Any

import httpx2

Answer = httpx2.Response


class RemoteWorker:
    """A worker that has registered on a server; it can go to another one."""

    def __init__(self, http: httpx2.AsyncClient, registered: dict[str, Any], **headers: str) -> None:
        self.http = http
        self.registered = registered
        self.headers = {"Worker-Token": registered["token"], **headers}

    @property
    def id(self) -> str:
        """Its id."""
        return str(self.registered["id"])

    def at(self, http: httpx2.AsyncClient) -> RemoteWorker:
        """The same worker, calling another server."""
        return RemoteWorker(http, self.registered, **self.headers)

    async def send(self, call: str, body: Any) -> Answer:
        """The response to a call."""
        return await self.http.post(f"/v1/worker/{self.id}/{call}", json=body, headers=self.headers)

    async def _send(self, call: str, body: Any) -> Any:
        answer = await self.send(call, body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def claim(self, limit: int = 1, wait: float = 0, *functions: str) -> list[dict[str, Any]]:
        """The attempts of a claim."""
        chosen = {"functions": functions} if functions else {}
        attempts: list[dict[str, Any]] = (await self._send("claim", {"limit": limit, "wait": wait} | chosen))[
            "attempts"
        ]
        return attempts

    async def claim_one(self) -> dict[str, Any]:
        """The only attempt that is ready."""
        (attempt,) = await self.claim(2)
        return attempt

    async def extend(self, *attempts: dict[str, Any], **more: Any) -> dict[str, Any]:
        """The answer to an extend."""
        answer: dict[str, Any] = await self._send("extend", {"attempts": attempts, **more})
        return answer

    async def finish(self, *attempts: dict[str, Any]) -> list[str]:
        """The outcomes of a finish."""
        return [each["outcome"] for each in await self.finish_all(*attempts)]

    async def finish_all(self, *attempts: dict[str, Any]) -> list[dict[str, Any]]:
        """The entries of the answer to a finish."""
        endings: list[dict[str, Any]] = (await self._send("finish", {"attempts": attempts}))["attempts"]
        return endings

    async def succeed(self, attempt: dict[str, Any], result: Any = None, **more: Any) -> str:
        """Finish an attempt with a result; the outcome."""
        (outcome,) = await self.finish({"id": attempt["id"], "result": result, **more})
        return outcome

    async def fail(self, attempt: dict[str, Any], type_: str = "ValueError", **more: Any) -> str:
        """Finish an attempt with an error; the outcome."""
        error = {"type": type_, "message": "no luck", **more}
        (outcome,) = await self.finish({"id": attempt["id"], "error": error})
        return outcome

    async def release(self, *attempts: dict[str, Any]) -> int:
        """The status of a release."""
        body = {"attempts": [{"id": each["id"]} for each in attempts]}
        return (await self.send("release", body)).status_code

    async def leave(self) -> int:
        """The status of leaving."""
        return (await self.http.delete(f"/v1/worker/{self.id}", headers=self.headers)).status_code


async def register(
    http: httpx2.AsyncClient, *functions: str | dict[str, Any], headers: Any = None, **more: Any
) -> RemoteWorker:
    """A worker that has registered with these functions."""
    named = [{"name": each} if isinstance(each, str) else each for each in functions]
    body = {"name": "node-1", "functions": named, **more}
    answer = await http.post("/v1/worker", json=body, headers=headers)
    assert answer.status_code == 201, answer.text
    return RemoteWorker(http, answer.json(), **(headers or {}))


async def submit(http: httpx2.AsyncClient, *functions: Any, **more: Any) -> str:
    """The id of a new job."""
    stages = [{"name": each} if isinstance(each, str) else each for each in functions]
    answer = await http.post("/v1/job", json={"name": "job", "functions": stages, **more})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


async def job(http: httpx2.AsyncClient, job_id: str) -> dict[str, Any]:
    """A job as it is now."""
    found: dict[str, Any] = (await http.get(f"/v1/job/{job_id}")).json()
    return found
