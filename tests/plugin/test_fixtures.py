"""The fixtures that hand over the parts of a task."""

from __future__ import annotations

from syrupy.assertion import SnapshotAssertion
from tests.conftest import Project

PARTS = """
import dspy
import finetune_tasks
import pytest

CLAIM = pytest.mark.ft_claim("tickets", "finetuned >= baseline")

@CLAIM
def test_ft_task(ft_task, ft_tasks, ft_dataset, ft_metric):
    assert ft_task is ft_tasks["tickets"] is finetune_tasks.tickets
    assert [len(ft_dataset.train), len(ft_dataset.dev), len(ft_dataset.test)] == [240, 40, 320]
    row = ft_dataset.test[0]
    assert ft_metric(row, dspy.Prediction(department=row.department)) == 1

@CLAIM
def test_ft_lms(ft_student_lm, ft_teacher_lm):
    assert [ft_student_lm.model, ft_teacher_lm.model] == ["openai/sandbox-small", "openai/sandbox-large"]
    assert ft_student_lm.kwargs["temperature"] == 0
    assert ft_student_lm("hello")

@CLAIM
def test_the_adapter_is_that_of_the_task(ft_finetuned):
    class Other(dspy.ChatAdapter):
        def format(self, *args, **kwargs):
            raise AssertionError("the program is not called under its own adapter")

    with dspy.context(adapter=Other()):
        assert ft_finetuned(text="my parcel is lost").department

@CLAIM
def test_ft_scores(ft_scores):
    assert list(ft_scores) == ["finetuned", "baseline"]
    assert ft_scores["baseline"].lower < ft_scores["baseline"].mean < ft_scores["finetuned"].mean
    assert ft_scores["finetuned"].n == 320

@CLAIM
def test_programs(ft_baseline, ft_prompt_optimized, ft_finetuned, ft_dataset, ft_metric, ft_scores):
    programs = {"baseline": ft_baseline, "prompt_optimized": ft_prompt_optimized, "finetuned": ft_finetuned}
    served = {name: program.predictors()[0].lm.model for name, program in programs.items()}
    assert served["baseline"] == served["prompt_optimized"] == "openai/sandbox-small"
    assert served["finetuned"] == f"openai/{ft_scores['finetuned'].model}"
    assert [bool(program.predictors()[0].demos) for program in programs.values()] == [False, True, False]
    right = {
        name: sum(ft_metric(row, program(**row.inputs())) for row in ft_dataset.test[:40])
        for name, program in programs.items()
    }
    assert right["baseline"] < right["finetuned"]
"""


def test_marked_tests_are_given_the_parts_of_their_own_task(built: Project) -> None:
    built.write("test_parts.py", PARTS)
    built.gate("test_parts.py").assert_outcomes(passed=5)


CALLS = """
import pytest

@pytest.mark.ft_claim("tickets", "finetuned >= baseline")
def test_it(ft_finetuned, ft_student_lm):
    ft_finetuned(text="my parcel is lost")
"""


def test_no_fixture_asks_a_model_where_nothing_may_be_asked_or_spent(built: Project) -> None:
    built.write("test_parts.py", CALLS)
    offline = built.gate("test_parts.py", "--ft-offline")
    offline.assert_outcomes(errors=1)
    offline.stdout.fnmatch_lines(
        ["*not evaluated: --ft-offline asks nothing, so 'sandbox' cannot be asked by a test*"]
    )
    capped = built.gate("test_parts.py", "--ft-max-cost=0.0000001")
    capped.assert_outcomes(failed=1)
    capped.stdout.fnmatch_lines(["*OverBudget*"])


def test_tasks_need_no_claim_and_no_gate(project: Project) -> None:
    project.write("test_tasks.py", "def test_it(ft_tasks): assert ft_tasks['tickets'].student == 'sandbox-small'\n")
    project.run("test_tasks.py").assert_outcomes(passed=1)


def test_what_a_fixture_cannot_give_is_an_error_in_one_line(built: Project, snapshot: SnapshotAssertion) -> None:
    built.edit("finetune_tasks.py", 'teacher="sandbox-large"', "")
    built.write(
        "test_wrong.py",
        "import pytest\n"
        "def test_unmarked(ft_task): ...\n"
        "def test_unknown(ft_tasks): ft_tasks['ticket']\n"
        "@pytest.mark.ft_claim('tickets', 'finetuned >= 0.5')\ndef test_teacher(ft_teacher_lm): ...\n",
    )
    result = built.gate("test_wrong.py", "-q")
    result.assert_outcomes(errors=2, failed=1)
    assert [line for line in result.outlines if line.startswith(("ERROR", "FAILED"))] == snapshot


def test_the_fixtures_are_told_by_pytest(project: Project, snapshot: SnapshotAssertion) -> None:
    told = project.run("--fixtures").outlines
    assert [line.partition(" -- ")[0] for line in told if line.startswith("ft_")] == snapshot
