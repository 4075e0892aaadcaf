"""``ft_store_text = hash``: a gate that leaves no answer to be read, and hands none to the lock."""

from __future__ import annotations

import sqlite3

from tests.conftest import Project

from pytest_finetune.workflow.evaluations import Bench
from pytest_finetune.workflow.run import Run
from pytest_finetune.workflow.settings import read_settings

ANSWER = b'"department":"billing"'


def test_a_gate_goes_on_with_hashes_and_asks_nothing_again(built: Project) -> None:
    store = built.path / ".pytest-finetune" / "rows.sqlite"
    assert ANSWER in store.read_bytes()
    built.write("pytest.ini", "[pytest]\nft_store_text = hash\n")
    built.gate("--ft-offline").assert_outcomes(passed=3)
    assert ANSWER not in store.read_bytes()


def test_answers_that_are_new_are_handed_on_as_hashes_too(built: Project) -> None:
    connection = sqlite3.connect(built.path / ".pytest-finetune" / "rows.sqlite")
    with connection:
        connection.execute("DELETE FROM prediction WHERE row_id < '4'")
    connection.close()
    run = Run(read_settings(built.path, ini={"models": ["models.lock"], "store_text": "hash"}, environment={}))
    try:
        rows = run.evaluations.rows(Bench("tickets"), "baseline")
        reused = run.evaluations.score(Bench("tickets"), "baseline").reused
    finally:
        run.close()
    assert 0 < reused < len(rows)
    outputs = {row.output or "" for row in rows}
    assert {output.partition(":")[0] for output in outputs} == {"sha256"}
    assert 2 <= len(outputs) <= 4
