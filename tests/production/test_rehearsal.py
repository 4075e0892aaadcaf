"""The sandbox in the place of a provider."""

from __future__ import annotations

import shutil
from pathlib import Path

import openai
import pytest
from tests.production.served import entry_of, in_state

from pytest_finetune.errors import LockError
from pytest_finetune.lock import Lock, read_lock, write_lock
from pytest_finetune.production import rehearsal


@pytest.fixture
def lock(built_folder: Path, tmp_path: Path) -> Path:
    """A model in production, an earlier one, a retired one, and another task's."""
    shutil.copytree(built_folder / "models.lock.d", tmp_path / "models.lock.d")
    pinned = read_lock(built_folder / "models.lock").entry("tickets", "finetuned").version
    models = {name: f"ft:sandbox-small:sandbox:{name}:1" for name in ("now", "before", "gone", "other")}
    previous = [
        in_state(pinned, "deprecated", model=models["before"]),
        in_state(pinned, "retired", model=models["gone"]),
    ]
    entries = [
        entry_of(in_state(pinned, "production", model=models["now"]), previous),
        entry_of(in_state(pinned, "production", model=models["other"], task="other")),
    ]
    write_lock(tmp_path / "models.lock", Lock(model=tuple(entries)))
    return tmp_path / "models.lock"


def test_it_serves_what_may_serve_of_the_tasks_that_are_named(lock: Path) -> None:
    with rehearsal(lock, "tickets") as sandbox, openai.OpenAI(base_url=sandbox.base_url, api_key="none") as client:
        served = {model.id.split(":")[3] for model in client.models.list() if model.id.startswith("ft:")}
    assert served == {"now", "before"}


def test_a_damaged_training_file_is_refused(lock: Path) -> None:
    (training,) = lock.with_name("models.lock.d").glob("training-*")
    training.write_bytes(training.read_bytes() + b"\n")
    with pytest.raises(LockError, match="was changed"), rehearsal(lock):
        pass
