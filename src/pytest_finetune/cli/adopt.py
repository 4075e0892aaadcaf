"""``pytest-finetune jobs adopt``."""

from __future__ import annotations

from pathlib import Path

import click

from pytest_finetune.cli import say
from pytest_finetune.core.shell import typed


@click.command(name="adopt")
@click.argument("found_as", metavar="ID")
@click.option("--task", required=True, help="The task whose fine-tuned stage it becomes.")
@click.option("--served-as", metavar="NAME", help="The name that the model is asked by, where that is not its id.")
@click.option(
    "--training-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="What it was trained on, where the endpoint does not give it.",
)
@click.option(
    "--root", type=click.Path(exists=True, file_okay=False, path_type=Path), default=Path(), help="The project."
)
def command(found_as: str, task: str, served_as: str | None, training_file: Path | None, root: Path) -> None:
    """Make a model that was trained elsewhere the fine-tuned stage of a task's candidate.

    ID is that of a job or of a model on the task's endpoint. Its training file is fetched from
    there: without it, nobody could tell whether the model has seen the test rows. Nothing is judged
    and the lock stays as it is: the candidate has to pass the gate like any other.
    """
    from pytest_finetune.workflow.adopt import adopt
    from pytest_finetune.workflow.run import Run
    from pytest_finetune.workflow.settings import read_settings

    run = Run(read_settings(root.resolve()), retrain=True)
    try:
        done = adopt(run, task, found_as, served_as=served_as, training_file=training_file, report=say)
    finally:
        run.close()
    entry = done.entry
    asked = f", served as {entry.served_as}" if entry.served_as else ""
    say(f"{task}: the candidate's fine-tuned stage is {entry.model}{asked}.")
    say(f"It was trained on {entry.artifacts.training_rows:,} rows, which are kept beside the lock.")
    say(f"The candidate has the stages {', '.join(done.stages)}. Gate it:")
    say(f"  pytest --finetune-models={typed(run.candidate)}")
    say("Gate it and let it into the lock:")
    say("  pytest --ft-accept")
