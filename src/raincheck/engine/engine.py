"""The engine: what an app declares, its store, and the operations on the jobs in it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from threading import Lock
from typing import Any

from raincheck.core import clock
from raincheck.core.codec import from_json
from raincheck.core.errors import StoreUnusable
from raincheck.core.limits import Limits
from raincheck.core.model import Stored
from raincheck.engine.config_file import ConfigFile, find_config, read_config
from raincheck.engine.documents import Decode, JobDocument, job_document
from raincheck.engine.groups.definitions import Groups
from raincheck.engine.groups.documents import RunDocument
from raincheck.engine.groups.runs import Runs
from raincheck.engine.jobs import Jobs
from raincheck.engine.results import load_one
from raincheck.engine.schedules.definitions import DeclaredSchedules
from raincheck.engine.schedules.scheduler import Scheduler
from raincheck.engine.validation import Validator
from raincheck.engine.workers import Workers
from raincheck.functions.offered import OfferedFunctions
from raincheck.functions.registry import Functions, Middleware
from raincheck.functions.values import PLAIN, Values
from raincheck.store import is_in_memory, make_store, needs_a_file
from raincheck.store.base import Store
from raincheck.store.watches import Watches


class Engine:
    """What an app declares and, once it is open, the store and the operations on it.

    ``url`` is the URL of the store, ``config`` the path of the configuration file (None: see `find_config`),
    ``now`` the clock of a SQLite store. All may change until `open`, which makes ``store``, ``jobs``,
    ``watches``, ``workers``, ``runs`` and ``scheduler``.
    """

    store: Store
    jobs: Jobs
    watches: Watches
    """Waiting for a job to change."""
    workers: Workers
    """The registry of workers and the functions that they offer."""
    runs: Runs
    """The runs of groups."""
    scheduler: Scheduler
    """The schedules in the store."""

    def __init__(
        self,
        url: str,
        config: str | os.PathLike[str] | None,
        limits: Limits,
        values: Values = PLAIN,
        middleware: Sequence[Middleware] = (),
    ) -> None:
        self.url = url
        self.config = config
        self.now: Callable[[], float] = clock.now
        self.limits = limits
        self.functions = Functions(values, middleware)
        self.offered = OfferedFunctions()
        self.validator = Validator(self.functions, limits, self.offered)
        self.groups = Groups()
        self.schedules = DeclaredSchedules(self.groups, self.validator)
        self.held: list[Mapping[int, Any]] = []
        """For each worker of this process, its attempts in flight by the token of their lease."""
        self._lock = Lock()
        self._opening: Future[None] | None = None
        self._open = False
        self._pid = os.getpid()
        self._inherited: list[object] = []
        """What a parent process had opened: never used, and never freed, which would close it for both."""

    @property
    def opened(self) -> bool:
        """Whether the store is open, in this process."""
        return self._open and self._pid == os.getpid()

    def holds(self, token: int) -> bool:
        """Whether a worker of this process has this lease and extends it."""
        return any(token in table for table in tuple(self.held))

    async def open(self) -> None:
        """Open the store. From now on nothing can be declared. Further calls do nothing.

        Several event loops may call it at once: one opens the store, the others wait for it.
        """
        if self._pid != os.getpid():
            self._leave_parent()
        if self._inherited and is_in_memory(self.url):
            raise StoreUnusable(needs_a_file(self.url, "a forked child has no access to it"))
        while not self._open:
            with self._lock:
                is_first = self._opening is None
                opening = self._opening = self._opening or Future()
            if not is_first:
                await asyncio.shield(asyncio.wrap_future(opening))
                continue
            try:
                await self._open_parts()
                self._open = True
            finally:
                self._opening = None
                opening.set_result(None)

    def _leave_parent(self) -> None:
        """Forget what the parent of this forked process has opened, so that it is opened anew."""
        if self._open or self._opening is not None:
            self._inherited.append(vars(self).copy())
        self._pid = os.getpid()
        self._lock = Lock()
        self._opening = None
        self._open = False
        self.held = []

    async def _open_parts(self) -> None:
        file = await asyncio.to_thread(self._read_config)
        self.functions.close()
        self.groups.check(file, self.validator)
        await asyncio.to_thread(self.schedules.read, file, self.now())
        store = make_store(self.url, self.now)
        await store.open()
        self.store = store
        self.jobs = Jobs(store, self.limits)
        self.watches = self.jobs.watches
        self.workers = Workers(store, self.functions, self.offered)
        self.runs = Runs(self.jobs, self.groups, self.validator)
        self.scheduler = Scheduler(store, self.runs)

    def _read_config(self) -> ConfigFile | None:
        path = find_config(self.config)
        return None if path is None else read_config(path)

    async def close(self) -> None:
        """Close the store. The engine can be opened again."""
        if self._open:
            self._open = False
            await self.store.close()

    async def document(self, stored: Stored, decode: Decode = from_json) -> JobDocument:
        """The document of a job, with the functions that workers offered when the registry was last read.

        Raises `Gone` if the job was removed while its results were read.
        """
        return job_document(await load_one(self.store, stored), self.workers.warning, decode)

    async def run_document(self, stored: Stored, decode: Decode = from_json) -> RunDocument:
        """The document of a run, with its jobs."""
        return await self.runs.document(stored, await self.document(stored, decode))
