"""``pytest-finetune plan``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click


@click.command()
@click.argument("tasks", nargs=-1, metavar="[TASK]...")
@click.option(
    "--lock",
    type=click.Path(dir_okay=False, path_type=Path),
    multiple=True,
    help="The lock (repeatable); else all locks of the project.",
)
@click.option(
    "--margin",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="What a stage may lose without being called worse; else as set, or 0.02.",
)
@click.option("--alpha", type=float, help="The one-sided error rate of a verdict; else as set, or 0.05.")
@click.option("--stop-early", is_flag=True, help="Plan a run whose claims go no further once they are decided.")
@click.option(
    "--root", type=click.Path(exists=True, file_okay=False, path_type=Path), default=Path(), help="The project."
)
def command(
    tasks: tuple[str, ...],
    lock: tuple[Path, ...],
    margin: float | None,
    alpha: float | None,
    stop_early: bool,
    root: Path,
) -> None:
    """Say what a gated run of the TASKs (of all, if none is named) takes, and what its rows can certify.

    Nothing is asked, started or written, and no key is needed. Without a lock, what is planned is
    the gate of the first build. Costs are of today's prices; what is not known is 'unknown', never 0.
    """
    from pytest_finetune.errors import LockError
    from pytest_finetune.reports.plan import plan_lines
    from pytest_finetune.workflow.plan import plan
    from pytest_finetune.workflow.run import Run
    from pytest_finetune.workflow.settings import read_settings

    options = {"models": [str(path) for path in lock], "margin": margin, "alpha": alpha}
    settings = replace(read_settings(root.resolve(), options=options), stop_early=stop_early)
    missing = [path for path in settings.models if not path.exists()]
    if lock and missing:
        raise LockError(f"there is no lock at {missing[0]}: plan the first build without --lock")
    for line in plan_lines(plan(Run(settings), tasks)):
        click.echo(line)
