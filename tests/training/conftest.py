"""A task small enough to be learnt in a second, and a real server to learn it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest

from pytest_finetune import metrics
from pytest_finetune.dataset import Dataset
from pytest_finetune.endpoints import Endpoint
from pytest_finetune.sandbox import Sandbox, Settings
from pytest_finetune.task import Task
from pytest_finetune.training.building import Trained
from pytest_finetune.training.steady import Patience

WORDS = {
    "red": ["tomato", "blood", "fire engine", "stop sign", "cherry jam", "brick"],
    "green": ["grass", "young leaf", "pea pod", "moss", "unripe lime", "frog"],
    "blue": ["clear sky", "deep sea", "sapphire", "jeans", "cornflower", "ink"],
}
LIGHTS = ["in the sun", "at dusk", "by lamplight", "after rain", "in a photo"]


def make_rows(count: int, seed: int) -> list[dict[str, Any]]:
    """Things seen in many lights, so that no two are alike."""
    draw = random.Random(seed)
    rows = []
    for number in range(count):
        colour = draw.choice(sorted(WORDS))
        thing = f"a {draw.choice(WORDS[colour])} {draw.choice(LIGHTS)} ({seed}.{number})"
        rows.append({"thing": thing, "colour": colour})
    return rows


def make_program() -> Any:
    import dspy

    fields = {"thing": (str, dspy.InputField()), "colour": (Literal["red", "green", "blue"], dspy.OutputField())}
    return dspy.Predict(dspy.Signature(fields, "Name the colour."))


def make_reasoning_program() -> Any:
    import dspy

    return dspy.ChainOfThought(make_program().signature)


def make_task(**changes: Any) -> Task:
    splits = {"train": make_rows(60, 1), "dev": make_rows(30, 2), "test": make_rows(30, 3)}
    settings: dict[str, Any] = {
        "program": make_program,
        "dataset": Dataset.from_examples(splits, inputs=["thing"]),
        "metric": metrics.exact_match("colour"),
        "student": "sandbox-small",
        "name": "colours",
        "optimizer": "labeled_few_shot",
    }
    return Task(**{**settings, **changes})


def hurried() -> Patience:
    """Waits short enough for a test."""
    return Patience(first=0.01, longest=0.1, settling=0.05)


def validation_file(endpoint: Endpoint, trained: Trained) -> bytes:
    """The validation file of a model's job, as the endpoint has it."""
    assert trained.job.validation_file is not None
    with endpoint.client() as client:
        return client.files.content(trained.job.validation_file).read()


class Report(list[str]):
    """Collects sentences."""

    def __call__(self, sentence: str) -> None:
        self.append(sentence)

    @property
    def text(self) -> str:
        return "\n".join(self)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    state = tmp_path_factory.mktemp("sandbox")
    with Sandbox(Settings(clock_speed=10_000, live_quirks=True, state_dir=state)) as running:
        yield running


@pytest.fixture
def sandbox(server: Sandbox) -> Iterator[Sandbox]:
    yield server
    server.set_faults()


@pytest.fixture
def endpoint(sandbox: Sandbox) -> Endpoint:
    return Endpoint("sandbox", sandbox.base_url)


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "state" / "jobs.jsonl"


@pytest.fixture
def report() -> Report:
    return Report()
