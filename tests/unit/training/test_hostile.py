"""An endpoint that means ill."""

from __future__ import annotations

from pathlib import Path

import pytest
from openai.types.fine_tuning import FineTuningJob

from pytest_finetune.endpoints import Endpoint
from pytest_finetune.errors import TrainingError
from pytest_finetune.training.attempt import Attempt
from pytest_finetune.training.jobs import JobRequest, JobRunner
from pytest_finetune.training.journal import Journal
from pytest_finetune.training.remote import Remote
from pytest_finetune.training.steady import Patience

JOB = {
    "id": "ftjob-1",
    "object": "fine_tuning.job",
    "created_at": 1795240000,
    "status": "succeeded",
    "model": "small",
    "organization_id": "org",
    "training_file": "file-1",
    "result_files": [],
    "seed": 0,
    "hyperparameters": {},
}


@pytest.mark.parametrize("model", [None, "", "ft:\x1b[2Jowned", "ft:\x00", "ft:a\nb"])
def test_a_model_that_cannot_be_pinned_is_none(tmp_path: Path, model: str | None) -> None:
    runner = JobRunner(
        Endpoint("acme", "http://127.0.0.1:9/v1"), Journal(tmp_path / "jobs.jsonl"), report=print, comeback="x"
    )
    attempt = Attempt(runner, Remote(runner.endpoint, Patience(), print), JobRequest("small", b"{}\n"))
    job = FineTuningJob.model_validate({**JOB, "fine_tuned_model": model})
    with pytest.raises(TrainingError, match="job ftjob-1 on endpoint 'acme' succeeded but names no model"):
        attempt.facts(job)
