"""Dependencies and functions for child processes, which find them by module and name."""

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, NewType

from raincheck import Context, injected

Diary = NewType("Diary", Path)
"""A file with one line for each thing that happened."""


class Pool:
    """What is shared: opened in a process, used ``count`` times."""

    def __init__(self, loop: object = None) -> None:
        self.loop = loop
        self.count = 0

    def use(self) -> tuple[int, int]:
        self.count += 1
        return os.getpid(), self.count


class Session:
    """What an attempt has for itself."""

    def __init__(self, name: str) -> None:
        self.name = name


class Blocked(Session):
    """A session that is not async."""


def write(diary: Path, line: str) -> None:
    with diary.open("a", encoding="utf-8") as file:
        file.write(f"{line}\n")


async def note(diary: Path, line: str) -> None:
    await asyncio.to_thread(write, diary, line)


def open_diary() -> Diary:
    return Diary(Path(os.environ["RAINCHECK_TEST_DIARY"]))


async def open_pool(diary: Diary) -> AsyncIterator[Pool]:
    task = asyncio.current_task()
    await note(diary, "open pool")
    async with asyncio.timeout(None):  # demands that it is left in the task that entered it
        yield Pool(asyncio.get_running_loop())
    assert asyncio.current_task() is task
    await note(diary, "close pool")


async def open_session(ctx: Context, pool: Pool, diary: Diary) -> AsyncIterator[Session]:
    assert pool.loop is asyncio.get_running_loop()
    await note(diary, f"begin {ctx.job.name}")
    try:
        async with asyncio.timeout(None):
            yield Session(ctx.job.name)
    except BaseException as error:
        await note(diary, f"rollback {type(error).__name__}")
        raise
    await note(diary, "commit")


def open_blocked(diary: Diary) -> Iterator[Blocked]:
    write(diary, "lock")
    yield Blocked("blocked")
    write(diary, "unlock")


async def refuse() -> AsyncIterator[Pool]:
    raise ConnectionError("no database there")
    yield Pool()


def open_unclosable(diary: Diary) -> Iterator[Session]:
    yield Session("unclosable")
    write(diary, "fail to close")
    raise ConnectionError("lost it")


def use_both(pool: Pool = injected, session: Session = injected) -> str:
    return session.name


async def use(pool: Pool = injected) -> tuple[int, int]:
    assert pool.loop is asyncio.get_running_loop()
    return pool.use()


def use_blocking(number: int, pool: Pool = injected, *, factor: int = 1) -> tuple[int, int]:
    return number * factor, pool.use()[1]


def anything(pool: Pool = injected) -> Any:
    return pool.use()[1]


def hang(pool: Pool = injected) -> None:
    threading.Event().wait()


async def transact(session: Session = injected, ok: bool = True) -> str:
    if not ok:
        raise ValueError("not this one")
    return session.name


def transact_blocking(session: Session = injected, blocked: Blocked = injected, ok: bool = True) -> str:
    if not ok:
        raise ValueError("not this one")
    return session.name + blocked.name
