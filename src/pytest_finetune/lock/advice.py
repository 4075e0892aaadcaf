"""What messages about versions advise: commands that work as things are."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from pytest_finetune.core.claims import LADDER

if TYPE_CHECKING:
    from pytest_finetune.lock.model import Entry, Facts, Version

_DIGITS = 12  # of a version's key: as git shortens hashes


def step(verb: str, of: Facts, *words: str) -> str:
    """A step of a stage's life as it is typed."""
    stage = [] if of.stage == LADDER[-1] else ["--stage", of.stage]
    return shlex.join(["pytest-finetune", verb, of.task, *words, *stage])


def called(entry: Entry, version: Version) -> str:
    """How one of a stage's versions is named: by its model, or by its key where several are of that model."""
    alike = [one for one in entry.versions if one.identity == version.identity]
    return version.identity if len(alike) < 2 else version.key[:_DIGITS]


def anew(version: Version) -> str:
    """What leads to another version: with nothing changed, the same job, or the same prompts, are taken up again."""
    change = "change its rows, seed= or hyperparameters= in the tasks file"
    if version.model == version.base:
        change = "name another model in the tasks file, or change its program or optimizer"
    return f"to build another, {change}, then pytest --ft-retrain --ft-task {version.task}"


def instead(entry: Entry) -> str:
    """How another version comes into production."""
    if entry.state not in ("production", "retired"):
        return f"put the pinned version into production: {step('promote', entry)}"
    others = [version for version in entry.previous if version.state not in ("production", "retired")]
    if (other := entry.last(others)) is not None:
        return f"go back to an earlier version: {step('rollback', entry, called(entry, other))}"
    return f"{anew(entry)} and {step('promote', entry)}"


def retired(entry: Entry, version: Version) -> str:
    """That a version must not serve again, and what to do."""
    event = next((e for e in entry.history if (e.what, e.version) == ("retired", version.key)), None)
    told = f" on {event.at:%d %b %Y} by {event.by}" if event else ""
    back = entry.last(one for one in entry.previous if one.state != "retired")
    way = f"; or go back: {step('rollback', entry, called(entry, back))}" if back and version.key == entry.key else ""
    return f"{entry.name}: {version.model} was retired{told}, and must not serve again: {anew(version)}{way}"


def bereft(entry: Entry) -> str:
    """That nothing is in production where something was, and what to do."""
    return f"{entry.name} has nothing in production any more: {instead(entry)}"
