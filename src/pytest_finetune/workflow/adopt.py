"""Making a model that was trained elsewhere the candidate's fine-tuned stage: it then has to pass the gate."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from pytest_finetune import programs
from pytest_finetune.endpoints import SANDBOX, Endpoint
from pytest_finetune.errors import EndpointError, LockError, TrainingError, UsageError
from pytest_finetune.lock.file import read_lock
from pytest_finetune.lock.model import Entry
from pytest_finetune.task import BASELINE, FINETUNED, Task
from pytest_finetune.training.attempt import resolved
from pytest_finetune.training.remote import Remote
from pytest_finetune.training.steady import Patience
from pytest_finetune.workflow.facts import facts_of
from pytest_finetune.workflow.jobs import BUILDING
from pytest_finetune.workflow.pending import pending
from pytest_finetune.workflow.run import Run
from pytest_finetune.workflow.stages import job_of, kept_files

if TYPE_CHECKING:
    import dspy
    from openai.types.fine_tuning import FineTuningJob

_OUTAGE = 60.0  # seconds that the endpoint may be away


@dataclass(frozen=True)
class Adopted:
    """What came of it.

    Attributes:
        entry: The candidate's fine-tuned stage.
        stages: All stages that the candidate has of the task.
    """

    entry: Entry
    stages: tuple[str, ...]


def adopt(
    run: Run,
    name: str,
    found_as: str,
    *,
    served_as: str | None = None,
    training_file: Path | None = None,
    report: Callable[[str], None],
) -> Adopted:
    """Make a model the candidate's fine-tuned stage. Nothing is judged, and the lock stays as it is.

    Args:
        run: A run that builds.
        name: The task.
        found_as: The id of the job, or of the model.
        served_as: The name that the model is asked by, where that is not its id.
        training_file: What it was trained on, where the endpoint does not give it.
        report: Is given sentences on what is happening.

    Raises:
        UsageError: If the id is not that of a model of this task's student.
        TrainingError: If the job has not succeeded, or nobody has its training file.
        EndpointError: If the endpoint does not answer.
    """
    task = run.tasks[name]
    endpoint = run.connections.live(run.endpoint(task))
    if found_as == task.student:
        raise UsageError(f"{found_as!r} is the student of task {name!r} itself: it was never tuned")
    with Remote(endpoint, Patience(outage=_OUTAGE), report) as remote:
        job = _job(remote, found_as)
        model = found_as if job is None else _model(task, endpoint, job)
        if job is None and served_as is None and not _knows(remote, model):
            raise UsageError(
                f"endpoint {endpoint.name!r} knows neither a job nor a model {found_as!r}: see pytest-finetune jobs;"
                " of a model that is served under another name, give that with --served-as"
            )
        training = _training(remote, job, training_file)
    refs = {
        "training_rows": _count(training, training_file),
        "training": run.artifacts(name).put_bytes("training", training),
    }
    made = {"served_as": served_as, "job": job and job_of(job, resolved(job)), "env": {"adopted": found_as}}
    run.settings.folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(run.settings.folder / BUILDING, timeout=0):
            return _write(run, task, endpoint, model, refs, made, report)
    except Timeout:
        raise TrainingError(f"another run is building models in {run.settings.folder}: wait for it") from None


def _write(
    run: Run,
    task: Task,
    endpoint: Endpoint,
    model: str,
    refs: Mapping[str, Any],
    made: Mapping[str, Any],
    report: Callable[[str], None],
) -> Adopted:
    """Write the candidate: what is in the lock and what waits to be, with the adopted model as fine-tuned stage."""
    entry = _entry(run, task, endpoint, FINETUNED, _program(run, task), model)
    entry = entry.model_copy(update={**made, "artifacts": entry.artifacts.model_copy(update=dict(refs))})
    kept = pending(run, [entry], report)
    known = {one.stage for one in (*run.accepted.models, *kept) if one.task == task.id}
    baseline = [] if BASELINE in known else [_entry(run, task, endpoint, BASELINE, task.program(), task.student)]
    run.locks.keep_candidate(run.accepted.with_entries([*kept, *baseline, entry]))
    return Adopted(entry, tuple(sorted({*known, BASELINE, FINETUNED})))


def _job(remote: Remote, found_as: str) -> FineTuningJob | None:
    """The job of this id, or the one that made the model of this id; None where the endpoint does not tell."""
    import openai

    try:
        return remote.job(found_as) or next(
            (job for job in remote.jobs() or () if job.fine_tuned_model == found_as), None
        )
    except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
        raise EndpointError(f"endpoint {remote.endpoint.name!r} refused to tell its jobs: {error.message}") from None
    except openai.APIStatusError:
        return None  # it has no jobs, or does not take such an id for one of a job


def _knows(remote: Remote, model: str) -> bool:
    """Whether the endpoint has such a model; some do not tell."""
    import openai

    try:
        return remote.knows(model)
    except openai.APIStatusError:
        return False


def _model(task: Task, endpoint: Endpoint, job: FineTuningJob) -> str:
    """The model that a job made, if it is one for this task."""
    if job.status != "succeeded" or not job.fine_tuned_model:
        raise TrainingError(
            f"job {job.id} is {job.status}, and has no model to adopt: see how it goes on with pytest-finetune jobs"
        )
    if not job.model.startswith(task.student):
        raise UsageError(
            f"job {job.id} tuned {job.model!r}, and the student of task {task.id!r} is {task.student!r}: adopt it for"
            " a task with that student"
        )
    if endpoint.name == SANDBOX and job.seed != task.seed:
        raise UsageError(
            f"job {job.id} was trained with seed {job.seed}; the sandbox fits models again from their training file"
            f" and the task's seed: set Task(seed={job.seed}) for {task.id!r}"
        )
    return job.fine_tuned_model


def _training(remote: Remote, job: FineTuningJob | None, given: Path | None) -> bytes:
    """The training file: the endpoint's own, else the one that is given."""
    import openai

    reason = "the endpoint knows no job that made this model"
    if job is not None:
        try:
            return remote.ask(lambda: remote.client.files.content(job.training_file).read())
        except openai.APIStatusError as error:
            reason = f"the endpoint does not give out {job.training_file} (HTTP {error.status_code})"
    if given is not None:
        return given.read_bytes()
    raise TrainingError(
        f"not adopted: {reason}, so nobody could check whether the model was trained on test rows, and its score"
        " would say nothing. Give the file that it was trained on: --training-file FILE"
    )


