"""``--ft-offline``: what is recorded is judged, and nothing is asked."""

from __future__ import annotations

import shutil

import pytest
from tests.conftest import Project


def test_a_fresh_clone_is_judged_by_the_rows_beside_the_lock(built: Project, plugin_args: tuple[str, ...]) -> None:
    expected = [line for line in built.gate("-q").outlines if line.startswith("  PASSED")]
    shutil.rmtree(built.path / ".pytest-finetune")
    result = built.gate("-q", "--ft-offline", *plugin_args)
    result.assert_outcomes(passed=3)
    assert [line for line in result.outlines if line.startswith("  PASSED")] == expected
    assert result.stdout.str().count("asked 0") == 3
    assert len(expected) == 3


def test_what_was_evaluated_since_is_judged_before_what_was_accepted(built: Project) -> None:
    built.forget_what_was_accepted()
    built.gate("-q", "--ft-offline").assert_outcomes(passed=3)


def test_what_is_not_recorded_is_neither_green_nor_an_ordinary_failure(
    built: Project, plugin_args: tuple[str, ...]
) -> None:
    shutil.rmtree(built.path / ".pytest-finetune")
    built.forget_what_was_accepted()
    result = built.gate("-q", "--ft-offline", *plugin_args)
    result.assert_outcomes(errors=3)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    said = result.stdout.str()
    assert "not evaluated: 320 of 320 rows of stage 'finetuned' of task 'tickets' are not recorded" in said
    assert "0 certified, 0 only observed, 3 NOT EVALUATED" in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--ft-offline", "add --finetune-models=models.lock"),
        ("--ft-offline --ft-retrain", "--ft-offline builds nothing: drop --ft-retrain"),
        ("--ft-offline --ft-shard=1/2 --finetune-models=models.lock", "drop --ft-shard"),
    ],
)
def test_what_it_does_not_go_with_is_refused(built: Project, options: str, message: str) -> None:
    result = built.run(*options.split())
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert message in result.stderr.str()
