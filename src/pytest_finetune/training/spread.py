"""Several seeds: how far models of the same data differ by chance, and the best of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean, stdev
from typing import TYPE_CHECKING

from pytest_finetune.training.building import Finetuned
from pytest_finetune.training.optimizers import Optimized
from pytest_finetune.training.runs import mean_score, run_program
from pytest_finetune.training.steady import Report

if TYPE_CHECKING:
    from pytest_finetune.task import Task


def best_of(
    task: Task, tuned: Sequence[Finetuned], optimized: Optimized, *, report: Report, concurrency: int
) -> Finetuned:
    """Score the model of each seed on dev, and give the best; of equals, the first.

    Args:
        task: Whose ``seeds`` they are.
        tuned: One for each seed.
        optimized: What they are to be better than.
        report: Is told the spread.
        concurrency: Calls at once.

    Raises:
        TrainingError: If the endpoint failed.
    """
    asked = {"adapter": task.make_adapter(), "concurrency": concurrency}
    scores = [mean_score(run_program(one.program, task.dataset.dev, **asked), task.scorer) for one in tuned]
    best = scores.index(max(scores))
    seeds = dict(zip(task.seeds, scores, strict=True))
    note = _spread(seeds, task.seeds[best], optimized.dev_optimized)
    report(f"{note}.")
    return replace(tuned[best], seeds=seeds, notes=(*tuned[best].notes, note))


def _spread(seeds: dict[int, float], kept: int, before: float) -> str:
    """Against noise the mean is held, since the best of several is lucky."""
    scores = list(seeds.values())
    told = ", ".join(f"{seed}: {score:.3f}" for seed, score in seeds.items())
    gain = fmean(scores) - before
    said = f"dev by seed {told}; seed {kept} is kept. On average {gain:+.3f} against the prompts"
    if len(scores) == 1:
        return f"{said}; one seed tells nothing of noise"
    noise = 2 * stdev(scores)
    compared = "more" if abs(gain) > noise else "not more"
    return f"{said}, {compared} than seed noise (two standard deviations: {noise:.3f})"
