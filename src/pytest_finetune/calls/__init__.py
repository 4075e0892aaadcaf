"""Calls to models: one engine below every LM, which retries, gives way, keeps to a budget and takes notes."""

from __future__ import annotations

from pytest_finetune.calls.budget import Budget, OverBudget
from pytest_finetune.calls.engine import Calling, Engine
from pytest_finetune.calls.line import Line
from pytest_finetune.calls.notes import NOTES, Notes
from pytest_finetune.calls.traffic import Retries, Stopped, Traffic

__all__ = ["NOTES", "Budget", "Calling", "Engine", "Line", "Notes", "OverBudget", "Retries", "Stopped", "Traffic"]
