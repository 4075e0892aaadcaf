"""``pytest-finetune lock``: its verbs, each of which looks at every lock of the project unless some are named."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from datetime import datetime, timezone
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pytest_finetune.cli import say
from pytest_finetune.core.shell import typed
from pytest_finetune.core.text import encoded
from pytest_finetune.errors import DriftError

if TYPE_CHECKING:
    from pytest_finetune.lock.merge import Merged
    from pytest_finetune.workflow.locks import Locks

PATH = click.Path(dir_okay=False, path_type=Path)
ROOT = click.Path(exists=True, file_okay=False, path_type=Path)


@click.group()
def command() -> None:
    """See what the lock pins, hold it against the tasks file, and mend it."""


def _of_locks(function: Callable[..., Any]) -> Callable[..., Any]:
    function = click.option("--root", type=ROOT, default=Path(), help="The project.")(function)
    return click.option(
        "--lock", type=PATH, multiple=True, help="The lock (repeatable); else all locks of the project."
    )(function)


def _locks(given: tuple[Path, ...], root: Path) -> Locks:
    from pytest_finetune.workflow.locks import Locks
    from pytest_finetune.workflow.settings import read_settings

    return Locks(read_settings(root.resolve(), options={"models": [str(path) for path in given]}))


def _each(function: Callable[..., None]) -> Callable[..., None]:
    """The verb on every lock, each under its name where there are several."""

    @wraps(function)
    def on_all(lock: tuple[Path, ...], root: Path, **given: Any) -> None:
        locks = _locks(lock, root)
        for number, path in enumerate(locks.there):
            if len(locks.there) > 1:
                say(f"\n{locks.shown(path)}" if number else locks.shown(path))
            function(path, locks, **given)

    return _of_locks(on_all)


@command.command()
@_each
def show(path: Path, locks: Locks) -> None:  # noqa: ARG001  # as every verb is called
    """Show each stage: its model, its score, the claims it was accepted on, and what served before."""
    from pytest_finetune.lock.file import read_lock
    from pytest_finetune.lock.review import lock_lines

    for line in lock_lines(read_lock(path)):
        say(line)


@command.command()
@click.argument("revision", default="HEAD")
@_each
def diff(path: Path, locks: Locks, revision: str) -> None:
    """Say what changed since a REVISION of git (HEAD): models, scores, what they were built from, verdicts."""
    from pytest_finetune.lock.artifacts import Artifacts
    from pytest_finetune.lock.file import read_lock
    from pytest_finetune.lock.git import lock_at
    from pytest_finetune.lock.review import changes

    said = list(changes(lock_at(path, revision), read_lock(path), Artifacts.beside(path)))
    for line in said or [f"{locks.shown(path)} pins what it pinned at {revision}."]:
        say(line)


@command.command()
@click.argument("tasks", nargs=-1, metavar="[TASK]...")
@click.option("--live", is_flag=True, help="Also ask the endpoints whether they have the models, and until when.")
@click.option("--notice", type=click.IntRange(0), help="Days to warn before an end; else those of shutdown_notice.")
@_of_locks
def check(tasks: tuple[str, ...], live: bool, notice: int | None, lock: tuple[Path, ...], root: Path) -> None:
    """Name every difference between the lock and what the tasks file asks for, and the command that mends it.

    Without --live nothing is asked, and no key is needed. Exit status 3 where something must be mended.
    """
    from pytest_finetune.workflow.drift import drifted
    from pytest_finetune.workflow.live import unserved
    from pytest_finetune.workflow.run import Run
    from pytest_finetune.workflow.settings import read_settings

    options = {"models": [str(path) for path in lock], "shutdown_notice": notice}
    settings = read_settings(root.resolve(), options=options)
    with closing(Run(settings)) as run:
        run.check()
        troubles = list(drifted(run, tasks))
        if live:
            troubles += unserved(run, datetime.now(timezone.utc).date(), settings.shutdown_notice)
    for trouble in troubles:
        say(trouble.message if trouble.error else f"warning: {trouble.message}")
    errors = sum(trouble.error for trouble in troubles)
    if errors:
        names, verb = ", ".join(map(run.locks.shown, run.locks.held)), "does" if len(run.locks.held) == 1 else "do"
        raise DriftError(f"{names} {verb} not fit: {errors} to mend, as above")
    for path, held in run.locks.held.items():
        say(f"{run.locks.shown(path)} fits: {len(held.models)} stages.")


@command.command()
@_each
def prune(path: Path, locks: Locks) -> None:
    """Delete the files beside the lock that neither it, nor a candidate for it, refers to."""
    from pytest_finetune.lock.artifacts import Artifacts
    from pytest_finetune.lock.file import read_lock

    referring = [read_lock(each) for each in (path, locks.candidate) if each == path or each.exists()]
    spare = set.intersection(*(set(Artifacts.beside(path).unreferenced(each)) for each in referring))
    for file in sorted(spare):
        file.unlink()
        say(f"deleted {file.name}")
    say(f"{len(spare)} files deleted.")


@command.command()
@click.option(
    "--driver", type=PATH, nargs=3, metavar="BASE OURS THEIRS", help="As git's merge driver: the result goes to OURS."
)
@_of_locks
def fix(driver: tuple[Path, Path, Path] | None, lock: tuple[Path, ...], root: Path) -> None:
    r"""Resolve a git merge of the lock by meaning.

    A task that one side retrained is that side's; of two, the one that was trained later stands, and
    the other's model goes into its history. To have git do so by itself:

    \b
    git config merge.models-lock.driver "pytest-finetune lock fix --driver %O %A %B"
    echo "models.lock merge=models-lock" >> .gitattributes
    """
    from pytest_finetune.lock.file import read_lock, render
    from pytest_finetune.lock.merge import merge_locks
    from pytest_finetune.lock.signatures import sign_again

    if driver:
        base, path, theirs = driver
        before = read_lock(base) if base.stat().st_size else None
        merged = merge_locks(read_lock(path), read_lock(theirs), before)
        path.write_bytes(encoded(render(merged.lock)))  # git's own file: nobody else writes it, and nothing is beside
        _tell(merged)
    else:
        locks = _locks(lock, root)
        for path in locks.there:
            if _fix(path, locks.shown(path)):
                if locks.settings.verify is not None:
                    say(sign_again(path))
                say(f"Gate it, then git add {typed(path)}: pytest --finetune-models={typed(path)}")


def _fix(path: Path, name: str) -> bool:
    """Resolve the conflict of one lock; say whether it was in one."""
    from pytest_finetune.lock.file import read_lock, write_lock
    from pytest_finetune.lock.git import merged_conflict

    merged = merged_conflict(path)
    if merged is None:
        read_lock(path)
        say(f"{name} is in no conflict.")
        return False
    write_lock(path, merged.lock)
    _tell(merged)
    say(f"{name} is resolved.")
    return True


def _tell(merged: Merged) -> None:
    for note in merged.notes:
        say(note)


@command.command()
@click.option("--key", type=PATH, required=True, help="The private key; or the public one of a key in an agent.")
@_each
def sign(path: Path, locks: Locks, key: Path) -> None:  # noqa: ARG001  # as every verb is called
    """Sign the lock with ssh-keygen, once you have looked at it: the signature goes beside it, as LOCK.sig."""
    from pytest_finetune.lock import signatures

    written = signatures.sign(path, key)
    say(f"Signed. Commit both: git add {typed(path)} {typed(written)}")


@command.command()
@click.option("--signers", type=PATH, help="The allowed signers; else those of the setting verify.")
@_each
def verify(path: Path, locks: Locks, signers: Path | None) -> None:
    """Say who has signed the lock, and make sure that the files beside it are those that it was signed with.

    Exit status 3 where it is unsigned, changed since, or signed by nobody who is allowed to.
    """
    from pytest_finetune.lock.artifacts import Artifacts
    from pytest_finetune.lock.signatures import read_trusted, signer

    allowed = signers or locks.settings.verify
    if allowed is None:
        raise click.UsageError("name the allowed signers: --signers FILE, or verify in [tool.pytest-finetune].")
    name = signer(path, allowed)
    files = Artifacts.beside(path).check(read_trusted(path, allowed))
    say(f"{locks.shown(path)} is as {name} has signed it, and so are {files} files beside it.")
