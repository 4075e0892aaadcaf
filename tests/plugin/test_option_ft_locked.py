"""``--ft-locked`` and ``--ft-frozen``: a lock that the tasks file would not build again."""

from __future__ import annotations

import pytest
from tests.conftest import Project

BEHIND = "*seed: locked 0, now 3: the stage would be built from another seed"


@pytest.fixture
def behind(built: Project) -> Project:
    """The tasks file asks for another seed than the stages were built from: they run as they did."""
    built.edit("finetune_tasks.py", 'student="', 'seed=3, student="')
    return built


def test_locked_refuses_it_and_says_what_to_do(behind: Project, plugin_args: tuple[str, ...]) -> None:
    result = behind.gate("--ft-locked", *plugin_args)
    result.assert_outcomes(errors=3)
    result.stdout.fnmatch_lines(
        [BEHIND, "*pytest --ft-retrain --ft-task tickets, or gate the lock as it is: --ft-frozen"]
    )


def test_where_ci_is_set_it_is_the_default(behind: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    behind.gate().assert_outcomes(passed=3)
    monkeypatch.setenv("CI", "true")
    behind.gate().assert_outcomes(errors=3)
    behind.gate("--ft-frozen").assert_outcomes(passed=3)


def test_what_makes_scores_incomparable_is_refused_frozen_or_not(behind: Project) -> None:
    behind.edit("finetune_tasks.py", 'student="', 'temperature=0.5, student="')
    result = behind.gate("--ft-frozen")
    result.assert_outcomes(errors=3)
    result.stdout.fnmatch_lines(["*decoding.temperature: locked 0.0, now 0.5*"])
    assert BEHIND not in result.stdout.str()


@pytest.mark.parametrize("other", ["--ft-frozen", "--ft-retrain"])
def test_it_does_not_go_with_its_opposite(built: Project, other: str) -> None:
    result = built.gate("--ft-locked", other)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*drop --ft-locked*"])
