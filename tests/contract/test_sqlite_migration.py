"""A file of an older raincheck is brought up to date, and keeps what it has."""

from __future__ import annotations

from pathlib import Path

import apsw
import msgspec

from raincheck.core.model import State
from raincheck.store import Store, make_store
from raincheck.store.base import Filter
from raincheck.store.sqlite.connection import APPLICATION_ID, VERSION
from tests.contract.leaks import listed
from tests.contract.steps import HOUR, draft, finish, get, submission, take_one, write

SCHEMA = Path(__file__).with_name("sqlite_version_1.sql")
FIELDS = 19
"""How many a job's record had then; and a step's, 16."""


def old_file(path: Path) -> str:
    """A file of version 1 with one job that waits; its id."""
    job = draft("f", created_at=1.0, updated_at=1.0)
    record = msgspec.to_builtins(job, builtin_types=(bytes,))[:FIELDS]
    record[2] = [step[:16] for step in record[2]]
    connection = apsw.Connection(str(path))
    connection.execute("PRAGMA journal_mode=WAL").fetchall()
    connection.execute(SCHEMA.read_text("utf-8")).fetchall()
    connection.pragma("application_id", APPLICATION_ID)
    connection.execute(
        "INSERT INTO job (n, id, rev, state, ended, name, alarm, record) VALUES (1, ?, 1, ?, 0, ?, NULL, ?)",
        (job.id, "pending", job.name, msgspec.msgpack.encode(record)),
    )
    connection.execute("INSERT INTO job_function VALUES ('f', 1)")
    connection.execute("INSERT INTO queue VALUES ('f', 0, 1.0, 1, 0)")
    connection.execute("INSERT INTO tally VALUES ('pending', 1)")
    connection.execute("INSERT INTO function VALUES ('f', 1, 0)")
    connection.close()
    return job.id


async def test_a_file_of_version_1_goes_on(tmp_path: Path) -> None:
    """Its jobs are there and can be run; groups and schedules have a place."""
    job_id = old_file(tmp_path / "jobs.db")
    store: Store = make_store(f"sqlite:///{tmp_path / 'jobs.db'}")
    await store.open()
    try:
        assert (await get(store, job_id)).job.group is None
        claim = await take_one(store, "f", lease=HOUR)
        assert (await finish(store, claim)).state is State.DONE
        new = submission(store, draft("f", group="g"))
        assert await write(store, new) is None
        assert [stored.job.id for stored in await listed(store, Filter(group="g"))] == [new.job.id]
        assert await store.schedules() == []
        assert await write(store, submission(store, draft("large"))) is None
        large = b'"' + b"x" * 2000 + b'"'
        ended = await finish(store, await take_one(store, "large"), large)
        assert await store.results([(ended.id, 0)]) == [large]
    finally:
        await store.close()
    with apsw.Connection(str(tmp_path / "jobs.db")) as connection:
        assert connection.execute("SELECT version FROM meta").get == VERSION


async def test_a_new_file_is_as_one_brought_up_to_date(tmp_path: Path) -> None:
    """The same tables and indexes, whichever way they came."""
    old_file(tmp_path / "old.db")
    shapes = []
    for name in ("old.db", "new.db"):
        store = make_store(f"sqlite:///{tmp_path / name}")
        await store.open()
        await store.close()
        with apsw.Connection(str(tmp_path / name)) as connection:
            columns = connection.execute("SELECT name FROM pragma_table_info('job') ORDER BY cid").fetchall()
            objects = connection.execute("SELECT type, name FROM sqlite_schema ORDER BY name").fetchall()
        shapes.append((columns, objects))
    assert shapes[0] == shapes[1]
