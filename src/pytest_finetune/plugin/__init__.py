"""The pytest plugin. Loading it must cost nothing: only pytest and the standard library are imported here."""

from __future__ import annotations

pytest_plugins = ("pytest_finetune.plugin.fixtures",)
