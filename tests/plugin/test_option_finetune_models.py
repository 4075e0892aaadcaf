"""``--finetune-models``, and what stands in its way."""

from __future__ import annotations

import re

import pytest
from syrupy.assertion import SnapshotAssertion
from tests.conftest import Project

LOCKED = """
import pytest


@pytest.mark.ft_claim("tickets", "finetuned >= locked")
def test_it(): ...
"""


def test_without_it_claims_are_skipped_with_the_command_that_judges_them(project: Project) -> None:
    result = project.run("-rs", "-vv")
    result.assert_outcomes(skipped=3)
    result.stdout.fnmatch_lines(
        ["SKIPPED*: models are evaluated on request: pytest * 'test_models.py::test_tickets[[]finetuned >= 0.5[]]'"]
    )
    assert not (project.path / ".pytest-finetune").exists()


def test_without_it_ft_require_makes_each_skip_an_error(project: Project) -> None:
    result = project.run("-q", "-o", "ft_require=true")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(errors=3)
    result.stdout.fnmatch_lines(["models are evaluated on request: *(ft_require is set)"])


def test_it_judges_and_says_what_was_reused(built: Project, snapshot: SnapshotAssertion) -> None:
    before = built.lock.read_bytes()
    result = built.gate("-v")
    result.assert_outcomes(passed=3)
    said = built.said(result)
    assert said[said.index("finetune:") :] == snapshot
    assert built.lock.read_bytes() == before


def test_its_path_starts_where_pytest_was_called_and_then_at_the_rootdir(
    built: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    (built.path / "locks").mkdir()
    built.lock.rename(built.path / "locks" / "release.lock")
    (built.path / "models.lock.d").rename(built.path / "locks" / "release.lock.d")
    monkeypatch.chdir(built.path / "locks")
    for path in ("release.lock", "locks/release.lock"):
        result = built.run("--rootdir", "..", "-c", "../pytest.ini", f"--finetune-models={path}", "../test_models.py")
        result.assert_outcomes(passed=3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            "missing.lock -n 2",
            "ERROR: there is no lock at <project>/missing.lock: build the models and write it with",
        ),
        ("missing.lock", "ERROR: there is no lock at <project>/missing.lock: build the models and write it with"),
        ("tickets.jsonl", "ERROR: <project>/tickets.jsonl is not valid TOML"),
        (".", "ERROR: <project> cannot be read: Is a directory"),
        ("models.lock --finetune-models=other.lock", "ERROR: there is no lock at <project>/other.lock: build the"),
    ],
)
def test_a_lock_that_cannot_be_used_is_one_error_before_anything_is_collected(
    built: Project, options: str, message: str
) -> None:
    result = built.run(*f"--finetune-models={options}".split())
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    said = built.said(result)
    assert said.count(message) == 1
    assert "Traceback" not in said
    assert "INTERNALERROR" not in said


def test_a_task_that_the_lock_lacks_is_an_error_of_collection(built: Project) -> None:
    built.write("finetune_tasks.py", (built.path / "finetune_tasks.py").read_text() + "replies = task()\n")
    built.edit("test_models.py", '"tickets"', '"replies"')
    result = built.gate()
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(
        ["*the lock has no task 'replies' (it has tickets): pytest --ft-retrain --ft-task replies"]
    )


def test_no_claim_selected_is_a_usage_error(built: Project) -> None:
    built.write("test_other.py", "def test_other(): ...\n")
    result = built.gate("-k", "other", "-n", "2")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stdout.fnmatch_lines(["ERROR: no claim was selected, so nothing was judged: *"])


def test_what_is_skipped_is_not_evaluated(built: Project) -> None:
    built.edit("test_models.py", "@pytest", "@pytest.mark.skip(reason='not today')\n@pytest")
    (built.path / "tickets.jsonl").unlink()
    result = built.gate("-rs")
    result.assert_outcomes(skipped=3)
    result.stdout.fnmatch_lines(["ERROR: 3 claims were skipped or xfailed, the first of them *", "SKIPPED*not today"])
    assert result.ret == pytest.ExitCode.TESTS_FAILED


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["plain", "n2"])
def test_a_claim_that_is_expected_to_fail_leaves_no_run_green(built: Project, workers: tuple[str, ...]) -> None:
    built.edit("test_models.py", "min_score=0.5", "min_score=0.99")
    built.edit("test_models.py", "@pytest", "@pytest.mark.xfail\n@pytest")
    result = built.gate(*workers)
    result.assert_outcomes(xfailed=1, xpassed=2)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["ERROR: 3 claims were skipped or xfailed*"])


def test_a_run_in_which_nothing_could_be_compared_is_not_green(built: Project) -> None:
    built.write("test_models.py", LOCKED)
    built.gate().assert_outcomes(passed=1)
    whole = built.lock.read_text()
    built.lock.write_text(re.sub(r'(?m)^rows = ".*\n', "", whole))
    cut = built.gate()
    cut.assert_outcomes(errors=1)
    cut.stdout.fnmatch_lines(
        ["*tickets/finetuned: the lock has its score and not its rows: one of them was taken out*"]
    )
    built.lock.write_text(whole)
    built.forget_what_was_accepted()
    result = built.gate()
    result.assert_outcomes(skipped=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["ERROR: every claim compares with what was accepted, and nothing was*"])
    built.gate("-o", "ft_require=true").assert_outcomes(errors=1)
