"""What a run says at its start: the settings that are not the default, and where they came from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def given(values: Mapping[str, Any], origins: Mapping[str, str]) -> str:
    """``alpha=0.01 from ini, models from option``; empty where every setting is its default.

    Args:
        values: The settings by name.
        origins: Where each came from.
    """
    return ", ".join(
        f"{_shown(name, values[name])} from {origin}" for name, origin in origins.items() if origin != "default"
    )


def _shown(name: str, value: Any) -> str:
    """The setting as it would be written; the lock's own path stands before it."""
    if name == "models":
        return name
    if isinstance(value, bool):
        return f"{name}={str(value).lower()}"
    if name == "tasks":
        return f"{name}={' '.join(value)}"
    if name == "rows_max_age":
        return f"{name}={value / 3600:g}h"
    return f"{name}={value / 10**6:g}MB" if name == "store_limit" else f"{name}={value}"
