"""Which model a job gives: of a checkpoint, or of preferences."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tests.training.conftest import Report, make_rows
from tests.training.test_job_faults import chats
from tests.training.test_jobs import runner

from pytest_finetune.endpoints import Endpoint
from pytest_finetune.errors import TrainingError, UsageError
from pytest_finetune.sandbox import Sandbox
from pytest_finetune.training.jobs import JobRequest
from pytest_finetune.training.request import check_checkpoint
from pytest_finetune.training.rows import to_jsonl


def answers(endpoint: Endpoint, model: str) -> list[str | None]:
    things = sorted({row["thing"] for row in make_rows(40, 5)})
    with endpoint.client() as client:
        create = client.chat.completions.create
        given = [create(model=model, messages=[{"role": "user", "content": thing}]) for thing in things]
    return [answer.choices[0].message.content for answer in given]


def test_the_best_checkpoint_is_taken_on_request(
    sandbox: Sandbox, endpoint: Endpoint, journal: Path, report: Report, tmp_path: Path
) -> None:
    misleading = chats(12, 77).replace(b'"red"', b'"blue"').replace(b'"green"', b'"red"')
    settings = {"n_epochs": 3, "batch_size": 12, "learning_rate_multiplier": 1}
    asked = JobRequest("sandbox-small", chats(12, 77), misleading, hyperparameters=settings)
    last = runner(endpoint, journal, report).run(asked)
    assert [point.step for point in last.checkpoints] == [1, 2, 3]
    losses = [point.valid or 0.0 for point in last.checkpoints]
    assert min(losses) == losses[0]
    best = runner(endpoint, journal, report).run(replace(asked, checkpoint="best"))
    assert (best.id, best.model) == (last.id, f"{last.model}:ckpt-step-1")
    assert f"Job {best.id}: its best checkpoint is that of step 1, validation loss" in report.text
    known = answers(endpoint, best.model)
    assert known != answers(endpoint, last.model)
    with endpoint.client() as client:
        client.models.delete(best.model)
    (tmp_path / "rows.jsonl").write_bytes(asked.training)
    sandbox.restore(
        best.model, tmp_path / "rows.jsonl", model="sandbox-small", seed=0, hyperparameters=best.hyperparameters
    )
    assert answers(endpoint, best.model) == known


def test_without_a_validation_file_no_checkpoint_is_the_best(
    endpoint: Endpoint, journal: Path, report: Report
) -> None:
    with pytest.raises(TrainingError, match="give the task a dev split"):
        runner(endpoint, journal, report).run(JobRequest("sandbox-small", chats(12, 79), checkpoint="best"))


def test_preferences_are_learnt_by_dpo(endpoint: Endpoint, journal: Path, report: Report) -> None:
    rows = [
        {
            "input": {"messages": [{"role": "user", "content": row["thing"]}]},
            "preferred_output": [{"role": "assistant", "content": row["colour"]}],
            "non_preferred_output": [{"role": "assistant", "content": "no idea"}],
        }
        for row in make_rows(20, 6)
    ]
    asked = JobRequest("sandbox-small", to_jsonl(rows), hyperparameters={"n_epochs": 2, "beta": 0.2}, method="dpo")
    facts = runner(endpoint, journal, report).run(asked)
    assert (facts.status, facts.hyperparameters["beta"], facts.hyperparameters["n_epochs"]) == ("succeeded", 0.2, 2)
    assert asked.key(endpoint) != replace(asked, method="supervised").key(endpoint)


def test_a_checkpoint_that_there_is_none_of_is_refused() -> None:
    check_checkpoint({"checkpoint": "best", "n_epochs": 3})
    with pytest.raises(UsageError, match='use "last", or "best"'):
        check_checkpoint({"checkpoint": "first"})
