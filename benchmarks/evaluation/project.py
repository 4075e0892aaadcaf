"""Our side: a project as users write it, with a lock made through the package's own API.

    python benchmarks/evaluation/project.py FOLDER BASE_URL ROWS [--changed]

With ``--changed``, the prompt-optimized stage has other instructions, and nothing else differs.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path

import dspy
from tickets import CHANGED, STAGES, Stage, ticket

from pytest_finetune import programs
from pytest_finetune.lock import ArtifactRefs, Artifacts, Entry, Lock, write_lock
from pytest_finetune.task import PROMPT_OPTIMIZED
from pytest_finetune.workflow.facts import facts_of
from pytest_finetune.workflow.settings import LOCK, read_settings
from pytest_finetune.workflow.tasks import load_tasks

PYPROJECT = """\
[tool.pytest-finetune]
endpoint = "bench"

[tool.pytest-finetune.endpoints.bench]
base_url = "{url}"

[tool.pytest.ini_options]
testpaths = ["test_models.py"]
"""
TASKS = """\
from typing import Literal

import dspy

from pytest_finetune import Dataset, Task, metrics


class Classify(dspy.Signature):
    "Classify the support ticket."

    text: str = dspy.InputField()
    category: Literal["billing", "shipping", "account", "technical", "other"] = dspy.OutputField()


tickets = Task(
    program=lambda: dspy.Predict(Classify),
    dataset=Dataset.from_files(train="train.jsonl", dev="dev.jsonl", test="test.jsonl", inputs=["text"]),
    metric=metrics.exact_match("category"),
    student="student",
)
"""
TESTS = """\
import pytest


@pytest.mark.ft_ladder("tickets", min_score=0.5)
def test_tickets(): ...
"""


def write_project(folder: Path, url: str, rows: int) -> None:
    """Write everything but the lock; the test split holds the tickets that the other contenders get."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pyproject.toml").write_text(PYPROJECT.format(url=url), encoding="utf-8")
    (folder / "finetune_tasks.py").write_text(TASKS, encoding="utf-8")
    (folder / "test_models.py").write_text(TESTS, encoding="utf-8")
    splits = {"train": range(800_000, 800_200), "dev": range(900_000, 900_200), "test": range(rows)}
    for split, numbers in splits.items():
        _write_rows(folder / f"{split}.jsonl", numbers)


def pin(folder: Path, *, changed: bool) -> None:
    """Write the lock, as if the three stages had been built and accepted."""
    settings, task = read_settings(folder), load_tasks(folder, ["finetune_tasks.py"])["tickets"]
    endpoint = settings.endpoint_named(task.endpoint, task.id)
    artifacts = Artifacts.beside(folder / LOCK)

    def entry(stage: Stage) -> Entry:
        again = changed and stage.name == PROMPT_OPTIMIZED
        program = _told(task.program(), CHANGED if again else stage.instructions)
        facts = facts_of(task, stage.name, program, endpoint)
        state = artifacts.put_json("program", programs.dump_state(program))
        return Entry(**facts.model_dump(), model=stage.model, artifacts=ArtifactRefs(program=state))

    write_lock(folder / LOCK, Lock(model=tuple(map(entry, STAGES))))


def _told(program: dspy.Module, instructions: str) -> dspy.Module:
    program.signature = program.signature.with_instructions(instructions)
    return program


def _write_rows(path: Path, numbers: Iterable[int]) -> None:
    path.write_text("".join(json.dumps(ticket(number)) + "\n" for number in numbers), encoding="utf-8")


if __name__ == "__main__":
    write_project(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
    pin(Path(sys.argv[1]), changed="--changed" in sys.argv)