def _count(training: bytes, given: Path | None) -> int:
    """How many rows a training file has; refused if it is none."""
    lines = training.splitlines()
    for number, line in enumerate(lines, 1):
        try:
            held = isinstance(json.loads(line), dict)
        except (ValueError, RecursionError):
            held = False
        if not held:
            raise UsageError(
                f"{given or 'the training file'}:{number}: no JSON object; it must have one on each line"
            )
    if not lines:
        raise UsageError(f"{given or 'the training file'} is empty")
    return len(lines)


def _program(run: Run, task: Task) -> dspy.Module:
    """The program with the prompts that the fine-tuned stage had so far, if they still fit, else without state."""
    built = read_lock(run.candidate).models if run.candidate.exists() else ()
    for entry in (*run.accepted.models, *built):
        if (entry.task, entry.stage) == (task.id, FINETUNED):
            try:
                return programs.load_state(task.program(), run.artifacts(task.id).get_json(entry.artifacts.program))
            except LockError:
                break
    return task.program()


def _entry(run: Run, task: Task, endpoint: Endpoint, stage: str, program: dspy.Module, model: str) -> Entry:
    state = programs.dump_state(program)
    facts = facts_of(task, stage, programs.load_state(task.program(), state), endpoint)
    return Entry(**facts.model_dump(), model=model, artifacts=kept_files(run.artifacts(task.id), task, state))
