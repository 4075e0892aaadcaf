"""``@pytest.mark.ft_claim``."""

from __future__ import annotations

import pytest
from syrupy.assertion import SnapshotAssertion
from tests.conftest import Project

CLAIMS = """
import pytest

@pytest.mark.ft_claim("tickets", "finetuned >= prompt_optimized >= baseline - 0.05", "0.1 <= finetuned")
def test_one_task(): ...

@pytest.mark.ft_claim("tickets", "tokens(finetuned) <= tokens(baseline)")
@pytest.mark.ft_claim("replies", "finetuned >= 0.95 * teacher")
def test_two_tasks(): ...
"""


def test_each_comparison_is_an_item_with_the_task_in_its_id_where_there_are_two(project: Project) -> None:
    project.write("test_models.py", CLAIMS)
    assert project.run("--collect-only", "-q").outlines[:5] == [
        "test_models.py::test_one_task[finetuned >= prompt_optimized]",
        "test_models.py::test_one_task[prompt_optimized >= baseline - 0.05]",
        "test_models.py::test_one_task[finetuned >= 0.1]",
        "test_models.py::test_two_tasks[tickets: tokens(finetuned) <= tokens(baseline)]",
        "test_models.py::test_two_tasks[replies: finetuned >= 0.95 * teacher]",
    ]


def test_every_kind_of_claim_is_judged(built: Project, snapshot: SnapshotAssertion) -> None:
    claims = [
        "finetuned >= 2 * baseline",
        "baseline <= 0.3",
        "format_errors(finetuned) <= 0.01",
        "format_errors(finetuned) <= format_errors(baseline)",
        "tokens(finetuned) <= tokens(prompt_optimized)",
        "finetuned >= locked",
        "teacher >= finetuned - 0.5",
    ]
    built.write("test_models.py", f"import pytest\n@pytest.mark.ft_claim('tickets', *{claims})\ndef test_it(): ...\n")
    result = built.gate("--no-header")
    result.assert_outcomes(passed=7)
    assert built.said(result) == snapshot


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["plain", "n2"])
def test_mistakes_are_one_failed_collection_each(
    built: Project, workers: tuple[str, ...], snapshot: SnapshotAssertion
) -> None:
    mistakes = {
        "caret": "'tickets', 'finetuned > baseline'",
        "stage": "'tickets', 'finetuned >= base_line'",
        "measure": "'tickets', 'costs(finetuned) <= 1'",
        "task": "'ticket', 'finetuned >= baseline'",
        "twice": "'tickets', 'finetuned >= baseline', 'baseline <= finetuned', 'finetuned  >=  baseline'",
        "none": "'tickets'",
        "number": "'tickets', 0.85",
    }
    for name, arguments in mistakes.items():
        text = f"import pytest\n@pytest.mark.ft_claim({arguments})\ndef test_it(): ...\n"
        built.write(f"test_{name}.py", text)
    result = built.gate("-q", *workers)
    assert result.ret == (pytest.ExitCode.INTERRUPTED if not workers else pytest.ExitCode.TESTS_FAILED)
    said = built.said(result)
    assert "INTERNALERROR" not in said
    assert said.count("did you mean 'tickets'?") == 1
    assert result.parseoutcomes()["errors"] == len(mistakes)
    if not workers:
        assert said == snapshot


UNGATED = """
import unittest
import pytest

ladder = pytest.mark.ft_ladder("tickets")
"""


@pytest.mark.parametrize("gate", [True, False], ids=["gate on", "gate off"])
def test_a_marker_without_effect_is_an_error_with_the_gate_on_and_off(built: Project, *, gate: bool) -> None:
    bodies = {
        "unittest": "class TestIt(unittest.TestCase):\n    @ladder\n    def test_it(self): ...\n",
        "param": "@pytest.mark.parametrize('x', [pytest.param(1, marks=ladder), 2])\ndef test_it(x): ...\n",
        "late": "def test_late(): ...\n",
        "fixture": ("@pytest.fixture\ndef late(request): request.node.add_marker(ladder)\ndef test_it(late): ...\n"),
    }
    for name, body in bodies.items():
        built.write(f"test_{name}.py", UNGATED + body)
    built.write(
        "conftest.py",
        "import pytest\ndef pytest_collection_modifyitems(items):\n"
        "    for item in items:\n"
        "        if item.name == 'test_late': item.add_marker(pytest.mark.ft_ladder('tickets'))\n",
    )
    (built.path / "test_models.py").unlink()
    result = (built.gate if gate else built.run)("-q", "--continue-on-collection-errors")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(errors=3, failed=1)
    assert result.stdout.str().count("its ft_ marker cannot take effect") >= 4
