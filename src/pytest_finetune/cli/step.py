"""What ``promote``, ``rollback`` and ``retire`` have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pytest_finetune.cli import say
from pytest_finetune.core.shell import typed

if TYPE_CHECKING:
    from pytest_finetune.workflow.life import Done

_PATH = click.Path(dir_okay=False, path_type=Path)
_ROOT = click.Path(exists=True, file_okay=False, path_type=Path)


def of_a_stage(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options of a step."""
    function = click.option("--root", type=_ROOT, default=Path(), help="The project.")(function)
    function = click.option("--lock", type=_PATH, help="The lock; else that of the project.")(function)
    function = click.option("--reason", metavar="TEXT", help="Why: it is kept in the lock's history.")(function)
    return click.option("--stage", default="finetuned", show_default=True, help="The stage.")(function)


def options(lock: Path | None) -> Mapping[str, Any]:
    """The options as the settings know them."""
    return {"models": [str(lock)] if lock else None}


def told(done: Done) -> None:
    """Say what is in production now, what was before, and what to do next."""
    was, now = (entry.in_state("production") for entry in (done.before, done.after))
    event = done.after.history[0]
    serving = now.identity if now else "nothing"
    if event.what == "retired":
        say(f"{done.after.name}: {event.model} is retired, and never serves again. In production: {serving}.")
    else:
        say(f"{done.after.name}: in production is {serving}; before, it was {was.identity if was else 'nothing'}.")
    for remark in done.remarks:
        say(remark)
    if event.what == "production" and done.after.key != done.before.key:
        say(f"Gate it: pytest --finetune-models={typed(done.lock)}")
    if done.commit is not None:
        say(f"Commit it: {done.commit}")
