"""Building on an endpoint of one's own with ``--ft-endpoint``, and what becomes of the gate when it changes."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest
from tests.conftest import Project

from pytest_finetune.endpoints import Endpoint
from pytest_finetune.lock import read_lock
from pytest_finetune.sandbox import Sandbox


@pytest.fixture
def server() -> Iterator[Sandbox]:
    with Sandbox() as running:
        yield running


@pytest.fixture
def ours(built: Project, server: Sandbox) -> Project:
    """A project that knows the server as an endpoint of its own."""
    built.write("pyproject.toml", f"[tool.pytest-finetune.endpoints.ours]\nbase_url = '{server.base_url}'\n")
    return built


def test_where_a_claim_does_not_hold_the_lock_keeps_its_bytes_and_the_candidate_is_named(ours: Project) -> None:
    ours.edit("test_models.py", "min_score=0.5", "min_score=0.99")
    before = ours.lock.read_bytes()
    result = ours.run("--ft-retrain", "--ft-endpoint=ours")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines([f"ERROR: tickets: not locked, since a claim does not hold. *{ours.candidate}"])
    assert ours.lock.read_bytes() == before
    ours.gate("-k", "not 0.99").assert_outcomes(passed=2, deselected=1)


def test_what_was_built_there_is_gated_there_and_nowhere_else(ours: Project, server: Sandbox) -> None:
    result = ours.run("--ft-retrain", "--ft-endpoint=ours", "--ft-task=tickets")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["tickets: building its stages with sandbox-small on ours"])
    journal = (ours.path / ".pytest-finetune" / "jobs.jsonl").read_text()
    assert '"pytest --ft-retrain --ft-task tickets --ft-endpoint ours"' in journal  # the command that takes it up
    pinned = read_lock(ours.lock).entry("tickets", "finetuned")
    assert pinned.endpoint == f"ours {server.base_url}"

    elsewhere = ours.gate("-q")
    elsewhere.assert_outcomes(errors=3)
    message = f"the lock pins endpoint 'ours {server.base_url}', the task asks for 'sandbox'"
    assert elsewhere.stdout.str().count(message) == 3

    ours.edit("finetune_tasks.py", 'endpoint="sandbox"', 'endpoint="ours"')
    ours.gate("-q").assert_outcomes(passed=3)

    Endpoint("ours", server.base_url).client().models.delete(pinned.model)
    shutil.rmtree(ours.path / ".pytest-finetune")
    gone = ours.gate("-q")
    assert gone.ret == pytest.ExitCode.TESTS_FAILED
    assert gone.parseoutcomes()["errors"] >= 2
    assert pinned.model in gone.stdout.str()
    assert "go back to an earlier version: pytest-finetune rollback tickets; or build anew: " in gone.stdout.str()


def test_a_job_that_fails_ends_the_run_with_the_reason_and_the_lock_as_it_was(ours: Project) -> None:
    lines = (ours.path / "tickets.jsonl").read_text().splitlines()
    seen = dict[str, str]()
    for line in lines:
        if '"train"' in line:
            seen.setdefault(line.partition('"department"')[2], line)
    rest = [line for line in lines if '"train"' not in line]
    ours.write("tickets.jsonl", "\n".join([*seen.values(), *rest]) + "\n")
    before = ours.lock.read_bytes()
    result = ours.run("--ft-retrain", "--ft-skip-check", "--ft-endpoint=ours")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert "Traceback" not in result.stdout.str()
    result.stdout.fnmatch_lines(["*Exit: *at least 10*"])
    assert ours.lock.read_bytes() == before


@pytest.mark.parametrize(
    ("result", "message"),
    [
        ("7", "gave 7; a score is a bool or a number from 0 to 1"),
        ("'good'", "gave 'good'; a score is a bool or a number from 0 to 1"),
        ("1 / 0", "raised ZeroDivisionError: division by zero (finetune_tasks.py:"),
    ],
)
def test_a_metric_that_gives_no_score_ends_the_run_and_names_the_row(
    ours: Project, result: str, message: str
) -> None:
    ours.edit(
        "finetune_tasks.py",
        "def task(",
        f"def judge(example, prediction, trace=None): return {result}\n\n\ndef task(",
    )
    ours.edit("finetune_tasks.py", 'metrics.exact_match("department")', "judge")
    before = ours.lock.read_bytes()
    run = ours.run("--ft-retrain", "--ft-endpoint=ours")
    assert run.ret == pytest.ExitCode.USAGE_ERROR
    assert message in run.stderr.str()
    assert "Traceback" not in run.stderr.str()
    assert ours.lock.read_bytes() == before
