"""``pytest-finetune check``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pytest_finetune.cli import say

if TYPE_CHECKING:
    from pytest_finetune.core.checklist import Checklist
    from pytest_finetune.workflow.settings import Settings


@click.command()
@click.argument("tasks", nargs=-1, metavar="[TASK]...")
@click.option("--goal", type=click.FloatRange(0, 1), help="The score that is good enough; else that of the claims.")
@click.option("--calls-per-month", type=click.IntRange(0), metavar="N", help="The volume that you expect.")
@click.option(
    "--sample",
    type=click.IntRange(1),
    metavar="N",
    help="Ask the model about N training rows, once the price is told.",
)
@click.option("--max-cost", type=click.FloatRange(0), metavar="DOLLARS", help="What building may cost; else as set.")
@click.option(
    "--margin",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="What a stage may lose without being called worse; else as set, or 0.02.",
)
@click.option(
    "--lock",
    type=click.Path(dir_okay=False, path_type=Path),
    multiple=True,
    help="The lock (repeatable); else all locks of the project.",
)
@click.option(
    "--root", type=click.Path(exists=True, file_okay=False, path_type=Path), default=Path(), help="The project."
)
def command(
    tasks: tuple[str, ...],
    goal: float | None,
    calls_per_month: int | None,
    sample: int | None,
    max_cost: float | None,
    margin: float | None,
    lock: tuple[Path, ...],
    root: Path,
) -> int:
    """Say whether the TASKs (all, if none is named) are worth fine-tuning, and what to do first if not.

    Nothing is asked and nothing is spent, but with --sample. What is not known is 'unknown', never ok.

    Exit status: 0 fine-tune, 2 something else comes first, 1 it cannot work as it is; 3 where the
    sample could not be asked, 4 for what is wrong with the arguments, the tasks or the data.
    """
    from pytest_finetune.reports.check import check_lines
    from pytest_finetune.workflow.check import check
    from pytest_finetune.workflow.run import Run
    from pytest_finetune.workflow.settings import read_settings

    options = {"models": [str(path) for path in lock], "margin": margin, "max_cost": max_cost}
    settings = _with_candidate(read_settings(root.resolve(), options=options))
    limits = settings.limits
    limits = replace(
        limits,
        goal=limits.goal if goal is None else goal,
        calls_per_month=limits.calls_per_month if calls_per_month is None else calls_per_month,
    )
    run = Run(replace(settings, limits=limits))
    try:
        found = check(run, tasks, sample=sample or 0, report=say)
    finally:
        run.close()
    for number, checklist in enumerate(found):
        click.echo("" if number else None, nl=bool(number))
        for line in check_lines(checklist):
            click.echo(line)
    return _status(found)


def _with_candidate(settings: Settings) -> Settings:
    """Before the first lock, what was built last tells more than nothing."""
    from pytest_finetune.workflow.locks import Locks

    locks = Locks(settings)
    unlocked = not settings.models and not any(path.exists() for path in locks.paths)
    return replace(settings, models=(locks.candidate,)) if unlocked and locks.candidate.exists() else settings


def _status(found: Sequence[Checklist]) -> int:
    from pytest_finetune.cli import ExitStatus
    from pytest_finetune.core.checklist import Answer

    if any(checklist.stops for checklist in found):
        return ExitStatus.CLAIM_FAILED
    tunes = all(checklist.answer in (Answer.QUALITY, Answer.COST) for checklist in found)
    return ExitStatus.HELD if tunes else ExitStatus.INCONCLUSIVE
