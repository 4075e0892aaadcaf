"""Bodies of ``/v1/fine_tuning/jobs``."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from .common import Answer, Auto, Metadata, Query, Request


class SupervisedHyperparameters(Request):
    batch_size: Auto | Annotated[int, Field(ge=1, le=256)] = "auto"
    learning_rate_multiplier: Auto | Annotated[float, Field(gt=0, le=1000)] = "auto"
    n_epochs: Auto | Annotated[int, Field(ge=1, le=50)] = "auto"


class DpoHyperparameters(SupervisedHyperparameters):
    beta: Auto | Annotated[float, Field(gt=0, le=2)] = "auto"


class Supervised(Request):
    hyperparameters: SupervisedHyperparameters = Field(default_factory=SupervisedHyperparameters)


class Dpo(Request):
    hyperparameters: DpoHyperparameters = Field(default_factory=DpoHyperparameters)


class Method(Request):
    type: Literal["supervised", "dpo", "reinforcement"]
    supervised: Supervised | None = None
    dpo: Dpo | None = None
    reinforcement: dict[str, Any] | None = None


class Wandb(Request):
    project: str
    name: str | None = None
    entity: str | None = None
    tags: list[str] | None = None


class Integration(Request):
    type: Literal["wandb"]
    wandb: Wandb


class CreateJob(Request):
    model: Annotated[str, StringConstraints(min_length=1)]
    training_file: Annotated[str, StringConstraints(min_length=1)]
    validation_file: str | None = None
    suffix: Annotated[str, StringConstraints(min_length=1, max_length=64)] | None = None
    seed: Annotated[int, Field(ge=0, le=2147483647)] | None = None
    metadata: Metadata | None = None
    integrations: Annotated[list[Integration], Field(max_length=5)] | None = None
    hyperparameters: SupervisedHyperparameters | None = None
    method: Method | None = None


class JobError(Answer):
    """Why a job failed; every field is absent while nothing is wrong (a trap of the live service)."""

    code: str | None = None
    message: str | None = None
    param: str | None = None


class FineTuningJob(Answer):
    id: str
    object: Literal["fine_tuning.job"] = "fine_tuning.job"
    created_at: int
    estimated_finish: int | None = None
    error: JobError | None = None
    fine_tuned_model: str | None = None
    finished_at: int | None = None
    hyperparameters: SupervisedHyperparameters
    integrations: list[Integration] | None = None
    metadata: Metadata | None = None
    method: Method
    model: str
    organization_id: str = "org-sandbox"
    result_files: list[str] = Field(default_factory=list)
    seed: int
    status: Literal["validating_files", "queued", "running", "paused", "succeeded", "failed", "cancelled"]
    trained_tokens: int | None = None
    training_file: str
    user_provided_suffix: str | None = None
    validation_file: str | None = None


class JobsQuery(Query):
    after: str | None = None
    limit: int = Field(20, ge=0, le=10000)
    metadata: dict[str, str] | Literal["null"] | None = None


class PageQuery(Query):
    after: str | None = None
    limit: int = Field(20, ge=0, le=10000)


class CheckpointsQuery(PageQuery):
    limit: int = Field(10, ge=0, le=10000)


class JobList(Answer):
    object: Literal["list"] = "list"
    data: list[FineTuningJob]
    has_more: bool


class JobEvent(Answer):
    id: str
    object: Literal["fine_tuning.job.event"] = "fine_tuning.job.event"
    created_at: int
    level: Literal["info", "warn", "error"] = "info"
    message: str
    type: Literal["message", "metrics", "moderation_checks"] = "message"
    data: dict[str, float | int | str | None] | None = None


class EventList(Answer):
    object: Literal["list"] = "list"
    data: list[JobEvent]
    has_more: bool


class CheckpointMetrics(Answer):
    step: int
    train_loss: float
    train_mean_token_accuracy: float
    valid_loss: float | None = None
    valid_mean_token_accuracy: float | None = None
    full_valid_loss: float | None = None
    full_valid_mean_token_accuracy: float | None = None


class Checkpoint(Answer):
    id: str
    object: Literal["fine_tuning.job.checkpoint"] = "fine_tuning.job.checkpoint"
    created_at: int
    fine_tuned_model_checkpoint: str
    fine_tuning_job_id: str
    metrics: CheckpointMetrics
    step_number: int


class CheckpointList(Answer):
    object: Literal["list"] = "list"
    data: list[Checkpoint]
    first_id: str | None
    last_id: str | None
    has_more: bool
