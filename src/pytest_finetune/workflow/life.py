"""Steps in the life of a stage's versions, taken in the lock: who takes them, and what must be so before."""

from __future__ import annotations

import getpass
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path

from pytest_finetune.errors import FinetuneError, LockError
from pytest_finetune.lock import git, life
from pytest_finetune.lock.advice import anew
from pytest_finetune.lock.drift import Drift
from pytest_finetune.lock.file import edit_lock
from pytest_finetune.lock.life import Decision
from pytest_finetune.lock.model import Entry, Event, Lock, Version
from pytest_finetune.lock.signatures import sign_again
from pytest_finetune.secrets import redacted
from pytest_finetune.task import FINETUNED
from pytest_finetune.workflow.kept import KeptRows
from pytest_finetune.workflow.pinning import Pinning
from pytest_finetune.workflow.run import Run
from pytest_finetune.workflow.settings import Settings
from pytest_finetune.workflow.verdicts import Verdicts


@dataclass(frozen=True)
class Done:
    """What a step came to.

    Attributes:
        before: The entry as it was.
        after: The entry as it is.
        lock: The file that was written.
        commit: The command that commits it; None where it must be signed first.
        remarks: What must be said of it, in sentences.
    """

    before: Entry
    after: Entry
    lock: Path
    commit: str | None
    remarks: tuple[str, ...] = ()


def promote(
    settings: Settings, task: str, stage: str = FINETUNED, *, observed: bool = False, reason: str | None = None
) -> Done:
    """Put the pinned version of a stage into production, if it passed the gate on the rows that are pinned.

    Args:
        settings: Of the project.
        task: The task.
        stage: Its stage.
        observed: What held as observed is enough; else what blocks must be certified.
        reason: To be kept in the history.

    Raises:
        LockError: If it is in production or was retired, or if the lock or a file beside it was changed by hand.
        UsageError: If the tasks file cannot be loaded, or has no such task: nobody knows what has changed.
        DriftError: If the tasks file asks for something that makes its scores say nothing.
        EvidenceError: If it did not pass the gate.
    """
    with closing(Run(settings)) as run:
        entry = _entry(run, task, stage)
        after = life.promote(entry, _decision(settings.root, reason))
        together, pinning = run.accepted.of_task(task), _pinning(run)
        for each in together:
            pinning.stage(run.tasks[task], each.stage)
        kept, repair = KeptRows(run.tasks, pinning), run.artifacts(task).repair
        told = Verdicts(entry, together, kept, repair).check(observed=observed)
        return _written(run, entry, after, *told, *_built_otherwise(pinning.drifts(run.tasks[task], stage)))


def rollback(
    settings: Settings, task: str, model: str | None = None, stage: str = FINETUNED, *, reason: str | None = None
) -> Done:
    """Go back to an earlier version of a stage, whose files must be as they were.

    Args:
        settings: Of the project.
        task: The task.
        model: Its model, or the beginning of its key; ``None``: the one in production where another is pinned, else
            the one that was in production last.
        stage: The stage.
        reason: To be kept in the history.

    Raises:
        LockError: If there is no such version, it was retired, or its files are missing or were changed.
    """
    with closing(Run(settings)) as run:
        entry = _entry(run, task, stage)
        after = life.rollback(entry, _decision(settings.root, reason), model)
        _pinning(run).check_files(after)
        return _written(run, entry, after, *_unpromoted(entry, after), *_unfit(run, entry, after))


def retire(settings: Settings, task: str, model: str, stage: str = FINETUNED, *, reason: str | None = None) -> Done:
    """Let a version of a stage never serve again.

    Raises:
        LockError: If there is no such version, or it is in production.
    """
    with closing(Run(settings)) as run:
        entry = _entry(run, task, stage)
        after = life.retire(entry, model, _decision(settings.root, reason))
        pinned = [f"The lock pins it still: {anew(after)}."] if after.state == "retired" else []
        return _written(run, entry, after, *pinned)


def _entry(run: Run, task: str, stage: str) -> Entry:
    """A stage, if somebody has brought its versions to their states: a step would make up for those by hand."""
    entry = run.accepted.entry(task, stage)
    life.check_states(entry)
    return entry


def _built_otherwise(drifts: Sequence[Drift]) -> Iterator[str]:
    if drifts:
        yield (
            f"The tasks file would build it otherwise now ({_fields(drifts)}): its scores hold, and CI refuses it"
            " unless it is gated with --ft-frozen."
        )


def _unpromoted(entry: Entry, after: Entry) -> Iterator[str]:
    if not _promotions(entry, after):
        yield "It was never in production before."


def _unfit(run: Run, entry: Entry, after: Entry) -> Iterator[str]:
    """Where the tasks file asks for something else than what is gone back to: what lets the gate pass."""
    try:
        pinning = Pinning(run.settings, run.accepted.with_stage(after), run.locks)
        drifts = pinning.drifts(run.tasks[after.task], after.stage)
    except FinetuneError as error:  # in an emergency one goes back all the same
        yield f"Whether it fits the tasks file is not known: {error}"
        return
    if drifts:
        commit = next((event.commit for event in _promotions(entry, after) if event.commit), None)
        since = (
            f"to commit {commit[:7]}, at which it was promoted" if commit else "to what they were when it was built"
        )
        frozen = ", or gate it as it is with --ft-frozen" if all(drift.comparable for drift in drifts) else ""
        yield (
            f"The tasks file asks for something else now ({_fields(drifts)}), so that CI refuses it: take the tasks"
            f" file and its rows back {since}{frozen}."
        )


def _promotions(entry: Entry, version: Version) -> list[Event]:
    return [event for event in entry.history if (event.what, event.version) == ("production", version.key)]


def _fields(drifts: Sequence[Drift]) -> str:
    return ", ".join(drift.field for drift in drifts)


def _decision(root: Path, reason: str | None) -> Decision:
    name = "".join(filter(str.isprintable, git.user_name(root) or _login()))
    by, why = redacted(name or "unknown"), None if reason is None else redacted(reason)
    return Decision(datetime.now(timezone.utc), by, git.head(root), why)


def _login() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # in a container, a user may have no name
        return "unknown"


def _pinning(run: Run) -> Pinning:
    """What a stage was built from may have changed: its scores say what they said."""
    return Pinning(replace(run.settings, locked=False), run.accepted, run.locks)


def _written(run: Run, before: Entry, after: Entry, *remarks: str) -> Done:
    """Write the stage, if no other process has changed its task meanwhile."""
    path, seen = run.locks.of(before.task), run.accepted.of_task(before.task)

    def change(lock: Lock) -> Lock:
        if lock.of_task(before.task) != seen:
            raise LockError(
                f"{before.name}: another process has changed {run.locks.shown(path)} meanwhile: try again"
            )
        return lock.with_stage(after)

    edit_lock(path, change)
    event = after.history[0]
    if run.settings.verify is not None:
        return Done(before, after, path, None, (*remarks, sign_again(path)))
    return Done(before, after, path, git.commit_command(path, f"{life.said(event.what)}: {event.model}"), remarks)
