"""Fine-tuning jobs as the server keeps them: records, events, checkpoints, and their transitions."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel

from .clock import Clock
from .errors import ApiError
from .faults import FaultKind
from .settings import Settings
from .state import State
from .wire.jobs import Checkpoint, FineTuningJob, JobError, JobEvent

ENDED = frozenset({"succeeded", "failed", "cancelled"})


class JobRecord(BaseModel):
    """The object on the wire, and what only the server knows.

    Attributes:
        job: What the client sees.
        planned: A fault that was drawn when the job was created.
        rows: The training file's rows, counted when it was validated.
        tokens: The tokens that one epoch trains on.
        reported: How many steps the events already tell of.
    """

    job: FineTuningJob
    planned: FaultKind | None = None
    rows: int = 0
    tokens: int = 0
    reported: int = 0


@dataclass(frozen=True)
class Jobs:
    """Stored jobs. Each change is on disk before it can be seen."""

    settings: Settings
    state: State
    clock: Clock

    def get(self, job_id: str) -> JobRecord:
        """A job by its id.

        Raises:
            ApiError: 404, if there is none.
        """
        record = self.state.get("job", job_id, JobRecord)
        if record is None:
            raise ApiError(
                404, f"Could not find fine tune: {job_id}", code="fine_tune_not_found", param="fine_tune_id"
            )
        return record

    def get_unended(self, job_id: str) -> JobRecord:
        """A job that can still be cancelled, paused or resumed.

        Raises:
            ApiError: 404 if there is none, 400 if it has ended.
        """
        record = self.get(job_id)
        if record.job.status in ENDED:
            raise ApiError(400, f"Job has already completed: {job_id}", code="job_already_completed")
        return record

    def all(self) -> list[JobRecord]:
        """Every job, oldest first."""
        return self.state.all("job", JobRecord)

    def save(self, record: JobRecord) -> None:
        """Store a job."""
        self.state.put("job", record.job.id, record)

    def change(self, record: JobRecord, **fields: Any) -> None:
        """Set fields of the object on the wire, and store it."""
        record.job = record.job.model_copy(update=fields)
        self.save(record)

    def end(self, record: JobRecord, status: Literal["succeeded", "failed", "cancelled"], **fields: Any) -> None:
        """Set a final status."""
        self.change(record, status=status, finished_at=self.clock.now(), estimated_finish=None, **fields)

    def fail(self, record: JobRecord, error: JobError) -> None:
        """End a job that went wrong."""
        self.event(record.job.id, error.message or "The job failed", level="error")
        self.end(record, "failed", error=error)

    def pause(self, record: JobRecord) -> None:
        """Hold a job."""
        self.event(record.job.id, "The job was paused")
        self.change(record, status="paused")

    def event(
        self,
        job_id: str,
        message: str,
        *,
        level: Literal["info", "warn", "error"] = "info",
        kind: Literal["message", "metrics", "moderation_checks"] = "message",
        data: Mapping[str, float | int | str | None] | None = None,
    ) -> None:
        """Add an event; a message's ``data`` is ``{}`` or null, as one finds both."""
        event = JobEvent(
            id=f"ftevent-{token()}",
            created_at=self.clock.now(),
            level=level,
            message=message,
            type=kind,
            data=dict(data) if data is not None else (None if self.settings.live_quirks else {}),
        )
        self.state.put("event", event.id, event, parent=job_id)

    def events(self, job_id: str) -> list[JobEvent]:
        """The events of a job, newest first."""
        return self.state.all("event", JobEvent, parent=self.get(job_id).job.id)[::-1]

    def checkpoints(self, job_id: str) -> list[Checkpoint]:
        """The checkpoints of a job, newest first."""
        return self.state.all("checkpoint", Checkpoint, parent=self.get(job_id).job.id)[::-1]


def token(length: int = 24) -> str:
    """Random letters and digits, as the service's ids have them."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
    return "".join(secrets.choice(alphabet) for _ in range(length))
