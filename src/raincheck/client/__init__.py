"""The clients: a server's jobs from other programs, over HTTP alone."""

from __future__ import annotations

from raincheck.client.answers import Reply
from raincheck.client.asynchronous.client import AsyncClient
from raincheck.client.asynchronous.handle import AsyncJobHandle
from raincheck.client.blocking.client import Client
from raincheck.client.blocking.handle import JobHandle

__all__ = ["AsyncClient", "AsyncJobHandle", "Client", "JobHandle", "Reply"]
