"""A stage of two models, one for each predictor: pinned, gated, shown, missed and loaded as one version."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from tests.conftest import ALONE, TESTS, Project, make_rows

from pytest_finetune import load
from pytest_finetune.cli import run
from pytest_finetune.lock import Artifacts, Entry, read_lock, write_lock
from pytest_finetune.lock.model import Lock
from pytest_finetune.sandbox import Sandbox
from pytest_finetune.workflow.evaluations import Bench
from pytest_finetune.workflow.run import Run
from pytest_finetune.workflow.settings import read_settings

TASKS = """\
from typing import Literal

import dspy

from pytest_finetune import Dataset, Suite, Task, metrics


class Route(dspy.Signature):
    '''Name the department that the message is for.'''

    text: str = dspy.InputField()
    department: Literal["account", "billing", "shipping", "technical"] = dspy.OutputField()


class Hurry(dspy.Signature):
    '''Say whether the message is urgent.'''

    text: str = dspy.InputField()
    urgent: Literal["yes", "no"] = dspy.OutputField()


class Alone(dspy.Module):
    def __init__(self):
        super().__init__()
        self.route = dspy.Predict(Route)

    def forward(self, text):
        return self.route(text=text)


class Desk(dspy.Module):
    def __init__(self):
        super().__init__()
        self.hurry, self.route = dspy.Predict(Hurry), dspy.Predict(Route)

    def forward(self, text):
        asked = [self.route, self.hurry] if len(text) % 2 else [self.hurry, self.route]
        return dspy.Prediction(**{name: value for part in asked for name, value in part(text=text).items()})


tickets = Task(
    endpoint="ours",
    program=Desk,
    dataset=Dataset.from_file("tickets.jsonl", inputs=["text"], split="split"),
    metric=metrics.exact_match("department"),
    student="sandbox-small",
    optimizer="labeled_few_shot",
    recipe="labels",
    recipe_options={"multitask": False},
    seeds=(3,),
    suites={"others": Suite(Dataset.from_file("others.jsonl", inputs=["text"]), program=Alone)},
)
"""


SUITE = """\
import pytest


