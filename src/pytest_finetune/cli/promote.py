"""``pytest-finetune promote``."""

from __future__ import annotations

from pathlib import Path

import click

from pytest_finetune.cli.step import of_a_stage, options, told


@click.command()
@click.argument("task")
@click.option("--observed", is_flag=True, help="Also where a claim held as observed, and is not certified.")
@of_a_stage
def command(task: str, observed: bool, stage: str, reason: str | None, lock: Path | None, root: Path) -> None:
    """Put the pinned version of TASK into production, if it passed the gate.

    Every claim that blocks must be certified. All are judged once more on the rows that the lock pins,
    whose scores must say something by the tasks file of today; what the tests demand today is not looked
    at. What was in production before is deprecated, and stays in the lock.
    """
    from pytest_finetune.workflow.life import promote
    from pytest_finetune.workflow.settings import read_settings

    settings = read_settings(root.resolve(), options=options(lock))
    told(promote(settings, task, stage, observed=observed, reason=reason))
