"""huey on SQLite, a peer that needs no server either, configured as its documentation says."""

from __future__ import annotations

import os

from huey import SqliteHuey

FSYNC: dict[str, bool | None] = {"": None, "fsync": True}

huey = SqliteHuey("bench", filename=os.environ["HUEY_FILE"], fsync=FSYNC[os.environ.get("HUEY_FSYNC", "")])


@huey.task()  # type: ignore[untyped-decorator]
def nothing() -> int:
    """Do nothing. The result is 0, because huey does not store None."""
    return 0
