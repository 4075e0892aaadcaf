from __future__ import annotations

import enum
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any, Literal

import dspy
import pytest
from pydantic import BaseModel

from pytest_finetune.core.fingerprint import row_id
from pytest_finetune.dataset import DataRow
from pytest_finetune.errors import UsageError
from pytest_finetune.programs import (
    describe,
    dump_state,
    literals_of,
    load_state,
    output_fields,
    predictors,
    program_fingerprint,
    prompt_fingerprint,
)

CHAT = dspy.ChatAdapter()


def data_row(text: str, label: str = "billing") -> DataRow:
    fields = {"text": text, "category": label}
    return DataRow(row_id(fields), text, fields, ("text",), "test", "tickets.jsonl", 1)


ROWS = [data_row("My bill is wrong"), data_row("It crashes"), data_row("Hello"), data_row("More")]


def changed_desc(program: Any) -> None:
    program.signature = program.signature.with_updated_fields("label", desc="the team")


def changed_type(program: Any) -> None:
    program.signature = program.signature.with_updated_fields("label", type_=Literal["a", "b", "c"])


def changed_instructions(program: Any) -> None:
    program.signature = program.signature.with_instructions("Be exact.")


def another_demo(program: Any) -> None:
    program.demos = [dspy.Example(text="x", label="a")]


def another_temperature(program: Any) -> None:
    program.update_config(temperature=0.7)


def compiled(program: Any) -> None:
    program._compiled = True  # noqa: SLF001  # what every optimizer of DSPy does


def called(program: Any) -> None:
    program.traces = [("a call",)]
    program.lm = dspy.LM("openai/m", api_base="http://localhost:1/v1", api_key="sk-1")


def another_key(program: Any) -> None:
    program.update_config(api_key="sk-2", api_base="http://elsewhere")


def demo_with_other_columns(program: Any) -> None:
    program.demos = [dspy.Example(text="x", label="a", augmented=True)]


@pytest.mark.parametrize(
    ("change", "program_changes", "prompt_changes"),
    [
        (changed_desc, True, True),
        (changed_type, True, True),
        (changed_instructions, True, True),
        (another_demo, True, True),
        (another_temperature, True, False),
        (compiled, False, False),
        (called, False, False),
        (another_key, False, False),
    ],
)
def test_fingerprints_notice(change: Callable[[Any], None], program_changes: bool, prompt_changes: bool) -> None:
    before, after = (dspy.Predict("text -> label: Literal['a', 'b']") for _ in range(2))
    change(after)
    assert (program_fingerprint(before) != program_fingerprint(after)) is program_changes
    assert (prompt_fingerprint(before, CHAT, ROWS) != prompt_fingerprint(after, CHAT, ROWS)) is prompt_changes


def test_columns_that_no_prompt_shows_do_not_count() -> None:
    one, other = (dspy.Predict("text -> label: Literal['a', 'b']") for _ in range(2))
    another_demo(one)
    demo_with_other_columns(other)
    assert program_fingerprint(one) == program_fingerprint(other)


def test_a_description_is_what_changes_answers(classify: Any) -> None:
    assert describe(classify)["class"] == "ChainOfThought"
    described = describe(classify)["predictors"]["predict"]
    assert described["fields"][-1] == {
        "name": "tags",
        "role": "output",
        "type": "list[str]",
        "desc": "at most three",
        "constraints": ["maximum length: 3", ["MaxLen", {"max_length": 3}]],
        "default": None,
    }
    assert described["instructions"] == "Classify the support ticket."


class Shouting(dspy.Module):  # type: ignore[misc]  # dspy ships no types
    def __init__(self) -> None:
        self.predict = dspy.Predict("text -> label")

    def forward(self, text: str) -> Any:
        return self.predict(text=text.upper())


class Whispering(dspy.Module):  # type: ignore[misc]  # dspy ships no types
    def __init__(self) -> None:
        self.predict = dspy.Predict("text -> label")

    def forward(self, text: str) -> Any:
        # Comments and types do not count.
        return self.predict(text=text.lower())


