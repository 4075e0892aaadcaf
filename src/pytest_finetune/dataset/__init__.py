"""Where a task's rows come from, and which of them are for training, for tuning, and for the gate."""

from __future__ import annotations

from pytest_finetune.dataset.dataset import ALL, Dataset
from pytest_finetune.dataset.rows import SPLITS, DataRow

__all__ = ["ALL", "SPLITS", "DataRow", "Dataset"]
