"""A project whose store has rows, and the command line in it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from pytest_finetune.cli import run
from pytest_finetune.core.records import Answered, Row, RowState, Usage
from pytest_finetune.store import Store

STORE = Path(".pytest-finetune", "rows.sqlite")
NOON = 1_763_640_000.0  # 20 November 2025, 12:00 UTC
DAY = 86_400.0
TUNED = "ft:gpt-4o-mini-2024-07-18:acme:tickets:Ab12Cd34"

GOOD = Row("a1b2c3d4e5f6", "baseline", 0, RowState.SCORED, output='{"category":"billing"}', latency=0.412)
ROWS = (
    (
        replace(GOOD, usage=Usage(112, 9, 0.000023), served_model="small-2025-11-01"),
        ("tickets", "small", NOON - 40 * DAY),
    ),
    (
        replace(GOOD, stage="finetuned", row_id="ffeeddccbbaa", output='{"category":"größte 日本 = \x1b[31m"}'),
        ("tickets", TUNED, NOON),
    ),
    (
        Row("0011", "finetuned", 0, RowState.FORMAT_ERROR, output="=1+1", error="refused: the model said: no"),
        ("tickets", TUNED, NOON + 1),
    ),
    (
        Row("0022", "baseline", 1, RowState.ERROR, error="server_error: down (after 5 requests)"),
        ("replies", "small", NOON),
    ),
)


@dataclass(frozen=True)
class Done:
    """What a command said, and how it ended."""

    status: int
    out: str
    err: str


Command = Callable[..., Done]


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """The command line, in a folder of its own and a terminal that is wide enough."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def call(*arguments: str) -> Done:
        status = run(list(arguments))
        said = capsys.readouterr()
        return Done(status, said.out, said.err)

    return call


@pytest.fixture
def stored(tmp_path: Path, command: Command) -> Command:
    """The command line of a project with four rows, one of which has been scored by two metrics."""
    write(tmp_path / STORE)
    return command


def write(path: Path, *, only: slice = slice(None)) -> None:
    """Make a store of these rows."""
    chosen = [(f"key {number}", *row) for number, row in enumerate(ROWS)][only]
    with Store.create(path) as store:
        store.claim({key: [row.row_id] for key, row, _ in chosen}, "exact", limit=9, cap=9)
        store.save(Answered(key, row, 1, task, model) for key, row, (task, model, _) in chosen)
        for metric, score in (("exact", 1.0), ("f1", 0.5)):
            scored = {(key, row.row_id): score for key, row, _ in chosen if row.state is RowState.SCORED}
            store.save_scores(scored, metric)
    connection = sqlite3.connect(path)
    with connection:
        moments = [(moment, key) for key, _, (_, _, moment) in chosen]
        connection.executemany("UPDATE prediction SET asked_at = ? WHERE key = ?", moments)
    connection.close()
