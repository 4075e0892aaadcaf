"""``dspy.BetterTogether`` without its traps: what it swallows is raised."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pytest_finetune.errors import TrainingError, UsageError
from pytest_finetune.training.bootstrap import bootstrap_finetune
from pytest_finetune.training.building import Build, Finetuned
from pytest_finetune.training.optimizers import DEV_ROWS, MANY, Search, check_optimizer, draw, for_dspy
from pytest_finetune.training.runs import LostCalls, quiet

if TYPE_CHECKING:
    import dspy

    from pytest_finetune.task import Task

STRATEGY = "p -> w -> p"


def check_strategy(task: Task) -> None:
    """Refuse a strategy that cannot work.

    Raises:
        UsageError: If it has another step than p and w, or no w; or the optimizer of its steps p is wrong.
    """
    check_optimizer(task.optimizer, task.optimizer_options)
    steps = _strategy(task).split(" -> ")
    if "w" not in steps or not {"p", "w"} >= set(steps):
        raise UsageError(f"strategy={' -> '.join(steps)!r}: give steps p and w, at least one w, as {STRATEGY!r}")


def better_together(build: Build) -> Finetuned:
    """Run a strategy of prompt steps (p) and weight steps (w), and keep the program that is best on dev.

    Raises:
        TrainingError: If a step failed, or the best program asks the model that the first step began with.
    """
    import dspy

    task, student = build.task, build.student(build.task.program())
    lost, failures, strategy = LostCalls("better_together"), list[Exception](), _strategy(build.task)
    adviser = build.endpoint.lm(task.teacher) if task.teacher else student.get_lm()
    search = Search.of(task, adviser, build.concurrency)
    weights = bootstrap_finetune(build.traces)
    together = dspy.BetterTogether(
        metric=for_dspy(task.scorer, lost),
        p=_step(search.compile, failures),
        w=_step(weights.compile, failures),
    )
    with quiet(), dspy.context(adapter=build.adapter, callbacks=[lost.callback()], disable_history=True):
        best = together.compile(
            student,
            trainset=list(task.dataset.train),
            valset=draw(task.dataset.dev, DEV_ROWS, task.seed),
            strategy=strategy,
            seed=build.seed,
            num_threads=build.concurrency,
            max_errors=MANY,
        )
    if best.flag_compilation_error_occurred:
        raise failures[0] if failures else TrainingError(f"better_together ({strategy}) failed in DSPy")
    lost.check()
    tried = best.candidate_programs
    said = ", ".join(f"{one['strategy'] or 'baseline'} {one['score']:g}" for one in tried)
    build.report(f"better_together on dev, in percent: {said}.")
    reworded = tried[0]["strategy"].endswith("p")
    return build.finished(best, f"better_together on dev, in percent: {said}", reworded=reworded)


def _strategy(task: Task) -> str:
    return str(task.recipe_options.get("strategy", STRATEGY))


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
