"""Runs fine-tuning jobs in the background: validate, queue, fit in a process, publish.

A fit is a function of its `FitSpec`. So a job that was interrupted, by a pause or by killing the server, is fitted
again from its beginning; the steps it had already reported are not reported twice, and the model is the same.
"""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import hashlib
import math
import secrets
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from .errors import ApiError
from .faults import FaultKind
from .jobs import ENDED, JobRecord, Jobs, token
from .learning import Step, auto_hyperparameters
from .models import Models
from .process import FitFailed, Trainers
from .tokens import count_tokens
from .trainer import KEPT_EPOCHS, FitSpec
from .training_file import InvalidFile, read_rows
from .wire.files import FileObject
from .wire.jobs import (
    Checkpoint,
    CheckpointMetrics,
    CreateJob,
    Dpo,
    DpoHyperparameters,
    FineTuningJob,
    JobError,
    Method,
    Supervised,
    SupervisedHyperparameters,
)

_MODERATED = (
    "The job failed due to an invalid training file. This training file was blocked by our moderation system"
    " because it contains too many examples that violate OpenAI's usage policies, or because it attempts to create"
    " model outputs that violate OpenAI's usage policies."
)
_GUESSED_DURATION = 60
_AUTO = SupervisedHyperparameters()


class _Interrupted(Exception):
    """A fault wants the job paused here."""


