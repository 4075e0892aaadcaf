"""Fine-tuning jobs on an OpenAI-shaped endpoint: each is created once, whatever happens in between."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

from filelock import FileLock

from pytest_finetune.core.fingerprint import digest
from pytest_finetune.endpoints import SANDBOX, Endpoint
from pytest_finetune.errors import TrainingError
from pytest_finetune.training import journal as states
from pytest_finetune.training.journal import Journal
from pytest_finetune.training.refusals import ended_badly, refused
from pytest_finetune.training.steady import Patience, Report

if TYPE_CHECKING:
    import openai
    from openai.types.fine_tuning import FineTuningJob
    from openai.types.fine_tuning.supervised_hyperparameters_param import SupervisedHyperparametersParam

Answer = TypeVar("Answer")

KEY = "pytest_finetune_key"
"""Under this name a job's metadata hold the hash of what it is made from."""

ENDED = frozenset({"succeeded", "failed", "cancelled"})
_DEAD = ENDED - {"succeeded"}
_NOT_LISTED = frozenset({400, 403, 404, 405, 501})  # an endpoint that cannot list jobs, files or events
_TIMEOUT = 120.0  # seconds for one request, an upload included
_METRICS = 20  # events looked at for the latest loss


class Loss(NamedTuple):
    """One point of a loss curve; ``valid`` is None where the endpoint gave none."""

    step: int
    train: float
    valid: float | None


@dataclass(frozen=True, slots=True)
class JobRequest:
    """What a job is made from: equal requests are one job.

    Attributes:
        model: The id of the model to tune, as the endpoint names it.
        training: The training file's bytes, JSON Lines.
        validation: The validation file's bytes.
        seed: Of the training.
        suffix: What the new model's id is to contain, at most 64 characters.
        hyperparameters: Of the supervised method, in the endpoint's names.
    """

    model: str
    training: bytes
    validation: bytes | None = None
    seed: int = 0
    suffix: str | None = None
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)

    def key(self, endpoint: Endpoint) -> str:
        """The hash of the request and of the endpoint it goes to, in 32 hexadecimal digits."""
        files = [content and hashlib.sha256(content).hexdigest() for content in (self.training, self.validation)]
        settings = [self.seed, self.suffix, dict(self.hyperparameters), dict(endpoint.extra_body)]
        return digest([endpoint.identity, self.model, files, settings])[:32]


@dataclass(frozen=True, slots=True)
class JobFacts:
    """A job that succeeded, as the endpoint told of it.

    Attributes:
        id: The job's id.
        key: The hash of what it is made from; see ``JobRequest.key``.
        status: ``"succeeded"``.
        model: The id of the model that came of it.
        base: The id of the model that was tuned.
        created_at: Unix seconds.
        finished_at: Unix seconds.
        training_file: The file's id.
        validation_file: The file's id, if there was one.
        trained_tokens: As the endpoint counted, and bills, them.
        seed: As the endpoint echoes it.
        hyperparameters: As the endpoint resolved them.
        losses: The loss curve, by step; empty where the endpoint tells no losses.
    """

    id: str
    key: str
    status: str
    model: str
    base: str
    created_at: int
    finished_at: int | None
    training_file: str
    validation_file: str | None
    trained_tokens: int | None
    seed: int | None
    hyperparameters: Mapping[str, Any]
    losses: tuple[Loss, ...] = ()


def file_name(content: bytes) -> str:
    """The name under which a file is uploaded, and found again: it says what is in it."""
    return f"pytest-finetune-{hashlib.sha256(content).hexdigest()[:32]}.jsonl"


