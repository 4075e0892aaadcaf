"""Looking at what is stored: which answers, by what they are of, and dropping them."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from pytest_finetune.errors import EvidenceError
from pytest_finetune.store import database
from pytest_finetune.store.privacy import StoredText

_SELECTED = """
FROM prediction LEFT JOIN (
    SELECT key, row_id, json_group_object(metric, value) AS scores FROM score GROUP BY key, row_id
) AS scored USING (key)
WHERE state IS NOT NULL
AND (:task IS NULL OR task GLOB :task)
AND (:stage IS NULL OR stage GLOB :stage)
AND (:model IS NULL OR model GLOB :model)
AND (:state IS NULL OR state = :state)
AND (:row IS NULL OR substr(ifnull(scored.row_id, prediction.row_id), 1, length(:row)) = :row)
AND (:before IS NULL OR asked_at < :before)
AND (:after IS NULL OR asked_at >= :after)
"""
_COLUMNS = """
key, asked_at, task, stage, model, ifnull(scored.row_id, prediction.row_id) AS row, repeat, state, scores,
json_extract(usage, '$.prompt_tokens'), json_extract(usage, '$.completion_tokens'), json_extract(usage, '$.cost'),
latency, attempts, served_model, error, output
"""  # those of KeptRow, in its order


@dataclass(frozen=True)
class Selection:
    """Which rows are meant; what is ``None`` does not matter.

    Attributes:
        task: The task's name; this, ``stage`` and ``model`` may have the wildcards ``*`` and ``?``.
        stage: The stage's name.
        model: The id of the model that was asked.
        state: How the row ended.
        row: What the row's id begins with.
        before: Asked for before this time (seconds since 1970).
        after: Asked for at this time, or later.
    """

    task: str | None = None
    stage: str | None = None
    model: str | None = None
    state: str | None = None
    row: str | None = None
    before: float | None = None
    after: float | None = None


@dataclass(frozen=True)
class KeptRow:
    """A row as it is stored. An answer that was scored against several rows is there once for each.

    Attributes:
        key: The digest of all that changes the answer.
        asked_at: When it was asked for (seconds since 1970).
        task: The task's name.
        stage: The stage's name.
        model: The id of the model that was asked.
        row: The id of the row.
        repeat: 0 for the first answer.
        state: How it ended.
        scores: By the fingerprint of the metric.
        prompt_tokens: Tokens sent; ``None`` where the endpoint did not tell.
        completion_tokens: Tokens received, likewise.
        cost: US dollars, where the price was known.
        latency: Seconds from request to answer.
        attempts: Requests it took.
        served_model: The model that the endpoint says has answered.
        error: Why there is no score.
        output: The answer.
    """

    key: str
    asked_at: float
    task: str
    stage: str
    model: str
    row: str
    repeat: int
    state: str
    scores: dict[str, float]
    prompt_tokens: int | None
    completion_tokens: int | None
    cost: float | None
    latency: float | None
    attempts: int | None
    served_model: str | None
    error: str | None
    output: str | None


class Browser:
    """A store that is looked at. Make one with `browsing`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def rows(self, selection: Selection, *, most: int | None = None) -> Iterator[KeptRow]:
        """The selected rows, the latest first.

        Args:
            selection: Which.
            most: How many at most; ``None``: all.
        """
        limit = -1 if most is None else most
        latest_first = f"ORDER BY asked_at DESC, task, stage, row, repeat, key LIMIT {limit}"
        return (_kept(values) for values in self._select(_COLUMNS, selection, latest_first))

    def count(self, selection: Selection) -> int:
        """How many rows are selected."""
        return int(next(self._select("count(*)", selection))[0])

    def answers(self, selection: Selection) -> dict[tuple[str, str], int]:
        """How many answers are selected, by task and stage."""
        found = self._select(
            "task, stage, count(DISTINCT key)", selection, "GROUP BY task, stage ORDER BY task, stage"
        )
        return {(task, stage): count for task, stage, count in found}

    def drop(self, selection: Selection) -> None:
        """Delete the selected answers with their scores, and make the file smaller."""
        with database.transaction(self._connection):
            keys = self._select("DISTINCT key", selection).fetchall()
            self._connection.executemany("DELETE FROM prediction WHERE key = ?", keys)
        self._connection.execute("VACUUM")

    def _select(self, columns: str, selection: Selection, rest: str = "") -> sqlite3.Cursor:
        query = f"SELECT {columns} {_SELECTED} {rest}"  # what is given is bound, below
        return self._connection.execute(query, asdict(selection))


@contextmanager
def browsing(path: Path, *, text: StoredText = StoredText.FULL) -> Iterator[Browser]:
    """Look at a store.

    Args:
        path: Of the file.
        text: What the store keeps of answers and errors.

    Raises:
        EvidenceError: If there is none, or nothing in it, or it is damaged, of a newer version, or no row store.
    """
    nothing = EvidenceError(
        f"there are no rows in {path}: nothing has been evaluated yet. The command that does:"
        " pytest --finetune-models=models.lock"
    )
    if not path.is_file():
        raise nothing
    with database.explained(path), closing(database.create(path, text)) as connection:
        if connection.execute("SELECT 1 FROM prediction WHERE state IS NOT NULL").fetchone() is None:
            raise nothing
        yield Browser(connection)


def _kept(values: tuple[Any, ...]) -> KeptRow:
    named = dict(zip((field.name for field in fields(KeptRow)), values, strict=True))
    return KeptRow(**{**named, "scores": json.loads(named["scores"] or "{}")})
