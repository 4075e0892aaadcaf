"""``pytest-finetune train``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from pytest_finetune.core.shell import typed


@click.command()
@click.argument("tasks", nargs=-1, metavar="[TASK]...")
@click.option("--skip-check", is_flag=True, help="Build although pytest-finetune check would stop it.")
@click.option("--no-wait", is_flag=True, help="Hand the jobs in and do not wait for their end.")
@click.option("--prompts-only", is_flag=True, help="Train no model: build the baseline, the prompts and the teacher.")
@click.option("--max-cost", type=click.FloatRange(0), metavar="DOLLARS", help="What the run may cost; else as set.")
@click.option(
    "--root", type=click.Path(exists=True, file_okay=False, path_type=Path), default=Path(), help="The project."
)
def command(
    tasks: tuple[str, ...], skip_check: bool, no_wait: bool, prompts_only: bool, max_cost: float | None, root: Path
) -> int:
    """Build every stage of the TASKs (of all, if none is named) and keep them as a candidate.

    Nothing is judged and the lock stays as it is: gate the candidate with the command that is
    printed at the end, or build, gate and lock in one go with pytest --ft-retrain. A job that was
    interrupted is taken up again, not paid for twice.

    With --prompts-only there is no job: the other stages are built and scored on the test rows,
    which tells whether a model is worth training. A later build takes them up.

    Exit status: 0 built, 75 (the EX_TEMPFAIL of Unix) while a job goes on that was handed in with
    --no-wait: run the same command later; 3 what could not be built, or would pass the cap, 4 what
    is wrong with the arguments, the tasks or the data.
    """
    from pytest_finetune.cli import ExitStatus
    from pytest_finetune.training.steady import Pending
    from pytest_finetune.workflow.build import build_candidate
    from pytest_finetune.workflow.prompts import build_prompts
    from pytest_finetune.workflow.run import Run
    from pytest_finetune.workflow.settings import read_settings

    settings = read_settings(root.resolve(), options={"max_cost": max_cost})
    run = Run(replace(settings, skip_check=skip_check), retrain=True)
    named = tasks or tuple(run.tasks)
    try:
        if prompts_only:
            build_prompts(run, named, report=click.echo)
        else:
            build_candidate(run, named, report=click.echo, wait=not no_wait)
    except Pending as pending:
        click.echo(f"\nNot built yet:\n{pending}")
        return ExitStatus.PENDING
    finally:
        run.close()
    if prompts_only:
        click.echo("\nSee whether a model is worth training:")
        click.echo(f"  pytest-finetune check {' '.join(named)}")
        return ExitStatus.HELD
    click.echo(f"\nThe candidate is in {run.candidate}. Gate it:")
    click.echo(f"  pytest --finetune-models={typed(run.candidate)}")
    click.echo("Gate it and let it into the lock:")
    click.echo("  pytest --ft-accept")
    return ExitStatus.HELD
