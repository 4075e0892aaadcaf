from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_finetune.errors import TrainingError
from pytest_finetune.training.contents import (
    ROLES,
    check_file,
    check_prompts,
    method_of,
    served_prompts,
    system_prompts,
    tokens_of_file,
)
from pytest_finetune.training.rows import to_jsonl

TEXT = st.text(st.characters(codec="utf-8"), min_size=1)
CHAT = st.lists(TEXT, min_size=1, max_size=2).map(
    lambda texts: [{"role": "user", "content": text} for text in texts] + [{"role": "assistant", "content": texts[0]}]
)


def line(*messages: Any) -> bytes:
    return json.dumps({"messages": list(messages)}).encode() + b"\n"


def said(role: str, content: Any) -> dict[str, Any]:
    return {"role": role, "content": content}


GOOD = line(said("system", "s"), said("user", "u"), said("assistant", "a"))


@given(st.lists(CHAT.map(lambda messages: {"messages": messages}), max_size=5))
def test_every_chat_that_can_be_trained_on_is_taken(rows: list[dict[str, Any]]) -> None:
    check_file(to_jsonl(rows), "training")


def test_parts_and_calls_of_tools_are_taken() -> None:
    parts = said("user", [{"type": "text", "text": "u"}])
    call = {"role": "assistant", "tool_calls": [{"id": "1"}]}
    check_file(line(parts, call, said("tool", "42"), said("assistant", "a")), "training")


@pytest.mark.parametrize(
    ("bad", "problem"),
    [
        (b'{"messages": \n', r"line 2 is no JSON \("),
        (b"[1]\n", "line 2 is no JSON object"),
        (b'{"prompt": "u", "completion": "a"}\n', "line 2 has no messages"),
        (line(), "line 2 has no messages"),
        (line(said("user", "u")), "line 2 ends with a message of the user, not of the assistant"),
        (line(said("assistant", "a")), "line 2 asks nothing"),
        (line(said("user", "u"), said("robot", "a")), f"line 2 has no role of {', '.join(ROLES)} in message 2"),
        (line("u", said("assistant", "a")), "line 2 has no role"),
        (line(said("user", "u"), said("assistant", "")), r"line 2 has no content in message 2 \(assistant\)"),
        (line(said("user", None), said("assistant", "a")), r"line 2 has no content in message 1 \(user\)"),
        (line(said("user", []), said("assistant", "a")), r"line 2 has no content in message 1 \(user\)"),
        (line(said("user", 3), said("assistant", "a")), r"line 2 has no content in message 1 \(user\)"),
        (5 * b"{}\n", "line 2 has no messages; line 3 has no messages; line 4 has no messages; and 2 more. Nothing"),
    ],
)
def test_a_line_that_an_endpoint_would_refuse_is_named(bad: bytes, problem: str) -> None:
    with pytest.raises(TrainingError, match=f"the validation file is not what can be trained on: {problem}"):
        check_file(GOOD + bad, "validation")


def pair(**changes: Any) -> bytes:
    parts = {
        "input": {"messages": [said("user", "u")]},
        "preferred_output": [said("assistant", "a")],
        "non_preferred_output": [said("assistant", "b")],
    }
    return json.dumps({**parts, **changes}).encode() + b"\n"


@pytest.mark.parametrize(
    ("bad", "problem"),
    [
        (GOOD, "line 2 has no messages in input"),
        (pair(input=[]), "line 2 has no messages in input"),
        (pair(input={"messages": [said("system", "s")]}), "line 2 asks nothing"),
        (pair(preferred_output="a"), "line 2 has no messages in preferred_output"),
        (pair(non_preferred_output=[]), "line 2 has no messages in non_preferred_output"),
        (
            pair(non_preferred_output=[said("assistant", "")]),
            r"line 2 has no content in message 1 \(assistant\) in non_pref",
        ),
        (pair(preferred_output=[said("user", "a")]), "line 2 has an answer that does not end with a message of the"),
        (pair(preferred_output=[said("assistant", "b")]), "line 2 prefers an answer to itself"),
        (b"[1]\n", "line 2 is no JSON object"),
    ],
)
def test_a_pair_that_an_endpoint_would_refuse_is_named(bad: bytes, problem: str) -> None:
    with pytest.raises(TrainingError, match=f"the training file is not what can be trained on: {problem}"):
        check_file(pair() + bad, "training")


def test_a_file_is_of_chats_or_of_pairs() -> None:
    check_file(pair() + pair(preferred_output=[said("assistant", "c")]), "training")
    assert (method_of(pair()), method_of(GOOD), method_of(b"x")) == ("dpo", "supervised", "supervised")
    with pytest.raises(TrainingError, match="line 2 is a pair of answers, and the first line is a chat"):
        check_file(GOOD + pair(), "training")


@pytest.mark.parametrize(
    ("content", "tokens"),
    [(GOOD, 1), (b"", 0), (pair(), 1), (line(said("user", "x" * 400), said("assistant", "\u4eba" * 100)), 175)],
)
def test_tokens_are_those_of_all_messages(content: bytes, tokens: int) -> None:
    assert tokens_of_file(content) == tokens


@pytest.mark.parametrize("value", ["\ud800", {1, 2}, object()])
def test_what_cannot_be_written_is_told_before_any_upload(value: Any) -> None:
    with pytest.raises(TrainingError, match=r"a training row cannot be written as JSON in UTF-8: .* Nothing was upl"):
        to_jsonl([{"messages": [said("user", value)]}])


def test_prompts_are_those_that_are_sent() -> None:
    import dspy

    adapter, program = dspy.ChatAdapter(), dspy.ChainOfThought("question -> answer")
    (name, prompt), *more = served_prompts(program, adapter).items()
    messages = adapter.format(program.predict.signature, [], {"question": "Why?"})
    assert (name, more) == ("predict", [])
    assert prompt == messages[0]["content"]
    file = to_jsonl([{"messages": [*messages, said("assistant", "x")]}] * 3) + GOOD
    assert system_prompts(file) == {prompt: 3, "s": 1}


def test_a_prompt_that_was_not_trained_on_is_named_with_one_that_was() -> None:
    served = {"find": "Find the name of the animal in it.", "sort": "Sort it."}
    assert check_prompts(served, ["Sort it.", "Find the name of the animal in it."], "the recipe x") == []
    assert check_prompts(served, ["Sort it."], "the recipe x") == ["find"]
    assert check_prompts(served, [*served.values(), "another"], "the recipe x") == []
    words = (
        r"the recipe x trained on other prompts than are served: predictor 'find' is asked with .* Served: "
        r"'Find the name of the animal in it.'; trained on: 'Find the name of the plant in it.'"
    )
    with pytest.raises(TrainingError, match=words):
        check_prompts(served, ["Sort it.", "Find the name of the plant in it."], "the recipe x")
