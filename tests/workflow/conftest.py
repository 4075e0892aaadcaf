"""A server for all tests of a process, and the built project as it is gated with it."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest
from tests.conftest import Project
from tests.workflow.gating import Gating

from pytest_finetune.sandbox import Sandbox


@pytest.fixture(scope="session")
def server() -> Iterator[Sandbox]:
    with Sandbox() as running:
        yield running


@pytest.fixture
def gating(built: Project, server: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Gating:
    monkeypatch.setattr(sys, "path", [*sys.path])
    return Gating(built, server)
