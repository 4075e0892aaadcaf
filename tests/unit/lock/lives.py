"""Locks as they come about: built, promoted, rolled back and retired, one step a minute."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta, timezone

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from tests.unit.lock.conftest import make_entry

from pytest_finetune.errors import LockError
from pytest_finetune.lock import Entry, Lock
from pytest_finetune.lock.life import Decision, promote, retire, rollback

NOON = datetime(2026, 11, 21, 12, tzinfo=timezone.utc)
LETTERS = "123"
Action = tuple[str, str, str]
"""What is done: of which task, and with which model."""

ACTIONS = st.tuples(
    st.sampled_from(["retrain", "retrain", "promote", "promote", "rollback", "retire"]),
    st.sampled_from(["a", "b"]),
    st.sampled_from(LETTERS),
)
LIVES = st.lists(ACTIONS, max_size=7)
patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # a life takes its time


def decided(minute: int, by: str = "Ada", reason: str | None = None) -> Decision:
    return Decision(NOON + timedelta(minutes=minute), by, "7f61883", reason)


def version(task: str, letter: str, state: str = "candidate") -> Entry:
    """A version: its letter says what it is, and how late it was trained."""
    job = {"id": f"job-{letter}", "status": "succeeded", "finished_at": 1795242000 + 3600 * LETTERS.find(letter)}
    artifacts = {"program": f"sha256:{letter * 64}"}
    return make_entry(task, model=f"ft:{letter}", job=job, artifacts=artifacts, state=state)


def lived(lock: Lock, life: Sequence[Action], start: int = 0, by: str = "Ada") -> Lock:
    """The lock after what is done to it; what is refused changes nothing."""
    for minute, (what, task, letter) in enumerate(life, start):
        try:
            entry = _done(lock, what, task, letter, decided(minute, by))
        except LockError:
            continue
        lock = lock.with_stage(entry)
    return lock


def _done(lock: Lock, what: str, task: str, letter: str, decision: Decision) -> Entry:
    if what == "retrain":
        return lock.with_entries([version(task, letter)]).entry(task, "finetuned")
    entry = lock.entry(task, "finetuned")
    if what == "promote":
        return promote(entry, decision)
    if what == "rollback":
        return rollback(entry, decision, None if letter == LETTERS[0] else f"ft:{letter}")
    return retire(entry, f"ft:{letter}", decision)
