"""What all tests share: no key of a developer, and no proxy, may reach them."""

from __future__ import annotations

import os

import pytest


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("OPENAI_", "AZURE_", "NEBIUS_")) or name.lower().endswith("_proxy") or name == "CI":
            monkeypatch.delenv(name)


@pytest.fixture(params=[(), ("-n", "0"), ("-n", "2")], ids=["plain", "n0", "n2"])
def plugin_args(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """The three ways in which users run pytest; the same test must pass in each."""
    args: tuple[str, ...] = request.param
    return args or ("-p", "no:xdist")
