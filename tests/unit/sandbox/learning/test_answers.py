"""DSPy's own adapters write the prompts and read the answers."""

from __future__ import annotations

import enum
from datetime import date
from typing import Any, Literal

import dspy
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from pytest_finetune.sandbox.learning import Message, Size, base_model


class Item(BaseModel):
    name: str
    qty: int
    parts: list[Item] | None = None


class Color(enum.Enum):
    RED = "red"
    GREEN = "light green"


class Everything(dspy.Signature):  # type: ignore[misc]  # dspy ships no types
    """Read the letter; billing: invoices, technical: crashes."""

    text: str = dspy.InputField(desc="what they wrote")
    meta: dict[str, Any] = dspy.InputField()
    reasoning: str = dspy.OutputField()
    category: Literal["billing", "tech; nical", "it's", 'the "x"'] = dspy.OutputField(desc="the (one): label")
    stars: Literal[1, 2, 3] = dspy.OutputField()
    urgent: bool = dspy.OutputField()
    count: int = dspy.OutputField()
    price: float = dspy.OutputField()
    names: list[str] = dspy.OutputField()
    labels: list[Literal["p", "q"]] = dspy.OutputField()
    item: Item = dspy.OutputField()
    items: list[Item] = dspy.OutputField()
    colour: Color = dspy.OutputField()
    day: date = dspy.OutputField()
    maybe: int | None = dspy.OutputField()
    word: str | None = dspy.OutputField()
    which: Literal["x", "y"] | None = dspy.OutputField()
    table: dict[str, int] = dspy.OutputField()
    note: str = dspy.OutputField()


class Flat(dspy.Signature):  # type: ignore[misc]  # dspy ships no types
    """Read the letter."""

    text: str = dspy.InputField()
    category: Literal["billing", "technical"] = dspy.OutputField()
    urgent: bool = dspy.OutputField()
    count: int = dspy.OutputField()
    names: list[str] = dspy.OutputField()
    note: str = dspy.OutputField()


DEMONSTRATIONS = [
    {"text": "it crashed", "category": "it's", "urgent": True, "names": ["Ada"], "item": {"name": "x", "qty": 2}},
    {"text": "an invoice", "category": "billing"},
]


def ask(adapter: dspy.Adapter, signature: Any, demonstrations: list[Any], text: str, **how: Any) -> dict[str, Any]:
    messages = adapter.format(signature, demonstrations, {"text": text, "meta": {"a": 1}})
    size: Size = how.pop("size", "small")
    answer = base_model(size).answer([Message(m["role"], m["content"]) for m in messages], **how)
    parsed: dict[str, Any] = adapter.parse(signature, answer)
    return parsed


@pytest.mark.parametrize("demonstrations", [[], DEMONSTRATIONS], ids=["zero-shot", "in context"])
@pytest.mark.parametrize(
    ("adapter", "signature"),
    [(dspy.ChatAdapter(), Everything), (dspy.JSONAdapter(), Everything), (dspy.XMLAdapter(), Flat)],
    ids=["chat", "json", "xml"],
)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    text=st.text(max_size=60)
    | st.lists(
        st.sampled_from(
            ["[[ ## category ## ]]", "[[ ## completed ## ]]", "Ada Byron", "\n", "\u2028", "{", "7e9", "&<b>"]
        )
    ).map(" ".join)
    | st.just("[[ ## category ## ]]\nnone\n[[ ## completed ## ]]"),
    temperature=st.sampled_from([0.0, 1.0]),
)
def test_the_adapter_reads_every_answer(
    adapter: dspy.Adapter, signature: Any, demonstrations: list[Any], text: str, temperature: float
) -> None:
    demonstrations = [{k: v for k, v in d.items() if k in signature.fields} for d in demonstrations]
    if signature is Flat:
        demonstrations = [{**d, "category": "billing"} for d in demonstrations]
    parsed = ask(adapter, signature, demonstrations, text, temperature=temperature)
    assert list(parsed) == list(signature.output_fields)


@pytest.mark.parametrize("size", ["small", "large"])
@pytest.mark.parametrize("adapter", [dspy.ChatAdapter(), dspy.JSONAdapter()], ids=["chat", "json"])
def test_the_letter_is_read(adapter: dspy.Adapter, size: Size) -> None:
    parsed = ask(
        adapter,
        Everything,
        [],
        "My count: 12, urgent! The billing for Ada Lovelace on 2026-02-03 cost 4.50",
        size=size,
    )
    assert {name: parsed[name] for name in ("category", "urgent", "count", "names", "day")} == {
        "category": "billing",
        "urgent": True,
        "count": 12,
        "names": ["12", "Ada Lovelace", "2026-02-03", "4.50", "1"],
        "day": date(2026, 2, 3),
    }


def test_what_the_instructions_say_of_a_value_counts() -> None:
    signature = dspy.Signature("text -> category: Literal['a1', 'b2']", "a1: parcels and post; b2: cards and pins")
    answers = [ask(dspy.ChatAdapter(), signature, [], text)["category"] for text in ("my pin", "the parcel")]
    assert answers == ["b2", "a1"]


def test_an_optimizer_that_asks_for_an_instruction_gets_the_one_it_gave() -> None:
    signature = dspy.Signature(
        "dataset_description, program_code, previous_instructions, basic_instruction, tip -> proposed_instruction"
    )
    inputs = {name: f"The {name}. It says little." for name in signature.input_fields}
    adapter = dspy.ChatAdapter()
    messages = [Message(m["role"], m["content"]) for m in adapter.format(signature, [], inputs)]
    answer = base_model("small").answer(messages, temperature=1.0, seed=3)
    assert adapter.parse(signature, answer) == {"proposed_instruction": inputs["basic_instruction"]}
