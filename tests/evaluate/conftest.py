"""One real server for all tests, and a store for each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_finetune.sandbox import Sandbox
from pytest_finetune.store import Store


@pytest.fixture(scope="session")
def server() -> Iterator[Sandbox]:
    with Sandbox() as running:
        yield running


@pytest.fixture
def sandbox(server: Sandbox) -> Iterator[Sandbox]:
    server.forget_requests()
    yield server
    server.set_faults()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "rows.sqlite"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    with Store.create(path) as opened:
        yield opened
