"""A task whose metric asks a model: built, gated, and asked once."""

from __future__ import annotations

import json
import sqlite3
import sys

import pytest
from tests.conftest import Project, make_rows

from pytest_finetune.workflow.check import check
from pytest_finetune.workflow.run import Run
from pytest_finetune.workflow.settings import read_settings

JUDGED = """

class Grade(dspy.Signature):
    '''Say whether the department is the one that the message is for.'''

    text: str = dspy.InputField()
    department: str = dspy.InputField()
    verdict: Literal["right", "wrong"] = dspy.OutputField()


def is_right(example, prediction, trace=None):
    if prediction.department == example.department:
        return True
    return dspy.Predict(Grade)(text=example.text, department=prediction.department).verdict == "right"


judged = task("few.jsonl", metric=metrics.judged(is_right, model="sandbox-large"), hyperparameters={"n_epochs": 3})
"""
TESTS = """
import dspy
import pytest


@pytest.mark.ft_claim("judged", "finetuned >= baseline", inconclusive="warn")
def test_judged(ft_metric, ft_dataset):
    row = ft_dataset.test[0]
    wrong = next(name for name in ("billing", "account") if name != row.department)
    assert ft_metric(row, dspy.Prediction(department=row.department)) == 1.0
    assert ft_metric(row, dspy.Prediction(department=wrong)) in (0.0, 1.0)
"""


def judgements(project: Project) -> list[tuple[str, str]]:
    with sqlite3.connect(project.path / ".pytest-finetune" / "rows.sqlite") as connection:
        return connection.execute("SELECT purpose, model FROM call WHERE purpose = 'judge'").fetchall()


def found_costs(project: Project) -> tuple[str, str]:
    """What a check says of the costs, and what is missing so that they are known."""
    sys.modules.pop("finetune_tasks", None)
    run = Run(read_settings(project.path, environment={}))
    try:
        (checklist,) = check(run, ["judged"], report=pytest.fail)
    finally:
        run.close()
        sys.modules.pop("finetune_tasks", None)
    (cost,) = (finding for finding in checklist.findings if finding.name == "cost")
    return str(cost.state), cost.next_step


def test_it_is_built_and_gated_and_no_row_is_judged_twice(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    rows = [json.dumps(row) for row in make_rows(3, train=40, dev=20, test=40)]
    project.write("few.jsonl", "\n".join(rows) + "\n")
    project.write("finetune_tasks.py", (project.path / "finetune_tasks.py").read_text(encoding="utf-8") + JUDGED)
    project.write("test_models.py", TESTS)
    assert found_costs(project) == ("unknown", "no call of sandbox-large, which judges, is recorded yet")
    project.run("-q", "--ft-retrain", "--ft-skip-check", "--ft-task=judged").assert_outcomes(passed=1)
    asked = judgements(project)
    assert asked
    assert found_costs(project) == ("ok", "")
    assert set(asked) == {("judge", "sandbox-large")}
    project.gate("-q").assert_outcomes(passed=1)
    assert judgements(project) == asked
