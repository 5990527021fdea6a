"""The clients: a server's jobs from other programs, over HTTP alone."""

from __future__ import annotations

from raincheck.client.answers import Reply
from raincheck.client.asynchronous.client import AsyncClient, AsyncJobHandle
from raincheck.client.blocking.client import Client, JobHandle

__all__ = ["AsyncClient", "AsyncJobHandle", "Client", "JobHandle", "Reply"]