def test_the_code_of_the_users_modules_counts() -> None:
    shouting, whispering = describe(Shouting())["code"]["Shouting"], describe(Whispering())["code"]["Whispering"]
    assert shouting["__init__"] == whispering["__init__"]
    assert shouting["forward"] != whispering["forward"]
    assert describe(dspy.ChainOfThought("text -> label"))["code"] == {}


def test_a_prompt_is_of_the_adapter_and_the_fields_and_not_of_the_texts_in_them(classify: Any) -> None:
    before = prompt_fingerprint(classify, CHAT, ROWS)
    assert prompt_fingerprint(classify, CHAT, ROWS[:3]) == before
    assert prompt_fingerprint(classify, CHAT, ROWS[1:4]) == before
    assert prompt_fingerprint(classify, dspy.JSONAdapter(), ROWS) != before
    assert prompt_fingerprint(classify, CHAT, [data_row(row.fields["text"], "technical") for row in ROWS]) == before


def test_the_prompts_of_every_predictor_count(pipeline: Any) -> None:
    before = prompt_fingerprint(pipeline, CHAT, ROWS)
    changed_instructions(predictors(pipeline)["by_language['de']"])
    assert prompt_fingerprint(pipeline, CHAT, ROWS) != before


def test_a_loaded_program_has_the_same_fingerprints(optimized: Any) -> None:
    loaded = load_state(type(optimized)(), dump_state(optimized))
    assert program_fingerprint(loaded) == program_fingerprint(optimized)
    assert prompt_fingerprint(loaded, CHAT, ROWS) == prompt_fingerprint(optimized, CHAT, ROWS)


def test_without_a_row_there_is_no_prompt(classify: Any) -> None:
    with pytest.raises(UsageError, match="needs a row"):
        prompt_fingerprint(classify, CHAT, [])


def test_an_adapter_that_fails_is_named(classify: Any) -> None:
    classify.predict.demos = [None]
    with pytest.raises(UsageError, match=r"^predictor predict: ChatAdapter cannot write its messages: TypeError"):
        prompt_fingerprint(classify, CHAT, ROWS)


IN_ANOTHER_PROCESS = """
import dspy
from pytest_finetune.programs import program_fingerprint
program = dspy.Predict("text: set[str] -> label: Literal['a', 'b']")
program.demos = [dspy.Example(text=set("abcdefgh"), label="a")]
print(program_fingerprint(program))
"""


def test_fingerprints_are_the_same_in_another_process() -> None:
    program = dspy.Predict("text: set[str] -> label: Literal['a', 'b']")
    program.demos = [dspy.Example(text=set("abcdefgh"), label="a")]
    command = [sys.executable, "-c", IN_ANOTHER_PROCESS]
    environment = os.environ | {"PYTHONHASHSEED": "1"}
    printed = subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout
    assert printed.strip() == program_fingerprint(program)


class Colour(enum.Enum):
    RED = "r"
    BLUE = "b"


class Ticket(BaseModel):
    title: str
    tags: list[str] | None = None


class Route(dspy.Signature):  # type: ignore[misc]  # dspy ships no types
    """Name the department."""

    ticket: Ticket = dspy.InputField(desc="what was written")
    colour: Colour | None = dspy.InputField()
    department: Literal["billing", "other"] = dspy.OutputField()
    parts: dict[str, int | None] = dspy.OutputField()


def test_no_python_changes_a_programs_fingerprint() -> None:
    assert program_fingerprint(dspy.Predict(Route)) == (
        "252d983b600eaac70c71c6a3a4fb98bed9aef29283a229c391c08a4ce1fea5c3"
    )


def test_outputs_and_the_values_they_allow(pipeline: Any, classify: Any) -> None:
    assert output_fields(classify) == ["reasoning", "category", "urgency", "tags"]
    assert literals_of(classify) == {"category": ["billing", "technical"], "urgency": ["low", "high"]}
    assert output_fields(pipeline) == ["summary", "topic", "translation", "reasoning", "category", "urgency", "tags"]
    assert literals_of(pipeline)["topic"] == ["money", "bugs"]
