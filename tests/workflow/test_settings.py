"""Settings as values: what overrides what, and where a path starts."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from pytest_finetune.core.records import Inconclusive
from pytest_finetune.workflow.settings import read_settings


def test_every_value_remembers_where_it_came_from(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(
        "[tool.pytest-finetune]\nendpoint = 'table'\nalpha = 0.01\nmargin = 0.02\ninconclusive = 'warn'\n"
    )
    settings = read_settings(
        tmp_path,
        options={"inconclusive": "fail", "concurrency": None},
        environment={"PYTEST_FINETUNE_INCONCLUSIVE": "observed", "PYTEST_FINETUNE_ALPHA": "0.02"},
        ini={"alpha": "0.03", "margin": "0.04"},
    )
    read = (settings.endpoint, settings.alpha, settings.margin, settings.inconclusive, settings.concurrency)
    assert read == ("table", 0.02, 0.04, Inconclusive.FAIL, 32)
    assert {name: origin for name, origin in settings.origins.items() if origin != "default"} == {
        "endpoint": "[tool.pytest-finetune]",
        "alpha": "environment",
        "margin": "ini",
        "inconclusive": "option",
    }


def test_a_path_starts_at_the_call_if_it_is_an_option_and_at_the_root_otherwise(tmp_path: Path) -> None:
    below = tmp_path / "below"
    below.mkdir()
    for folder in (tmp_path, below):
        (folder / "models.lock").touch()
    option = read_settings(tmp_path, options={"models": ["models.lock"]}, environment={}, called_from=below)
    ini = read_settings(tmp_path, ini={"models": ["models.lock"]}, environment={}, called_from=below)
    assert [*option.models, *ini.models] == [below / "models.lock", tmp_path / "models.lock"]
    (below / "models.lock").unlink()
    again = read_settings(tmp_path, options={"models": ["models.lock"]}, environment={}, called_from=below)
    assert again.models == (tmp_path / "models.lock",)


def test_a_run_may_have_several_locks_each_once(tmp_path: Path) -> None:
    options = {"models": ["b.lock", "a.lock", "./b.lock"]}
    found = read_settings(tmp_path, options=options, environment={}, called_from=tmp_path).models
    assert found == (tmp_path / "b.lock", tmp_path / "a.lock")


def test_the_endpoint_is_the_retrain_s_then_the_task_s_then_the_setting_s(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(
        "[tool.pytest-finetune]\nendpoint = 'openai'\n[tool.pytest-finetune.endpoints.ours]\nbase_url = 'http://ours/v1'\n"
    )
    settings = read_settings(tmp_path, environment={})
    assert settings.endpoint_named(None, "tickets").name == "openai"
    assert settings.endpoint_named("sandbox", "tickets").name == "sandbox"
    everywhere = dataclasses.replace(settings, rebuild_on="ours")
    assert everywhere.endpoint_named("sandbox", "tickets").identity == "ours http://ours/v1"
    narrowed = dataclasses.replace(everywhere, rebuild=("replies",))
    assert [narrowed.endpoint_named("sandbox", name).name for name in ("replies", "tickets")] == ["ours", "sandbox"]
