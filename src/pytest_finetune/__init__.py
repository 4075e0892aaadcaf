"""One pytest run says whether your fine-tuned DSPy model still holds up.

What a tasks file needs: `Task`, `Dataset` and `metrics`; what production needs: `load`. Importing them loads nothing
heavy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_finetune import metrics
    from pytest_finetune.dataset import Dataset
    from pytest_finetune.production import load
    from pytest_finetune.task import Mix, Suite, Task

__all__ = ["Dataset", "Mix", "Suite", "Task", "load", "metrics"]

_HOMES = {
    "Dataset": "pytest_finetune.dataset",
    "Mix": "pytest_finetune.task",
    "Suite": "pytest_finetune.task",
    "Task": "pytest_finetune.task",
    "load": "pytest_finetune.production",
}


def __getattr__(name: str) -> Any:
    """Load a public name when it is asked for: the plugin imports this package at every start of pytest."""
    import importlib

    if name == "metrics":
        return importlib.import_module("pytest_finetune.metrics")
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
