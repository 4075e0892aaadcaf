"""What the README and the docs show is run."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from pytest_finetune.workflow.tasks import load_tasks

ROOT = Path(__file__).parents[1]


def snippets(page: str) -> list[str]:
    """The Python blocks of a page."""
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)


def test_the_tasks_and_tests_of_the_readme_are_collected(pytester: pytest.Pytester) -> None:
    tasks, tests = snippets("README.md")
    pytester.makepyfile(finetune_tasks=tasks, test_models=tests)
    shutil.copytree(ROOT / "example_project" / "data", pytester.path / "data")
    done = pytester.runpytest_subprocess("-v", "-p", "no:randomly")
    done.stdout.fnmatch_lines(
        [
            "*test_tickets[[]prompt_optimized >= baseline] SKIPPED*",
            "*test_tickets[[]finetuned >= prompt_optimized] SKIPPED*",
            "*test_tickets[[]finetuned >= 0.8] SKIPPED*",
            "*test_still_the_model_that_was_accepted[[]finetuned >= locked - 0.01] SKIPPED*",
        ]
    )
    assert len(load_tasks(pytester.path, ["finetune_tasks.py"])["tickets"].dataset.train) > 3000


def test_the_snippets_about_the_sandbox_run(pytester: pytest.Pytester) -> None:
    (faults,) = snippets("docs/sandbox.md")
    pytester.makepyfile(test_faults=faults)
    pytester.runpytest_subprocess("-p", "no:randomly").assert_outcomes(passed=1)
