"""Fine-tuning jobs on an OpenAI-shaped endpoint: each is created once, whatever happens in between."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from filelock import FileLock

from pytest_finetune.calls import Budget, Line
from pytest_finetune.endpoints import Endpoint
from pytest_finetune.errors import FinetuneError
from pytest_finetune.training.attempt import ENDED, Attempt
from pytest_finetune.training.deposit import Deposit
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

    Threads may share a runner; ``following`` holds the ids of the jobs that go on.

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
        self.following: set[str] = set()
        self._deposits: dict[str, Deposit] = {}

    def run(self, request: JobRequest) -> JobFacts:
        """Give the succeeded job of a request, having created it if there was none.

        Raises:
            Pending: If the job goes on, and ``patience`` is not ``to_the_end``.
            UsageError: If a cap is set, and the price of training is unknown.
            TrainingError: If the endpoint refused the job, it would pass the cap, or it failed, or was cancelled.
            EndpointError: If the endpoint was away for too long, or refused a request; the job goes on.
            Interrupted: If ``leave`` was called; the job goes on.
        """
        with self._remote(request) as remote:
            attempt = Attempt(self, remote, request)
            with FileLock(f"{self.journal.path}.lock"):
                job = attempt.open() or attempt.submit()
            self.following.add(job.id)
            if not self.patience.to_the_end and job.status not in ENDED:
                raise Pending(
                    f"job {job.id} on endpoint {self.endpoint.name!r} is handed in ({job.status}) and goes on; "
                    f"take it up with: {self.comeback}"
                )
            return attempt.facts(attempt.follow(job))

    def set_aside(self, requests: Sequence[JobRequest]) -> None:
        """Set aside what the jobs of these requests will cost, all or none; those that there are cost nothing more.

        Raises:
            UsageError: If a cap is set, and the price of training is unknown.
            TrainingError: If all together would pass the cap; nothing was uploaded.
            EndpointError: If the endpoint was away for too long, or refused a request.
        """
        if self.budget.cap is None:
            return
        due = [self.deposit(request) for request in requests if not self._is_covered(request)]
        try:
            for deposit in due:
                deposit.make()
        except FinetuneError:
            for deposit in due:
                deposit.give_back()
            raise

    def deposit(self, request: JobRequest) -> Deposit:
        """What is set aside for the job of a request: the same one whenever it is asked for."""
        made = Deposit(self.budget, request, self.endpoint.name, self.comeback)
        return self._deposits.setdefault(request.key(self.endpoint), made)

    def _is_covered(self, request: JobRequest) -> bool:
        if self.deposit(request).is_made:
            return True
        with self._remote(request) as remote, FileLock(f"{self.journal.path}.lock"):
            return Attempt(self, remote, request).has_begun()

    @contextmanager
    def _remote(self, request: JobRequest) -> Iterator[Remote]:
        import openai

        self.journal.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with Remote(self.endpoint, self.patience, self.report) as remote:
                yield remote
        except openai.APIStatusError as error:
            handed_in = bool(self.journal.attempt(request.key(self.endpoint)).get("job"))
            raise denied(error, self.endpoint.name, self.comeback, handed_in=handed_in) from error

    def leave(self) -> str:
        """End all waiting, leave the jobs running, and say how to come back."""
        self.patience.stop.set()
        jobs = " and ".join(sorted(self.following))
        going = f"job{'s' * (len(self.following) > 1)} {jobs} will go on" if jobs else "what was begun is kept"
        return f"On endpoint {self.endpoint.name!r}, {going}; come back with: {self.comeback}"
