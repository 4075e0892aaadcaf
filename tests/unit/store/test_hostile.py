"""A store that somebody else has written, as a CI cache or an artifact of another run may be."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.store.answers import ANSWER, METRIC, answer, read, sql

from pytest_finetune.errors import EvidenceError
from pytest_finetune.store import Store
from pytest_finetune.store.merge import merge

TRIGGERED = "CREATE TRIGGER mine AFTER INSERT ON score BEGIN UPDATE score SET value = 1; END"
SEEN = "CREATE VIEW mine AS SELECT * FROM prediction"
VIRTUAL = "CREATE VIRTUAL TABLE mine USING fts5(x)"


@pytest.fixture
def made(path: Path) -> Path:
    with Store.create(path) as store:
        answer(store, "key", ANSWER, {METRIC: 1.0})
    return path


@pytest.mark.parametrize("statement", [TRIGGERED, SEEN, VIRTUAL])
def test_what_would_act_by_itself_is_refused(made: Path, statement: str, tmp_path: Path) -> None:
    sql(made, statement)
    with pytest.raises(EvidenceError, match=r"no row store has the (trigger|view|table) 'mine"):
        Store.create(made)
    with pytest.raises(EvidenceError, match=r"no row store has the (trigger|view|table) 'mine"):
        merge(tmp_path / "into.sqlite", [made])


@pytest.mark.parametrize(
    "change",
    [
        "output = x'ff00'",
        "error = x'00'",
        "latency = 'slow'",
        "latency = 9e999",
        "repeat = 'x'",
        "usage = '[[[['",
        'usage = \'{"prompt_tokens": "1", "completion_tokens": 1}\'',
        'usage = \'{"prompt_tokens": 1, "completion_tokens": -1}\'',
        'usage = \'{"prompt_tokens": 1, "completion_tokens": 1, "cost": -1}\'',
        'usage = \'{"prompt_tokens": 1, "completion_tokens": 1, "__class__": 1}\'',
    ],
)
def test_an_answer_of_another_kind_is_no_answer(made: Path, change: str) -> None:
    sql(made, f"UPDATE prediction SET {change}")  # noqa: S608  # our own
    with Store.create(made) as store, pytest.raises(EvidenceError, match="is damaged"):
        read(store, "key")


@pytest.mark.parametrize("value", ["2", "-0.5", "9e999", "'one'", "x'01'"])
def test_a_score_beyond_all_scores_is_refused(made: Path, value: str) -> None:
    sql(made, f"UPDATE score SET value = {value}")  # noqa: S608  # our own
    with Store.create(made) as store, pytest.raises(EvidenceError, match="is no score"):
        store.scores(["key"], METRIC)
