"""Training where a model is served only once it is deployed: it is deployed before anybody asks it."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterator

import pytest
from tests.conftest import Project

from pytest_finetune.cli import run
from pytest_finetune.lock import read_lock
from pytest_finetune.sandbox import Sandbox

NOTE = "import sys; open('commands.txt', 'a').write(' '.join(sys.argv[1:]) + chr(10))"
Train = Callable[..., tuple[int, str]]


@pytest.fixture
def train(
    project: Project, server: Sandbox, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Train]:
    """Trains the project on an endpoint with commands, each of which notes that it was run."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.chdir(project.path)

    def call(setting: str = "", task: str = "") -> tuple[int, str]:
        lines = [
            f"[tool.pytest-finetune]\n{setting}",
            f"[tool.pytest-finetune.endpoints.ours]\nbase_url = '{server.base_url}'",
        ]
        for command in ("deploy", "take_down"):
            words = [sys.executable, "-c", NOTE, command, "{name}"]
            lines.append(f"{command} = '''{shlex.join(words)}'''")
        project.write("pyproject.toml", "\n".join(lines) + "\n")
        project.edit("finetune_tasks.py", 'endpoint="sandbox"', f'endpoint="ours"{task}')
        sys.modules.pop("finetune_tasks", None)
        status = run(["train", "tickets"])
        said = capsys.readouterr()
        return status, said.out + said.err

    yield call
    sys.modules.pop("finetune_tasks", None)


def commands(project: Project) -> list[str]:
    told = project.path / "commands.txt"
    return told.read_text().splitlines() if told.exists() else []


def test_a_model_is_deployed_for_its_diagnosis_and_taken_down(project: Project, train: Train) -> None:
    assert train()[0] == 0
    model = read_lock(project.candidate).entry("tickets", "finetuned").model
    assert commands(project) == [f"deploy {model}", f"take_down {model}"]


def test_without_a_diagnosis_nothing_is_deployed_or_asked(project: Project, server: Sandbox, train: Train) -> None:
    server.forget_requests()
    status, said = train("diagnosis = false")
    assert (status, commands(project)) == (0, [])
    asked = server.request_counts()["by_model"]
    assert [model for model in asked if model.startswith("ft:")] == []
    assert "overfitting" not in said


@pytest.mark.parametrize(
    ("setting", "asks"), [("seeds=(1, 2)", "several seeds"), ('recipe="better_together"', "better_together")]
)
def test_what_asks_models_before_they_can_be_deployed_is_refused_before_anything_is_paid_for(
    project: Project, train: Train, setting: str, asks: str
) -> None:
    project.edit("finetune_tasks.py", '        recipe="labels",\n', "")
    status, said = train(task=f", {setting}")
    assert status == 4
    assert (
        f"task 'tickets': {asks} would ask each model as soon as it is trained, and endpoint 'ours' serves a model"
        " only once it is deployed (deploy, probe): set one seed, or another recipe"
    ) in said
    assert not (project.path / ".pytest-finetune" / "jobs.jsonl").exists()
