"""HTTP clients of a raincheck server: `AsyncClient` for async code, `Client` for blocking code."""

from __future__ import annotations

from raincheck.client.asynchronous.client import AsyncClient, AsyncJobHandle
from raincheck.client.blocking.client import Client, JobHandle
from raincheck.client.responses import Reply

__all__ = ["AsyncClient", "AsyncJobHandle", "Client", "JobHandle", "Reply"]
