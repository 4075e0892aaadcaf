from __future__ import annotations

import json
import random
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_finetune.dataset import DataRow
from pytest_finetune.errors import UsageError
from pytest_finetune.training.rows import NO_REASONING, check_adapter, gold_calls, gold_file, to_jsonl, training_row

TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1)


def by_items(row: dict[str, str]) -> list[tuple[str, str]]:
    return sorted(row.items())


def signature() -> Any:
    import dspy

    fields = {
        "text": (str, dspy.InputField()),
        "tags": (list[str], dspy.OutputField()),
        "kind": (Literal["a", "b"], dspy.OutputField()),
    }
    return dspy.Signature(fields, "Sort it.")


def adapters() -> dict[str, Any]:
    import dspy

    return {"chat": dspy.ChatAdapter(), "json": dspy.JSONAdapter(), "xml": dspy.XMLAdapter()}


def row(**fields: Any) -> DataRow:
    return DataRow("id", "input", fields, ("text",), "train", "rows.jsonl", 7)


@pytest.mark.parametrize("name", ["chat", "json", "xml"])
@given(text=TEXTS, tags=st.lists(TEXTS, min_size=1, max_size=3), kind=st.sampled_from(["a", "b"]))
def test_a_row_holds_what_is_sent_and_what_is_parsed(name: str, text: str, tags: list[str], kind: str) -> None:
    adapter = adapters()[name]
    outputs = {"tags": tags, "kind": kind}
    *prompt, answer = training_row(adapter, signature(), {"text": text}, outputs)["messages"]
    assert prompt == adapter.format(signature(), [], {"text": text})
    assert answer["role"] == "assistant"
    assert adapter.parse(signature(), answer["content"]) == outputs


@given(st.lists(st.dictionaries(st.text(max_size=3), st.text(max_size=3)), max_size=8), st.randoms())
def test_the_bytes_do_not_depend_on_the_order(rows: list[dict[str, str]], draw: random.Random) -> None:
    shuffled = draw.sample(rows, len(rows))
    assert to_jsonl(shuffled) == to_jsonl(rows)
    assert to_jsonl({key: row[key] for key in draw.sample(sorted(row), len(row))} for row in rows) == to_jsonl(rows)
    read = [json.loads(line) for line in to_jsonl(rows).splitlines()]
    assert sorted(read, key=by_items) == sorted(rows, key=by_items)


def test_a_role_comes_before_its_content() -> None:
    rows = [{"messages": [{"content": [{"text": "u", "type": "text"}], "role": "user"}]}]
    assert to_jsonl(rows) == b'{"messages":[{"role":"user","content":[{"type":"text","text":"u"}]}]}\n'


def test_gold_fields_become_calls() -> None:
    import dspy

    program = dspy.ChainOfThought(signature())
    inputs, outputs = {"text": "x"}, {"tags": ["t"], "kind": "a"}
    calls = gold_calls(program, row(text="x", tags=["t"], kind="a", other=1), without_reasoning=True)
    assert calls == [("predict", inputs, {"reasoning": NO_REASONING, **outputs})]
    calls = gold_calls(program, row(text="x", tags=["t"], kind="a", reasoning="why"), without_reasoning=True)
    assert calls == [("predict", inputs, {"reasoning": "why", **outputs})]


def test_a_field_that_the_data_lack_is_named() -> None:
    import dspy

    program = dspy.ChainOfThought(signature())
    with pytest.raises(UsageError, match=r"\(rows.jsonl:7\) have no field 'kind', .* predictor 'predict'"):
        gold_calls(program, row(text="x", tags=[]), without_reasoning=True)
    rows = [row(text="x", tags=[], kind="b")]
    assert gold_file(dspy.ChatAdapter(), program, rows, without_reasoning=False) is None
    assert gold_file(dspy.ChatAdapter(), program, rows, without_reasoning=True) is not None


def test_an_adapter_whose_answers_cannot_be_written_is_refused() -> None:
    import dspy

    for adapter in adapters().values():
        check_adapter(adapter)
    with pytest.raises(UsageError, match="the adapter Plain"):
        check_adapter(type("Plain", (dspy.Adapter,), {})())
