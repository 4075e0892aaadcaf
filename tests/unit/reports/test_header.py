from __future__ import annotations

from pathlib import Path

from pytest_finetune.core.records import Inconclusive
from pytest_finetune.reports.header import given
from pytest_finetune.workflow.settings import read_settings


def test_each_setting_that_was_given_is_told_with_its_value_and_its_source(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(
        "[tool.pytest-finetune]\ninconclusive = 'fail'\nstore_limit = '200MB'\ntasks = ['a.py', 'b/*.py']\n"
    )
    settings = read_settings(
        tmp_path,
        options={"models": ["models.lock"], "max_cost": 2.5},
        ini={"alpha": "0.01", "require": True},
        environment={"PYTEST_FINETUNE_ROWS_MAX_AGE": "36h"},
    )
    values = {name: getattr(settings, name) for name in settings.origins}
    assert given(values, settings.origins).split(", ") == [
        "models from option",
        "tasks=a.py b/*.py from [tool.pytest-finetune]",
        "require=true from ini",
        "alpha=0.01 from ini",
        "inconclusive=fail from [tool.pytest-finetune]",
        "max_cost=2.5 from option",
        "rows_max_age=36h from environment",
        "store_limit=200MB from [tool.pytest-finetune]",
    ]


def test_defaults_are_not_told() -> None:
    values = {"alpha": 0.05, "inconclusive": Inconclusive.WARN}
    assert given(values, dict.fromkeys(values, "default")) == ""
