"""``@pytest.mark.ft_ladder``."""

from __future__ import annotations

import pytest
from syrupy.assertion import SnapshotAssertion
from tests.conftest import Project


def test_each_rung_is_an_item_also_where_the_marker_is_on_a_class_or_a_module(project: Project) -> None:
    project.write(
        "test_models.py",
        """
import pytest

pytestmark = pytest.mark.ft_ladder("of_the_module")

class TestTickets:
    pytestmark = pytest.mark.ft_ladder("of_the_class")

    @pytest.mark.ft_ladder("tickets", min_score=0.85)
    @pytest.mark.parametrize("answer", [42])
    def test_both(self, answer): ...
""",
    )
    result = project.run("--collect-only", "-q")
    assert result.outlines[:7] == [
        f"test_models.py::TestTickets::test_both[{claim}-42]"
        for claim in (
            "of_the_module: prompt_optimized >= baseline",
            "of_the_module: finetuned >= prompt_optimized",
            "of_the_class: prompt_optimized >= baseline",
            "of_the_class: finetuned >= prompt_optimized",
            "tickets: prompt_optimized >= baseline",
            "tickets: finetuned >= prompt_optimized",
            "tickets: finetuned >= 0.85",
        )
    ]


MIXED = """
import pytest

@pytest.mark.ft_ladder("tickets", min_score=0.85)
def test_claims(): ...

@pytest.mark.ft_claim("tickets", "finetuned >= baseline", "teacher >= finetuned")
def test_body(ft_scores):
    assert ft_scores["finetuned"].mean > 0.99, "the body runs where the claim holds, and counts"

@pytest.mark.ft_claim("tickets", "finetuned >= baseline")
def test_setup(nowhere): ...
"""


def test_the_verdicts_are_the_same_in_one_process_and_in_several(
    built: Project, plugin_args: tuple[str, ...]
) -> None:
    built.write("test_models.py", MIXED)
    result = built.gate("-q", "-rA", *plugin_args)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    low, high, best, teacher = (
        f"{built.mean(stage):.3f}".rstrip("0") for stage in ("baseline", "prompt_optimized", "finetuned", "teacher")
    )
    ends = [line for line in result.outlines if line.startswith(("PASSED test", "FAILED test", "ERROR test"))]
    assert sorted(line.partition(" - ")[0] for line in ends) == [
        "ERROR test_models.py::test_setup[finetuned >= baseline]",
        "FAILED test_models.py::test_body[finetuned >= baseline]",
        "FAILED test_models.py::test_body[teacher >= finetuned]",
        "FAILED test_models.py::test_claims[finetuned >= 0.85]",
        "PASSED test_models.py::test_claims[finetuned >= prompt_optimized]",
        "PASSED test_models.py::test_claims[prompt_optimized >= baseline]",
    ]
    assert [end for end in ends if f"test_claims[finetuned >= 0.85] - Failed: {best[:4]}" in end] != []
    worse = "does not hold: certified worse than the margin allows"
    assert sorted(line for line in result.outlines if line.startswith(("  PASSED", "  FAILED"))) == [
        f"  FAILED finetuned >= 0.85: {best} < 0.85, n=320, {worse}",
        f"  FAILED teacher >= finetuned: {teacher} < {best}, n=320, {worse}",
        f"  PASSED finetuned >= baseline: {best} > {low}, n=320, holds, certified",
        f"  PASSED finetuned >= prompt_optimized: {best} > {high}, n=320, holds, certified",
        f"  PASSED prompt_optimized >= baseline: {high} > {low}, n=320, holds, certified",
    ]


def test_a_claim_that_does_not_hold_fails_in_a_few_lines_figures_first(
    built: Project, snapshot: SnapshotAssertion
) -> None:
    built.edit("test_models.py", "min_score=0.5", "min_score=0.85")
    result = built.gate("--no-header")
    result.assert_outcomes(passed=2, failed=1)
    assert built.said(result) == snapshot
    figures = f"{built.mean('finetuned'):.3f}".rstrip("0")
    result.stdout.fnmatch_lines([f"{figures} < 0.85, n=320: 'finetuned >= 0.85' of task 'tickets' does not hold: *"])
    result.stdout.no_fnmatch_line("*Error*")


def test_what_the_marker_takes_is_told_by_pytest(project: Project) -> None:
    told = project.run("--markers").stdout.str()
    assert "@pytest.mark.ft_ladder(task, *, min_score=None, margin=0.02," in told


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "@pytest.mark.ft_ladder: missing 1 required positional argument: 'task'"),
        ("pytest", "task=<module 'pytest'"),
        ("'tickets', min_scor=0.5", "@pytest.mark.ft_ladder: got an unexpected keyword argument 'min_scor'"),
        ("'tickets', min_score=85", "score lies in [0, 1]: did you mean 0.85?"),
        ("'tickets', margin='2 %'", "margin='2 %' is not a number"),
        ("'tickets', margin=2", "margin must be in [0, 1), not 2"),
        ("'tickets', alpha=0.95", "alpha must be in (0, 0.5), not 0.95"),
        ("'tickets', inconclusive='warm'", "inconclusive='warm' is not one of observed, fail, warn"),
    ],
)
def test_a_wrong_argument_is_an_error_of_collection(project: Project, arguments: str, message: str) -> None:
    project.write("test_models.py", f"import pytest\n@pytest.mark.ft_ladder({arguments})\ndef test_it(): ...\n")
    items, reports = project.pytester.inline_genitems("-p", "finetune")
    failed = [report for report in reports.getreports("pytest_collectreport") if report.failed]
    assert items == []
    assert [message in str(report.longrepr) for report in failed] == [True]
