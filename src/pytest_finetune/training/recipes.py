"""The fine-tuned stage, by recipe."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_finetune.endpoints import Endpoint
from pytest_finetune.errors import TrainingError, UsageError
from pytest_finetune.programs import attach, program_fingerprint
from pytest_finetune.training.bootstrap import bootstrap_finetune, collect, count_kept
from pytest_finetune.training.checkpoints import Checkpoints
from pytest_finetune.training.jobs import JobFacts, JobRequest, JobRunner
from pytest_finetune.training.journal import Journal
from pytest_finetune.training.optimizers import DEV_ROWS, MANY, Optimized, Search, check_optimizer, draw, for_dspy
from pytest_finetune.training.provider import PREFIX, job_provider
from pytest_finetune.training.rows import check_adapter, gold_calls, gold_file, written
from pytest_finetune.training.runs import LostCalls, aloud, quiet
from pytest_finetune.training.steady import Patience, Report

if TYPE_CHECKING:
    import dspy

    from pytest_finetune.task import Task

Rows = list[dict[str, Any]]

BASELINE = "baseline"
PROMPT_OPTIMIZED = "prompt_optimized"
STRATEGY = "p -> w -> p"
ALL = "all rows"  # the label of rows that have none

_OPTIONS = {
    "bootstrap": {"source"},
    "labels": {"source"},
    "distill": {"source"},
    "better_together": {"strategy"},
}
_SUFFIX = 64  # characters that OpenAI allows


@dataclass(frozen=True)
class Finetuned:
    """The fine-tuned program, and where it came from.

    Attributes:
        program: As it is to be served: the instructions that were trained on, the fine-tuned LM attached; without
            demonstrations, unless ``better_together`` ends with a prompt step.
        model: The fine-tuned model's id, without a prefix.
        training_file: The bytes of the training file, JSON Lines.
        validation_file: The bytes of the validation file, if there was one.
        job: What the endpoint told of the job.
        kept: For each label, how many training rows were kept, and how many there were.
        notes: Sentences for the report.
    """

    program: dspy.Module
    model: str
    training_file: bytes
    validation_file: bytes | None
    job: JobFacts
    kept: Mapping[str, tuple[int, int]]
    notes: tuple[str, ...] = ()


def build_finetuned(
    task: Task,
    endpoint: Endpoint,
    optimized: Optimized,
    *,
    journal: Path,
    report: Report,
    concurrency: int = 16,
    teacher: dspy.Module | None = None,
    patience: Patience | None = None,
) -> Finetuned:
    """Build the fine-tuned stage of a task by its recipe.

    * ``bootstrap``: traces of the prompt-optimized program (of the plain one with ``source="baseline"``) that the
      metric accepts.
    * ``distill``: traces of the teacher's program that the metric accepts.
    * ``labels``: the gold labels. Where a ``dspy.ChainOfThought`` wants a reasoning that the data lack, every row
      holds the same few words (`rows.NO_REASONING`), so that the program is served unchanged.
    * ``better_together``: ``dspy.BetterTogether`` with ``strategy`` (default ``"p -> w -> p"``), from the plain
      program: ``p`` is the task's optimizer, ``w`` bootstraps.

    Rows hold the instructions of the program that is served, and no demonstrations: ``source`` says whose
    instructions these are (default: the prompt-optimized program's; for ``labels`` the plain program's). All
    predictors share one model. The dev split is the validation file where it holds all the fields that the
    program gives.

    Args:
        task: What is tuned.
        endpoint: Where.
        optimized: The prompt-optimized stage.
        journal: The file in which jobs are written down.
        report: Is given ready sentences.
        concurrency: Calls at once.
        teacher: For ``distill``: the teacher's program, its LM attached.
        patience: How long to wait for the endpoint.

    Raises:
        UsageError: If the recipe, an option or the adapter is wrong; nothing was asked yet.
        TrainingError: If too few rows survive, the endpoint failed, or the job did.
        KeyboardInterrupt: The job goes on; ``report`` was told how to come back.
    """
    check_recipe(task, teacher)
    report = aloud(report)
    runner = JobRunner(
        endpoint, Journal(journal), report=report, comeback=f"pytest-finetune train {task.id}", patience=patience
    )
    build = _Build(task, endpoint, runner, report, concurrency)
    try:
        return build.better_together() if task.recipe == "better_together" else build.trained(optimized, teacher)
    except KeyboardInterrupt:
        report(runner.leave())
        raise


def check_recipe(task: Task, teacher: dspy.Module | None = None) -> None:
    """Refuse what cannot work, before the first paid call.

    Raises:
        UsageError: If there is no such recipe or option, the adapter cannot be trained on, a teacher is missing, or
            the data lack what ``labels`` needs.
    """
    if task.recipe not in _OPTIONS:
        raise UsageError(f"there is no recipe {task.recipe!r}: use {', '.join(_OPTIONS)}")
    unknown = task.recipe_options.keys() - _OPTIONS[task.recipe]
    if unknown:
        known = ", ".join(sorted(_OPTIONS[task.recipe]))
        raise UsageError(f"the recipe {task.recipe!r} has no option {', '.join(sorted(unknown))}: it has {known}")
    if task.recipe_options.get("source", BASELINE) not in (BASELINE, PROMPT_OPTIMIZED):
        raise UsageError(f"source={task.recipe_options['source']!r}: use {BASELINE!r} or {PROMPT_OPTIMIZED!r}")
    if task.suffix and len(task.suffix) > _SUFFIX:
        raise UsageError(f"suffix={task.suffix!r} is longer than {_SUFFIX} characters: shorten it")
    check_adapter(task.make_adapter())
    if task.recipe == "distill" and teacher is None:
        raise UsageError("the recipe 'distill' needs the teacher's program: teacher='MODEL' in the task")
    if task.recipe == "labels":
        gold_calls(task.program(), task.dataset.rows("train")[0], without_reasoning=True)
    if task.recipe == "better_together":
        check_optimizer(task.optimizer, task.optimizer_options)
        steps = task.recipe_options.get("strategy", STRATEGY).split(" -> ")
        if "w" not in steps or not {"p", "w"} >= set(steps):
            raise UsageError(f"strategy={' -> '.join(steps)!r}: give steps p and w, at least one w, as {STRATEGY!r}")


class _Build:
    """One build of one task.

    ``kept`` and ``validation`` are those of the last rows that were collected.
    """

    def __init__(self, task: Task, endpoint: Endpoint, runner: JobRunner, report: Report, concurrency: int) -> None:
        self.task = task
        self.endpoint = endpoint
        self.report = report
        self.concurrency = concurrency
        self.adapter = task.make_adapter()
        self.checkpoints = Checkpoints(runner.journal.path.parent, endpoint)
        self.provider = job_provider(runner, self._request)
        self.validation: bytes | None = None
        self.kept: Mapping[str, tuple[int, int]] = {}

    def trained(self, optimized: Optimized, teacher: dspy.Module | None) -> Finetuned:
        """Train on traces or on labels."""
        usual = BASELINE if self.task.recipe == "labels" else PROMPT_OPTIMIZED
        plain = self.task.recipe_options.get("source", usual) == BASELINE
        program = self._student(self.task.program() if plain else optimized.program)
        student = attach(program, program.get_lm())
        for predictor in student.predictors():
            predictor.demos = []
        collect_rows = self._labels if self.task.recipe == "labels" else self._traces
        tuner = bootstrap_finetune(collect_rows, self.concurrency)
        asked = teacher if self.task.recipe == "distill" else program
        return self._finetuned(tuner.compile(student, list(self.task.dataset.train), asked))

    def better_together(self) -> Finetuned:
        """Run a strategy of prompt steps (p) and weight steps (w), and raise what DSPy swallows."""
        import dspy

        strategy = self.task.recipe_options.get("strategy", STRATEGY)
        student, lost = self._student(self.task.program()), LostCalls("better_together")
        adviser = self.endpoint.lm(self.task.teacher) if self.task.teacher else student.get_lm()
        search = Search.of(self.task, adviser, self.concurrency)
        weights = bootstrap_finetune(self._traces, self.concurrency)
        failures: list[Exception] = []
        together = dspy.BetterTogether(
            metric=for_dspy(self.task.scorer, lost),
            p=_step(search.compile, failures),
            w=_step(weights.compile, failures),
        )
        with quiet(), dspy.context(adapter=self.adapter, callbacks=[lost.callback()], disable_history=True):
            best = together.compile(
                student,
                trainset=list(self.task.dataset.train),
                valset=draw(self.task.dataset.dev, DEV_ROWS, self.task.seed),
                strategy=strategy,
                seed=self.task.seed,
                num_threads=self.concurrency,
                max_errors=MANY,
            )
        if best.flag_compilation_error_occurred:
            raise failures[0] if failures else TrainingError(f"better_together ({strategy}) failed in DSPy")
        lost.check()
        scores = ", ".join(f"{one['strategy'] or BASELINE} {one['score']:g}" for one in best.candidate_programs)
        self.report(f"better_together on dev, in percent: {scores}.")
        return self._finetuned(best, f"better_together on dev, in percent: {scores}")

    def _student(self, program: dspy.Module) -> dspy.Module:
        lm = self.endpoint.lm(self.task.student, provider=self.provider, **self.task.decoding())
        return attach(program, lm)

    def _traces(self, student: dspy.Module, teacher: dspy.Module, examples: Sequence[dspy.Example]) -> Rows:
        model = teacher.get_lm().model.removeprefix(PREFIX)
        parts = [self._facts(), *map(program_fingerprint, (student, teacher)), model]
        kept = self.checkpoints.get("traces", parts)
        if kept is None:
            kept = self._asked(model, student, teacher, examples)
            self.checkpoints.put("traces", parts, kept)
        else:
            self.report(f"Taking up the answers of {model} that an earlier run has kept.")
        self._keep(student, {label: (part, whole) for label, part, whole in kept["kept"]})
        return list(kept["rows"])

    def _facts(self) -> list[Any]:
        task = self.task
        judge = [task.scorer.fingerprint(), task.scorer.threshold]
        lenient = task.scorer.bootstrap and task.scorer.bootstrap.fingerprint()
        return [task.dataset.fingerprint("train"), judge, lenient, task.adapter, task.decoding(), task.seed]

    def _asked(
        self, model: str, student: dspy.Module, teacher: dspy.Module, examples: Sequence[dspy.Example]
    ) -> dict[str, Any]:
        rows = zip(self.task.dataset.train, self.task.dataset.rows("train"), strict=True)
        labels = {id(example): row.label or ALL for example, row in rows}
        self.report(f"Asking {model} about {len(examples):,} training rows.")
        collected = collect(
            teacher,
            examples,
            [labels[id(example)] for example in examples],
            metric=self.task.scorer,
            adapter=self.adapter,
            concurrency=self.concurrency,
        )
        self.report(collected.sentence())
        return {
            "rows": written(self.adapter, student, collected.recording),
            "kept": [[label, *counts] for label, counts in collected.kept.items()],
        }

    def _labels(self, student: dspy.Module, _: dspy.Module, __: Sequence[dspy.Example]) -> Rows:
        rows = self.task.dataset.rows("train")
        self._keep(student, count_kept([row.label or ALL for row in rows], [True] * len(rows)))
        return written(self.adapter, student, [gold_calls(student, row, without_reasoning=True) for row in rows])

    def _keep(self, student: dspy.Module, kept: Mapping[str, tuple[int, int]]) -> None:
        labelled = self.task.recipe == "labels"
        self.kept = kept
        self.validation = gold_file(self.adapter, student, self.task.dataset.rows("dev"), without_reasoning=labelled)

    def _request(self, model: str, training: bytes, hyperparameters: Mapping[str, Any]) -> JobRequest:
        return JobRequest(
            model,
            training,
            validation=self.validation,
            seed=self.task.seed,
            suffix=(self.task.suffix or self.task.id)[:_SUFFIX],
            hyperparameters={**self.task.hyperparameters, **hyperparameters},
        )

    def _finetuned(self, program: dspy.Module, *notes: str) -> Finetuned:
        model = program.get_lm().model.removeprefix(PREFIX)
        training = {facts.model: (content, facts) for content, facts in self.provider.outcomes}
        if model not in training:
            raise TrainingError(
                f"the recipe {self.task.recipe!r} ended on the model it began with ({model})"
                + "".join(f"; {note}" for note in notes)
                + f". Trained and kept: {', '.join(training) or 'nothing'}. "
                "Next: recipe='labels' or 'distill', or more training rows"
            )
        content, facts = training[model]
        served = attach(program, self.endpoint.lm(model, **self.task.decoding()))
        return Finetuned(served, model, content, self.validation, facts, self.kept, notes)


def _step(compile_: Callable[..., dspy.Module], failures: list[Exception]) -> Any:
    """A step of BetterTogether that remembers what it raised, since BetterTogether only logs it."""
    import dspy

    class Step(dspy.teleprompt.Teleprompter):  # type: ignore[misc]  # dspy ships no types
        def compile(self, student: Any, *, trainset: Any, valset: Any, teacher: Any = None) -> Any:  # noqa: ARG002
            try:
                return compile_(student, trainset=trainset, valset=valset)
            except Exception as error:
                failures.append(error)
                raise

    return Step()
