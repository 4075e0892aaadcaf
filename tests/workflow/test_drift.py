"""One change at a time, and what the lock says of it: neither more nor less than what it means."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.conftest import make_rows

from pytest_finetune.endpoints import Endpoint
from pytest_finetune.lock import Artifacts, Facts, compare
from pytest_finetune.lock.data import KnownRow, get_data, put_data, row_changes
from pytest_finetune.task import FINETUNED, PROMPT_OPTIMIZED
from pytest_finetune.workflow.facts import facts_of, known_rows
from pytest_finetune.workflow.tasks import load_tasks

TASKS = '''\
from typing import Literal

import dspy

import scoring
from cleaning import *
from pytest_finetune import Dataset, Task

ENOUGH = 0.5


class Route(dspy.Signature):
    """Name the department."""

    text: str = dspy.InputField(desc="what was written")
    department: Literal["account", "billing", "shipping", "technical"] = dspy.OutputField()


class Router(dspy.Module):
    def __init__(self, start):
        super().__init__()
        self.start = start
        self.route = dspy.Predict(Route)

    def forward(self, text):
        # it is routed
        return self.route(text=self.start + self.shorter(clean(text)))

    @staticmethod
    def shorter(text):
        return text[:99]


def same(one, other):
    return scoring.close(one, other)


def agrees(example, prediction, trace=None):
    # right or wrong
    value = 1.0 if same(example.department, prediction.department) else 0.0
    return value >= ENOUGH


tickets = Task(
    program=lambda: Router("> "),
    dataset=Dataset.from_file("tickets.jsonl", inputs=["text"], split="split"),
    metric=agrees,
    student="small",
    endpoint="ours",
    optimizer="labeled_few_shot",
    recipe="labels",
    temperature=0.0,
    suffix="tickets",
    hyperparameters={"n_epochs": 3},
)
'''
OTHER = "other = Task(program=lambda: 1, dataset=Dataset.from_examples([]), metric=agrees, student='other')\n"
SCORING = """\
def close(one, other):
    return fold(one) == fold(other)


def fold(text):
    # in lower case
    return text.lower()
"""
CLEANING = """\
def clean(text):
    return text.strip()


def unused(text):
    return text
