"""Models that were tuned, as the lock holds them: what they are asked by, and the jobs that they came from."""

from __future__ import annotations

from pydantic import Field

from pytest_finetune.lock.fields import Moment, Name, Settings, Table


class Job(Table):
    """The fine-tuning job, as the server tells it."""

    id: Name
    status: Name
    created_at: Moment | None = None
    finished_at: Moment | None = None
    training_file: str | None = None
    trained_tokens: int | None = None
    seed: int | None = None
    hyperparameters: Settings = Field(default_factory=dict)


class Tuned(Table):
    """A model that answers for one predictor of a stage, or for all.

    Attributes:
        model: its id, as its endpoint names it.
        served_as: the name it is asked by, where that is not its id.
        job: the fine-tuning job, for a model that has one.
    """

    model: Name
    served_as: Name | None = None
    job: Job | None = None

    @property
    def asked_as(self) -> str:
        """The name by which the endpoint is asked for the model."""
        return self.served_as or self.model