@pytest.mark.ft_claim("tickets", "finetuned >= 0.1", on="others")
def test_others(): ...
"""
PRICES = "[tool.pytest-finetune.prices.'ft:sandbox-small']\nprompt = 1\ncompletion = 2\n"


@pytest.fixture(scope="module")
def server() -> Iterator[Sandbox]:
    with Sandbox() as running:
        yield running


@pytest.fixture(scope="module")
def desk_folder(tmp_path_factory: pytest.TempPathFactory, server: Sandbox) -> Path:
    """Where the stage was built, on an endpoint of its own."""
    folder = tmp_path_factory.mktemp("desk")
    rows = [
        {**row, "urgent": "yes" if "soon" in row["text"] else "no"}
        for row in make_rows(7, train=160, dev=20, test=60)
    ]
    others = [{name: row[name] for name in ("text", "department")} for row in make_rows(8, test=30)]
    sources = {
        "finetune_tasks.py": TASKS,
        "test_models.py": TESTS,
        "test_suite.py": SUITE,
        "pytest.ini": "[pytest]\n",
        "pyproject.toml": f"{PRICES}[tool.pytest-finetune.endpoints.ours]\nbase_url = '{server.base_url}'\n",
        "tickets.jsonl": "".join(json.dumps(row) + "\n" for row in rows),
        "others.jsonl": "".join(json.dumps(row) + "\n" for row in others),
    }
    for name, text in sources.items():
        (folder / name).write_text(text, encoding="utf-8")
    options = ["-p", "finetune", "-p", "no:cacheprovider", "--ft-retrain", "--ft-skip-check"]
    command = [sys.executable, "-m", "pytest", *options]
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, **ALONE}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture
def desk(project: Project, desk_folder: Path) -> Project:
    """A project that has the lock and no store."""
    shutil.copytree(desk_folder, project.path, dirs_exist_ok=True)
    shutil.rmtree(project.path / ".pytest-finetune")
    return project


def tuned_of(project: Project) -> Entry:
    return read_lock(project.lock).entry("tickets", "finetuned")


def move(project: Project, old: str, new: str) -> None:
    """Let another endpoint have the models."""
    for name in ("models.lock", "finetune_tasks.py", "pyproject.toml"):
        project.write(name, (project.path / name).read_text(encoding="utf-8").replace(old, new))


def test_two_models_are_pinned_as_one_version(desk: Project, capsys: pytest.CaptureFixture[str]) -> None:
    entry = tuned_of(desk)
    assert list(entry.models) == ["hurry", "route"]
    hurry, route = entry.models.values()
    assert entry.model == f"{hurry.model},{route.model}"
    assert hurry.model.startswith("ft:sandbox-small:sandbox:tickets-hurry:")
    assert [job.seed for job in entry.jobs] == [3, 3]
    assert len({job.id for job in entry.jobs}) == 2
    assert entry.artifacts.training_rows == 320
    held = {ref: Artifacts.beside(desk.lock).get_bytes(ref) for ref in entry.artifacts.refs()}
    for name, words in {"hurry": b"whether the message is urgent", "route": b"Name the department"}.items():
        content = held[entry.artifacts.trainings[name]]
        assert content.count(words) == content.count(b"\n") == 160
    assert run(["lock", "show"]) == 0
    shown = capsys.readouterr().out
    assert f"      predictor hurry: {hurry.model}\n      predictor route: {route.model}\n" in shown
    assert run(["lock", "check", "--live"]) == 0


def test_each_predictor_asks_its_own_model_and_the_cost_of_both_is_known(desk: Project, server: Sandbox) -> None:
    server.forget_requests()
    desk.gate("test_models.py").assert_outcomes(passed=3)
    counted = server.request_counts()["by_model"]
    assert [counted[tuned.model] for tuned in tuned_of(desk).models.values()] == [60, 60]
    rows = Artifacts.beside(desk.lock).get_rows(tuned_of(desk).artifacts.rows or "", "finetuned")
    assert all(row.usage is not None and row.usage.cost for row in rows)
    server.forget_requests()
    desk.gate("test_suite.py").assert_outcomes(passed=1)
    assert server.request_counts()["by_model"] == {tuned_of(desk).models["route"].model: 30}


def test_a_new_process_without_the_jobs_learns_both_again(
    desk: Project, server: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    move(desk, f"ours {server.base_url}", "sandbox")
    move(desk, '"ours"', '"sandbox"')
    desk.gate("test_models.py").assert_outcomes(passed=3)
    shutil.rmtree(desk.path / ".pytest-finetune")
    monkeypatch.syspath_prepend(desk.path)
    with closing(Run(read_settings(desk.path, environment={}))) as run_again:
        rows = run_again.evaluations.rows(Bench("tickets"), "finetuned")
        assert run_again.artifacts("tickets").put_rows(rows) == tuned_of(desk).artifacts.rows


def test_a_model_that_is_gone_is_named_by_itself(
    desk: Project, server: Sandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    entry = tuned_of(desk)
    hurry, route = entry.models.values()
    with Sandbox() as other:
        move(desk, server.base_url, other.base_url)
        file = Artifacts.beside(desk.lock).path(entry.artifacts.trainings["hurry"])
        other.restore(hurry.model, file, model=entry.base, seed=0, hyperparameters={})
        assert run(["lock", "check", "--live"]) == 3
        gone = [line for line in capsys.readouterr().out.splitlines() if "has no model" in line]
        assert [line.partition(": deploy")[0] for line in gone] == [
            f"tickets/finetuned: endpoint 'ours' has no model {route.model!r}"
        ]
        message = desk.gate("test_suite.py").stdout.str()
    assert f"stage finetuned: model {route.model!r} is not deployed" in message
    assert hurry.model not in message


def test_a_test_row_in_the_file_of_one_of_them_is_a_leak(desk: Project) -> None:
    lock, artifacts = read_lock(desk.lock), Artifacts.beside(desk.lock)
    entry = lock.entry("tickets", "finetuned")
    seen = artifacts.get_bytes(entry.artifacts.trainings["hurry"])
    lines = (desk.path / "tickets.jsonl").read_text(encoding="utf-8").splitlines()
    row = next(json.loads(line) for line in lines if '"test"' in line)
    asked = json.loads(seen.splitlines()[0])
    given = asked["messages"][1]["content"].partition("[[ ## text ## ]]\n")[2].partition("\n")[0]
    leaked = artifacts.put_bytes("training", seen.replace(given.encode(), row["text"].encode()))
    refs = entry.artifacts.model_copy(update={"predictors": {**entry.artifacts.trainings, "hurry": leaked}})
    entries = [one for one in lock.models if one != entry]
    write_lock(desk.lock, Lock(model=(*entries, entry.model_copy(update={"artifacts": refs}))))
    result = desk.gate("test_models.py")
    assert result.parseoutcomes()["errors"] == 2
    result.stdout.fnmatch_lines([f"*stage 'finetuned', training row * of {artifacts.path(leaked)}, similarity 1.00"])


def test_it_is_loaded_with_both(desk: Project, server: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(desk.path)
    program = load(desk.lock, "tickets", state="candidate")
    server.forget_requests()
    assert set(program(text="my refund is late").toDict()) == {"department", "urgent"}
    models = [tuned.model for tuned in tuned_of(desk).models.values()]
    assert server.request_counts()["by_model"] == dict.fromkeys(models, 1)


def test_predictors_that_the_program_has_no_more_are_named(desk: Project) -> None:
    text = desk.lock.read_text(encoding="utf-8").replace("predictors.hurry", "predictors.haste")
    desk.write("models.lock", text.replace("hurry = ", "haste = "))
    result = desk.gate("test_models.py")
    words = "the lock pins a model for each of the predictors haste, route, and the program has hurry, route"
    assert words in result.stdout.str()


def test_none_of_them_may_be_the_base(desk: Project) -> None:
    move(desk, tuned_of(desk).models["route"].model, "sandbox-small")
    message = desk.gate("test_models.py").stdout.str()
    assert "tickets/finetuned: the fine-tuned model is its own base 'sandbox-small': it was never trained" in message


def test_one_model_in_their_place_is_drift(desk: Project) -> None:
    desk.edit("finetune_tasks.py", '"multitask": False', '"multitask": True')
    assert "multitask" in desk.gate("test_models.py", "--ft-locked").stdout.str()


def test_a_suite_that_no_model_could_answer_is_refused_before_anything_is_spent(
    desk: Project, server: Sandbox
) -> None:
    desk.edit("finetune_tasks.py", "program=Alone)", "program=lambda: dspy.Predict(Route))")
    server.forget_requests()
    result = desk.run("--ft-retrain", "--ft-skip-check")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "suite 'others': its program has a predictor 'self', for which multitask=False trains no model" in (
        result.stderr.str()
    )
    assert server.request_counts()["by_model"] == {}
