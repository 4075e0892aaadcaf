from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_finetune.sandbox.learning import Message, base_model
from pytest_finetune.sandbox.learning.prompts import (
    PLAIN,
    read_demonstrations,
    read_outputs,
    read_request,
    read_signature,
)

SYSTEM = """\
Your input fields are:
1. `text` (str): what they wrote
2. `meta` (dict): 
Your output fields are:
1. `reasoning` (str): 
2. `category` (Literal['a): b', "it's"]): the (one) label: short
3. `n` (int): 
All interactions will be structured in the following way, with the appropriate values filled in.

[[ ## completed ## ]]
In adhering to this structure, your objective is: 
        Classify the ticket.
        Be kind."""  # noqa: W291 (DSPy writes the blanks)
ASK = "Respond with the corresponding output fields, starting with the field `[[ ## reasoning ## ]]`, then `[[ ## category ## ]]` (must be formatted as a valid Python Literal['x', 'y']), and then ending with the marker for `[[ ## completed ## ]]`."  # noqa: E501


NOT_SUPPLIED = "Not supplied for this particular example. "


def chat(*turns: str, system: str = SYSTEM) -> list[Message]:
    roles = ("user", "assistant") * len(turns)
    return [Message("system", system), *(Message(r, t) for r, t in zip(roles, turns, strict=False))]


def test_a_system_message_declares_fields_types_and_instructions() -> None:
    signature = read_signature(SYSTEM, ASK)
    assert [(f.name, f.description) for f in signature.inputs] == [("text", "what they wrote"), ("meta", "")]
    assert [(f.name, f.description, f.schema) for f in signature.outputs] == [
        ("reasoning", "", {"type": "string"}),
        ("category", "the (one) label: short", {"enum": ["a): b", "it's"]}),
        ("n", "", {"type": "integer"}),
    ]
    assert (signature.form, signature.instructions) == ("chat", "Classify the ticket.\nBe kind.")


def test_without_a_system_message_the_reminder_declares_the_outputs() -> None:
    request = read_request([Message("user", f"[[ ## text ## ]]\nhello\n\n{ASK}")])
    assert request.inputs == {"text": "hello"}
    assert [(f.name, f.schema) for f in request.signature.outputs] == [
        ("reasoning", {"type": "string"}),
        ("category", {"enum": ["x", "y"]}),
    ]


def test_a_value_keeps_its_lines_and_what_only_looks_like_a_header() -> None:
    text = "one\n\n[[ ## category ## ]]\nRespond with the corresponding output fields, no.\ntwo"
    request = read_request(chat(f"[[ ## text ## ]]\n{text}\n\n[[ ## meta ## ]]\n{{}}\n\n{ASK}"))
    assert request.inputs == {"text": text, "meta": "{}"}


@pytest.mark.parametrize(
    "answer",
    [
        "[[ ## reasoning ## ]]\n"
        + NOT_SUPPLIED
        + "\n\n[[ ## category ## ]]\nit's\n\n[[ ## n ## ]]\n3\n\n[[ ## completed ## ]]\n",
        '{"reasoning": "Not supplied for this particular example. ", "category": "it\'s", "n": 3}',
        "<category>\nit's\n</category>\n\n<n>\n3\n</n>",
    ],
    ids=["chat", "json", "xml"],
)
def test_demonstrations_are_read_in_every_form_without_what_is_not_supplied(answer: str) -> None:
    signature = read_signature(SYSTEM, ASK)
    asked = "This is an example of the task, though some input or output fields are not supplied.\n\n"
    turns = [Message("user", asked + "[[ ## text ## ]]\nhi"), Message("assistant", answer)]
    (example,) = read_demonstrations(signature, turns)
    assert (example.inputs, example.outputs) == ({"text": "hi"}, {"category": "it's", "n": 3})


def test_a_chat_without_structure_is_plain() -> None:
    request = read_request([Message("system", "Be brief."), Message("user", "How are you?")])
    assert (request.signature, request.inputs) == (PLAIN, {"prompt": "How are you?"})
    assert read_outputs(PLAIN, " Fine. ") == {"answer": "Fine."}


_PIECES = st.sampled_from(
    [
        "[[ ## text ## ]]",
        "[[ ## completed ## ]]",
        SYSTEM,
        ASK,
        '{"reasoning": ',
        "<text>",
        "1. `x` (Literal[",
        "\u2028",
    ]
)
_MESSAGES = st.lists(
    st.builds(
        Message,
        st.sampled_from(["system", "user", "assistant", "developer", "tool"]),
        st.lists(st.text() | _PIECES, max_size=4).map("\n".join),
    ),
    max_size=5,
)


@settings(deadline=None)
@given(_MESSAGES, st.floats(0, 2))
def test_any_chat_gets_an_answer(messages: list[Message], temperature: float) -> None:
    assert isinstance(base_model("small").answer(messages, temperature=temperature), str)


@given(st.lists(st.text(), min_size=2, max_size=4))
def test_answers_are_read_back_from_json(values: list[str]) -> None:
    import json

    signature = read_signature(SYSTEM, ASK)
    given_values: dict[str, Any] = dict(zip(["reasoning", "n"], values, strict=False))
    read = read_outputs(signature, json.dumps(given_values))
    assert read.get("reasoning", "") == values[0].strip()
