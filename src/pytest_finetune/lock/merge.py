"""Two sides of a lock, merged by what they mean: task by task, since the stages of a task were judged together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone

from pytest_finetune.lock.advice import bereft
from pytest_finetune.lock.life import merged_history, with_history
from pytest_finetune.lock.model import Entry, Lock, Version

_NEVER = datetime.min.replace(tzinfo=timezone.utc)
_IN_USE = {"candidate", "production"}

Stages = Mapping[str, Entry]


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

    No version and no event is lost: what the other side pinned is among the earlier versions, and both histories are
    one. Of two versions that were promoted, the one that was promoted later is in production. Which side is called
    ours does not matter, nor whether a side is merged twice.

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
            pair = [_Side.of(mine, other, before or {}) for mine, other in (sides, sides[::-1])]
            later, earlier = sorted(pair, key=_Side.standing, reverse=True)
            entries += later.merged.values()
            notes.append(_note(task, later, earlier))
    return Merged(Lock(model=tuple(entries)), tuple(notes))


@dataclass(frozen=True)
class _Side:
    """The stages of a task as one side has them, and with what the other side knows behind them."""

    own: Stages
    merged: Stages

    @classmethod
    def of(cls, own: Stages, other: Stages, before: Stages) -> _Side:
        merged = {stage: _lived(entry, other[stage]) if stage in other else entry for stage, entry in own.items()}
        new = {stage: entry for stage, entry in other.items() if stage not in own and entry != before.get(stage)}
        return cls(own, merged | new)

    def standing(self) -> tuple[bool, bool, bool, datetime, str]:
        """A side that was not removed, nor retired or left by the other; the later; then anything that tells them."""
        states = {entry.state for entry in self.merged.values()}
        pinned = sorted((stage, _content(entry.version)) for stage, entry in self.own.items())
        return bool(self.own), "retired" not in states, states <= _IN_USE, self.trained, repr(pinned)

    @property
    def trained(self) -> datetime:
        return max((_ended(entry) for entry in self.own.values()), default=_NEVER)

    @property
    def models(self) -> str:
        return ", ".join(sorted({entry.model for entry in self.own.values() if entry.jobs}))


def _stages(lock: Lock, task: str) -> Stages:
    return {entry.stage: entry for entry in lock.models if entry.task == task}


def _lived(entry: Entry, other: Entry) -> Entry:
    """The entry with the versions and the history of both sides."""
    before: dict[str, Version] = {}
    for version in _latest_first([*entry.previous, *other.versions]):
        if version.key != entry.key:
            before.setdefault(version.key, version)
    history = merged_history(entry.history, other.history)
    return with_history(entry.model_copy(update={"previous": tuple(before.values())}), history)


def _latest_first(versions: Iterable[Version]) -> list[Version]:
    return sorted(versions, key=lambda version: (_ended(version), version.key, _content(version)), reverse=True)


def _content(version: Version) -> str:
    return repr(version.model_copy(update={"state": "candidate"}))


def _ended(version: Version) -> datetime:
    return version.trained_at or _NEVER


def _note(task: str, later: _Side, earlier: _Side) -> str:
    why = "which was trained later" if later.trained >= earlier.trained else "since the other is not to serve"
    serving = [version.model for entry in later.merged.values() if (version := entry.in_state("production"))]
    left = [bereft(entry) for entry in later.merged.values() if entry.bereft]
    return (
        f"{task}: both sides changed it. {later.models or 'The side that has it'} stands, {why};"
        f" {earlier.models or 'what was removed on the other side'} is in its history"
        + (f"; in production: {', '.join(serving)}" if serving else "")
        + "".join(f"; {each}" for each in left)
    )
