"""Steps in the life of a stage's versions, taken in the lock: who takes them, and what must be so before."""

from __future__ import annotations

import getpass
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from pytest_finetune.dataset import DataRow
from pytest_finetune.errors import LockError, UsageError
from pytest_finetune.lock import git, life
from pytest_finetune.lock.drift import drift_error
from pytest_finetune.lock.file import edit_lock
from pytest_finetune.lock.life import Decision
from pytest_finetune.lock.model import Entry, Lock
from pytest_finetune.lock.signatures import sign_again
from pytest_finetune.secrets import redacted
from pytest_finetune.task import FINETUNED
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
        remarks: What must be said of it, in sentences.
    """

    before: Entry
    after: Entry
    lock: Path
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
        DriftError: If the tasks file asks for something that makes its scores say nothing.
        EvidenceError: If it did not pass the gate.
    """
    with closing(Run(settings)) as run:
        entry = run.accepted.entry(task, stage)
        after = life.promote(entry, _decision(settings.root, reason))
        for each in run.accepted.of_task(task):
            _pinning(run).check_files(each)
        rows, unknown = _test_rows(run, task)
        Verdicts(entry, run.accepted.of_task(task), run.artifacts(task), rows).check(observed=observed)
        return _written(run, entry, after, unknown)


def rollback(
    settings: Settings, task: str, model: str | None = None, stage: str = FINETUNED, *, reason: str | None = None
) -> Done:
    """Go back to an earlier version of a stage, whose files must be as they were.

    Args:
        settings: Of the project.
        task: The task.
        model: Its model, or the reference of its program; ``None``: the one in production where another is pinned,
            else the one that was in production before.
        stage: The stage.
        reason: To be kept in the history.

    Raises:
        LockError: If there is no such version, it was retired, or its files are missing or were changed.
    """
    with closing(Run(settings)) as run:
        entry = run.accepted.entry(task, stage)
        after = life.rollback(entry, _decision(settings.root, reason), model)
        _pinning(run).check_files(after)
        new = not any(event.what == "production" and event.serves == after.serves for event in entry.history)
        return _written(run, entry, after, "It was never in production before." if new else None)


def retire(settings: Settings, task: str, model: str, stage: str = FINETUNED, *, reason: str | None = None) -> Done:
    """Let a version of a stage never serve again.

    Raises:
        LockError: If there is no such version, or it is in production.
    """
    with closing(Run(settings)) as run:
        entry = run.accepted.entry(task, stage)
        return _written(run, entry, life.retire(entry, model, _decision(settings.root, reason)))


def _decision(root: Path, reason: str | None) -> Decision:
    name = "".join(filter(str.isprintable, git.user_name(root) or _login()))
    return Decision(
        datetime.now(timezone.utc), name or "unknown", git.head(root), None if reason is None else redacted(reason)
    )


def _login() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # in a container, a user may have no name
        return "unknown"


def _test_rows(run: Run, task: str) -> tuple[Sequence[DataRow] | None, str | None]:
    """The test rows of today, or why they are not known.

    Raises:
        DriftError: If what the tasks file asks for makes the scores of the lock say nothing.
    """
    try:
        found = run.tasks[task]
    except UsageError as error:
        return None, f"The tasks file was not looked at, so that nobody knows whether it has changed: {error}"
    for entry in run.accepted.of_task(task):
        drifts = [drift for drift in _pinning(run).drifts(found, entry.stage) if not drift.comparable]
        if drifts:
            raise drift_error(entry, drifts)
    return found.held_out(None).rows, None


def _pinning(run: Run) -> Pinning:
    return Pinning(run.settings, run.accepted, run.locks)


def _written(run: Run, before: Entry, after: Entry, remark: str | None = None) -> Done:
    """Write the stage, if no other process has changed its task meanwhile."""
    path, seen = run.locks.of(before.task), run.accepted.of_task(before.task)

    def change(lock: Lock) -> Lock:
        if lock.of_task(before.task) != seen:
            raise LockError(f"{before.name}: another process has changed {path.name} meanwhile: try again")
        return lock.with_stage(after)

    edit_lock(path, change)
    unsigned = None if run.settings.verify is None else sign_again(path)
    return Done(before, after, path, tuple(each for each in (remark, unsigned) if each is not None))
