"""What an endpoint says when it will not train, put in words that help."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pytest_finetune.errors import TrainingError
from pytest_finetune.training.steady import DAILY_LIMIT

if TYPE_CHECKING:
    import openai
    from openai.types.fine_tuning import FineTuningJob

_REFUSED = {
    DAILY_LIMIT: (
        "waiting a minute does not help: the limit is per day. What was uploaded is kept; come back tomorrow with"
    ),
    "training_not_available": (
        "the organization may not train there any more, and no retry will change that: name another endpoint with "
        "--ft-endpoint NAME (Azure Foundry, Nebius, sandbox), then run"
    ),
    "model_not_available": "name a model that this endpoint can fine-tune as the task's student, then run",
}
_ENDED = {
    "invalid_n_examples": "give the task more training rows, or a recipe that keeps more of them, then run",
    "invalid_training_file": "the file is kept in {folder}; correct the rows that it names, then run",
    "invalid_validation_file": "the file is kept in {folder}; correct the rows that it names, then run",
}
_MODERATED = "take the rows that break the endpoint's usage policies out of the training split, then run"


def refused(error: openai.APIStatusError, model: str, endpoint: str, comeback: str) -> TrainingError:
    """An endpoint's refusal to take a file or a job: nothing was trained, and nothing is owed."""
    hint = _REFUSED.get(str(error.code), "set that right, then run")
    return TrainingError(
        f"endpoint {endpoint!r} refused to fine-tune {model} (HTTP {error.status_code}): "
        f"{_sentence(_said(error))} Next: {hint}: {comeback}"
    )


def ended_badly(job: FineTuningJob, endpoint: str, folder: Path, comeback: str) -> TrainingError:
    """A job that failed, or that somebody cancelled; another run starts a new one."""
    code = (job.error and job.error.code) or ""
    said = (job.error and job.error.message) or "the endpoint gives no reason"
    default = "start it anew with" if job.status == "cancelled" else "look at its events, then start it anew with"
    hint = _MODERATED if "moderation" in said else _ENDED.get(code, default)
    reason = f"{code}: {said}" if code else said
    return TrainingError(
        f"job {job.id} on endpoint {endpoint!r} {job.status}: {_sentence(reason)} "
        f"Next: {hint.format(folder=folder)}: {comeback}"
    )


def _said(error: openai.APIStatusError) -> str:
    body = error.body
    return str(body["message"]) if isinstance(body, dict) and body.get("message") else error.message


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else f"{text}."
