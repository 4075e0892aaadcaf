"""``pytest-finetune rollback``."""

from __future__ import annotations

from pathlib import Path

import click

from pytest_finetune.cli.step import of_a_stage, options, told


@click.command()
@click.argument("task")
@click.argument("model", required=False)
@of_a_stage
def command(task: str, model: str | None, stage: str, reason: str | None, lock: Path | None, root: Path) -> None:
    """Pin an earlier version of TASK again, and put it into production.

    Without a MODEL that is the version in production where a candidate is pinned, else the one that
    was in production last. Of several versions of one model, name one by its key, as lock show tells
    it. What is left stays in the lock, so that one can go forward again.
    """
    from pytest_finetune.workflow.life import rollback
    from pytest_finetune.workflow.settings import read_settings

    settings = read_settings(root.resolve(), options=options(lock))
    told(rollback(settings, task, model, stage, reason=reason))
