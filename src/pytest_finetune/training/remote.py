"""What an endpoint holds of jobs and files. Whatever is asked through here may be asked twice."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from pytest_finetune.endpoints import Endpoint
from pytest_finetune.training.steady import Patience, Report

if TYPE_CHECKING:
    import openai
    from openai.types.fine_tuning import FineTuningJob, FineTuningJobEvent

Answer = TypeVar("Answer")

KEY = "pytest_finetune_key"
"""Under this name a job's metadata hold the hash of what it is made from."""
TASK = "pytest_finetune_task"
"""Under this name they hold what its task is known by before the job's files are; see `request.mark_of`."""

_NOT_LISTED = frozenset({400, 403, 404, 405, 501})  # an endpoint that cannot list jobs, files or events
_METRICS = 20  # events looked at for the latest loss


class Loss(NamedTuple):
    """One point of a loss curve; ``valid`` is None where the endpoint gave none."""

    step: int
    train: float
    valid: float | None


class Checkpoint(NamedTuple):
    """A model as it was after an epoch; ``valid`` is its loss on the whole validation file, where there was one."""

    step: int
    model: str
    valid: float | None


class Remote:
    """The files, jobs and models of an endpoint, for the duration of a ``with`` block.

    Args:
        endpoint: Where they are.
        patience: How long to wait for an answer, and for an endpoint that is away.
        report: Is told when the endpoint goes away and comes back.
    """

    def __init__(self, endpoint: Endpoint, patience: Patience, report: Report) -> None:
        self.endpoint = endpoint
        self.patience = patience
        self.report = report
        self.client: openai.OpenAI

    def __enter__(self) -> Remote:
        # No request is repeated by openai: it would post a second job after an answer that was lost.
        self.client = self.endpoint.client(max_retries=0, timeout=self.patience.answer)
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()

    def ask(self, request: Callable[[], Answer]) -> Answer:
        """Make a request that may be repeated, until it is answered; see `Patience.ask`."""
        return self.patience.ask(request, self.endpoint.name, self.report)

    def every(self, pages: Callable[[], Iterable[Answer]]) -> list[Answer] | None:
        """All items of all pages; None where the endpoint does not list them."""
        import openai

        try:
            return self.ask(lambda: list(pages()))
        except openai.APIStatusError as error:
            if error.status_code in _NOT_LISTED:
                return None
            raise

    def job(self, job_id: str) -> FineTuningJob | None:
        """A job by its id; None if the endpoint knows of none."""
        import openai

        try:
            return self.ask(lambda: self.client.fine_tuning.jobs.retrieve(job_id))
        except openai.NotFoundError:
            return None

    def jobs(self, key: str | None = None) -> list[FineTuningJob] | None:
        """All jobs, or those with this key in their metadata; None where the endpoint does not list them."""
        listed = self.client.fine_tuning.jobs.list
        if key is None:
            return self.every(lambda: listed(limit=100))
        found = self.every(lambda: listed(limit=100, metadata={KEY: key}))
        return found and [job for job in found if (job.metadata or {}).get(KEY) == key]

    def cancel(self, job_id: str) -> FineTuningJob:
        """Cancel a job, and give it as it ended: it may have been done already."""
        import openai

        try:
            return self.ask(lambda: self.client.fine_tuning.jobs.cancel(job_id))
        except (openai.BadRequestError, openai.ConflictError):
            return self.ask(lambda: self.client.fine_tuning.jobs.retrieve(job_id))

    def resume(self, job_id: str) -> FineTuningJob:
        """Let a paused job go on, and give it as it stands: it may not have been paused."""
        import openai

        try:
            return self.ask(lambda: self.client.fine_tuning.jobs.resume(job_id))
        except (openai.BadRequestError, openai.ConflictError):
            return self.ask(lambda: self.client.fine_tuning.jobs.retrieve(job_id))

    def copies(self, name: str, size: int) -> list[str] | None:
        """The ids of the files of this name and size, oldest first; None where the endpoint does not list files."""
        files = self.every(lambda: self.client.files.list(purpose="fine-tune", order="asc"))
        if files is None:
            return None
        same = [file for file in files if (file.filename, file.bytes) == (name, size) and file.status != "error"]
        return [file.id for file in sorted(same, key=lambda file: (file.created_at, file.id))]

    def delete(self, file_id: str) -> None:
        """Delete a file, where the endpoint lets it be deleted; it may be gone already."""
        self.every(lambda: [self.client.files.delete(file_id)])

    def knows(self, model: str) -> bool:
        """Whether a model can be found by its id; true where the endpoint tells of no model."""
        import openai

        try:
            self.ask(lambda: self.client.models.retrieve(model))
        except openai.APIStatusError as error:
            if error.status_code not in _NOT_LISTED:
                raise
            return error.status_code != 404
        return True

    def progress(self, job_id: str) -> str:
        """What the latest step of a job was, in the endpoint's words; empty if it tells nothing."""
        listed = self.client.fine_tuning.jobs.list_events
        newest = self.every(lambda: listed(job_id, limit=_METRICS).data) or []
        return next((event.message for event in newest if event.type == "metrics"), "")

    def events(self, job_id: str) -> list[FineTuningJobEvent]:
        """What the endpoint told of a job, oldest first."""
        newest = self.every(lambda: self.client.fine_tuning.jobs.list_events(job_id, limit=100))
        return (newest or [])[::-1]

    def checkpoints(self, job_id: str) -> tuple[Checkpoint, ...]:
        """The checkpoints of a job, by step."""
        found = self.every(lambda: self.client.fine_tuning.jobs.checkpoints.list(job_id, limit=100))
        kept = [
            Checkpoint(one.step_number, one.fine_tuned_model_checkpoint, one.metrics.full_valid_loss)
            for one in found or ()
        ]
        return tuple(sorted(kept))


def losses(events: Iterable[FineTuningJobEvent]) -> tuple[Loss, ...]:
    """The loss curve that events tell, by step."""
    points = [event.data for event in events if event.type == "metrics"]
    curve = [
        Loss(int(data["step"]), float(data["train_loss"]), data.get("valid_loss"))
        for data in points
        if isinstance(data, dict) and {"step", "train_loss"} <= data.keys()
    ]
    return tuple(sorted(curve))
