"""``--ft-accept``: a candidate that was built before is let in, or not."""

from __future__ import annotations

import shutil
import subprocess
import sys
from datetime import datetime, timezone

import pytest
from tests.conftest import Project

from pytest_finetune.lock import edit_lock, read_lock, write_lock
from pytest_finetune.lock.life import Decision, promote, retire


@pytest.fixture
def candidate(built: Project) -> Project:
    """As `pytest-finetune train` leaves it: nothing is locked, and the candidate has never been gated."""
    built.forget_what_was_accepted()
    shutil.move(built.lock, built.candidate)
    return built


def test_it_locks_what_holds_and_builds_nothing(candidate: Project, plugin_args: tuple[str, ...]) -> None:
    result = candidate.run("--ft-accept", *plugin_args)
    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines(
        ["finetune: gating the candidate, to be let in, on *", "tickets: locked in *models.lock"]
    )
    assert "building its stages" not in result.stdout.str()
    entries, built = read_lock(candidate.lock), read_lock(candidate.candidate)
    assert [entry.model for entry in entries.models] == [entry.model for entry in built.models]
    assert all(entry.score for entry in entries.models)
    again = candidate.run("--ft-accept")
    assert again.ret == pytest.ExitCode.USAGE_ERROR
    assert (
        "has nothing new of tickets: build one with pytest-finetune train" in again.stderr.str() + again.stdout.str()
    )


def test_what_is_in_production_stays_there_until_the_candidate_is_promoted(built: Project) -> None:
    tuned = read_lock(built.lock).entry("tickets", "finetuned")
    older = promote(tuned.model_copy(update={"model": "ft:older"}), Decision(datetime.now(timezone.utc), "Ada"))
    edit_lock(built.lock, lambda lock: lock.with_stage(older))
    write_lock(built.candidate, read_lock(built.lock).with_entries([tuned]))
    result = built.run("--ft-accept")
    told = "ft:older stays in production until you promote what was locked: pytest-finetune promote tickets"
    result.stdout.fnmatch_lines(["tickets: locked in *models.lock", f"tickets/finetuned: {told}"])
    lock = read_lock(built.lock)
    entry = lock.entry("tickets", "finetuned")
    assert [(version.model, version.state) for version in entry.versions] == [
        (tuned.model, "candidate"),
        ("ft:older", "production"),
    ]
    rows = {one.stage: one.artifacts.rows for one in lock.models}
    assert {claim.claim: {*claim.rows} for claim in entry.gate} == {
        "finetuned >= 0.5": {rows["finetuned"]},
        "finetuned >= prompt_optimized": {rows["finetuned"], rows["prompt_optimized"]},
    }
    subprocess.run([sys.executable, "-m", "pytest_finetune", "promote", "tickets"], cwd=built.path, check=True)
    promoted = read_lock(built.lock).entry("tickets", "finetuned")
    assert [version.state for version in promoted.versions] == ["production", "deprecated"]
    assert promoted.version == entry.version.model_copy(update={"state": "production"})


def test_what_does_not_hold_is_not_locked(candidate: Project) -> None:
    candidate.edit("test_models.py", "min_score=0.5", "min_score=0.99")
    result = candidate.run("--ft-accept")
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(["ERROR: tickets: not locked, since a claim does not hold.*"])
    assert not candidate.lock.exists()


def test_what_the_tasks_file_would_build_otherwise_is_not_let_in(candidate: Project) -> None:
    candidate.edit("finetune_tasks.py", 'recipe="labels",', 'recipe="labels", hyperparameters={"n_epochs": 1},')
    result = candidate.run("--ft-accept")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    said = result.stderr.str() + result.stdout.str()
    assert "tickets/finetuned: the candidate is not what the tasks file asks for:\n  params.n_epochs: " in said
    assert "Undo the change, or make another candidate" in said
    assert not candidate.lock.exists()


def test_what_was_built_before_the_lock_went_on_is_not_let_in(built: Project) -> None:
    shutil.copy(built.lock, built.candidate)
    newer = read_lock(built.lock).entry("tickets", "finetuned").model_copy(update={"model": "ft:newer"})
    edit_lock(built.lock, lambda lock: lock.with_stage(newer))
    text = built.lock.read_text(encoding="utf-8")
    result = built.run("--ft-accept")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    told = "tickets/finetuned: the candidate was built when the lock did not pin ft:newer yet: make another candidate"
    assert told in result.stderr.str() + result.stdout.str()
    assert built.lock.read_text(encoding="utf-8") == text


def test_what_was_retired_is_not_let_in_again(built: Project) -> None:
    decision, model = Decision(datetime.now(timezone.utc), "Ada"), read_lock(built.lock).entry("tickets", "finetuned")
    newer = model.model_copy(update={"model": "ft:newer"}).replacing(retire(model, model.model, decision))
    edit_lock(built.lock, lambda lock: lock.with_stage(newer))
    text = built.lock.read_text(encoding="utf-8")
    result = built.run("--ft-accept")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert "was retired on" in result.stderr.str() + result.stdout.str()
    assert built.lock.read_text(encoding="utf-8") == text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--ft-accept", "--ft-retrain"], "drop one"),
        (["--ft-accept", "--ft-offline"], "--ft-offline builds nothing: drop --ft-accept"),
        (["--ft-accept", "test_models.py::test_tickets"], "--ft-accept locks a task if all of its claims hold"),
        (["--ft-accept"], "candidate.lock does not exist"),
    ],
)
def test_what_it_cannot_do_is_said(built: Project, options: list[str], message: str) -> None:
    built.candidate.unlink(missing_ok=True)
    result = built.run(*options)
    assert result.ret in (pytest.ExitCode.USAGE_ERROR, pytest.ExitCode.TESTS_FAILED)
    assert message in result.stderr.str() + result.stdout.str()
    assert "Traceback" not in result.stderr.str() + result.stdout.str()


def test_a_candidate_for_a_lock_elsewhere_finds_its_files_there(candidate: Project) -> None:
    (candidate.path / "locks").mkdir()
    shutil.move(candidate.path / "models.lock.d", candidate.path / "locks" / "prod.lock.d")
    (candidate.candidate.with_name("candidate.of")).write_text('{"tickets": "locks/prod.lock"}')
    candidate.run(f"--finetune-models={candidate.candidate}").assert_outcomes(passed=3)
    candidate.run("--finetune-models=locks/prod.lock", "--ft-accept").assert_outcomes(passed=3)
    assert (candidate.path / "locks" / "prod.lock").exists()
