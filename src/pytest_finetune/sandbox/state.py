"""What the server remembers: objects in one SQLite file, contents of files beside it.

Everything a restarted server needs is here, so that killing it at any instant loses nothing it had answered.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel

Kind = Literal["file", "job", "event", "checkpoint", "model", "shutdown"]
Model = TypeVar("Model", bound=BaseModel)

_SCHEMA = """
CREATE TABLE IF NOT EXISTS objects (
    seq INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,
    id TEXT NOT NULL,
    parent TEXT NOT NULL,
    body TEXT NOT NULL,
    UNIQUE (kind, id)
);
CREATE INDEX IF NOT EXISTS by_parent ON objects (kind, parent, seq);
"""


class State:
    """Objects by kind and id, in the order in which they were first put."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "contents").mkdir(parents=True, exist_ok=True)
        (folder / "weights").mkdir(exist_ok=True)
        self._db = sqlite3.connect(folder / "sandbox.sqlite", isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")
        self._db.executescript(_SCHEMA)

    def close(self) -> None:
        """Close the database; the folder stays."""
        self._db.close()

    def put(self, kind: Kind, identifier: str, value: BaseModel, parent: str = "") -> None:
        """Add an object, or replace the one of the same kind and id in its place."""
        self._db.execute(
            "INSERT INTO objects (kind, id, parent, body) VALUES (?, ?, ?, ?)"
            " ON CONFLICT (kind, id) DO UPDATE SET body = excluded.body",
            (kind, identifier, parent, value.model_dump_json()),
        )

    def get(self, kind: Kind, identifier: str, model: type[Model]) -> Model | None:
        """The object, or ``None``."""
        row = self._db.execute("SELECT body FROM objects WHERE kind = ? AND id = ?", (kind, identifier)).fetchone()
        return None if row is None else model.model_validate_json(row[0])

    def all(self, kind: Kind, model: type[Model], parent: str = "") -> list[Model]:
        """Every object of a kind (and of one parent), oldest first."""
        rows = self._db.execute("SELECT body FROM objects WHERE kind = ? AND parent = ? ORDER BY seq", (kind, parent))
        return [model.model_validate_json(body) for (body,) in rows]

    def delete(self, kind: Kind, identifier: str) -> None:
        """Forget an object; nothing happens if it is not there."""
        self._db.execute("DELETE FROM objects WHERE kind = ? AND id = ?", (kind, identifier))

    def contents(self, file_id: str) -> Path:
        """Where the bytes of a file are."""
        return self.folder / "contents" / file_id

    def weights(self, name: str) -> Path:
        """Where the weights of a fitted model are."""
        return self.folder / "weights" / f"{name}.npz"
