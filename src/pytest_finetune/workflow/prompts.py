"""What prompts alone reach, before anybody pays for a job."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pytest_finetune.task import BASELINE, PROMPT_OPTIMIZED, TEACHER
from pytest_finetune.workflow.build import build_candidate
from pytest_finetune.workflow.evaluations import Bench
from pytest_finetune.workflow.run import Run

PROMPTED = (BASELINE, PROMPT_OPTIMIZED, TEACHER)


def build_prompts(run: Run, tasks: Sequence[str], *, report: Callable[[str], None]) -> None:
    """Build the stages that need no job, write them as the candidate, and score them on the test rows.

    The rows are those that a gate will ask for, and are kept for it.

    Args:
        run: The run.
        tasks: Their names.
        report: Is given sentences on what is happening, and the scores.

    Raises:
        UsageError: If a task cannot work; nothing was spent.
        TrainingError: If a stage cannot be built.
        FinetuneError: If its rows cannot be had; the candidate is kept.
    """
    build_candidate(run, tasks, report=report, prompts_only=True)
    for name in tasks:
        stages = [stage for stage in PROMPTED if stage in run.tasks[name].stages]
        for score in (run.evaluations.score(Bench(name), stage) for stage in stages):
            report(f"{name}: {score.stage} scores {score.mean:.3f} on {score.n:,} test rows.")