class JobRunner:
    """Brings jobs into being, follows them to their end, and takes them up again after any interruption.

    The order of things: what the journal knows; else what the endpoint lists under the job's key or training file;
    only then is a job created. Each request that changes something is in the journal before it is made and after.

    Args:
        endpoint: Where the jobs run.
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
        self.following: str | None = None
        self._client: openai.OpenAI

    def run(self, request: JobRequest) -> JobFacts:
        """Give the succeeded job of a request, having created it if there was none.

        Raises:
            TrainingError: If the endpoint refused the job, or it failed, or was cancelled.
            EndpointError: If the endpoint was away for too long; the job goes on.
            Interrupted: If ``leave`` was called; the job goes on.
        """
        key = request.key(self.endpoint)
        self.journal.path.parent.mkdir(parents=True, exist_ok=True)
        with self.endpoint.client(
            max_retries=0, timeout=_TIMEOUT
        ) as self._client:  # no request is repeated by openai
            with FileLock(f"{self.journal.path}.lock"):
                job = self._open_job(key) or self._submit(key, request)
            self.following = job.id
            return self._facts(key, self._follow(key, job))

    def leave(self) -> str:
        """End all waiting, leave the jobs running, and say how to come back."""
        self.patience.stop.set()
        going = f"Job {self.following} goes on" if self.following else "What was begun is kept"
        return f"{going} on endpoint {self.endpoint.name!r}; come back with: {self.comeback}"

    def _open_job(self, key: str) -> FineTuningJob | None:
        known = self.journal.attempt(key).get("job")
        job = (known and self._retrieve(key, known)) or self._listed(key)
        if job is not None:
            self.report(f"Taking up job {job.id} on endpoint {self.endpoint.name!r} ({job.status}).")
            self.journal.write(key, states.CREATED, job=job.id)
        return job

    def _retrieve(self, key: str, job_id: str) -> FineTuningJob | None:
        import openai

        try:
            job = self._ask(lambda: self._client.fine_tuning.jobs.retrieve(job_id))
        except openai.NotFoundError as error:
            if self.endpoint.name != SANDBOX:
                raise TrainingError(
                    f"job {job_id} of the journal {self.journal.path} is not known to endpoint "
                    f"{self.endpoint.name!r} ({error.message}): is the key that of another project? No second job "
                    f"is started. To train anew, delete the lines with {job_id} from the journal, then run: "
                    f"{self.comeback}"
                ) from error
            job = None  # a sandbox forgets its jobs when it ends
        if job is not None and self._usable(job):
            return job
        self.journal.write(key, job.status if job and job.status in _DEAD else states.GONE, job=job_id)
        return None

    def _usable(self, job: FineTuningJob) -> bool:
        import openai

        if job.status != "succeeded" or self.endpoint.name != SANDBOX:
            return job.status not in _DEAD
        try:
            self._ask(lambda: self._client.models.retrieve(job.fine_tuned_model or ""))
        except openai.NotFoundError:  # deleted; elsewhere it may just not be deployed, and was paid for
            return False
        return True

    def _listed(self, key: str) -> FineTuningJob | None:
        jobs = self._every(lambda: self._client.fine_tuning.jobs.list(limit=100, metadata={KEY: key}))
        mine = [job for job in jobs or () if (job.metadata or {}).get(KEY) == key and self._usable(job)]
        return _oldest(mine) if mine else None

    def _submit(self, key: str, request: JobRequest) -> FineTuningJob:
        import openai

        rows = request.training.count(b"\n")
        self.report(f"Handing in a job for {request.model} on endpoint {self.endpoint.name!r}: {rows:,} rows.")
        try:
            files = {"training_file": self._file(key, "training_file", request.training)}
            if request.validation is not None:
                files["validation_file"] = self._file(key, "validation_file", request.validation)
            job = self._ask(lambda: self._find_or_create(key, request, files))
        except openai.APIStatusError as error:
            self.journal.write(key, states.REFUSED, reason=str(error))
            raise refused(error, request.model, self.endpoint.name, self.comeback) from error
        self.journal.write(key, states.CREATED, job=job.id)
        self.report(f"Job {job.id} is created.")
        return job

    def _file(self, key: str, role: str, content: bytes) -> str:
        name, known = file_name(content), self.journal.attempt(key).get(role)
        (self.journal.path.parent / name).write_bytes(content)

        def find_or_upload() -> str:
            files = self._every(lambda: self._client.files.list(purpose="fine-tune", order="asc"))
            same = [file.id for file in files or () if (file.filename, file.bytes) == (name, len(content))]
            if same or (files is None and known):
                return same[0] if same else str(known)
            self.journal.write(key, states.UPLOADING, file=name)
            return self._client.files.create(file=(name, content), purpose="fine-tune").id

        file_id = self._ask(find_or_upload)
        self.journal.write(key, states.UPLOADED, **{role: file_id})
        return file_id

    def _find_or_create(self, key: str, request: JobRequest, files: Mapping[str, str]) -> FineTuningJob:
        """Create the job, unless an earlier try, whose answer was lost, has done so."""
        ambiguous = self.journal.attempt(key)["state"] == states.CREATING
        if ambiguous:
            self.patience.settle()
        jobs = self._every(lambda: self._client.fine_tuning.jobs.list(limit=100))
        if jobs is None and ambiguous:
            raise TrainingError(
                f"endpoint {self.endpoint.name!r} may have created a job (training file {files['training_file']}) "
                "and cannot list its jobs: look at its console. No second job is started. If there is none, delete "
                f"the lines with {key} from {self.journal.path}, then run: {self.comeback}"
            )
        same = [job for job in jobs or () if _made_from(job, key, request, files) and self._usable(job)]
        if same:
            return _oldest(same)
        self.journal.write(key, states.CREATING, **files)
        return self._client.fine_tuning.jobs.create(
            model=request.model,
            training_file=files["training_file"],
            validation_file=files.get("validation_file"),
            seed=request.seed,
            suffix=request.suffix,
            metadata={KEY: key},
            method={"type": "supervised", "supervised": {"hyperparameters": _hyperparameters(request)}},
            extra_body=dict(self.endpoint.extra_body) or None,
        )

    def _follow(self, key: str, job: FineTuningJob) -> FineTuningJob:
        """Wait for the job's end; its status alone decides, and one that is not known is no end."""
        last = step = ""
        for _ in self.patience.waits():
            if job.status != last:
                last = job.status
                self.journal.write(key, last if last in ENDED else states.STATUS, job=job.id, status=last)
                self.report(f"Job {job.id}: {last}.")
            if job.status in _DEAD:
                raise ended_badly(job, self.endpoint.name, self.journal.path.parent, self.comeback)
            if job.status == "succeeded":
                break
            now = self._step(job.id)
            if now != step:
                step = now
                self.report(f"Job {job.id}: {step}.")
            job = self._ask(lambda: self._client.fine_tuning.jobs.retrieve(job.id))  # noqa: B023  # called at once
        return job

    def _step(self, job_id: str) -> str:
        newest = self._ask(lambda: self._client.fine_tuning.jobs.list_events(job_id, limit=_METRICS)).data
        metrics = [event.message for event in newest if event.type == "metrics"]
        return metrics[0] if metrics else ""

    def _facts(self, key: str, job: FineTuningJob) -> JobFacts:
        if not job.fine_tuned_model:
            raise TrainingError(f"job {job.id} on endpoint {self.endpoint.name!r} succeeded but names no model")
        return JobFacts(
            id=job.id,
            key=key,
            status=job.status,
            model=job.fine_tuned_model,
            base=job.model,
            created_at=job.created_at,
            finished_at=job.finished_at,
            training_file=job.training_file,
            validation_file=job.validation_file,
            trained_tokens=job.trained_tokens,
            seed=job.seed,
            hyperparameters=_resolved(job),
            losses=self._losses(job.id),
        )

    def _losses(self, job_id: str) -> tuple[Loss, ...]:
        events = self._every(lambda: self._client.fine_tuning.jobs.list_events(job_id, limit=100))
        points = [event.data for event in events or () if event.type == "metrics"]
        curve = [
            Loss(int(data["step"]), float(data["train_loss"]), data.get("valid_loss"))
            for data in points
            if isinstance(data, dict) and {"step", "train_loss"} <= data.keys()
        ]
        return tuple(sorted(curve))

    def _ask(self, request: Callable[[], Answer]) -> Answer:
        return self.patience.ask(request, self.endpoint.name, self.report)

    def _every(self, pages: Callable[[], Iterable[Answer]]) -> list[Answer] | None:
        """All items of all pages; None where the endpoint does not list them."""
        import openai

        try:
            return self._ask(lambda: list(pages()))
        except openai.APIStatusError as error:
            if error.status_code in _NOT_LISTED:
                return None
            raise


def _oldest(jobs: Iterable[FineTuningJob]) -> FineTuningJob:
    return min(jobs, key=lambda job: (job.created_at, job.id))


def _made_from(job: FineTuningJob, key: str, request: JobRequest, files: Mapping[str, str]) -> bool:
    """Whether the job is that of the request: by its key, or, where an endpoint keeps no metadata, by its files."""
    if job.metadata:
        return job.metadata.get(KEY) == key
    same_files = (job.training_file, job.validation_file) == (files["training_file"], files.get("validation_file"))
    return same_files and job.model.startswith(request.model) and job.seed in (None, request.seed)


def _hyperparameters(request: JobRequest) -> SupervisedHyperparametersParam:
    return cast("SupervisedHyperparametersParam", dict(request.hyperparameters))


def _resolved(job: FineTuningJob) -> dict[str, Any]:
    method = job.method and job.method.supervised and job.method.supervised.hyperparameters
    return (method or job.hyperparameters).model_dump(exclude_none=True)
