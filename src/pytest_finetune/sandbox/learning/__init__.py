"""Models that learn: they read any prompt of DSPy's adapters, learn from demonstrations, and are fitted to files.

The names here are the whole of what a server needs. They are imported when they are first asked for, since they bring
NumPy and SciPy.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .features import Size
    from .fitting import Hyperparameters, Step, auto_hyperparameters
    from .models import ContextLengthExceeded, FittedModel, Model, UnlearnableFile, base_model, fit
    from .prompts import Message

__all__ = [
    "ContextLengthExceeded",
    "FittedModel",
    "Hyperparameters",
    "Message",
    "Model",
    "Size",
    "Step",
    "UnlearnableFile",
    "auto_hyperparameters",
    "base_model",
    "fit",
]

_HOMES = {
    "Message": "prompts",
    "Size": "features",
    **dict.fromkeys(("Hyperparameters", "Step", "auto_hyperparameters"), "fitting"),
}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES.get(name, 'models')}", __name__), name)
