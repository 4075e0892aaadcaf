"""Stages x rows -> answers -> scores: each row is asked for once, and an outage is never a score."""

from __future__ import annotations

from pytest_finetune.calls.traffic import Retries
from pytest_finetune.evaluate.runner import evaluate
from pytest_finetune.evaluate.stages import Progress, RowStore, StageRun

__all__ = ["Progress", "Retries", "RowStore", "StageRun", "evaluate"]
