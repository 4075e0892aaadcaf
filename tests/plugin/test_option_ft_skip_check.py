"""``--ft-skip-check``: a retrain asks first whether it can work, unless it is told not to."""

from __future__ import annotations

import json

import pytest
from tests.conftest import Project, make_rows


def few_rows(project: Project) -> None:
    rows = [json.dumps(row) for row in make_rows(3, train=40, dev=20, test=40)]
    project.write("tickets.jsonl", "\n".join(rows) + "\n")


def test_without_it_what_cannot_work_is_not_built(project: Project, plugin_args: tuple[str, ...]) -> None:
    few_rows(project)
    result = project.run("--ft-retrain", *plugin_args)
    assert result.ret != 0
    said = result.stdout.str() + result.stderr.str()
    assert "task 'tickets' cannot work as it is, and nothing was spent:" in said
    assert "training rows: 40 training rows (wanted: at least 50)" in said
    assert "Traceback" not in said
    assert not project.candidate.exists()
    assert not (project.path / ".pytest-finetune" / "sandbox").exists()


def test_with_it_the_stages_are_built(project: Project) -> None:
    few_rows(project)
    result = project.run("-q", "--ft-retrain", "--ft-skip-check")
    assert "wanted:" not in result.stdout.str()
    assert project.candidate.exists() or project.lock.exists()


def test_it_needs_a_retrain(project: Project) -> None:
    result = project.run("--ft-skip-check")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --ft-skip-check says what to build, and so needs --ft-retrain"])
