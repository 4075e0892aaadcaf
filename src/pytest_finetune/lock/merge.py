"""Two sides of a lock, merged by what they mean: task by task, since the stages of a task were judged together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone

from pytest_finetune.lock.model import Entry, Lock, Previous

_NEVER = datetime.min.replace(tzinfo=timezone.utc)

Stages = dict[str, Entry]


@dataclass(frozen=True)
class Merged:
    """What came of a merge.

    Attributes:
        lock: The merged lock.
        notes: What was decided, a sentence for each task that both sides changed.
    """

    lock: Lock
    notes: tuple[str, ...] = ()


def merge_locks(ours: Lock, theirs: Lock, base: Lock | None = None) -> Merged:
    """Merge two sides: a task that one side changed is that side's; of two, the one that was trained later stands.

    What the other side served goes into the history, so that one can go back to it. Which side is called ours does
    not matter.

    Args:
        ours: One side.
        theirs: The other.
        base: What both came from; ``None``: not known, so that what differs was changed by both.
    """
    entries, notes = list[Entry](), list[str]()
    for task in sorted({*ours.tasks, *theirs.tasks}):
        sides = [_stages(lock, task) for lock in (ours, theirs)]
        before = None if base is None else _stages(base, task)
        if sides[0] == sides[1] or sides[1] == before:
            entries += sides[0].values()
        elif sides[0] == before:
            entries += sides[1].values()
        else:
            later, earlier = sorted(sides, key=_trained, reverse=True)
            entries += (_with_history(entry, earlier.get(stage)) for stage, entry in later.items())
            notes.append(_note(task, later, earlier))
    return Merged(Lock(model=tuple(entries)), tuple(notes))


def _stages(lock: Lock, task: str) -> Stages:
    return {entry.stage: entry for entry in lock.models if entry.task == task}


def _trained(stages: Stages) -> tuple[bool, datetime, str]:
    """When a side was trained, and, where that is the same, anything that tells the sides apart."""
    ends = [entry.job.finished_at or _NEVER for entry in stages.values() if entry.job is not None]
    return bool(stages), max(ends, default=_NEVER), repr(sorted(stages.items()))


def _with_history(entry: Entry, other: Entry | None) -> Entry:
    if other is None:
        return entry
    served = {(entry.model, entry.artifacts.program)}
    history = list[Previous]()
    for previous in _latest_first([*entry.previous, *entry.replacing(other).previous, *other.previous]):
        if (previous.model, previous.program) not in served:
            served.add((previous.model, previous.program))
            history.append(previous)
    return entry.model_copy(update={"previous": tuple(history)})


def _latest_first(history: Iterable[Previous]) -> Sequence[Previous]:
    return sorted(history, key=lambda one: (one.finished_at or _NEVER, one.model, one.program), reverse=True)


def _note(task: str, later: Stages, earlier: Stages) -> str:
    kept, left = (
        ", ".join(sorted({entry.model for entry in side.values() if entry.job})) for side in (later, earlier)
    )
    return (
        f"{task}: both sides changed it. {kept or 'The side that has it'} stands, which was trained later;"
        f" {left or 'what was removed on the other side'} is in its history"
    )
