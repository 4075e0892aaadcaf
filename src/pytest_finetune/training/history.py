"""What an endpoint told of a job that has ended, kept beside the journal: endpoints forget, and so do terminals."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from pytest_finetune.core.fingerprint import canonical_json
from pytest_finetune.secrets import redacted
from pytest_finetune.training.jobs import JobFacts, JobRunner
from pytest_finetune.training.remote import Remote


def keep_history(runner: JobRunner, facts: JobFacts) -> Path:
    """Write a job's facts, loss curve, checkpoints and events to ``JOB.json`` beside the journal, once.

    Args:
        runner: Whose job it is.
        facts: What is known of it.

    Returns:
        The file.

    Raises:
        EndpointError: If the endpoint was away for too long; the job is done, and is found again.
    """
    path = runner.journal.beside(facts.id, ".json")
    if path.exists():
        return path
    with Remote(runner.endpoint, runner.patience, runner.report) as remote:
        listed = remote.client.fine_tuning.jobs.list_events
        events = remote.every(lambda: listed(facts.id, limit=100)) or []
    told = [event.model_dump(mode="json") for event in sorted(events, key=lambda event: event.created_at)]
    new = path.with_suffix(".new")
    kept = json.loads(redacted(json.dumps(told, ensure_ascii=False)))
    new.write_bytes(canonical_json({"job": dataclasses.asdict(facts), "events": kept}))
    new.replace(path)
    return path