@dataclass
class Runner:
    """The jobs that are running, and how to start, stop and restart them."""

    jobs: Jobs
    models: Models
    _tasks: dict[str, asyncio.Task[None]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._slots = asyncio.Semaphore(self.jobs.settings.max_jobs)
        self._trainers = Trainers(self.jobs.state.folder / "weights")

    def start(self, record: JobRecord) -> None:
        """Run a job that was just created, or go on with one."""
        self._tasks[record.job.id] = asyncio.create_task(self._run(record))

    def recover(self) -> None:
        """Go on with every job that a killed server left unfinished."""
        for record in self.jobs.all():
            if record.job.status not in ENDED | {"paused"}:
                self.start(record)

    async def stop(self) -> None:
        """Stop all work; the jobs stay as they are stored, for the next start."""
        await asyncio.gather(*(self._stop_task(job_id) for job_id in list(self._tasks)))
        await self._trainers.stop()

    async def prepare(self) -> None:
        """Make ready for a job that is likely to come: a training file was uploaded."""
        await self._trainers.warm()

    async def cancel(self, job_id: str) -> FineTuningJob:
        """End a job; what it had learned is gone."""
        await self._stop_task(self.jobs.get_unended(job_id).job.id)
        record = self.jobs.get_unended(job_id)
        self.jobs.event(job_id, "The job was cancelled")
        self.jobs.end(record, "cancelled")
        return record.job

    async def pause(self, job_id: str) -> FineTuningJob:
        """Hold a job until it is resumed."""
        await self._stop_task(self.jobs.get_unended(job_id).job.id)
        record = self.jobs.get_unended(job_id)
        self.jobs.pause(record)
        return record.job

    def resume(self, job_id: str) -> FineTuningJob:
        """Go on with a paused job."""
        record = self.jobs.get_unended(job_id)
        if record.job.status != "paused":
            raise ApiError(400, f"Job {job_id} is not paused: its status is {record.job.status}.")
        self.jobs.event(job_id, "The job was resumed")
        self.jobs.change(record, status="queued" if record.rows else "validating_files")
        self.start(record)
        return record.job

    async def restore(self, name: str, body: CreateJob) -> None:
        """Fit a model from its training file and publish it under a name, without a job."""
        job = new_job(body, job_id="", now=self.jobs.clock.now())
        rows, _ = await asyncio.to_thread(self._read_files, job)
        spec = self._spec(job.model_copy(update=_resolved(job, rows)))
        weights = spec.weights(_epoch_of(name, rows, spec.batch_size))
        async with self._slots:
            if not self.jobs.state.weights(weights).exists():
                await self._fit(spec, lambda _: None)
        self.models.add(name, spec.size, weights)

    async def _stop_task(self, job_id: str) -> None:
        task = self._tasks.pop(job_id, None)
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _run(self, record: JobRecord) -> None:
        clock, wait = self.jobs.clock, self.jobs.settings.queue_seconds
        try:
            if record.job.status == "validating_files":
                await clock.sleep(wait)
                await self._validate(record)
            await clock.sleep(wait)
            async with self._slots:
                await self._train(record)
        except InvalidFile as error:
            self.jobs.fail(record, JobError(code=error.code, message=str(error), param=error.param))
        except FitFailed as error:
            self.jobs.fail(record, JobError(code="server_error", message=str(error)))
        except _Interrupted:
            self.jobs.pause(record)
        self._tasks.pop(record.job.id, None)

    async def _validate(self, record: JobRecord) -> None:
        job = record.job
        also = f" and validation file: {job.validation_file}" if job.validation_file else ""
        self.jobs.event(job.id, f"Validating training file: {job.training_file}{also}")
        if record.planned is FaultKind.JOB_MODERATION:
            raise InvalidFile("invalid_training_file", "training_file", _MODERATED)
        record.rows, record.tokens = await asyncio.to_thread(self._read_files, job)
        if self.jobs.settings.live_quirks:
            self.jobs.event(job.id, "Moderation checks passed", kind="moderation_checks", data={"blocked": 0})
        self.jobs.event(job.id, "Files validated, moving job to queued state")
        self.jobs.change(
            record,
            status="queued",
            estimated_finish=self.jobs.clock.now() + _GUESSED_DURATION,
            **_resolved(job, record.rows),
        )

    def _read_files(self, job: FineTuningJob) -> tuple[int, int]:
        """The rows of the training file, and the tokens that one epoch trains on."""
        rows = read_rows(
            self._content(job.training_file, "training_file"), param="training_file", method=job.method.type
        )
        if job.validation_file is not None:
            content = self._content(job.validation_file, "validation_file")
            read_rows(content, param="validation_file", method=job.method.type)
        return len(rows), sum(count_tokens(message.content) for row in rows for message in row)

    def _content(self, file_id: str, param: str) -> bytes:
        try:
            return self.jobs.state.contents(file_id).read_bytes()
        except FileNotFoundError:
            raise InvalidFile(f"invalid_{param}", param, f"The file {file_id} was deleted.") from None

    async def _train(self, record: JobRecord) -> None:
        job_id = record.job.id
        if record.job.status == "queued":
            self.jobs.event(job_id, "Fine-tuning job started")
            self.jobs.change(record, status="running")
        spec = self._spec(record.job)
        steps = await self._fit(spec, lambda step: self._follow(record, step))
        self._succeed(record, spec, steps)

    async def _fit(self, spec: FitSpec, follow: Callable[[Step], None]) -> list[Step]:
        steps = []
        async with aclosing(self._trainers.fit(spec)) as fitting:
            async for step in fitting:
                follow(step)
                steps.append(step)
        return steps

    def _follow(self, record: JobRecord, step: Step) -> None:
        if step.step > record.reported:
            self._report(record, step)
        if 2 * step.step < step.total_steps:
            return
        if record.planned is FaultKind.JOB_FAILS:
            raise FitFailed("The job failed due to an internal error.")
        if record.planned is FaultKind.JOB_PAUSES:
            record.planned = None
            raise _Interrupted

    def _report(self, record: JobRecord, step: Step) -> None:
        losses = f"training loss={step.train_loss:.2f}"
        if step.valid_loss is not None:
            losses += f", validation loss={step.valid_loss:.2f}"
        if step.full_valid_loss is not None:
            losses += f", full validation loss={step.full_valid_loss:.2f}"
        data = {"total_steps": step.total_steps, **_metrics(step).model_dump(exclude_none=True)}
        message = f"Step {step.step}/{step.total_steps}: {losses}"
        self.jobs.event(record.job.id, message, kind="metrics", data=data)
        record.reported = step.step
        self.jobs.save(record)

    def _succeed(self, record: JobRecord, spec: FitSpec, steps: list[Step]) -> None:
        job = record.job
        name = f"ft:{_base_of(job.model)}:sandbox:{job.user_provided_suffix or ''}:{token(8)}"
        last_of_epoch = {step.epoch: step for step in steps}
        for step in list(last_of_epoch.values())[-KEPT_EPOCHS:]:
            self._add_checkpoint(job, f"{name}:ckpt-step-{step.step}", spec, step)
        self.models.add(name, spec.size, spec.weights())
        self.jobs.event(job.id, f"New fine-tuned model created: {name}")
        self.jobs.event(job.id, "The job has successfully completed")
        self.jobs.end(
            record,
            "succeeded",
            fine_tuned_model=name,
            result_files=[self._write_results(steps).id],
            trained_tokens=record.tokens * spec.n_epochs,
        )

    def _add_checkpoint(self, job: FineTuningJob, name: str, spec: FitSpec, step: Step) -> None:
        self.models.add(name, spec.size, spec.weights(step.epoch))
        checkpoint = Checkpoint(
            id=f"ftckpt_{token()}",
            created_at=self.jobs.clock.now(),
            fine_tuned_model_checkpoint=name,
            fine_tuning_job_id=job.id,
            metrics=_metrics(step),
            step_number=step.step,
        )
        self.jobs.state.put("checkpoint", checkpoint.id, checkpoint, parent=job.id)
        self.jobs.event(job.id, f"Checkpoint created at step {step.step} with Snapshot ID: {name}")

    def _write_results(self, steps: list[Step]) -> FileObject:
        """The metrics of every step; the service gives this file in base64."""
        head = "step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy"
        cells = (
            (s.step, s.train_loss, s.train_mean_token_accuracy, s.valid_loss, s.valid_mean_token_accuracy)
            for s in steps
        )
        rows = (",".join("" if cell is None else f"{cell:.6g}" for cell in row) for row in cells)
        content = base64.b64encode("\n".join([head, *rows, ""]).encode())
        file = FileObject(
            id=f"file-{token()}",
            bytes=len(content),
            created_at=self.jobs.clock.now(),
            filename="step_metrics.csv",
            purpose="fine-tune-results",
        )
        self.jobs.state.contents(file.id).write_bytes(content)
        self.jobs.state.put("file", file.id, file)
        return file

    def _spec(self, job: FineTuningJob) -> FitSpec:
        parent = self.models.stored(job.model)
        size = parent.size if parent else self.models.base_size(job.model)
        if size is None:
            raise FitFailed(f"The model {job.model} was deleted while the job waited.")
        contents, chosen = self.jobs.state.contents, job.hyperparameters.model_dump()
        return FitSpec(
            size=size,
            training=contents(job.training_file),
            training_sha256=hashlib.sha256(self._content(job.training_file, "training_file")).hexdigest(),
            validation=contents(job.validation_file) if job.validation_file else None,
            method=job.method.type,
            seed=job.seed,
            parent=self.jobs.state.weights(parent.weights) if parent else None,
            parent_id=parent.weights if parent else None,
            **chosen,
        )


def new_job(body: CreateJob, *, job_id: str, now: int) -> FineTuningJob:
    """The job that a request asks for, before anything has happened to it."""
    named = Supervised(hyperparameters=body.hyperparameters or _AUTO)
    method = body.method or Method(type="supervised", supervised=named)
    if method.type == "dpo":
        asked: SupervisedHyperparameters = (method.dpo or Dpo()).hyperparameters
    else:
        asked = (method.supervised or named).hyperparameters
    return FineTuningJob(
        id=job_id,
        created_at=now,
        error=JobError(),
        hyperparameters=SupervisedHyperparameters(**asked.model_dump(exclude={"beta"})),
        integrations=body.integrations,
        metadata=body.metadata,
        method=method,
        model=body.model,
        seed=secrets.randbelow(2**31) if body.seed is None else body.seed,
        status="validating_files",
        training_file=body.training_file,
        user_provided_suffix=body.suffix,
        validation_file=body.validation_file,
    )


def _resolved(job: FineTuningJob, rows: int) -> dict[str, Any]:
    """The job's fields once every "auto" is a number."""
    auto = dataclasses.asdict(auto_hyperparameters(rows))
    asked = job.hyperparameters.model_dump()
    chosen = {name: auto[name] if value == "auto" else value for name, value in asked.items()}
    if job.method.type == "dpo":
        beta = (job.method.dpo or Dpo()).hyperparameters.beta
        beta = 0.1 if beta == "auto" else beta
        method = Method(type="dpo", dpo=Dpo(hyperparameters=DpoHyperparameters(**chosen, beta=beta)))
    else:
        supervised = Supervised(hyperparameters=SupervisedHyperparameters(**chosen))
        method = Method(type="supervised", supervised=supervised)
    return {"hyperparameters": SupervisedHyperparameters(**chosen), "method": method}


def _metrics(step: Step) -> CheckpointMetrics:
    fields = dataclasses.asdict(step)
    return CheckpointMetrics(**{name: fields[name] for name in CheckpointMetrics.model_fields})


def _epoch_of(name: str, rows: int, batch_size: int) -> int | None:
    """The epoch after which a model of this name was kept; None for the finished model."""
    _, checkpoint, step = name.partition(":ckpt-step-")
    return int(step) // math.ceil(rows / batch_size) if checkpoint else None


def _base_of(model: str) -> str:
    """The name of the base model, also where a fine-tuned one is trained on."""
    return model.split(":")[1] if model.startswith("ft:") else model
