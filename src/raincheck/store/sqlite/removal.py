"""Removing ended jobs, and memories that have run out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import apsw

from raincheck.core.codec import decode_job
from raincheck.store.base import Ended
from raincheck.store.sqlite.changes import Effects, tally

WORKER_MEMORY = 60.0
"""Seconds for which a worker that fell silent is still shown."""

SWEPT = 1000
"""How many memories of a kind one call removes."""

REMOVE = "DELETE FROM job WHERE id = ? AND rev = ? AND ended RETURNING n, state, record"
REMOVE_RESULTS = "DELETE FROM result WHERE job = ?"
REMEMBER = "INSERT OR REPLACE INTO gone (id, until) VALUES (?, ?)"
UNLIST = "DELETE FROM job_function WHERE function = ? AND job = ?"
RUN_OUT = (
    "DELETE FROM gone WHERE id IN (SELECT id FROM gone WHERE until <= ? LIMIT ?)",
    "DELETE FROM idempotency WHERE key IN (SELECT key FROM idempotency WHERE until <= ? LIMIT ?)",
)


def remove(
    connection: apsw.Connection, jobs: Sequence[Ended], remember: float, effects: Effects
) -> list[bool]:
    """Remove those of the jobs that are still at their revision; whether each was."""
    removed = []
    states: Counter[str] = Counter()
    for job in jobs:
        row = connection.execute(REMOVE, job).get
        removed.append(row is not None)
        if row is None:
            continue
        n, state, record = row
        functions = {step.function for step in decode_job(record).steps}
        connection.executemany(UNLIST, [(function, n) for function in functions])
        connection.execute(REMOVE_RESULTS, (n,))
        connection.execute(REMEMBER, (job.job_id, effects.now + remember))
        states[state] -= 1
        effects.jobs[job.job_id] = None
    tally(connection, states)
    sweep(connection, effects.now)
    return removed


def sweep(connection: apsw.Connection, now: float) -> None:
    """Remove memories that have run out, and the turns of functions without queue entries."""
    for statement in RUN_OUT:
        connection.execute(statement, (now, SWEPT))
    connection.execute("DELETE FROM worker WHERE until <= ?", (now - WORKER_MEMORY,))
    connection.execute("DELETE FROM function WHERE places = 0")
