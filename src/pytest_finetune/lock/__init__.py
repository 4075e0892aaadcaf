"""``models.lock``: what is pinned, where it came from, what it scored, and the artifacts beside it."""

from __future__ import annotations

from pytest_finetune.lock.accepted import Score, SettledClaim
from pytest_finetune.lock.artifacts import Artifacts
from pytest_finetune.lock.drift import Drift, compare, drift_error
from pytest_finetune.lock.file import edit_lock, read_lock, render, update_lock, write_lock
from pytest_finetune.lock.model import (
    ArtifactRefs,
    Data,
    Entry,
    Event,
    Facts,
    Fingerprints,
    Lock,
    State,
    Version,
)
from pytest_finetune.lock.tuned import Job, Tuned

__all__ = [
    "ArtifactRefs",
    "Artifacts",
    "Data",
    "Drift",
    "Entry",
    "Event",
    "Facts",
    "Fingerprints",
    "Job",
    "Lock",
    "Score",
    "SettledClaim",
    "State",
    "Tuned",
    "Version",
    "compare",
    "drift_error",
    "edit_lock",
    "read_lock",
    "render",
    "update_lock",
    "write_lock",
]
