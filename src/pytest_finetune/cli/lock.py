"""``pytest-finetune lock``: its verbs, each of which looks at one lock."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import click

from pytest_finetune.errors import DriftError

PATH = click.Path(dir_okay=False, path_type=Path)
ROOT = click.Path(exists=True, file_okay=False, path_type=Path)


@click.group()
def command() -> None:
    """See what the lock pins, hold it against the tasks file, and mend it."""


def _of_a_lock(function: Callable[..., Any]) -> Callable[..., Any]:
    function = click.option("--root", type=ROOT, default=Path(), help="The project.")(function)
    return click.option("--lock", type=PATH, help="The lock; else that of the project.")(function)


def _path(lock: Path | None, root: Path) -> Path:
    from pytest_finetune.workflow.settings import read_settings

    return read_settings(root.resolve(), options={"models": [str(lock)] if lock else None}).lock


@command.command()
@_of_a_lock
def show(lock: Path | None, root: Path) -> None:
    """Show each stage: its model, its score, the claims it was accepted on, and what served before."""
    from pytest_finetune.lock.file import read_lock
    from pytest_finetune.lock.review import lock_lines

    for line in lock_lines(read_lock(_path(lock, root))):
        click.echo(line)


@command.command()
@click.argument("revision", default="HEAD")
@_of_a_lock
def diff(revision: str, lock: Path | None, root: Path) -> None:
    """Say what changed since a REVISION of git (HEAD): models, scores, what they were built from, verdicts."""
    from pytest_finetune.lock.file import read_lock
    from pytest_finetune.lock.git import lock_at
    from pytest_finetune.lock.review import changes

    path = _path(lock, root)
    said = list(changes(lock_at(path, revision), read_lock(path)))
    for line in said or [f"{path.name} pins what it pinned at {revision}."]:
        click.echo(line)


@command.command()
@click.argument("tasks", nargs=-1, metavar="[TASK]...")
@click.option("--live", is_flag=True, help="Also ask the endpoints whether they have the models, and until when.")
@click.option("--notice", type=click.IntRange(0), default=60, show_default=True, help="Days to warn before an end.")
@_of_a_lock
def check(tasks: tuple[str, ...], live: bool, notice: int, lock: Path | None, root: Path) -> None:
    """Name every difference between the lock and what the tasks file asks for, and the command that mends it.

    Without --live nothing is asked, and no key is needed. Exit status 3 where something must be mended.
    """
    from pytest_finetune.workflow.drift import drifted, unserved
    from pytest_finetune.workflow.run import Run
    from pytest_finetune.workflow.settings import read_settings

    settings = read_settings(root.resolve(), options={"models": [str(lock)] if lock else None})
    with closing(Run(settings)) as run:
        run.check()
        troubles = list(drifted(run, tasks))
        if live:
            troubles += unserved(run, datetime.now(timezone.utc).date(), notice)
    for trouble in troubles:
        click.echo(trouble.message if trouble.error else f"warning: {trouble.message}")
    errors = sum(trouble.error for trouble in troubles)
    if errors:
        raise DriftError(f"{settings.lock.name} does not fit: {errors} to mend, as above")
    click.echo(f"{settings.lock.name} fits: {len(run.accepted.models)} stages.")


@command.command()
@_of_a_lock
def prune(lock: Path | None, root: Path) -> None:
    """Delete the files beside the lock that neither it, nor a candidate for it, refers to."""
    from pytest_finetune.lock.artifacts import Artifacts
    from pytest_finetune.lock.file import read_lock
    from pytest_finetune.workflow.run import Run
    from pytest_finetune.workflow.settings import read_settings

    path = _path(lock, root)
    candidate = Run(read_settings(root.resolve())).candidate
    locks = [read_lock(each) for each in (path, candidate) if each == path or each.exists()]
    spare = set.intersection(*(set(Artifacts.beside(path).unreferenced(each)) for each in locks))
    for file in sorted(spare):
        file.unlink()
        click.echo(f"deleted {file.name}")
    click.echo(f"{len(spare)} files deleted.")


@command.command()
@click.option(
    "--driver", type=PATH, nargs=3, metavar="BASE OURS THEIRS", help="As git's merge driver: the result goes to OURS."
)
@_of_a_lock
def fix(driver: tuple[Path, Path, Path] | None, lock: Path | None, root: Path) -> None:
    r"""Resolve a git merge of the lock by meaning.

    A task that one side retrained is that side's; of two, the one that was trained later stands, and
    the other's model goes into its history. To have git do so by itself:

    \b
    git config merge.models-lock.driver "pytest-finetune lock fix --driver %O %A %B"
    echo "models.lock merge=models-lock" >> .gitattributes
    """
    from pytest_finetune.lock.file import read_lock, write_lock
    from pytest_finetune.lock.git import merged_conflict
    from pytest_finetune.lock.merge import merge_locks

    if driver:
        base, path, theirs = driver
        merged = merge_locks(read_lock(path), read_lock(theirs), read_lock(base) if base.stat().st_size else None)
    else:
        path = _path(lock, root)
        found = merged_conflict(path)
        if found is None:
            read_lock(path)
            click.echo(f"{path.name} is in no conflict.")
            return
        merged = found
    write_lock(path, merged.lock)
    for note in merged.notes:
        click.echo(note)
    if not driver:
        click.echo(f"Resolved. Gate it, then git add {path.name}: pytest --finetune-models={path.name}")
