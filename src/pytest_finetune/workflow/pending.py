"""What a candidate keeps when a part of it is made anew: a model that was paid for, or adopted, is not lost to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pytest_finetune.errors import FinetuneError, LockError
from pytest_finetune.lock.file import read_lock
from pytest_finetune.lock.model import Entry
from pytest_finetune.workflow.pinning import Pinning
from pytest_finetune.workflow.run import Run


def pending(run: Run, made: Sequence[Entry], report: Callable[[str], None]) -> list[Entry]:
    """The candidate's stages that are in no lock yet, but for those that were made anew.

    Those of other tasks are kept whatever became of their tasks files: it is told when they are let in.

    Args:
        run: A run that builds.
        made: The stages that take the place of the candidate's.
        report: Is told of each stage that does not fit any more, and is left out.
    """
    if not run.candidate.exists():
        return []
    try:
        candidate = read_lock(run.candidate)
    except LockError as error:
        report(f"Nothing is kept of the candidate that was there before: {error}")
        return []
    names, tasks, kept = {entry.name for entry in made}, {entry.task for entry in made}, list[Entry]()
    pinning = Pinning(run.settings, candidate, run.locks)
    for entry in candidate.models:
        if entry.name in names or _is_settled(run, entry):
            continue
        reason = _unfit(run, entry) or (_changed(run, pinning, entry) if entry.task in tasks else "")
        if reason:
            report(f"{entry.name}: {entry.model} is left out of the candidate: {reason}")
        else:
            kept.append(entry)
    return kept


def _is_settled(run: Run, entry: Entry) -> bool:
    """Whether the lock pins it, or did so until it went on to another version."""
    pinned = _pinned(run, entry)
    if pinned is None or entry.key == pinned.key:
        return pinned is not None
    return pinned.key not in _keys(entry) and entry.key in _keys(pinned)


def _unfit(run: Run, entry: Entry) -> str:
    """Why it cannot be let into the lock as that is now; empty if it can."""
    pinned = _pinned(run, entry)
    if pinned is not None and pinned.key not in _keys(entry):
        return f"the lock has gone on to {pinned.identity}"
    try:
        run.accepted.with_entries([entry])
    except LockError as error:
        return str(error)
    return ""


def _changed(run: Run, pinning: Pinning, entry: Entry) -> str:
    """What makes it another thing than its task asks for by now; empty if nothing does."""
    task = run.tasks[entry.task]
    if entry.stage not in task.stages:
        return "the task has no such stage any more"
    try:
        return "; ".join(drift.message for drift in pinning.drifts(task, entry.stage))
    except FinetuneError as error:
        return str(error)


def _pinned(run: Run, entry: Entry) -> Entry | None:
    return next((one for one in run.accepted.models if one.name == entry.name), None)


def _keys(entry: Entry) -> set[str]:
    return {version.key for version in entry.versions}
