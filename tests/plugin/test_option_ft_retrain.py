"""``--ft-retrain`` and its companions, where nothing may be spent; what it builds is tested in tests/workflow."""

from __future__ import annotations

import pytest
from tests.conftest import Project


def assert_nothing_was_built(project: Project) -> None:
    assert not project.candidate.exists()
    assert not (project.path / ".pytest-finetune" / "sandbox").exists()
    assert not project.lock.exists()


def test_without_a_claim_it_is_a_usage_error(project: Project) -> None:
    project.write("test_models.py", "def test_it(): ...\n")
    result = project.run("--ft-retrain", "-n", "2")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --ft-retrain: no claim was collected, so there is nothing to train: *"])
    assert_nothing_was_built(project)


def test_collect_only_builds_nothing(project: Project) -> None:
    for workers in ((), ("-n", "2")):
        result = project.run("--ft-retrain", "--collect-only", "-q", *workers)
        assert result.ret == 0
        assert result.outlines[2] == "test_models.py::test_tickets[finetuned >= 0.5]"
    assert_nothing_was_built(project)


@pytest.mark.parametrize("options", [(), ("-n", "2"), ("--continue-on-collection-errors",)], ids=" ".join)
def test_after_an_error_of_collection_nothing_is_built(project: Project, options: tuple[str, ...]) -> None:
    project.write("test_broken.py", "import nowhere\n")
    result = project.run("--ft-retrain", *options)
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.no_fnmatch_line("*building its stages*")
    assert_nothing_was_built(project)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"shipping", "technical"]', '"shipping"]', "technical"),
        ('recipe="labels"', 'recipe="label"', "there is no recipe 'label': use bootstrap, labels, distill"),
        ('"labeled_few_shot"', '"few_shots"', "few_shots"),
        (
            'metrics.exact_match("department")',
            "lambda example, prediction, trace=None: 1",
            "is a lambda, so a change",
        ),
        ('data="tickets.jsonl"', 'data="ticket.jsonl"', "ticket.jsonl"),
        (
            'student="sandbox-small"',
            'student="sandbox-small", optimizer_options={"k": print}',
            "stage 'prompt_optimized': a value",
        ),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_built(
    project: Project, old: str, new: str, message: str
) -> None:
    project.edit("finetune_tasks.py", old, new)
    result = project.run("--ft-retrain")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert message in result.stderr.str()
    assert "Traceback" not in result.stderr.str()
    assert_nothing_was_built(project)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--ft-task=tickets"], "--ft-task says what to build, and so needs --ft-retrain"),
        (
            ["--ft-endpoint=sandbox", "--finetune-models=models.lock"],
            "--ft-endpoint says what to build, and so needs",
        ),
        (["--ft-retrain", "--ft-task=tickets", "--ft-task=ticket"], "--ft-task ticket: no collected claim names it;"),
        (
            ["--ft-retrain", "test_models.py::test_tickets"],
            "and test_models.py::test_tickets leaves some of them out",
        ),
        (["--ft-retrain", "-p", "cacheprovider", "--lf"], "and --last-failed leaves some of them out"),
        (["--ft-retrain", "--ft-endpoint=elsewhere"], "there is no endpoint 'elsewhere'; known are openai, sandbox"),
        (["--ft-retrain", "--ft-endpoint=openai"], "endpoint 'openai' needs a key in the environment variable"),
    ],
)
def test_companions_without_effect_or_meaning_are_refused(project: Project, options: list[str], message: str) -> None:
    result = project.run(*options)
    assert result.ret in (pytest.ExitCode.USAGE_ERROR, pytest.ExitCode.TESTS_FAILED)
    assert message in result.stderr.str() + result.stdout.str()
    assert "Traceback" not in result.stderr.str() + result.stdout.str()
    assert_nothing_was_built(project)
