"""A lock for people: what it pins, and what changed from one to another."""

from __future__ import annotations

from collections.abc import Iterator

from pytest_finetune.lock.accepted import Score
from pytest_finetune.lock.advice import called
from pytest_finetune.lock.artifacts import Artifacts
from pytest_finetune.lock.data import changes_between
from pytest_finetune.lock.drift import compare
from pytest_finetune.lock.life import said
from pytest_finetune.lock.model import Entry, Event, Lock, Version


def lock_lines(lock: Lock) -> Iterator[str]:
    """Per task its stages with their states, what was pinned before and what was done, and the accepted claims."""
    for task in lock.tasks:
        entries = lock.of_task(task)
        yield task
        width = max(len(entry.stage) for entry in entries)
        for entry in entries:
            stage, state = f"{entry.stage:{width}}", f"{said(entry.state):11}"
            yield f"  {stage}  {_score(entry.score)}  {state} {entry.model}{_made(entry)}"
            yield from (f"      predictor {name}: {tuned.asked_as}" for name, tuned in entry.predictors.items())
            for version in entry.previous:
                yield f"      before: {_named(entry, version)}{_trained(version)}, {said(version.state)}"
            yield from (f"      {_event(event)}" for event in entry.history)
        claims = {claim.claim: claim for entry in entries for claim in entry.gate}
        yield from (f"  accepted on {name}: {claims[name].outcome}, n={claims[name].n}" for name in sorted(claims))


def _named(entry: Entry, version: Version) -> str:
    name = called(entry, version)
    return version.model if name == version.identity else f"{version.model} ({name})"


def _event(event: Event) -> str:
    where = f" at {event.commit[:7]}" if event.commit else ""
    why = f": {event.reason}" if event.reason else ""
    return f"{event.at:%d %b %Y %H:%M}: {said(event.what)}: {event.model}, by {event.by}{where}{why}"


def _made(entry: Entry) -> str:
    where = entry.endpoint.partition(" ")[0]
    if not entry.jobs:
        return f" on {where}"
    return f" on {where}, {entry.recipe} of {entry.base}{_trained(entry)}"


def _trained(version: Version) -> str:
    ended = version.trained_at
    return "" if ended is None else f", trained {ended:%d %b %Y}"


def changes(old: Lock, new: Lock, artifacts: Artifacts) -> Iterator[str]:
    """What differs, entry by entry: nothing where both pin the same.

    Args:
        old: The lock as it was.
        new: As it is.
        artifacts: The files beside it; where they hold the rows of both, it is said which have changed.
    """
    before, after = ({(entry.task, entry.stage): entry for entry in lock.models} for lock in (old, new))
    for key in sorted({*before, *after}):
        if key not in after:
            yield f"{before[key].name}: removed (it was {before[key].model})"
        elif key not in before:
            yield f"{after[key].name}: new, {after[key].model}, score {_score(after[key].score)}"
        elif before[key] != after[key]:
            yield from _of_entry(before[key], after[key], artifacts)


def _of_entry(old: Entry, new: Entry, artifacts: Artifacts) -> Iterator[str]:
    told = [f"model {old.model} -> {new.model}"] if old.model != new.model else []
    if old.served_models != new.served_models:
        told.append(f"answered by {_answered(old)} -> {_answered(new)}")
    if old.score != new.score:
        told.append(f"score {_score(old.score)} -> {_score(new.score)}")
    if old.artifacts.program != new.artifacts.program:
        told.append("other instructions or demonstrations")
    told += _serving(old, new)
    judged = old.model_copy(update={"gate": new.gate}) == new
    same = "pins the same, and was judged anew" if judged else "pins the same, and says something else of it"
    yield f"{new.name}: {', '.join(told) or same}"
    rows = changes_between(artifacts, old, new) if old.data != new.data else {}
    for drift in compare(old, new):
        yield f"  {drift.field}: {rows.get(drift.field) or f'{_short(drift.locked)} -> {_short(drift.now)}'}"
    verdicts = [{claim.claim: claim.outcome for claim in entry.gate} for entry in (old, new)]
    for claim in sorted({*verdicts[0], *verdicts[1]}):
        was, now = (str(side[claim]) if claim in side else "not claimed" for side in verdicts)
        if was != now:
            yield f"  {claim}: {was} -> {now}"
    yield from (f"  {_event(event)}" for event in new.history if event not in old.history)


def _serving(old: Entry, new: Entry) -> list[str]:
    was, now = (entry.in_state("production") for entry in (old, new))
    if (was and was.key) == (now and now.key):
        return []
    return [f"in production {was.model if was else 'nothing'} -> {now.model if now else 'nothing'}"]


def _answered(version: Version) -> str:
    return ", ".join(version.served_models) or "its own name"


def _score(score: Score | None) -> str:
    return "no score" if score is None else f"{score.mean:.3f} (n={score.n})"


def _short(value: object) -> str:
    """A value; of a fingerprint, its beginning."""
    text = "not set" if value is None else str(value)
    return f"{text[:12]}…" if len(text) == 64 else text  # the length of a SHA-256
