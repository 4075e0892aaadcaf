"""However many processes evaluate, the server sees each row once: it counts itself."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator

import pytest
from tests.conftest import ALONE, Project, make_rows

from pytest_finetune.sandbox import Sandbox

ROWS = 100
TESTS = """
import pytest


@pytest.mark.ft_claim("tickets", "finetuned >= baseline", "finetuned >= prompt_optimized", inconclusive="warn")
def test_stages(): ...


@pytest.mark.ft_claim("tickets", "finetuned >= 0.01", "baseline >= 0.01", "prompt_optimized >= 0.01")
def test_each(): ...
"""


@pytest.fixture
def server() -> Iterator[Sandbox]:
    with Sandbox() as running:
        yield running


@pytest.fixture
def ours(project: Project, server: Sandbox) -> Project:
    project.write("pyproject.toml", f"[tool.pytest-finetune.endpoints.ours]\nbase_url = '{server.base_url}'\n")
    lines = [json.dumps(row) for row in make_rows(5, train=150, dev=20, test=ROWS)]
    project.write("tickets.jsonl", "\n".join(lines) + "\n")
    project.edit("finetune_tasks.py", 'endpoint="sandbox"', 'endpoint="ours"')
    project.edit("finetune_tasks.py", 'task(teacher="sandbox-large")', "task()")
    project.write("test_models.py", TESTS)
    result = project.run("-q", "--ft-retrain")
    assert result.ret == 0
    return project


def test_each_row_is_asked_once_by_any_number_of_processes(ours: Project, server: Sandbox) -> None:
    for workers in ((), ("-n", "0"), ("-n", "2"), ("-n", "4")):
        shutil.rmtree(ours.path / ".pytest-finetune")
        server.forget_requests()
        ours.gate("-q", *workers).assert_outcomes(passed=5)
        assert server.request_counts()["total"] == 3 * ROWS, workers


def test_a_claim_that_is_not_selected_asks_for_nothing(ours: Project, server: Sandbox) -> None:
    for workers in ((), ("-n", "2")):
        (ours.path / ".pytest-finetune" / "rows.sqlite").unlink()
        server.forget_requests()
        ours.gate("-q", "-k", "test_each and baseline", *workers).assert_outcomes(passed=1)
        assert server.request_counts()["by_model"] == {"sandbox-small": ROWS}, workers


def test_two_runs_at_once_share_one_store(ours: Project, server: Sandbox) -> None:
    (ours.path / ".pytest-finetune" / "rows.sqlite").unlink()
    server.forget_requests()
    command = [sys.executable, "-m", "pytest", "-p", "finetune", "-q", "--finetune-models=models.lock"]
    runs = [
        subprocess.Popen(command, cwd=ours.path, env={**os.environ, **ALONE}, stdout=subprocess.DEVNULL)
        for _ in range(2)
    ]
    assert [run.wait(120) for run in runs] == [0, 0]
    assert server.request_counts()["total"] == 3 * ROWS
