"""A lock for people: what it pins, and what changed from one to another."""

from __future__ import annotations

from collections.abc import Iterator

from pytest_finetune.lock.drift import compare
from pytest_finetune.lock.model import Entry, Lock, Score


def lock_lines(lock: Lock) -> Iterator[str]:
    """Per task its stages, each with what served before, and then the claims on which they were accepted."""
    for task in lock.tasks:
        entries = lock.of_task(task)
        yield task
        width = max(len(entry.stage) for entry in entries)
        for entry in entries:
            yield f"  {entry.stage:{width}}  {_score(entry.score)}  {entry.model}{_made(entry)}"
            for previous in entry.previous:
                ended = "" if previous.finished_at is None else f", trained {previous.finished_at:%d %b %Y}"
                yield f"      before: {previous.model}{ended}"
        claims = {claim.claim: claim for entry in entries for claim in entry.gate}
        yield from (f"  accepted on {name}: {claims[name].outcome}, n={claims[name].n}" for name in sorted(claims))


def _made(entry: Entry) -> str:
    where = entry.endpoint.partition(" ")[0]
    if entry.job is None:
        return f" on {where}"
    ended = "" if entry.job.finished_at is None else f", trained {entry.job.finished_at:%d %b %Y}"
    return f" on {where}, {entry.recipe} of {entry.base}{ended}"


def changes(old: Lock, new: Lock) -> Iterator[str]:
    """What differs, entry by entry: nothing where both pin the same.

    Args:
        old: The lock as it was.
        new: As it is.
    """
    before, after = ({(entry.task, entry.stage): entry for entry in lock.models} for lock in (old, new))
    for key in sorted({*before, *after}):
        if key not in after:
            yield f"{before[key].name}: removed (it was {before[key].model})"
        elif key not in before:
            yield f"{after[key].name}: new, {after[key].model}, score {_score(after[key].score)}"
        elif before[key] != after[key]:
            yield from _of_entry(before[key], after[key])


def _of_entry(old: Entry, new: Entry) -> Iterator[str]:
    told = [f"model {old.model} -> {new.model}"] if old.model != new.model else []
    if old.score != new.score:
        told.append(f"score {_score(old.score)} -> {_score(new.score)}")
    if old.artifacts.program != new.artifacts.program:
        told.append("other instructions or demonstrations")
    yield f"{new.name}: {', '.join(told) or 'pins the same, and says something else of it'}"
    for drift in compare(old, new):
        yield f"  {drift.field}: {_short(drift.locked)} -> {_short(drift.now)}"
    verdicts = [{claim.claim: claim.outcome for claim in entry.gate} for entry in (old, new)]
    for claim in sorted({*verdicts[0], *verdicts[1]}):
        was, now = (str(side[claim]) if claim in side else "not claimed" for side in verdicts)
        if was != now:
            yield f"  {claim}: {was} -> {now}"


def _score(score: Score | None) -> str:
    return "no score" if score is None else f"{score.mean:.3f} (n={score.n})"


def _short(value: object) -> str:
    """A value; of a fingerprint, its beginning."""
    text = "not set" if value is None else str(value)
    return f"{text[:12]}…" if len(text) == 64 else text  # the length of a SHA-256
