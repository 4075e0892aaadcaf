"""A model that was trained on preferences, from the build to a machine that has only the lock."""

from __future__ import annotations

import json
import shutil

from tests.conftest import Project

from pytest_finetune.lock import read_lock

CLAIM = """\
import pytest


@pytest.mark.ft_claim("tickets", "finetuned >= 0.3")
def test_tickets(): ...
"""


def test_it_is_built_locked_and_served_again_from_its_file(project: Project) -> None:
    project.edit("finetune_tasks.py", 'recipe="labels"', 'recipe="dpo"')
    project.edit("finetune_tasks.py", 'task(teacher="sandbox-large")', "task()")
    project.write("test_models.py", CLAIM)
    project.run("--ft-retrain").assert_outcomes(passed=1)
    job = read_lock(project.lock).entry("tickets", "finetuned").job
    assert job is not None
    assert job.hyperparameters["beta"] == 0.1
    row = json.loads(project.artifact("training").read_bytes().partition(b"\n")[0])
    assert sorted(row) == ["input", "non_preferred_output", "preferred_output"]
    shutil.rmtree(project.path / ".pytest-finetune")
    project.gate().assert_outcomes(passed=1)
