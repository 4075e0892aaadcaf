"""The fine-tuned stage, by recipe."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pytest_finetune.endpoints import Endpoint
from pytest_finetune.errors import UsageError
from pytest_finetune.programs import attach, predictors
from pytest_finetune.training.bootstrap import bootstrap_finetune
from pytest_finetune.training.building import SUFFIX, Build, Finetuned
from pytest_finetune.training.jobs import JobRunner
from pytest_finetune.training.journal import Journal
from pytest_finetune.training.mixing import check_mix
from pytest_finetune.training.optimizers import Optimized
from pytest_finetune.training.own import own_recipe
from pytest_finetune.training.request import check_checkpoint
from pytest_finetune.training.rows import check_adapter, gold_calls
from pytest_finetune.training.runs import aloud
from pytest_finetune.training.spread import best_of
from pytest_finetune.training.steady import Patience, Report
from pytest_finetune.training.together import better_together, check_strategy

if TYPE_CHECKING:
    import dspy

    from pytest_finetune.task import Task

BASELINE = "baseline"
PROMPT_OPTIMIZED = "prompt_optimized"

_OPTIONS = {
    "bootstrap": {"source", "multitask"},
    "labels": {"source", "multitask"},
    "distill": {"source", "multitask"},
    "dpo": {"source", "multitask"},
    "better_together": {"strategy"},
}


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
    comeback: str = "",
) -> Finetuned:
    """Build the fine-tuned stage of a task by its recipe.

    * ``bootstrap``: traces of the prompt-optimized program (of the plain one with ``source="baseline"``) that the
      metric accepts.
    * ``distill``: traces of the teacher's program that the metric accepts.
    * ``labels``: the gold labels. Where a ``dspy.ChainOfThought`` wants a reasoning that the data lack, every row
      holds the same few words (`rows.NO_REASONING`), so that the program is served unchanged.
    * ``dpo``: pairs of answers to one prompt that the metric tells apart, of the student as it is served, and of the
      teacher's program, or without a teacher of the prompt-optimized one with its demonstrations; by preference
      training.
    * ``better_together``: ``dspy.BetterTogether`` with ``strategy`` (default ``"p -> w -> p"``), from the plain
      program: ``p`` is the task's optimizer, ``w`` bootstraps.
    * A function: see `own.own_recipe`.

    Rows hold the instructions of the program that is served, and no demonstrations: ``source`` says whose
    instructions these are (default: the prompt-optimized program's; for ``labels`` the plain program's). All
    predictors share one model; with ``multitask=False``, each has its own, trained on the calls that it made. The
    dev split is the validation file where it holds all the fields that the program, or the predictor, gives. With
    several ``seeds`` there is a model for each, and the best on dev is kept.

    Args:
        task: What is tuned.
        endpoint: Where.
        optimized: The prompt-optimized stage.
        journal: The file in which jobs are written down.
        report: Is given ready sentences.
        concurrency: Calls at once.
        teacher: The teacher's program, its LM attached: for ``distill``, and for a function that wants it.
        patience: How long to wait for the endpoint.
        comeback: The command that takes the jobs up again, for a reader; empty: ``pytest-finetune train``.

    Raises:
        UsageError: If the recipe, an option or the adapter is wrong; nothing was asked yet.
        TrainingError: If too few rows survive, the endpoint failed, or the job did; or the program that came of it
            is asked in other words than were trained on.
        KeyboardInterrupt: The job goes on; ``report`` was told how to come back.
    """
    check_recipe(task, teacher)
    report = aloud(report)
    comeback = comeback or comeback_of(task.id)
    runner = JobRunner(endpoint, Journal(journal), report=report, comeback=comeback, patience=patience)
    try:
        tuned = [
            _built(Build(task, endpoint, runner, report, concurrency, seed), optimized, teacher)
            for seed in task.seeds or (task.seed,)
        ]
    except KeyboardInterrupt:
        report(runner.leave())
        raise
    return best_of(task, tuned, optimized, report=report, concurrency=concurrency) if task.seeds else tuned[0]


def comeback_of(task: str, endpoint: str | None = None) -> str:
    """The command that takes the jobs of a task up again, also on another endpoint than its own.

    The journal holds it.
    """
    other = f"pytest --ft-retrain --ft-task {task} --ft-endpoint {endpoint}"
    return other if endpoint else f"pytest-finetune train {task}"


def _built(build: Build, optimized: Optimized, teacher: dspy.Module | None) -> Finetuned:
    if callable(build.task.recipe):
        return own_recipe(build, optimized.program, teacher)
    if build.task.recipe == "better_together":
        return better_together(build)
    return _trained(build, optimized, teacher)


def _trained(build: Build, optimized: Optimized, teacher: dspy.Module | None) -> Finetuned:
    """Train on traces or on labels."""
    task = build.task
    usual = BASELINE if task.recipe == "labels" else PROMPT_OPTIMIZED
    plain = task.recipe_options.get("source", usual) == BASELINE
    program = build.student(task.program() if plain else optimized.program)
    student = attach(program, program.get_lm())
    for predictor in student.predictors():
        predictor.demos = []
    rows = {"labels": build.labels, "dpo": build.preferences}.get(str(task.recipe), build.traces)
    tuner = bootstrap_finetune(rows)
    asked = teacher if task.recipe in ("distill", "dpo") and teacher is not None else program
    return build.finished(tuner.compile(student, list(task.dataset.train), asked))


def check_recipe(task: Task, teacher: dspy.Module | None = None) -> None:
    """Refuse what cannot work, before the first paid call.

    Raises:
        UsageError: If there is no such recipe or option, the adapter cannot be trained on, a teacher is missing, or
            the data lack what ``labels`` or ``mix`` needs.
    """
    _check_options(task)
    if task.suffix and len(task.suffix) > SUFFIX:
        raise UsageError(f"suffix={task.suffix!r} is longer than {SUFFIX} characters: shorten it")
    check_adapter(task.make_adapter())
    check_mix(task)
    check_checkpoint(task.hyperparameters)
    if task.recipe == "distill" and teacher is None:
        raise UsageError("the recipe 'distill' needs the teacher's program: teacher='MODEL' in the task")
    if task.recipe == "dpo" and task.mixed is not None:
        raise UsageError(
            "the recipe 'dpo' trains on pairs of answers, which rows of mix= are not: leave one of them out"
        )
    if task.recipe == "labels":
        gold_calls(task.program(), task.dataset.rows("train")[0], without_reasoning=True)
    if task.recipe == "better_together":
        check_strategy(task)
    if not task.recipe_options.get("multitask", True):
        _check_suites(task)


def _check_suites(task: Task) -> None:
    """Of the models of several predictors, none is the one that a suite's own program could ask."""
    own = predictors(task.program()).keys()
    for name in task.suites:
        program = task.held_out(name).program
        other = [] if program is None else [part for part in predictors(program()) if part not in own]
        if other:
            raise UsageError(
                f"suite {name!r}: its program has a predictor {other[0]!r}, for which multitask=False trains no model"
                f" (there will be one for each of {', '.join(own)}): name it as one of these, or take multitask=True"
            )


def _check_options(task: Task) -> None:
    if callable(task.recipe):
        if task.recipe_options:
            raise UsageError("recipe_options are for built-in recipes: set them in your function")
        return
    if task.recipe not in _OPTIONS:
        raise UsageError(f"there is no recipe {task.recipe!r}: use {', '.join(_OPTIONS)}, or a function")
    unknown = task.recipe_options.keys() - _OPTIONS[task.recipe]
    if unknown:
        known = ", ".join(sorted(_OPTIONS[task.recipe]))
        raise UsageError(f"the recipe {task.recipe!r} has no option {', '.join(sorted(unknown))}: it has {known}")
    if task.recipe_options.get("source", BASELINE) not in (BASELINE, PROMPT_OPTIMIZED):
        raise UsageError(f"source={task.recipe_options['source']!r}: use {BASELINE!r} or {PROMPT_OPTIMIZED!r}")
    if not isinstance(task.recipe_options.get("multitask", True), bool):
        raise UsageError(
            f"multitask={task.recipe_options['multitask']!r}: use True, one model for all predictors, or False, one "
            "for each"
        )
