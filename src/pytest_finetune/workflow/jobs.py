"""The fine-tuning jobs of a project: what the journal and the endpoints know of them, and what can be done to one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from pytest_finetune.endpoints import SANDBOX
from pytest_finetune.errors import EndpointError, FinetuneError, TrainingError, UsageError
from pytest_finetune.training import journal as states
from pytest_finetune.training.attempt import DEAD, ENDED
from pytest_finetune.training.journal import Journal
from pytest_finetune.training.recipes import comeback_of
from pytest_finetune.training.refusals import denied, ended_badly
from pytest_finetune.training.remote import KEY, TASK, Remote
from pytest_finetune.training.request import mark_of
from pytest_finetune.training.steady import Patience
from pytest_finetune.workflow.run import Run

if TYPE_CHECKING:
    from openai.types.fine_tuning import FineTuningJob

    from pytest_finetune.task import Task

JOURNAL = "jobs.jsonl"
BUILDING = "building.lock"
LIST = "pytest-finetune jobs"
_UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class KnownJob:
    """One job.

    Attributes:
        id: The endpoint's; empty where the journal tells of an attempt that came to no job.
        key: The hash of what it is made from.
        status: As the endpoint says; else the last state in the journal.
        endpoint: The endpoint's name.
        base: The model that is tuned.
        predictor: Whose model it is to be, where the journal knows, and each predictor has one.
        begun: When it was created; where only the journal knows of it: its last line.
        model: What came of it.
        comeback: The command that takes it up; empty for one that was begun elsewhere.
        task: The mark of its task, where its metadata hold one; see `mark_of`.
        said: What was last told of it: a step of the training, or why there is no model.
    """

    id: str
    key: str
    status: str
    endpoint: str
    base: str
    begun: datetime
    predictor: str = ""
    model: str = ""
    comeback: str = ""
    task: str = ""
    said: str = ""

    @property
    def goes_on(self) -> bool:
        """Whether it may still come to an end by itself."""
        return bool(self.id) and self.status not in {*ENDED, states.GONE}

    @property
    def is_paid(self) -> bool:
        """Whether it goes on or has succeeded, or was asked for and the answer was lost."""
        over = self.status in {*DEAD, *states.CLOSED}
        return not over and (bool(self.id) or self.status == states.CREATING)


@dataclass
class Jobs:
    """The jobs of one project.

    Args:
        run: The project's run; it is to be one that retrains, whose sandbox keeps its jobs.
        report: Is given sentences on what happens.
        endpoint: Only this endpoint is asked; ``None``: those of the journal, and that of the settings.
        patience: How long to wait for an endpoint.
    """

    run: Run
    report: Callable[[str], None]
    endpoint: str | None = None
    patience: Patience = field(default_factory=lambda: Patience(outage=10.0))

    @property
    def journal(self) -> Journal:
        """Where jobs are written down."""
        return Journal(self.run.settings.folder / JOURNAL)

    def all(self) -> list[KnownJob]:
        """Every job that the journal or an endpoint knows of, the oldest first; ``report`` is told who is silent."""
        known = {facts.get("job", facts["key"]): _from_journal(facts) for facts in self.journal.last()}
        for name in self._endpoints():
            try:
                with self._remote(name) as remote:
                    known |= {job.id: job for job in self._listed(remote, known)}
            except FinetuneError as error:
                self.report(f"Endpoint {name!r} is not asked, its jobs are shown as the journal knew them: {error}")
        wanted = [job for job in known.values() if self.endpoint in {None, job.endpoint}]
        return sorted(wanted, key=lambda job: job.begun)

    def has_begun(self, task: Task) -> bool:
        """Whether a job of a task was paid for before, by the journal, or by the mark that the job bears.

        It is asked before anything is built, when nobody knows the training file, by which a job is found exactly:
        whether this job is the one that will be asked for shows when its cost is set aside.
        """
        paid = [job for job in self.all() if job.is_paid and job.base.startswith(task.student)]
        comeback = comeback_of(task.id, self.run.settings.rebuilt_on(task.id))
        return any(job.comeback == comeback or job.task == mark_of(task) for job in paid)

    def watch(self, job_id: str) -> KnownJob:
        """Follow a job until it ends, and give it.

        Raises:
            UsageError: If there is no such job.
            TrainingError: If it failed, or was cancelled.
        """
        with self._found(job_id) as (remote, found):
            job, last = found, ""
            remote.patience = replace(self.patience, outage=Patience.outage)  # it may take a night
            for _ in remote.patience.waits():
                known = self._known(remote, job)
                now = known.said if known.goes_on and known.said else known.status
                if now != last:
                    last = now
                    self.report(f"Job {job_id}: {now}.")
                if job.status in DEAD:
                    folder = self.run.settings.folder
                    raise ended_badly(job, remote.endpoint.name, folder, known.comeback or LIST)
                if job.status in ENDED:
                    break
                job = self._reread(remote, job_id)
            return known

    def resume(self, job_id: str) -> KnownJob:
        """Let a paused job go on.

        Raises:
            UsageError: If there is no such job, or it is not paused.
        """
        with self._found(job_id) as (remote, job):
            if "paus" not in job.status:
                raise UsageError(
                    f"job {job_id} is not paused: its status is {job.status}. To follow it: {LIST} watch {job_id}"
                )
            return self._known(remote, remote.resume(job_id))

    def cancel(self, job_id: str, confirm: Callable[[KnownJob], bool]) -> KnownJob:
        """Cancel a job; what it has learnt, and cost, is lost.

        Args:
            job_id: The job.
            confirm: Is asked first.

        Raises:
            UsageError: If there is no such job, or it has ended.
        """
        with self._found(job_id) as (remote, job):
            known = self._known(remote, job)
            if job.status in ENDED:
                raise UsageError(f"job {job_id} is over ({job.status}): there is nothing to cancel")
            if not confirm(known):
                return known
            self._write(known, states.CANCELLING)
            known = self._known(remote, remote.cancel(job_id))
            if known.status == states.CANCELLED:
                self._write(known, states.CANCELLED)
            return known

    def forget(self, name: str) -> KnownJob:
        """Never take a job up again, so that the next build starts, and pays for, a new one.

        Args:
            name: The job's id, or the key of an attempt whose answer was lost.

        Raises:
            UsageError: If there is no such job.
        """
        told = map(_from_journal, reversed(self.journal.last()))
        known = next((job for job in told if name in (job.id, job.key)), None)
        if known is None:
            with self._found(name) as (remote, job):
                known = self._known(remote, job)
        self._write(known, states.GONE)
        return known

    def _endpoints(self) -> list[str]:
        named = [str(facts["endpoint"]) for facts in self.journal.last() if "endpoint" in facts]
        usual = [self.run.settings.endpoint] if self.run.settings.endpoint else []
        return [self.endpoint] if self.endpoint else list(dict.fromkeys([*named, *usual]))

    @contextmanager
    def _remote(self, name: str) -> Iterator[Remote]:
        """An endpoint; the project's own sandbox only while no build is using it."""
        import openai

        settings = self.run.settings
        endpoint = replace(settings, rebuild_on=None).endpoint_named(name, "any")
        settings.folder.mkdir(parents=True, exist_ok=True)
        alone = FileLock(settings.folder / BUILDING, timeout=0) if name == SANDBOX else nullcontext()
        try:
            with alone, Remote(self.run.connections.live(endpoint), self.patience, self.report) as remote:
                yield remote
        except Timeout:
            raise TrainingError(
                f"the sandbox of {settings.folder} is in use by a build, or by another {LIST!r}: wait for that one"
            ) from None
        except openai.APIStatusError as error:
            handed_in = any(job.goes_on and job.endpoint == name for job in map(_from_journal, self.journal.last()))
            raise denied(error, name, LIST, handed_in=handed_in) from error

    @contextmanager
    def _found(self, job_id: str) -> Iterator[tuple[Remote, FineTuningJob]]:
        """A job, on the endpoint that has it."""
        names = self._endpoints()
        owners = [str(facts.get("endpoint")) for facts in self.journal.last() if facts.get("job") == job_id]
        for name in owners or names:
            with self._remote(name) as remote:
                job = remote.job(job_id)
                if job is not None:
                    yield remote, job
                    return
        asked = f"no endpoint that was asked ({', '.join(owners or names) or 'none is known'}) has a job {job_id}"
        raise UsageError(f"{asked}: {LIST} lists them, and --endpoint NAME asks another endpoint")

    def _listed(self, remote: Remote, known: dict[str, KnownJob]) -> Iterator[KnownJob]:
        jobs = remote.jobs()
        if jobs is None:
            ids = [job.id for job in known.values() if job.id and job.endpoint == remote.endpoint.name]
            jobs = [job for job in map(remote.job, ids) if job is not None]
        ours = [job for job in jobs if job.id in known or KEY in (job.metadata or {})]
        gone = self.journal.gone()
        for job in ours:
            one = self._known(remote, job)
            yield replace(one, status=states.GONE) if job.id in gone else one

    def _known(self, remote: Remote, job: FineTuningJob) -> KnownJob:
        told = next((facts for facts in self.journal.last() if facts.get("job") == job.id), {})
        return KnownJob(
            id=job.id,
            key=str(told.get("key") or (job.metadata or {}).get(KEY, _UNKNOWN)),
            status=job.status,
            endpoint=remote.endpoint.name,
            base=job.model,
            begun=datetime.fromtimestamp(job.created_at, timezone.utc),
            predictor=str(told.get("predictor", "")),
            model=job.fine_tuned_model or "",
            comeback=str(told.get("comeback", "")),
            task=(job.metadata or {}).get(TASK, ""),
            said=_reason(job) if job.status in ENDED else remote.progress(job.id),
        )

    def _reread(self, remote: Remote, job_id: str) -> FineTuningJob:
        job = remote.job(job_id)
        if job is None:
            raise EndpointError(f"endpoint {remote.endpoint.name!r} does not know job {job_id} any more")
        return job

    def _write(self, job: KnownJob, state: str) -> None:
        facts: dict[str, Any] = {"job": job.id} if job.id else {}
        self.journal.write(job.key, state, endpoint=job.endpoint, model=job.base, comeback=job.comeback, **facts)


def _from_journal(facts: dict[str, Any]) -> KnownJob:
    return KnownJob(
        id=str(facts.get("job", "")),
        key=str(facts["key"]),
        status=str(facts.get("status") if facts["state"] == states.STATUS else facts["state"]),
        endpoint=str(facts.get("endpoint", _UNKNOWN)),
        base=str(facts.get("model", _UNKNOWN)),
        begun=datetime.fromisoformat(facts["at"]),
        predictor=str(facts.get("predictor", "")),
        comeback=str(facts.get("comeback", "")),
        said=str(facts.get("reason", "")),
    )


def _reason(job: FineTuningJob) -> str:
    return (job.error and job.error.message) or ""
