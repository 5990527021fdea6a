"""huey on SQLite, the peer that also needs no server, as its documents tell a user to set it up."""

from __future__ import annotations

import os

from huey import SqliteHuey

FSYNC: dict[str, bool | None] = {"": None, "fsync": True}

huey = SqliteHuey("bench", filename=os.environ["HUEY_FILE"], fsync=FSYNC[os.environ.get("HUEY_FSYNC", "")])


@huey.task()  # type: ignore[untyped-decorator]
def nothing() -> int:
    """Does nothing, and returns it: huey keeps no result that is None."""
    return 0
