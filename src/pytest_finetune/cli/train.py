"""``pytest-finetune train``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click


@click.command()
@click.argument("tasks", nargs=-1, metavar="[TASK]...")
@click.option("--skip-check", is_flag=True, help="Build although pytest-finetune check would stop it.")
@click.option("--no-wait", is_flag=True, help="Hand the jobs in and do not wait for their end.")
@click.option(
    "--root", type=click.Path(exists=True, file_okay=False, path_type=Path), default=Path(), help="The project."
)
def command(tasks: tuple[str, ...], skip_check: bool, no_wait: bool, root: Path) -> int:
    """Build every stage of the TASKs (of all, if none is named) and keep them as a candidate.

    Nothing is judged and the lock stays as it is: gate the candidate with the command that is
    printed at the end, or build, gate and lock in one go with pytest --ft-retrain. A job that was
    interrupted is taken up again, not paid for twice. With --no-wait the exit status is 75 while a
    job goes on: run the same command later, until it is 0.
    """
    from pytest_finetune.cli import ExitStatus
    from pytest_finetune.training.steady import Pending
    from pytest_finetune.workflow.build import build_candidate
    from pytest_finetune.workflow.run import Run
    from pytest_finetune.workflow.settings import read_settings

    run = Run(replace(read_settings(root.resolve()), skip_check=skip_check), retrain=True)
    try:
        build_candidate(run, tasks or tuple(run.tasks), report=click.echo, wait=not no_wait)
    except Pending as pending:
        click.echo(f"\nNot built yet:\n{pending}")
        return ExitStatus.PENDING
    finally:
        run.close()
    click.echo(f"\nThe candidate is in {run.candidate}. Gate it:")
    click.echo(f"  pytest --finetune-models={_shown(run.candidate)}")
    click.echo("Gate it and let it into the lock:")
    click.echo("  pytest --ft-accept")
    return ExitStatus.HELD


def _shown(path: Path) -> Path:
    """The path as it is typed from here."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
