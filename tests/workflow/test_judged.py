"""A task whose metric asks a model: built, gated, and asked once."""

from __future__ import annotations

import json
import sqlite3

from tests.conftest import Project, make_rows

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


judged = task("few.jsonl", metric=metrics.judged(is_right, model="sandbox-large"))
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


def test_it_is_built_and_gated_and_no_row_is_judged_twice(project: Project) -> None:
    rows = [json.dumps(row) for row in make_rows(3, train=40, dev=20, test=40)]
    project.write("few.jsonl", "\n".join(rows) + "\n")
    project.write("finetune_tasks.py", (project.path / "finetune_tasks.py").read_text(encoding="utf-8") + JUDGED)
    project.write("test_models.py", TESTS)
    project.run("-q", "--ft-retrain", "--ft-skip-check", "--ft-task=judged").assert_outcomes(passed=1)
    asked = judgements(project)
    assert asked
    assert set(asked) == {("judge", "sandbox-large")}
    project.gate("-q").assert_outcomes(passed=1)
    assert judgements(project) == asked
