"""What the README and the docs show is run."""

from __future__ import annotations

import importlib
import re
import shutil
from pathlib import Path

import pytest
from tests.workflow.test_sabotage import SABOTAGE

from pytest_finetune.core.pricing import Price, price_of
from pytest_finetune.endpoints import Endpoint
from pytest_finetune.workflow.settings import read_settings
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


def test_the_judge_of_the_docs_is_a_metric(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (source,) = snippets("docs/evaluation.md")
    (tmp_path / "judge_of_the_docs.py").write_text(source, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    metric = importlib.import_module("judge_of_the_docs").metric
    assert [judge.model for judge in metric.judges] == ["sandbox-large"]
    assert len(metric.fingerprint()) == 64


def test_the_prices_of_the_docs_are_read(tmp_path: Path) -> None:
    (table,) = re.findall(r"```toml\n(.*?)```", (ROOT / "docs/evaluation.md").read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "pyproject.toml").write_text(table, encoding="utf-8")
    settings = read_settings(tmp_path)
    price = price_of("ft:my-model-2026:acme::1", settings.prices(Endpoint("mine", "http://127.0.0.1/v1")))
    assert price == Price(0.30, 1.20)


def test_every_sabotage_that_is_tried_is_in_the_docs_and_the_other_way_round() -> None:
    page = (ROOT / "docs" / "sabotage.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)
    assert sorted(listed) == sorted(sabotage.__name__ for sabotage in SABOTAGE)
    assert len(listed) >= 30
