"""Fine-tuning jobs on an OpenAI-shaped endpoint: each is created once, whatever happens in between."""

from __future__ import annotations

from filelock import FileLock

from pytest_finetune.calls import Budget, Line
from pytest_finetune.endpoints import Endpoint
from pytest_finetune.training.attempt import ENDED, Attempt
from pytest_finetune.training.journal import Journal
from pytest_finetune.training.refusals import denied
from pytest_finetune.training.remote import Remote
from pytest_finetune.training.request import JobFacts, JobRequest
from pytest_finetune.training.steady import Patience, Pending, Report

__all__ = ["JobFacts", "JobRequest", "JobRunner"]


class JobRunner:
    """Brings jobs into being, follows them to their end, and takes them up again after any interruption.

    The order of things: what the journal knows; else what the endpoint lists under the job's key or training file;
    only then is a job created. Each request that changes something is in the journal before it is made and after.
    Two machines share no journal, so that both may create the job: both then keep the oldest one, and cancel the
    other before it costs anything.

    Threads may share a runner.

    Args:
        endpoint: Where the jobs run; a `Line` of a run with a cap keeps jobs under it.
        journal: Shared by all jobs of a project; training files are kept beside it.
        report: Is given ready sentences.
        comeback: The command that takes the work up again, for messages.
        patience: How long to wait, and for how long.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        journal: Journal,
        *,
        report: Report,
        comeback: str,
        patience: Patience | None = None,
    ) -> None:
        self.endpoint = endpoint
        self.journal = journal
        self.report = report
        self.comeback = comeback
        self.patience = patience or Patience()
        self.budget = endpoint.calling.budget if isinstance(endpoint, Line) else Budget()
        self.following: str | None = None

    def run(self, request: JobRequest) -> JobFacts:
        """Give the succeeded job of a request, having created it if there was none.

        Raises:
            Pending: If the job goes on, and ``patience`` is not ``to_the_end``.
            UsageError: If a cap is set, and the price of training is unknown.
            TrainingError: If the endpoint refused the job, it would pass the cap, or it failed, or was cancelled.
            EndpointError: If the endpoint was away for too long, or refused a request; the job goes on.
            Interrupted: If ``leave`` was called; the job goes on.
        """
        import openai

        self.journal.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with Remote(self.endpoint, self.patience, self.report) as remote:
                attempt = Attempt(self, remote, request)
                with FileLock(f"{self.journal.path}.lock"):
                    job = attempt.open() or attempt.submit()
                self.following = job.id
                if not self.patience.to_the_end and job.status not in ENDED:
                    raise Pending(
                        f"job {job.id} on endpoint {self.endpoint.name!r} is handed in ({job.status}) and goes on; "
                        f"take it up with: {self.comeback}"
                    )
                return attempt.facts(attempt.follow(job))
        except openai.APIStatusError as error:
            raise denied(error, self.endpoint.name, self.comeback) from error

    def leave(self) -> str:
        """End all waiting, leave the jobs running, and say how to come back."""
        self.patience.stop.set()
        going = f"Job {self.following} goes on" if self.following else "What was begun is kept"
        return f"{going} on endpoint {self.endpoint.name!r}; come back with: {self.comeback}"
