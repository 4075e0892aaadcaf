"""``pytest-finetune retire``."""

from __future__ import annotations

from pathlib import Path

import click

from pytest_finetune.cli.step import of_a_stage, options, told


@click.command()
@click.argument("task")
@click.argument("model")
@of_a_stage
def command(task: str, model: str, stage: str, reason: str | None, lock: Path | None, root: Path) -> None:
    """Let a MODEL of TASK never serve again: it can neither be promoted nor gone back to.

    It stays in the lock, and a build that comes to it again is refused. One that is in production must
    be replaced first.
    """
    from pytest_finetune.workflow.life import retire
    from pytest_finetune.workflow.settings import read_settings

    settings = read_settings(root.resolve(), options=options(lock))
    told(retire(settings, task, model, stage, reason=reason))
