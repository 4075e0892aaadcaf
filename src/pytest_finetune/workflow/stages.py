"""A stage as the lock pins it, ready to be run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pytest_finetune import programs
from pytest_finetune.core.fingerprint import digest
from pytest_finetune.endpoints import Endpoint
from pytest_finetune.errors import LockError
from pytest_finetune.lock.artifacts import Artifacts
from pytest_finetune.lock.data import put_data
from pytest_finetune.lock.model import ArtifactRefs, Entry, Facts, ScoredRows
from pytest_finetune.lock.tuned import Job
from pytest_finetune.task import FINETUNED, HeldOut, Task
from pytest_finetune.workflow.facts import facts_of, known_rows

if TYPE_CHECKING:
    import dspy
    from openai.types.fine_tuning import FineTuningJob

    from pytest_finetune.training.request import JobFacts


@dataclass(frozen=True)
class PinnedStage:
    """A stage with its program, before it has a live LM.

    Attributes:
        entry: What the lock says of it.
        facts: What the tasks file and the data say of it today.
        program: The task's program with the pinned state.
        program_state: The digest of program and state together.
        adapter: Writes its prompts.
        endpoint: Where its model lives.
        artifacts: The files beside its lock.
        recorded: Rows beside the lock that were accepted for it.
        mixed: The program of other work that its model was trained on too.
    """

    entry: Entry
    facts: Facts
    program: dspy.Module
    program_state: str
    adapter: dspy.Adapter
    endpoint: Endpoint
    artifacts: Artifacts
    recorded: tuple[str, ...] = ()
    mixed: dspy.Module | None = None

    def on(self, held: HeldOut, suite: str | None) -> PinnedStage:
        """The stage as it runs on these rows: a suite may have a program of its own."""
        accepted = accepted_on(self.entry, suite)
        recorded = () if accepted is None or changed_since(accepted, held) else (accepted.rows,)
        if held.program is None:
            return replace(self, recorded=recorded)
        program = held.program()
        return replace(self, program=program, program_state=programs.program_fingerprint(program), recorded=recorded)

    @property
    def key(self) -> str:
        """The digest of all that changes its answers, and of nothing else."""
        facts = self.facts
        return digest([self.entry.identity, facts.endpoint, self.program_state, facts.adapter, facts.decoding])


def kept_files(artifacts: Artifacts, task: Task, state: Mapping[str, Any]) -> ArtifactRefs:
    """Keep what every stage has beside the lock: its program's state, and by which rows it was built and judged."""
    return ArtifactRefs(program=artifacts.put_json("program", state), data=put_data(artifacts, known_rows(task)))


def accepted_on(entry: Entry, suite: str | None) -> ScoredRows | None:
    """What was accepted of a stage, on the test split or on a suite; None where nothing was."""
    refs = entry.artifacts
    if suite is not None:
        return refs.suites.get(suite)
    if refs.rows is None:
        return None
    return ScoredRows(rows=refs.rows, data=entry.data.test, metric=entry.fingerprints.metric)


def scored_rows(held: HeldOut, ref: str) -> ScoredRows:
    """Rows beside the lock, with what decides their scores today."""
    program = None if held.program is None else programs.program_fingerprint(held.program())
    return ScoredRows(rows=ref, data=held.fingerprint, metric=held.metric.fingerprint(), program=program)


def changed_since(accepted: ScoredRows, held: HeldOut) -> list[str]:
    """What makes the accepted rows incomparable with those that are judged now: nothing, if all is well."""
    now = scored_rows(held, accepted.rows)
    named = {"rows": "data", "metric": "metric", "program": "program"}
    return [name for name, field in named.items() if getattr(now, field) != getattr(accepted, field)]


def _check_predictors(entry: Entry, program: dspy.Module) -> None:
    own = programs.predictors(program).keys()
    if entry.predictors and entry.predictors.keys() != own:
        raise LockError(
            f"{entry.name}: the lock pins a model for each of the predictors {', '.join(entry.predictors)}, and the"
            f" program has {', '.join(own)}: pytest --ft-retrain --ft-task {entry.task}"
        )


def pinned_stage(task: Task, entry: Entry, endpoint: Endpoint, artifacts: Artifacts) -> PinnedStage:
    """Load a stage's program with the state that the lock names.

    Raises:
        LockError: If the artifact is missing or damaged, or does not fit the program.
    """
    program = programs.load_state(task.program(), artifacts.get_json(entry.artifacts.program))
    _check_predictors(entry, program)
    facts = facts_of(task, entry.stage, program, endpoint)
    state = programs.program_fingerprint(program)
    mixed = task.mixed.program() if entry.stage == FINETUNED and task.mixed and task.mixed.program else None
    return PinnedStage(entry, facts, program, state, task.make_adapter(), endpoint, artifacts, mixed=mixed)


def job_of(told: JobFacts | FineTuningJob, hyperparameters: Mapping[str, Any]) -> Job:
    """A job as the lock keeps it.

    Args:
        told: What its endpoint told.
        hyperparameters: As the endpoint resolved them.
    """
    kept = ("id", "status", "created_at", "finished_at", "training_file", "trained_tokens", "seed")
    return Job.model_validate({name: getattr(told, name) for name in kept} | {"hyperparameters": hyperparameters})
