"""What a diagnosis looks at: the rows that a model was trained on, dev rows, and what its job told."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.training.conftest import Report, make_rows, make_task
from tests.training.refusing import refusing
from tests.training.test_recipes import build, plain

from pytest_finetune.core.diagnosis import Mean, Observed
from pytest_finetune.dataset import Dataset
from pytest_finetune.endpoints import Endpoint
from pytest_finetune.errors import NotDeployed
from pytest_finetune.programs import attach
from pytest_finetune.sandbox import Sandbox
from pytest_finetune.task import Task
from pytest_finetune.training.building import Finetuned
from pytest_finetune.training.checkpoints import Checkpoints
from pytest_finetune.training.fit import FIT_ROWS, observe


def observed(
    task: Task, tuned: Finetuned, endpoint: Endpoint, folder: Path, report: Report, serve: Any = None
) -> Observed:
    kept = Checkpoints(folder, endpoint)
    return observe(
        task,
        tuned,
        plain(task, endpoint),
        checkpoints=kept,
        report=report,
        concurrency=8,
        serve=serve or (lambda: None),
    )


def test_a_model_is_asked_about_its_own_rows_and_about_dev_rows_once(
    sandbox: Sandbox, endpoint: Endpoint, journal: Path, report: Report
) -> None:
    task = make_task(recipe_options={"source": "baseline"}, seed=51, hyperparameters={"n_epochs": 4})
    tuned = build(task, endpoint, journal, report)
    sandbox.forget_requests()
    seen = observed(task, tuned, endpoint, journal.parent, report)
    kept = sum(count for count, _ in tuned.kept.values())
    assert sandbox.request_counts()["by_model"] == {tuned.model: kept + 30}
    assert (seen.train, seen.dev and seen.dev.n) == (Mean(1.0, kept), 30)
    assert (seen.kept, seen.epochs, seen.taught, seen.seeds) == ((kept, 60), 4, 1.0, ())
    assert seen.unreadable == Mean(0.0, kept + 30)
    assert len(seen.losses) == len(tuned.models[""].job.losses) > 0
    assert observed(task, tuned, endpoint, journal.parent, report) == seen
    assert sandbox.request_counts()["by_model"] == {tuned.model: kept + 30}


def test_gold_labels_are_no_traces_and_no_more_rows_are_asked_than_needed(
    endpoint: Endpoint, journal: Path, report: Report
) -> None:
    splits = {"train": make_rows(FIT_ROWS + 20, 1), "dev": make_rows(10, 2), "test": make_rows(10, 3)}
    task = make_task(recipe="labels", dataset=Dataset.from_examples(splits, inputs=["thing"]))
    seen = observed(task, build(task, endpoint, journal, report), endpoint, journal.parent, report)
    assert (seen.kept, seen.train and seen.train.n) == (None, FIT_ROWS)


def test_a_model_that_cannot_be_asked_yet_is_not_lost(
    sandbox: Sandbox, endpoint: Endpoint, journal: Path, report: Report
) -> None:
    task = make_task(recipe="labels", seed=52)
    tuned = build(task, endpoint, journal, report)
    asked: list[str] = []
    with refusing(sandbox, "POST", "/chat/completions", refused=asked) as url:
        undeployed = replace(tuned, program=attach(tuned.program, Endpoint("sandbox", url).lm(tuned.model)))
        seen = observed(task, undeployed, endpoint, journal.parent, report)
    assert (seen.train, seen.dev) == (None, None)
    assert seen.losses
    assert report[-1].startswith(f"{tuned.model} is not diagnosed by its answers, since it cannot be asked: ")
    assert len(asked) == 1


def test_a_model_whose_rows_are_refused_is_diagnosed_once_they_are_not(
    sandbox: Sandbox, endpoint: Endpoint, journal: Path, report: Report
) -> None:
    task = make_task(recipe="labels", seed=56)
    tuned = build(task, endpoint, journal, report)
    asked: list[str] = []
    spared = {*range(20), *range(45, 90)}
    refuses = refusing(sandbox, "POST", "/chat/completions", status=400, refused=asked, spared=spared)
    with refuses as url:  # for a while
        away = replace(tuned, program=attach(tuned.program, Endpoint("sandbox", url).lm(tuned.model)))
        assert observed(task, away, endpoint, journal.parent, report).unreadable is None
    assert report[-1].startswith(f"{tuned.model} is not diagnosed by its answers, since it cannot be asked: ")
    assert 8 <= len(asked) <= 25
    assert observed(task, tuned, endpoint, journal.parent, report).unreadable == Mean(0.0, 90)


def test_a_model_is_deployed_before_it_is_asked_and_not_asked_if_that_fails(
    sandbox: Sandbox, endpoint: Endpoint, journal: Path, report: Report
) -> None:
    task = make_task(recipe="labels", seed=54)
    tuned = build(task, endpoint, journal, report)
    sandbox.forget_requests()

    def broken() -> None:
        raise NotDeployed("no quota")

    assert observed(task, tuned, endpoint, journal.parent, report, broken).train is None
    assert report[-1] == f"{tuned.model} is not diagnosed by its answers, since it cannot be asked: no quota"
    assert sandbox.request_counts()["total"] == 0
    calls: list[str] = []
    assert observed(task, tuned, endpoint, journal.parent, report, lambda: calls.append("up")).train is not None
    assert observed(task, tuned, endpoint, journal.parent, report, lambda: calls.append("up")).train is not None
    assert calls == ["up"]  # what was asked is kept


def test_a_model_that_is_not_to_be_asked_is_not(
    sandbox: Sandbox, endpoint: Endpoint, journal: Path, report: Report
) -> None:
    task = make_task(recipe="labels", seed=55)
    tuned = build(task, endpoint, journal, report)
    sandbox.forget_requests()
    kept = Checkpoints(journal.parent, endpoint)
    optimized = plain(task, endpoint)
    seen = observe(task, tuned, optimized, checkpoints=kept, report=report, concurrency=8, serve=None)
    assert (seen.train, seen.dev, sandbox.request_counts()["total"]) == (None, None, 0)
    assert seen.losses


def test_events_and_losses_are_kept_beside_the_journal(endpoint: Endpoint, journal: Path, report: Report) -> None:
    tuned = build(make_task(recipe="labels", seed=53), endpoint, journal, report)
    history = json.loads((journal.parent / f"{tuned.models[''].job.id}.json").read_text())
    assert history["job"]["losses"] == [list(loss) for loss in tuned.models[""].job.losses]
    assert history["job"]["model"] == tuned.model
    told = [event["message"] for event in history["events"] if event["type"] == "message"]
    assert any("started" in sentence for sentence in told)
    assert sum(event["type"] == "metrics" for event in history["events"]) == len(tuned.models[""].job.losses)
