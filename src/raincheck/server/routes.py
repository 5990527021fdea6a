"""The routes of the HTTP API: the table of paths, and the tree that finds a path in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Generic, NamedTuple, TypeVar

from raincheck.server import docs
from raincheck.server.access import PUBLIC, READ, WORKER, WRITE, Route, sign_in
from raincheck.server.endpoints import functions, groups, jobs, schedules, status, workers
from raincheck.server.openapi import document

E = TypeVar("E")

ROUTES: dict[str, dict[str, Route]] = {
    "/v1/job": {"GET": (READ, jobs.list_jobs), "POST": (WRITE, jobs.create)},
    "/v1/job/retry": {"POST": (WRITE, jobs.retry_many)},
    "/v1/job/cancel": {"POST": (WRITE, jobs.cancel_many)},
    "/v1/job/delete": {"POST": (WRITE, jobs.delete_many)},
    "/v1/job/{id}": {"GET": (READ, jobs.find), "DELETE": (WRITE, jobs.delete)},
    "/v1/job/{id}/cancel": {"POST": (WRITE, jobs.cancel)},
    "/v1/job/{id}/retry": {"POST": (WRITE, jobs.retry)},
    "/v1/job/{id}/events": {"GET": (READ, jobs.list_events)},
    "/v1/job/{id}/attempt": {"GET": (READ, jobs.list_attempts)},
    "/v1/function": {"GET": (READ, functions.list_functions)},
    "/v1/function/{name:path}": {"GET": (READ, functions.find), "POST": (WRITE, functions.call)},
    "/v1/group": {"GET": (READ, groups.list_groups)},
    "/v1/group/{name}": {"GET": (READ, groups.find), "POST": (WRITE, groups.trigger)},
    "/v1/group/{name}/{id}": {"GET": (READ, groups.find_run)},
    "/v1/group/{name}/{id}/cancel": {"POST": (WRITE, groups.cancel_run)},
    "/v1/worker": {"GET": (READ, status.list_workers), "POST": (WORKER, workers.register)},
    "/v1/worker/{id}": {"DELETE": (WORKER, workers.leave)},
    "/v1/worker/{id}/claim": {"POST": (WORKER, workers.claim)},
    "/v1/worker/{id}/extend": {"POST": (WORKER, workers.extend)},
    "/v1/worker/{id}/finish": {"POST": (WORKER, workers.finish)},
    "/v1/worker/{id}/release": {"POST": (WORKER, workers.release)},
    "/v1/count": {"GET": (READ, status.count_jobs)},
    "/v1/schedule": {"GET": (READ, schedules.list_schedules)},
    "/v1/schedule/{name}": {
        "GET": (READ, schedules.find),
        "PUT": (WRITE, schedules.put),
        "DELETE": (WRITE, schedules.delete),
    },
    "/v1/schedule/{name}/pause": {"POST": (WRITE, schedules.pause)},
    "/v1/schedule/{name}/resume": {"POST": (WRITE, schedules.resume)},
    "/v1/schedule/{name}/run": {"POST": (WRITE, schedules.run)},
    "/v1/token": {"POST": (PUBLIC, sign_in)},
    "/openapi.json": {"GET": (READ, document.describe)},  # it has all functions and their arguments
    "/docs": {"GET": (PUBLIC, docs.page)},
    "/docs/{file}": {"GET": (PUBLIC, docs.file)},
    "/": {"GET": (PUBLIC, docs.redirect)},
    "/healthz": {"GET": (PUBLIC, status.is_alive)},
    "/readyz": {"GET": (PUBLIC, status.is_ready)},
}
"""By path and method: the scope that a request needs (docs/decisions/0011), and the endpoint."""


class Resource(NamedTuple, Generic[E]):
    """The endpoints of one path by method (HEAD has that of GET), and the value of ``Allow``."""

    endpoints: Mapping[str, E]
    allow: bytes


class _Node(Generic[E]):
    """The parts of a path that may follow: known words, any word, or any rest."""

    def __init__(self) -> None:
        self.words: dict[str, _Node[E]] = {}
        self.any_word: _Node[E] | None = None
        self.rest: Resource[E] | None = None
        self.here: Resource[E] | None = None


class Router(Generic[E]):
    """A tree of the paths of a table. ``{name}`` is one part of a path, ``{name:path}`` all that follow."""

    def __init__(self, table: Mapping[str, Mapping[str, E]]) -> None:
        self._root: _Node[E] = _Node()
        for path, methods in table.items():
            endpoints = {**methods, "HEAD": methods["GET"]} if "GET" in methods else dict(methods)
            allow = ", ".join(sorted([*endpoints, "OPTIONS"])).encode()
            self._add(path.split("/")[1:], Resource(endpoints, allow))

    def _add(self, parts: list[str], resource: Resource[E]) -> None:
        node = self._root
        for part in parts:
            if part.endswith(":path}"):
                node.rest = resource
                return
            if part.startswith("{"):
                node.any_word = node.any_word or _Node()
                node = node.any_word
            else:
                node = node.words.setdefault(part, _Node())
        node.here = resource

    def find(self, path: str) -> tuple[Resource[E], str] | None:
        """The resource at a path and the values of its variables, joined by slashes; None: no such path."""
        node, parts, values = self._root, path.split("/"), []
        for i in range(1, len(parts)):
            part = parts[i]
            child = node.words.get(part)
            if child is None:
                if node.rest is not None:
                    return node.rest, "/".join(parts[i:])
                if node.any_word is None or not part:
                    return None
                values.append(part)
                child = node.any_word
            node = child
        return None if node.here is None else (node.here, "/".join(values))
