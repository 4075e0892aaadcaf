"""Other plugins beside this one change no verdict, and are changed by none."""

from __future__ import annotations

import pytest
from tests.conftest import Project

MIXED = """
import pytest

runs = []

@pytest.mark.ft_ladder("tickets", min_score=0.85)
def test_tickets(): ...

@pytest.mark.ft_ladder("tickets")
def test_flaky(request):
    runs.append(request.node.name)
    assert runs.count(request.node.name) == 2
"""


@pytest.fixture
def mixed(built: Project) -> Project:
    built.write("test_models.py", MIXED)
    return built


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["plain", "n2"])
def test_random_order_and_coverage_change_no_verdict(mixed: Project, workers: tuple[str, ...]) -> None:
    options = ("-p", "pytest_randomly", "-p", "pytest_cov", "--cov=finetune_tasks")
    result = mixed.gate(*options, "-q", *workers)
    result.assert_outcomes(passed=2, failed=3)
    result.stdout.fnmatch_lines(["4 certified, 0 only observed, 1 not held", "finetune_tasks.py*"])


def test_a_rerun_judges_again_and_the_last_attempt_counts(mixed: Project) -> None:
    result = mixed.gate("-p", "pytest_rerunfailures", "--reruns=2", "-q")
    result.assert_outcomes(passed=4, failed=1)
    result.stdout.fnmatch_lines(["4 certified, 0 only observed, 1 not held", "*4 rerun*"])
