"""What the tests of the store keep, and a look into the file."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from pytest_finetune.core.records import Answered, Row, RowState, Usage
from pytest_finetune.store import Store, StoredRow

METRIC = "m"
ANSWER = Row(
    "r1",
    "baseline",
    0,
    RowState.SCORED,
    output='{"colour":"grün"}',
    usage=Usage(12, 3, 0.25),
    latency=0.5,
    served_model="small-2026",
)
ERROR = Row("r2", "baseline", 0, RowState.ERROR, error="server: oh")
UNREAD = Row(
    "r3", "finetuned", 0, RowState.FORMAT_ERROR, output="Green, I think", error="refused: the model said: no"
)


def wanted(*keys: str) -> dict[str, tuple[str, ...]]:
    return dict.fromkeys(keys, (ANSWER.row_id,))


def read(store: Store, *keys: str, metric: str = METRIC) -> dict[str, StoredRow]:
    return store.read(wanted(*keys), metric)


def claim(store: Store, *keys: str, limit: int = 9, cap: int = 9, metric: str = METRIC) -> list[str]:
    return store.claim(wanted(*keys), metric, limit=limit, cap=cap)[0]


def answered(key: str, row: Row, task: str = "tickets", model: str = "small") -> Answered:
    return Answered(key, row, 1, task, model)


def answer(store: Store, key: str, row: Row, scores: Mapping[str, float] | None = None) -> None:
    """Ask for a row, and score the answer against it by each metric."""
    assert claim(store, key) == [key]
    store.save([answered(key, row)])
    for metric, score in (scores or {}).items():
        store.save_scores({(key, row.row_id): score}, metric)


def saying(output: str, row_id: str = "r1") -> Row:
    return replace(ANSWER, row_id=row_id, output=output)


def sql(path: Path, statement: str) -> list[tuple[object, ...]]:
    connection = sqlite3.connect(path)
    with connection:
        found = connection.execute(statement).fetchall()
    connection.close()
    return found


def asked_at(path: Path, **moments: float) -> None:
    """Say when rows were asked for."""
    for key, moment in moments.items():
        sql(path, f"UPDATE prediction SET asked_at = {moment} WHERE key = '{key}'")  # noqa: S608  # our own
