"""The built project with its model in production, and a provider that serves it."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.production.served import Production, promoted

from pytest_finetune.production import rehearsal
from pytest_finetune.sandbox import Sandbox


@pytest.fixture(scope="session")
def provider(built_folder: Path) -> Iterator[Sandbox]:
    with rehearsal(built_folder / "models.lock") as sandbox:
        yield sandbox


@pytest.fixture
def production(
    built_folder: Path, provider: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Production]:
    """What is deployed: the lock, its programs and the tasks file; no rows, no training files and no tests."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    for name in ("models.lock", "finetune_tasks.py"):
        shutil.copy(built_folder / name, tmp_path)
    shutil.copytree(built_folder / "models.lock.d", tmp_path / "models.lock.d", ignore=_but_programs)
    made = Production(tmp_path, provider)
    made.relock(promoted(made.entry))
    provider.forget_requests()
    yield made
    sys.modules.pop("finetune_tasks", None)


def _but_programs(_: str, names: list[str]) -> list[str]:
    return [name for name in names if not name.startswith("program-")]
