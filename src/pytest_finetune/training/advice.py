"""What helps where too few rows survive, by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pytest_finetune.training.runs import Run

if TYPE_CHECKING:
    from pytest_finetune.task import Task

_THRESHOLDS = (0.9, 0.75, 0.5, 0.25)


def more_rows(task: Task, judged: Sequence[Run] = ()) -> str:
    """Name what gets more rows for this task, the surest first.

    Args:
        task: What it has not tried yet is offered.
        judged: What was asked, for how many rows a lower threshold would keep.
    """
    if task.recipe == "dpo":
        teacher = "a stronger teacher" if task.teacher else "a teacher, whose answers differ more (teacher='MODEL')"
        return f"{teacher}; or a metric that tells more answers apart; or more training rows"
    gold = [] if task.recipe == "labels" else ["gold labels, where the data have them (recipe='labels')"]
    return "; or ".join([_teacher(task), _lenient(task, judged), *gold])


def _teacher(task: Task) -> str:
    if task.recipe != "distill":
        setting = f"teacher={task.teacher!r} is set" if task.teacher else "teacher='MODEL'"
        return f"a strong teacher's answers (recipe='distill', {setting})"
    better = "" if task.teacher_optimizer else ", or its prompts optimized (teacher_optimizer='miprov2')"
    return f"a stronger teacher than {task.teacher!r}{better}"


def _lenient(task: Task, judged: Sequence[Run]) -> str:
    scorer = task.scorer
    metric = scorer.bootstrap or scorer
    least = (1.0 if metric.binary else 0.5) if scorer.threshold is None else scorer.threshold
    kept = sum(run.accepted for run in judged)
    if not metric.judges and metric.higher_is_better:
        scores = [run.score(metric) for run in judged]
        for threshold in _THRESHOLDS:
            would = sum(score >= threshold for score in scores)
            if threshold < least and would > kept:
                return (
                    "a more lenient metric for bootstrapping (metric.for_bootstrapping("
                    f"{'' if metric is scorer else '…, '}threshold={threshold:g}) would have kept {would:,} rows)"
                )
    return (
        "a more lenient metric for bootstrapping, that takes an answer which is right in part (as "
        "metric.for_bootstrapping(metrics.set_f1('FIELD'), threshold=0.5) for lists, metrics.token_f1 for text)"
    )
