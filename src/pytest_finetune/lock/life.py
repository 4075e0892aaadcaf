"""The life of a stage's versions: what is put into production, what is gone back to, what must never serve again.

The states of versions follow from the history alone. So two histories that were written apart can be put together.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import get_args

from pytest_finetune.errors import LockError
from pytest_finetune.lock.advice import anew, called, instead, retired
from pytest_finetune.lock.model import Entry, Event, State, Step, Version

_ORDER: tuple[Step, ...] = get_args(Step)
_FEWEST = 7  # digits of a key that name a version, as git takes them


@dataclass(frozen=True, slots=True)
class Decision:
    """Who takes a step, and when.

    Attributes:
        at: The moment.
        by: Who.
        commit: Of the project; ``None``: it is in no repository.
        reason: As it is given.
    """

    at: datetime
    by: str
    commit: str | None = None
    reason: str | None = None


def promote(entry: Entry, decision: Decision) -> Entry:
    """Put the pinned version into production; what was there is deprecated.

    Raises:
        LockError: If it is there already, or was retired.
    """
    if entry.state == "production":
        raise LockError(f"{entry.name}: {entry.model} is in production already")
    _refuse_retired(entry, entry.version)
    return _decided(entry, [("production", entry.version)], decision)


def rollback(entry: Entry, decision: Decision, model: str | None = None) -> Entry:
    """Pin an earlier version again, and put it into production.

    Args:
        entry: The stage.
        decision: Who goes back.
        model: The version's model, or the beginning of its key; ``None``: the version in production where that is
            not the pinned one, else the one that was there last.

    Raises:
        LockError: If there is no such earlier version, or it was retired.
    """
    target = _target(entry, model)
    _refuse_retired(entry, target)
    left = {v.key: v for v in (entry.version, entry.in_state("production")) if v and v.key != target.key}
    steps: list[tuple[Step, Version]] = [("rolled_back", version) for version in left.values()]
    others = tuple(version for version in entry.versions if version.key != target.key)
    return _decided(_pinned(target, others, entry.history), [*steps, ("production", target)], decision)


def retire(entry: Entry, model: str, decision: Decision) -> Entry:
    """Let a version never serve again.

    Args:
        entry: The stage.
        model: The version's model, or the beginning of its key.
        decision: Who says so.

    Raises:
        LockError: If there is no such version, if it was retired before, or if it is in production.
    """
    version = _named(entry, entry.versions, model)
    _refuse_retired(entry, version)
    if version.state == "production":
        raise LockError(
            f"{entry.name}: {version.model} is in production, and something else must be first: {instead(entry)}"
        )
    return _decided(entry, [("retired", version)], decision)


def _target(entry: Entry, model: str | None) -> Version:
    """The version that a rollback goes to.

    Args:
        entry: The stage.
        model: As in `rollback`.

    Raises:
        LockError: If there is none.
    """
    if model is not None:
        return _named(entry, entry.previous, model)
    served = (version for version in entry.previous if version.state in ("production", "deprecated"))
    if (found := entry.last(served)) is not None:
        return found
    if any(version.state != "retired" for version in entry.previous):
        told = f"no earlier version was in production: name the one to go back to: the lock has {_known(entry)}"
    else:
        told = f"there is no version before {entry.identity} to go back to: {anew(entry)}"
    raise LockError(f"{entry.name}: {told}")


def merged_history(*histories: Iterable[Event]) -> tuple[Event, ...]:
    """Every event once, the latest first, whatever the order of the histories."""
    events = {event for history in histories for event in history}
    return tuple(sorted(events, key=lambda event: (event.at, _ORDER.index(event.what), repr(event)), reverse=True))


def states(history: Sequence[Event]) -> Mapping[str, State]:
    """What a history makes of versions: the last that was promoted, and was not retired, is in production.

    Args:
        history: The latest first.

    Returns:
        The states of the versions that it is about, by their keys; all others are candidates.
    """
    found: dict[str, State] = {}
    retired: dict[str, State] = {event.version: "retired" for event in history if event.what == "retired"}
    for event in reversed(history):
        if event.what == "production" and event.version not in retired:
            found |= {key: "deprecated" for key, state in found.items() if state == "production"}
        found[event.version] = event.what
    return found | retired


def check_states(entry: Entry) -> None:
    """Refuse states that nobody has brought about: who wrote one by hand went round the gate.

    Raises:
        LockError: If a version is in another state than its history says.
    """
    followed = states(entry.history)
    for version in entry.versions:
        state = followed.get(version.key, "candidate")
        if version.state != state:
            raise LockError(
                f"{entry.name}: the lock calls {version.model} {said(version.state)}, by its history it is"
                f" {said(state)}: take back the committed lock with git checkout, and use pytest-finetune promote,"
                " rollback or retire"
            )


def _decided(entry: Entry, steps: Iterable[tuple[Step, Version]], decision: Decision) -> Entry:
    """The entry after these steps; its clock never goes back, so that the history says in which order they were."""
    earliest = max((event.at + timedelta(seconds=1) for event in entry.history), default=decision.at)
    events = [
        Event(
            what=what,
            model=version.model,
            version=version.key,
            at=max(decision.at, earliest),
            by=decision.by,
            commit=decision.commit,
            reason=decision.reason,
        )
        for what, version in steps
    ]
    return with_history(entry, merged_history(events, entry.history))


def with_history(entry: Entry, history: Sequence[Event]) -> Entry:
    """The entry with this history, and the states that follow from it."""
    now = states(history)
    pinned, *previous = (
        version.model_copy(update={"state": now.get(version.key, "candidate")}) for version in entry.versions
    )
    return _pinned(pinned, previous, history)


def _pinned(version: Version, previous: Iterable[Version], history: Iterable[Event]) -> Entry:
    fields = {name: getattr(version, name) for name in Version.model_fields}
    return Entry(**fields, previous=tuple(previous), history=tuple(history))


def _named(entry: Entry, versions: Iterable[Version], model: str) -> Version:
    named = [(version, (version.model, version.identity)) for version in versions]
    found = [version for version, names in named if model in names or _shortens(model, version.key)]
    if not found:
        raise LockError(f"{entry.name}: there is no such version {model!r}: the lock has {_known(entry)}")
    if len(found) > 1:
        keys = " or ".join(f"{called(entry, version)} ({said(version.state)})" for version in found)
        raise LockError(f"{entry.name}: several versions have the model {model!r}: name one by its key: {keys}")
    return found[0]


def _shortens(text: str, key: str) -> bool:
    return len(text) >= _FEWEST and key.startswith(text)


def _known(entry: Entry) -> str:
    told = [f"{called(entry, version)} ({said(version.state)})" for version in entry.versions]
    told[0] += ", which is pinned"
    return ", ".join([*told[1:], told[0]])


def said(state: State) -> str:
    """How a state is told."""
    return state.replace("_", " ")


def _refuse_retired(entry: Entry, version: Version) -> None:
    if version.state == "retired":
        raise LockError(retired(entry, version))
