"""Building the stages of tasks, and keeping them as a candidate until they hold."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from pytest_finetune import programs
from pytest_finetune.calls import Stopped
from pytest_finetune.core.diagnosis import diagnose
from pytest_finetune.core.pricing import CAP
from pytest_finetune.endpoints import Endpoint
from pytest_finetune.errors import TrainingError, UsageError
from pytest_finetune.lock.model import Entry
from pytest_finetune.lock.tuned import Tuned
from pytest_finetune.reports.diagnosis import diagnosis
from pytest_finetune.task import BASELINE, FINETUNED, PROMPT_OPTIMIZED, TEACHER, Task
from pytest_finetune.training.bootstrap import EVERY
from pytest_finetune.training.building import Finetuned
from pytest_finetune.training.checkpoints import Checkpoints
from pytest_finetune.training.fit import observe
from pytest_finetune.training.optimizers import Optimized, build_prompt_optimized, check_optimizer
from pytest_finetune.training.recipes import build_finetuned, check_recipe, comeback_of
from pytest_finetune.training.steady import Patience, Pending
from pytest_finetune.workflow.facts import check_data, facts_of
from pytest_finetune.workflow.jobs import BUILDING, JOURNAL
from pytest_finetune.workflow.lines import TRAINING
from pytest_finetune.workflow.pending import pending
from pytest_finetune.workflow.preflight import check_training_price, preflight
from pytest_finetune.workflow.run import Run
from pytest_finetune.workflow.stages import job_of, kept_files

if TYPE_CHECKING:
    import dspy


def build_candidate(
    run: Run,
    tasks: Sequence[str],
    *,
    report: Callable[[str], None],
    wait: bool = True,
    prompts_only: bool = False,
) -> None:
    """Build every stage of these tasks, and write them as the candidate.

    What the candidate has besides, of other tasks or of a model that is not built anew, it keeps; see `pending`.
    All tasks are checked before the first call. What was paid for is kept: an interrupted run goes on with its
    jobs when it is started again.

    Args:
        run: The run.
        tasks: Their names.
        report: Is given sentences on what is happening.
        wait: Follow jobs to their end; else they are handed in, and a later run takes them up.
        prompts_only: Train no model: build the other stages, which a later build takes up.

    Raises:
        UsageError: If a task cannot work; nothing was spent.
        Pending: If a job goes on, and nobody waits for it.
        TrainingError: If a stage cannot be built; the message says where what was paid for is kept.
    """
    for name in tasks:
        check_task(run, name)
    if not prompts_only:
        preflight(run, tasks, report)
        for name in tasks:
            check_training_price(run, run.tasks[name], report)
    run.settings.folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(run.settings.folder / BUILDING, timeout=0):
            try:
                entries = _entries(run, tasks, report, Patience(to_the_end=wait), prompts_only)
            except Stopped as stop:  # over the budget, or by another thread that was
                raise TrainingError(
                    f"not built: {stop}. What was answered is kept: run the same command again with a higher cap"
                    f" ({CAP})"
                ) from None
            kept = pending(run, entries, report)
            run.locks.keep_candidate(run.accepted.with_entries([*kept, *entries]))
    except Timeout:
        raise TrainingError(
            f"another run is building models in {run.settings.folder}: wait for it, or stop it"
        ) from None


def _entries(
    run: Run, tasks: Sequence[str], report: Callable[[str], None], patience: Patience, prompts_only: bool
) -> list[Entry]:
    """The entries of all stages; a task whose job goes on does not keep the others from handing in theirs."""
    entries: list[Entry] = []
    pending: list[str] = []
    for name in tasks:
        try:
            entries += _Build(run, run.tasks[name], report, patience, prompts_only).entries()
        except Pending as one:
            pending.append(f"{name}: {one}")
    if pending:
        raise Pending("\n".join(pending))
    return entries


def check_task(run: Run, name: str) -> None:
    """Refuse what cannot work, before anything is spent.

    Raises:
        UsageError: With what is wrong: the endpoint, the data, the recipe or the optimizer.
    """
    task = run.tasks[name]
    endpoint = run.endpoint(task)
    endpoint.check()
    run.check_prices(task, [model for model in (task.student, task.teacher) if model])
    program = task.program()
    check_data(task)
    check_recipe(task, program if task.teacher else None)
    _check_deployment(task, endpoint)
    check_optimizer(task.optimizer, task.optimizer_options)
    for stage in task.stages:
        try:
            facts_of(task, stage, program, endpoint)  # what the lock could not hold must not be paid for
        except UsageError as error:
            raise UsageError(f"task {name!r}, stage {stage!r}: {error}") from None


def _check_deployment(task: Task, endpoint: Endpoint) -> None:
    """Refuse what asks a model as soon as it is trained, where it is deployed only after its stage is built."""
    if endpoint.serving.deploy is None and endpoint.serving.probe is None:
        return
    asks = "several seeds" if task.seeds else str(task.recipe)
    if task.seeds or task.recipe == "better_together":
        raise UsageError(
            f"task {task.id!r}: {asks} would ask each model as soon as it is trained, and endpoint {endpoint.name!r}"
            " serves a model only once it is deployed (deploy, probe): set one seed, or another recipe"
        )


@dataclass
class _Build:
    """Builds the stages of one task."""

    run: Run
    task: Task
    report: Callable[[str], None]
    patience: Patience
    prompts_only: bool

    def entries(self) -> Iterator[Entry]:
        """The entries of every stage."""
        task, settings = self.task, self.run.settings
        endpoint = self.run.lines.line(self.run.endpoint(task), TRAINING)
        student = endpoint.lm(task.student, **task.decoding())
        strong = endpoint.lm(task.teacher, **task.decoding()) if task.teacher else None
        self._say(f"building its stages with {task.student} on {endpoint.name}")
        optimized = build_prompt_optimized(
            task,
            student,
            trainset=task.dataset.train,
            devset=task.dataset.dev,
            report=self._say,
            concurrency=settings.concurrency,
            prompt_lm=strong,
            checkpoints=Checkpoints(settings.folder, endpoint),
        )
        teacher = None if strong is None else self._teacher(strong, endpoint)
        yield self._entry(BASELINE, task.student, task.program(), endpoint)
        yield self._entry(PROMPT_OPTIMIZED, task.student, optimized.program, endpoint)
        if teacher is not None and task.teacher is not None:
            yield self._entry(TEACHER, task.teacher, teacher, endpoint)
        if self.prompts_only:
            return
        tuned = build_finetuned(
            task,
            endpoint,
            optimized,
            journal=settings.folder / JOURNAL,
            report=self._say,
            concurrency=settings.concurrency,
            teacher=teacher,
            patience=self.patience,
            comeback=comeback_of(task.id, settings.rebuilt_on(task.id)),
        )
        self._diagnose(tuned, optimized, endpoint)
        yield self._tuned(tuned, self._entry(FINETUNED, tuned.model, tuned.program, endpoint))

    def _tuned(self, tuned: Finetuned, entry: Entry) -> Entry:
        """The entry with its models, their jobs, and what they were trained on."""
        artifacts = self.run.artifacts(self.task.id)
        files = {name: one.training_file for name, one in tuned.models.items()}
        refs = {name: artifacts.put_bytes("training", content) for name, content in files.items()}
        parts = {
            name: Tuned(model=one.model, job=job_of(one.job, one.job.hyperparameters))
            for name, one in tuned.models.items()
        }
        rows = sum(content.count(b"\n") for content in set(files.values()))
        made: dict[str, Any] = {"predictors": parts}
        held: dict[str, Any] = {"predictors": refs}
        if EVERY in parts:
            made, held = {"job": parts[EVERY].job}, {"training": refs[EVERY]}
        kept = entry.artifacts.model_copy(update={**held, "training_rows": rows})
        return entry.model_copy(update={**made, "artifacts": kept})

    def _diagnose(self, tuned: Finetuned, optimized: Optimized, endpoint: Endpoint) -> None:
        settings, deployments = self.run.settings, self.run.connections.deployments

        def serve() -> None:
            for trained in tuned.models.values():
                deployments.serve(endpoint, trained.model, trained.model)

        observed = observe(
            self.task,
            tuned,
            optimized,
            checkpoints=Checkpoints(settings.folder, endpoint),
            report=self._say,
            concurrency=settings.concurrency,
            serve=serve if settings.diagnosis else None,
        )
        self.run.observed[self.task.id] = observed
        for line in diagnosis(diagnose(observed), fixes=1):
            self._say(line)

    def _teacher(self, strong: dspy.LM, endpoint: Endpoint) -> dspy.Module:
        task = self.task
        if task.teacher_optimizer is None:
            return programs.attach(task.program(), strong)
        self._say(f"optimizing the prompts of the teacher {task.teacher}")
        return build_prompt_optimized(
            task,
            strong,
            trainset=task.dataset.train,
            devset=task.dataset.dev,
            report=self._say,
            concurrency=self.run.settings.concurrency,
            optimizer=task.teacher_optimizer,
            checkpoints=Checkpoints(self.run.settings.folder, endpoint),
        ).program

    def _entry(self, stage: str, model: str, program: dspy.Module, endpoint: Endpoint) -> Entry:
        state = programs.dump_state(program)
        loaded = programs.load_state(self.task.program(), state)
        facts = facts_of(self.task, stage, loaded, endpoint)
        return Entry(
            **facts.model_dump(),
            model=model,
            artifacts=kept_files(self.run.artifacts(self.task.id), self.task, state),
            env=_versions(),
        )

    def _say(self, sentence: str) -> None:
        self.report(f"{self.task.id}: {sentence}")


def _versions() -> dict[str, str]:
    named = {name: importlib.metadata.version(name) for name in ("dspy", "openai")}
    return {**named, "python": ".".join(platform.python_version_tuple()[:2])}