"""
ROWS = [json.dumps(row) for row in make_rows(3, train=30, dev=10, test=20)]
FIRST = {"train": 0, "dev": 30, "test": 40}

Change = Callable[[Path], None]


@pytest.fixture(autouse=True)
def _forget_the_tasks_file(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield
    forget()


def forget() -> None:
    for name in ("finetune_tasks", "scoring", "cleaning"):
        sys.modules.pop(name, None)


def source(old: str, new: str, name: str = "finetune_tasks.py") -> Change:
    def change(folder: Path) -> None:
        text = (folder / name).read_text()
        assert old in text
        (folder / name).write_text(text.replace(old, new, 1))

    return change


def setting(name: str, value: object) -> Change:
    return source("tickets = Task(\n", f"tickets = Task(\n    {name}={value!r},\n")


def replaced(name: str, value: object, old: str) -> Change:
    return source(f"{name}={old}", f"{name}={value!r}")


def data(change: Callable[[list[str]], list[str]]) -> Change:
    def write(folder: Path) -> None:
        (folder / "tickets.jsonl").write_text("\n".join(change([*ROWS])) + "\n")

    return write


def edited(split: str, field: str) -> Change:
    """Another value in the last row of a split; the first ones show how prompts look."""

    def change(rows: list[str]) -> list[str]:
        numbers = [number for number, row in enumerate(rows) if json.loads(row)["split"] == split]
        row = json.loads(rows[numbers[-1]])
        row[field] = next(name for name in ("billing", "account") if name != row[field])
        rows[numbers[-1]] = json.dumps(row)
        return rows

    return data(change)


def added(split: str) -> Change:
    return data(lambda rows: [*rows, json.dumps({"text": "one more", "department": "billing", "split": split})])


def removed(split: str) -> Change:
    return data(lambda rows: [row for number, row in enumerate(rows) if number != FIRST[split] + 5])


def field_added(split: str) -> Change:
    return data(
        lambda rows: [line if n != FIRST[split] + 5 else f'{line[:-1]}, "by": 1}}' for n, line in enumerate(rows)]
    )


def moved(to: str, *, of: str) -> Change:
    return data(
        lambda rows: [
            line if n != FIRST[of] + 5 else line.replace(f'"split": "{of}"', f'"split": "{to}"')
            for n, line in enumerate(rows)
        ]
    )


def in_another_file(folder: Path) -> None:
    (folder / "tickets.jsonl").rename(folder / "letters.jsonl")
    source('"tickets.jsonl"', '"letters.jsonl"')(folder)


SAYS_NOTHING: dict[str, Change] = {
    "a comment in the metric": source("# right or wrong", "# whether it is right"),
    "a blank line in the signature": source('."""\n\n    text', '."""\n    text'),
    "a comment in the program": source("# it is routed", "# on its way"),
    "a comment in another file": source("in lower case", "small", "scoring.py"),
    "a function of another file that nothing calls": source("return text\n", "return 1\n", "cleaning.py"),
    "a blank line in the metric": source("    return value >= ENOUGH", "\n    return value >= ENOUGH"),
    "parentheses": source("return value >= ENOUGH", "return (value >= ENOUGH)"),
    "line breaks and a trailing comma": source("close(one, other)", "close(\n        one,\n        other,\n    )"),
    "quotes": source('"""Name the department."""', "'''Name the department.'''"),
    "type hints in the metric": source(
        "agrees(example, prediction, trace=None)", "agrees(example, prediction, trace: object = None) -> bool"
    ),
    "a docstring of the metric": source("    # right or wrong", '    """Right or wrong."""'),
    "the indentation of the instruction": source(
        '"""Name the department."""', '"""\n    Name the department.\n    """'
    ),
    "the file of the rows": in_another_file,
    "an import that is not used": source("import dspy\n", "import dspy\nimport json\n"),
    "the order of the rows": data(lambda rows: rows[::-1]),
    "the order of a row's fields": data(
        lambda rows: [json.dumps(dict(reversed(json.loads(row).items()))) for row in rows]
    ),
    "spaces between fields": data(lambda rows: [row.replace(": ", ":   ") for row in rows]),
    "the suffix of the model's name": replaced("suffix", "other", '"tickets"'),
    "another task beside it": source("tickets = Task(", f"{OTHER}tickets = Task("),
    "a teacher that nothing learns from": setting("teacher", "large"),
    "a suite": setting("suites", {}),
}
SAYS: dict[str, tuple[Change, set[str]]] = {
    "the metric's logic": (source("else 0.0", "else 0.25"), {"fingerprints.metric"}),
    "what the metric calls": (source("close(one, other)", "close(other, one)"), {"fingerprints.metric"}),
    "what the metric calls in another file": (source("lower()", "title()", "scoring.py"), {"fingerprints.metric"}),
    "a constant that the metric reads": (source("ENOUGH = 0.5", "ENOUGH = 0.1"), {"fingerprints.metric"}),
    "the instruction": (
        source("Name the department.", "Which department?"),
        {"fingerprints.program", "fingerprints.prompt"},
    ),
    "a field's type": (
        source('"technical"]', '"technical", "legal"]'),
        {"fingerprints.program", "fingerprints.prompt"},
    ),
    "a field's description": (
        source("what was written", "a message"),
        {"fingerprints.program", "fingerprints.prompt"},
    ),
    "the program's code": (source("self.start +", "self.start * 2 +"), {"fingerprints.program"}),
    "a static method": (source("text[:99]", "text[:9]"), {"fingerprints.program"}),
    "what the program is made with": (source('Router("> ")', 'Router("")'), {"fingerprints.program"}),
    "what the program calls in another file": (source("strip()", "lower()", "cleaning.py"), {"fingerprints.program"}),
    "the adapter": (setting("adapter", "json"), {"adapter", "fingerprints.prompt"}),
    "the temperature": (replaced("temperature", 0.5, "0.0"), {"decoding.temperature"}),
    "the longest answer": (setting("max_tokens", 5), {"decoding.max_tokens"}),
    "a training row's label": (edited("train", "department"), {"data.train"}),
    "a training row's text": (edited("train", "text"), {"data.train"}),
    "a field more in a test row": (field_added("test"), {"data.test"}),
    "a row's split": (moved("train", of="test"), {"data.train", "data.test"}),
    "a dev row's label": (edited("dev", "department"), {"data.dev"}),
    "a test row's label": (edited("test", "department"), {"data.test"}),
    "one training row more": (added("train"), {"data.train"}),
    "one test row less": (removed("test"), {"data.test"}),
    "the seed": (setting("seed", 3), {"seed"}),
    "the recipe": (replaced("recipe", "bootstrap", '"labels"'), {"recipe"}),
    "an option of the recipe": (setting("recipe_options", {"source": "baseline"}), {"params.source"}),
    "a parameter of the job": (source('"n_epochs": 3', '"n_epochs": 4'), {"params.n_epochs"}),
    "the student": (replaced("student", "smaller", '"small"'), {"base"}),
    "the salt of the splits": (source('split="split")', 'split="split", salt="x")'), {"data.salt"}),
}
OF_PROMPTS: dict[str, tuple[Change, set[str]]] = {
    "the optimizer": (replaced("optimizer", "bootstrap_few_shot", '"labeled_few_shot"'), {"optimizer"}),
    "an option of the optimizer": (setting("optimizer_options", {"k": 2}), {"params.k"}),
    "a parameter of the job": (source('"n_epochs": 3', '"n_epochs": 4'), set()),
}
WORDS: dict[str, tuple[Change, dict[str, str]]] = {
    "a label": (edited("train", "department"), {"data.train": "1 row changed (tickets.jsonl:30)"}),
    "a text": (edited("test", "text"), {"data.test": "1 row added (tickets.jsonl:60), 1 removed"}),
    "a field more": (field_added("dev"), {"data.dev": "1 row changed (tickets.jsonl:36)"}),
    "a row more": (added("train"), {"data.train": "1 row added (tickets.jsonl:61)"}),
    "a row less": (removed("test"), {"data.test": "1 row removed"}),
    "a split": (
        moved("train", of="test"),
        {
            "data.train": "1 row moved here from test (tickets.jsonl:46)",
            "data.test": "1 row moved to train (tickets.jsonl:46)",
        },
    ),
    "another file": (in_another_file, {}),
}


@dataclass(frozen=True)
class Asked:
    """What a tasks file asks for, and the rows of its data."""

    facts: Facts
    rows: list[KnownRow]


def asked(folder: Path, stage: str) -> Asked:
    forget()
    sys.path[:] = [entry for entry in sys.path if not entry.startswith(str(folder.parent))]
    task = load_tasks(folder, ["finetune_tasks.py"])["tickets"]
    endpoint = Endpoint("ours", "http://127.0.0.1:1/v1")
    return Asked(facts_of(task, stage, task.program(), endpoint), known_rows(task))


def messages_of(folder: Path, change: Change, stage: str = FINETUNED) -> dict[str, str]:
    """What is said of a change, by the field of the lock."""
    before, after = folder / "before", folder / "after"
    for project in (before, after):
        project.mkdir()
        for name, text in (("finetune_tasks.py", TASKS), ("scoring.py", SCORING), ("cleaning.py", CLEANING)):
            (project / name).write_text(text)
        (project / "tickets.jsonl").write_text("\n".join(ROWS) + "\n")
    change(after)
    was, is_now = asked(before, stage), asked(after, stage)
    artifacts = Artifacts(folder)
    locked = get_data(artifacts, put_data(artifacts, was.rows), was.facts.data)
    drifts = compare(was.facts, is_now.facts, lambda: row_changes(locked, is_now.rows))
    return {drift.field: drift.message for drift in drifts}


@pytest.mark.parametrize("name", SAYS_NOTHING)
def test_what_means_nothing_is_no_drift(tmp_path: Path, name: str) -> None:
    assert messages_of(tmp_path, SAYS_NOTHING[name]) == {}


@pytest.mark.parametrize("name", SAYS)
def test_what_means_something_is_told_and_nothing_else(tmp_path: Path, name: str) -> None:
    change, fields = SAYS[name]
    assert {*messages_of(tmp_path, change)} == fields


@pytest.mark.parametrize("name", OF_PROMPTS)
def test_a_stage_is_told_of_what_it_was_built_with(tmp_path: Path, name: str) -> None:
    change, fields = OF_PROMPTS[name]
    assert {*messages_of(tmp_path, change, PROMPT_OPTIMIZED)} == fields


@pytest.mark.parametrize("name", WORDS)
def test_rows_are_counted_and_named(tmp_path: Path, name: str) -> None:
    change, words = WORDS[name]
    told = messages_of(tmp_path, change)
    assert {field: message.split(": ")[1] for field, message in told.items()} == words
