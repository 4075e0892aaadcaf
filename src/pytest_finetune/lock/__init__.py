"""``models.lock``: what is pinned, where it came from, what it scored, and the artifacts beside it."""

from __future__ import annotations

from pytest_finetune.lock.artifacts import Artifacts
from pytest_finetune.lock.drift import Drift, compare, drift_error
from pytest_finetune.lock.file import read_lock, render, update_lock, write_lock
from pytest_finetune.lock.model import (
    ArtifactRefs,
    Data,
    Entry,
    Facts,
    Fingerprints,
    Job,
    Lock,
    Previous,
    Score,
    SettledClaim,
)

__all__ = [
    "ArtifactRefs",
    "Artifacts",
    "Data",
    "Drift",
    "Entry",
    "Facts",
    "Fingerprints",
    "Job",
    "Lock",
    "Previous",
    "Score",
    "SettledClaim",
    "compare",
    "drift_error",
    "read_lock",
    "render",
    "update_lock",
    "write_lock",
]
