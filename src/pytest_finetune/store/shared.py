"""A connection to the store's file that many threads use, one at a time."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from typing_extensions import Self

from pytest_finetune.store import database


class SharedConnection:
    """What keeps books beside the rows, for all threads of a process.

    Args:
        path: Of the file, which a `Store` has created.

    Raises:
        EvidenceError: If it is missing, damaged, of another version, or no row store.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._connection = database.join(path, threads=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            self._connection.close()

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._lock, database.explained(self._path):
            yield self._connection

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._reading() as connection, database.transaction(connection):
            yield connection
