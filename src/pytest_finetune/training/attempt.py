"""One request on its way to a model: taken up or created, followed, and the only one of its kind."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, cast

from pytest_finetune.endpoints import SANDBOX
from pytest_finetune.errors import TrainingError
from pytest_finetune.secrets import redacted
from pytest_finetune.training import journal as states
from pytest_finetune.training.refusals import ended_badly, lost, model_gone, refused, said, unknown_job
from pytest_finetune.training.remote import KEY, TASK, Checkpoint, Remote, losses
from pytest_finetune.training.request import JobFacts, JobRequest, file_name

if TYPE_CHECKING:
    from openai.types.fine_tuning import FineTuningJob, FineTuningJobEvent
    from openai.types.fine_tuning.job_create_params import Method

    from pytest_finetune.training.jobs import JobRunner

ENDED = frozenset({"succeeded", "failed", "cancelled"})
DEAD = ENDED - {"succeeded"}


class Attempt:
    """One request on its way to a model."""

    def __init__(self, runner: JobRunner, remote: Remote, request: JobRequest) -> None:
        self.runner = runner
        self.endpoint = runner.endpoint
        self.remote = remote
        self.request = request
        self.key = request.key(runner.endpoint)
        self.deposit = runner.deposit(request)

    def open(self) -> FineTuningJob | None:
        """The job that an earlier run, or another machine, has created."""
        job = self._by_key()
        if job is None:
            return None
        if job.status == "succeeded" and not self.remote.knows(job.fine_tuned_model or ""):
            self._miss_model(job)
        known = f"job {job.id}{self.request.whose} on endpoint {self.endpoint.name!r} ({job.status})"
        self.runner.report(f"Taking up {known}.")
        self._write(states.CREATED, job=job.id)
        return job

    def has_begun(self) -> bool:
        """Whether there is a job already, which is taken up and not paid for again."""
        if self._by_key() is not None:
            return True
        files = {role: self._there(role, content) for role, content in self.request.files().items()}
        return all(files.values()) and self._by_files(files) is not None

    def submit(self) -> FineTuningJob:
        """Upload the files and create the job, unless either has been done."""
        import openai

        rows, what = self.request.training.count(b"\n"), f"{self.request.model}{self.request.whose}"
        self.runner.report(f"Handing in a job for {what} on endpoint {self.endpoint.name!r}: {rows:,} rows.")
        try:
            files = {role: self._upload(role, content) for role, content in self.request.files().items()}
            job = self.remote.ask(lambda: self._find_or_create(files))
        except openai.APIStatusError as error:
            if not self._known().get(states.UNANSWERED):
                self._write(states.REFUSED, reason=said(error))
                self.deposit.give_back()
            raise refused(error, self.request, self.endpoint.name, self.runner.comeback) from error
        self._write(states.CREATED, job=job.id)
        self.runner.report(f"Job {job.id}{self.request.whose} is created.")
        return job

    def follow(self, job: FineTuningJob) -> FineTuningJob:
        """Wait for the job's end; its status alone decides, and one that is not known is no end."""
        last = step = ""
        due = time.monotonic() + self.remote.patience.settling
        for _ in self.remote.patience.waits():
            if job.status in ENDED or time.monotonic() > due:
                job, due = self._keep_one(job), math.inf
            if job.status in ENDED:
                self.runner.following.discard(job.id)
            if job.status != last:
                last = job.status
                self._write(last if last in ENDED else states.STATUS, job=job.id, status=last)
                self.runner.report(f"Job {job.id}: {last}.")
            if job.status in DEAD:
                self._keep_events(job.id)
                raise ended_badly(job, self.endpoint.name, self.runner.journal.path.parent, self.runner.comeback)
            if job.status == "succeeded":
                break
            now = self.remote.progress(job.id)
            if now != step:
                step = now
                self.runner.report(f"Job {job.id}: {step}.")
            job = self._reread(job)
        return job

    def facts(self, job: FineTuningJob) -> JobFacts:
        """What is known of a job that succeeded."""
        if not job.fine_tuned_model or not job.fine_tuned_model.isprintable():
            raise TrainingError(f"job {job.id} on endpoint {self.endpoint.name!r} succeeded but names no model")
        self.deposit.settle(job.trained_tokens)
        checkpoints = self.remote.checkpoints(job.id)
        return JobFacts(
            id=job.id,
            key=self.key,
            status=job.status,
            model=self._chosen(job.id, job.fine_tuned_model, checkpoints),
            base=job.model,
            created_at=job.created_at,
            finished_at=job.finished_at,
            training_file=job.training_file,
            validation_file=job.validation_file,
            trained_tokens=job.trained_tokens,
            seed=job.seed,
            hyperparameters=resolved(job),
            losses=losses(self._keep_events(job.id)),
            checkpoints=checkpoints,
        )

    # --- what is there already ------------------------------------------------------------------------------------

    def _known(self) -> dict[str, Any]:
        return self.runner.journal.attempt(self.key)

    def _write(self, state: str, **facts: Any) -> None:
        about = {"endpoint": self.endpoint.name, "model": self.request.model, "comeback": self.runner.comeback}
        if self.request.predictor:
            about["predictor"] = self.request.predictor
        self.runner.journal.write(self.key, state, **about, **facts)

    def _by_key(self) -> FineTuningJob | None:
        """The job that the journal knows; else the oldest that the endpoint lists under the key."""
        known = self._known().get("job")
        return (known and self._retrieve(known)) or _oldest(self._alive(self.remote.jobs(self.key)))

    def _by_files(self, files: Mapping[str, str | None]) -> FineTuningJob | None:
        """The job that an earlier try has created, whose answer was lost, or another machine."""
        ambiguous = bool(self._known().get(states.UNANSWERED))
        if ambiguous:
            self.remote.patience.settle()
        jobs = self.remote.jobs()
        if jobs is None and ambiguous:
            raise lost(self.endpoint.name, str(files["training_file"]), self.key, self.runner.comeback)
        return _oldest(self._alive(job for job in jobs or () if self._is_same(job, files)))

    def _there(self, role: str, content: bytes) -> str | None:
        """The id of a file on the endpoint, of its oldest copy; where none are listed, as the journal knows it."""
        copies, known = self.remote.copies(file_name(content), len(content)), self._known().get(role)
        if copies or (copies is None and known):
            return copies[0] if copies else str(known)
        return None

    def _retrieve(self, job_id: str) -> FineTuningJob | None:
        job = self.remote.job(job_id)
        if job is None and self.endpoint.name != SANDBOX:  # a sandbox forgets its jobs when it ends
            raise unknown_job(job_id, self.endpoint.name, self.runner.comeback)
        if job is not None and self._alive([job]):
            return job
        self._write(job.status if job and job.status in DEAD else states.GONE, job=job_id)
        return None

    def _reread(self, job: FineTuningJob) -> FineTuningJob:
        return self.remote.ask(lambda: self.remote.client.fine_tuning.jobs.retrieve(job.id))

    def _alive(self, jobs: Iterable[FineTuningJob] | None) -> list[FineTuningJob]:
        """Those that may be taken: they did not end badly, nor were put aside, nor lost a sandbox's model."""
        gone = self.runner.journal.gone()
        return [job for job in jobs or () if job.status not in DEAD and job.id not in gone and self._has_model(job)]

    def _has_model(self, job: FineTuningJob) -> bool:
        if job.status != "succeeded" or self.endpoint.name != SANDBOX:
            return True
        return self.remote.knows(job.fine_tuned_model or "")

    def _miss_model(self, job: FineTuningJob) -> None:
        """Refuse a model that was deleted; an id that is not OpenAI's may be one that waits for its deployment."""
        model = str(job.fine_tuned_model)
        if model.startswith("ft:") and self.endpoint.serving.deploy is None:
            raise model_gone(job.id, model, self.endpoint.name, self.runner.comeback)
        self.runner.report(
            f"Model {model} of job {job.id} is not on endpoint {self.endpoint.name!r}: deploy it, or, if it was "
            f"deleted, train anew: pytest-finetune jobs forget {job.id}"
        )

    # --- making it ------------------------------------------------------------------------------------------------

    def _upload(self, role: str, content: bytes) -> str:
        """The id of the file on the endpoint: of the oldest copy, if another machine uploaded it too."""
        name = file_name(content)
        (self.runner.journal.path.parent / name).write_bytes(content)

        def find_or_upload() -> str:
            if self._known().get("state") == states.UPLOADING:
                self.remote.patience.settle()
            there = self._there(role, content)
            if there is not None:
                return there
            self.deposit.make()  # no job has a file that is not there
            self._write(states.UPLOADING, file=name)
            made = self.remote.client.files.create(file=(name, content), purpose="fine-tune").id
            oldest = (self.remote.copies(name, len(content)) or [made])[0]
            if oldest != made:
                self.remote.patience.settle()  # another machine is at it: let it create the job
            return oldest

        file_id = self.remote.ask(find_or_upload)
        self._write(states.UPLOADED, **{role: file_id})
        return file_id

    def _find_or_create(self, files: Mapping[str, str]) -> FineTuningJob:
        """Create the job, unless that was done before."""
        import openai

        same = self._by_files(files)
        if same is not None:
            return same
        self.deposit.make()
        self._write(states.CREATING, **files, **{states.UNANSWERED: True})
        try:
            return self._create(files)
        except openai.APIStatusError as error:
            if error.status_code < 500 and error.status_code != 408:  # an answer: nothing was created
                self._write(states.UPLOADED, **files, **{states.UNANSWERED: False})
            raise

    def _create(self, files: Mapping[str, str]) -> FineTuningJob:
        request = self.request
        return self.remote.client.fine_tuning.jobs.create(
            model=request.model,
            training_file=files["training_file"],
            validation_file=files.get("validation_file"),
            seed=request.seed,
            suffix=request.suffix,
            metadata={KEY: self.key, **({TASK: request.task} if request.task else {})},
            method=_method(request),
            extra_body=dict(self.endpoint.extra_body) or None,
        )

    def _is_same(self, job: FineTuningJob, files: Mapping[str, str | None]) -> bool:
        """Whether the job is that of the request: by its key, or by its files where an endpoint keeps no metadata."""
        if job.metadata:
            return job.metadata.get(KEY) == self.key
        same_files = (job.training_file, job.validation_file) == (
            files["training_file"],
            files.get("validation_file"),
        )
        return same_files and job.model.startswith(self.request.model) and job.seed in (None, self.request.seed)

    # --- one job, one copy ----------------------------------------------------------------------------------------

    def _keep_one(self, job: FineTuningJob) -> FineTuningJob:
        """Of the jobs of this request, keep the oldest; give that one.

        Two machines that start at once both create a job. Each comes here once its own job has been in the lists
        for a while, so that the one with the younger job sees the older one, and both keep the same.
        """
        files = {"training_file": job.training_file, "validation_file": job.validation_file}
        listed = self.remote.jobs(self.key if job.metadata else None)
        same = self._alive(one for one in listed or () if self._is_same(one, files))
        kept = _oldest(same) or job
        for other in same:
            if other.id != kept.id and other.status not in ENDED:
                self._cancel(other.id, kept.id)
        if kept.id != job.id:
            self.runner.following.discard(job.id)
            self.runner.following.add(kept.id)
            self._write(states.CREATED, job=kept.id)
        for content in self.request.files().values():
            self._keep_copy(content)
        return kept

    def _cancel(self, job_id: str, kept: str) -> None:
        import openai

        self._write(states.CANCELLING, duplicate=job_id)
        try:
            end = f"is {self.remote.cancel(job_id).status}"
        except openai.APIStatusError as error:
            end = f"could not be cancelled, cancel it on the endpoint's console ({said(error)})"
        self.runner.report(f"Job {job_id} {end}: it does the same as job {kept}, which is older.")

    def _keep_copy(self, content: bytes) -> None:
        """Delete the copies of a file that no job uses."""
        copies = self.remote.copies(file_name(content), len(content)) or ()
        jobs = self.remote.jobs() if len(copies) > 1 else None
        if jobs is None:
            return
        used = {file for job in jobs if job.status not in DEAD for file in (job.training_file, job.validation_file)}
        spare = set(copies) - used
        for file_id in sorted(spare) if len(spare) < len(copies) else ():
            self._write(states.DELETING, duplicate=file_id)
            self.remote.delete(file_id)

    def _keep_events(self, job_id: str) -> list[FineTuningJobEvent]:
        events = self.remote.events(job_id)
        lines = "".join(event.model_dump_json() + "\n" for event in events)
        path = self.runner.journal.beside(job_id, ".events.jsonl")
        path.write_text(redacted(lines), encoding="utf-8")
        return events

    def _chosen(self, job_id: str, model: str, checkpoints: tuple[Checkpoint, ...]) -> str:
        if self.request.checkpoint == "last":
            return model
        measured = [(one.valid, -one.step, one) for one in checkpoints if one.valid is not None]
        if not measured:
            raise TrainingError(
                f"job {job_id} has no checkpoint with a validation loss, so none is the best: give the task a dev "
                f'split, or take checkpoint="last" (model {model}), then run: {self.runner.comeback}'
            )
        loss, _, best = min(measured)
        if best.step == max(one.step for one in checkpoints):
            return model
        self.runner.report(
            f"Job {job_id}: its best checkpoint is that of step {best.step}, validation loss {loss:.3g}."
        )
        return best.model


def _oldest(jobs: Iterable[FineTuningJob]) -> FineTuningJob | None:
    return min(jobs, key=lambda job: (job.created_at, job.id), default=None)


def _method(request: JobRequest) -> Method:
    return cast(
        "Method", {"type": request.method, request.method: {"hyperparameters": dict(request.hyperparameters)}}
    )


def resolved(job: FineTuningJob) -> dict[str, Any]:
    """The hyperparameters that an endpoint took for a job, as far as it tells."""
    of_method = job.method and (job.method.supervised or job.method.dpo)
    chosen: Any = (of_method and of_method.hyperparameters) or job.hyperparameters
    return chosen.model_dump(exclude_none=True) if chosen else {}
