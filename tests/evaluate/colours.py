"""A small task that tests and the processes that they start both know; also a command that evaluates it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import dspy

from pytest_finetune import metrics
from pytest_finetune.dataset import DataRow, Dataset
from pytest_finetune.endpoints import Endpoint
from pytest_finetune.evaluate import Retries, StageRun, evaluate
from pytest_finetune.store import Store

HINTS = {"red": "tomato", "green": "grass", "blue": "sky"}
QUICK = Retries(first=0.02)
METRIC = metrics.exact_match("colour")


class Name(dspy.Signature):  # type: ignore[misc]  # dspy ships no types
    """Name the colour."""

    thing: str = dspy.InputField()
    colour: Literal["red", "green", "blue"] = dspy.OutputField()


class ThinkThenName(dspy.Module):  # type: ignore[misc]  # dspy ships no types
    """Two calls a row."""

    def __init__(self) -> None:
        super().__init__()
        self.think = dspy.Predict("thing -> hint")
        self.name = dspy.Predict(Name)

    def forward(self, thing: str) -> dspy.Prediction:
        return self.name(thing=f"{thing} {self.think(thing=thing).hint}")


def examples(count: int) -> Iterator[Mapping[str, str]]:
    """Rows of which a model that knows no colours gets about a third right."""
    for number in range(count):
        colour = sorted(HINTS)[number % 3]
        yield {"thing": f"{HINTS[colour]} number {number}", "colour": colour}


def rows(count: int) -> tuple[DataRow, ...]:
    spare = [{"thing": "coal", "colour": "red"}, {"thing": "snow", "colour": "blue"}]
    splits = {"train": spare[:1], "dev": spare[1:], "test": list(examples(count))}
    return Dataset.from_examples(splits, inputs=["thing"]).rows("test")


def stage(
    name: str,
    base_url: str,
    program: dspy.Module | None = None,
    *,
    model: str = "sandbox-small",
    adapter: dspy.Adapter | None = None,
    **options: Any,
) -> StageRun:
    program = program or dspy.Predict(Name)
    program.set_lm(Endpoint("sandbox", base_url).lm(model, temperature=0, **options))
    return StageRun(name, program, adapter or dspy.ChatAdapter(), f"{name} {model}", model)


def main(base_url: str, path: str, count: str, concurrency: str, files: str) -> None:
    """Evaluate in a process of its own, and print the rows' scores."""
    import resource  # which Windows lacks

    resource.setrlimit(resource.RLIMIT_NOFILE, (int(files), int(files)))
    with Store.create(Path(path)) as store:
        stages = [stage("baseline", base_url)]
        found = evaluate(
            stages, rows(int(count)), METRIC, store, concurrency=int(concurrency), timeout=30, retries=QUICK
        )
    json.dump({row.row_id: row.score for row in found["baseline"]}, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
