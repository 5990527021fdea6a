"""The thread that reads, each call from a snapshot of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import apsw

from raincheck.store.batcher import Answers, Batcher, Call
from raincheck.store.sqlite.connection import close, connect, transaction, translate

T = TypeVar("T")


class Read(Call[T]):
    """Something to be read."""

    def __init__(self, do: Callable[[apsw.Connection], T]) -> None:
        super().__init__()
        self.do = do


class Reader:
    """Serves reads. No snapshot is held for long: it would keep the WAL from being used again."""

    _path: Path

    def __init__(self) -> None:
        self._connection: apsw.Connection | None = None
        self.batcher = Batcher("raincheck-reader", self._serve, self._disconnect)

    def start(self, path: Path) -> None:
        """Serve from now on, from the database at ``path``."""
        self._path = path
        self.batcher.start()

    def _serve(self, batch: list[Call[Any]]) -> None:
        answers = Answers()
        for call in batch:
            if isinstance(call, Read):
                answers.add(call, self._answer(call))
        answers.give()

    def _answer(self, read: Read[Any]) -> Any:
        try:
            if self._connection is None:
                self._connection = connect(self._path)
            with transaction(self._connection, "DEFERRED"):
                return read.do(self._connection)
        except apsw.Error as error:
            self._disconnect()  # begin anew
            return translate(error, self._path)
        except Exception as error:  # noqa: BLE001 - its caller is told, the others go on
            return error

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            close(connection)
