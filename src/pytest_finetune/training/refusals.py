"""What an endpoint says when it will not train, put in words that help."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pytest_finetune.core.pricing import CAP
from pytest_finetune.errors import EndpointError, TrainingError
from pytest_finetune.training.steady import DAILY_LIMIT

if TYPE_CHECKING:
    import openai
    from openai.types.fine_tuning import FineTuningJob

    from pytest_finetune.training.request import JobRequest

_ELSEWHERE = "name another endpoint (Azure Foundry, Nebius, sandbox) as the task's, Task(endpoint=…)"
_NO_MODEL = "name a model that this endpoint can fine-tune as the task's student, then run"
_CODES = {
    DAILY_LIMIT: (
        "waiting a minute does not help: the limit is per day. What was uploaded is kept; come back tomorrow with"
    ),
    "training_not_available": (
        "the organization may not train there any more, and no retry will change that: " + _ELSEWHERE + ", then run"
    ),
    "model_not_available": _NO_MODEL,
    "model_not_found": _NO_MODEL,
    "insufficient_quota": "add money to the endpoint's account, then run",
}
_STATUSES = {
    400: "correct what it names, in the task's student, hyperparameters or suffix, or in the data, then run",
    401: "set the key right, then run",
    402: "add money to the endpoint's account, then run",
    403: "ask for the right to fine-tune with this key, or " + _ELSEWHERE + ", then run",
    404: "see that the endpoint's base_url is right and that it trains models at all, or "
    + _ELSEWHERE
    + ", then run",
    409: "another request is at work on the same thing, which pytest-finetune jobs may show: wait a minute, then run",
    413: "the endpoint takes no files so large ({size}): train on fewer rows, or on shorter ones, then run",
    422: "correct what it names, in the task's student, hyperparameters or suffix, or in the data, then run",
}
_ON_THE_WAY = {
    400: "see whether the job is still there with pytest-finetune jobs",
    401: "set the key right",
    402: "add money to the endpoint's account",
    403: "set the key right: this one may not see the job, or its files",
    404: "see that the key is of the same project, and the base_url the same, as when the job was handed in",
    409: "wait a minute, since another request is at work on the same job",
    429: "see the account's limits and its money",
}
_ENDED = {
    "invalid_n_examples": "give the task more training rows, or a recipe that keeps more of them, then run",
    "invalid_training_file": "the file is kept in {folder}; correct the rows that it names, then run",
    "invalid_validation_file": "the file is kept in {folder}; correct the rows that it names, then run",
}
_MODERATED = "take the rows that break the endpoint's usage policies out of the training split, then run"


def refused(error: openai.APIStatusError, request: JobRequest, endpoint: str, comeback: str) -> TrainingError:
    """An endpoint's refusal to take a file or a job: nothing was trained, and nothing is owed."""
    unknown = "what that means is in the endpoint's documentation; once it is set right, run"
    hint = _CODES.get(str(error.code)) or _STATUSES.get(error.status_code, unknown)
    size = f"{max(map(len, request.files().values())) / 1e6:,.1f} MB"
    return TrainingError(
        f"endpoint {endpoint!r} refused to fine-tune {request.model} (HTTP {error.status_code}): "
        f"{_sentence(said(error))} Next: {hint.format(size=size)}: {comeback}"
    )


def ended_badly(job: FineTuningJob, endpoint: str, folder: Path, comeback: str) -> TrainingError:
    """A job that failed, or that somebody cancelled; another run starts a new one."""
    code = (job.error and job.error.code) or ""
    told = (job.error and job.error.message) or "the endpoint gives no reason"
    default = (
        "start it anew with"
        if job.status == "cancelled"
        else "look at its events, which are kept in {folder}, then start it anew with"
    )
    hint = _MODERATED if "moderation" in told else _ENDED.get(code, default)
    reason = f"{code}: {told}" if code else told
    how = "was cancelled" if job.status == "cancelled" else job.status
    return TrainingError(
        f"job {job.id} on endpoint {endpoint!r} {how}: {_sentence(reason)} "
        f"Next: {hint.format(folder=folder)}: {comeback}"
    )


def denied(error: openai.APIStatusError, endpoint: str, comeback: str, *, handed_in: bool) -> EndpointError:
    """A refusal on the way, such as that of a key which has expired: what was handed in goes on."""
    hint = _ON_THE_WAY.get(error.status_code, "see what it means in the endpoint's documentation")
    kept = "What was handed in goes on. " if handed_in else ""
    return EndpointError(
        f"endpoint {endpoint!r} refused a request (HTTP {error.status_code}): {_sentence(said(error))} "
        f"{kept}Next: {hint}, then run: {comeback}"
    )


def unknown_job(job_id: str, endpoint: str, comeback: str) -> TrainingError:
    """A job of the journal that a paid endpoint does not know."""
    return TrainingError(
        f"job {job_id} of the journal is not known to endpoint {endpoint!r}: is the key that of another project? "
        f"No second job is started. {_anew(job_id, comeback)}"
    )


def model_gone(job_id: str, model: str, endpoint: str, comeback: str) -> TrainingError:
    """A job that succeeded, and whose model is no longer there."""
    return TrainingError(
        f"job {job_id} on endpoint {endpoint!r} succeeded, but its model {model} is not there any more: it was "
        "deleted or shut down, or the key is that of another project. No second job is started. "
        f"{_anew(job_id, comeback)}"
    )


def lost(endpoint: str, training_file: str, key: str, comeback: str) -> TrainingError:
    """An answer that was lost, on an endpoint that cannot be asked what became of the request."""
    return TrainingError(
        f"endpoint {endpoint!r} may have created a job (training file {training_file}) and cannot list its jobs: "
        f"look at its console. No second job is started. If there is none: pytest-finetune jobs forget {key}, then "
        f"run: {comeback}"
    )


def too_dear(
    request: JobRequest, endpoint: str, *, dollars: float, cap: float, spent: float, comeback: str
) -> TrainingError:
    """A job that would pass the cap: nothing was sent for it."""
    fixed = isinstance(request.hyperparameters.get("n_epochs"), int)
    epochs = f"{request.most_epochs} epochs" + ("" if fixed else ' (the most that "auto" may come to)')
    return TrainingError(
        f"a job for {request.model} on endpoint {endpoint!r} would pass the cap: about {request.tokens:,} tokens "
        f"times {epochs} cost ${dollars:.4f}, and ${spent:.4f} of ${cap:g} are spent or set aside. Nothing was "
        f"begun for it, and what was answered is kept. Next: raise the cap ({CAP}), or set "
        f'fewer epochs (hyperparameters={{"n_epochs": 1}} in the task), then run: {comeback}'
    )


def _anew(job_id: str, comeback: str) -> str:
    return f"To train anew, and pay anew: pytest-finetune jobs forget {job_id}, then run: {comeback}"


def said(error: openai.APIStatusError) -> str:
    """The endpoint's own words."""
    body = error.body
    return str(body["message"]) if isinstance(body, dict) and body.get("message") else error.message


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else f"{text}."
