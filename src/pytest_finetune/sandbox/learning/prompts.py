"""Reads chats: the signature that a prompt declares, its inputs, its demonstrations and its answers.

The forms are those of DSPy's adapters. ``chat`` marks fields with ``[[ ## name ## ]]``, ``json`` does the same for
inputs and answers with an object, ``xml`` uses tags; it names no types within objects, so these are read as text.
A chat without any of them is ``plain``: one input, the text of the last user message, and one output, the answer.
Reading never fails; what cannot be told apart is taken as text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from html import unescape
from itertools import pairwise, zip_longest
from typing import Literal

from . import schemas
from .schemas import Schema, Value

Form = Literal["chat", "json", "xml", "plain"]

_DECLARED = re.compile(r"^\d+\. `(\w+)` \(", re.MULTILINE)
_REQUIREMENTS = re.compile(
    r"\n*^Respond with (?:a JSON object in the following order|the corresponding output fields)[^\n]*",
    re.MULTILINE,
)
_REQUIRED_FIELD = re.compile(
    r"`(?:\[\[ ## |<)?(\w+)(?: ## \]\]|>)?`"
    r"(?: \(must be formatted as a valid Python (.+?)\)(?=, then|, and then|\.$))?"
)
_NOTE = re.compile(r"\{(\w+)\} {8}# note: the value you produce ([^\n]*)")
_HEADER = re.compile(r"^[ \t]*\[\[ ## (\w+) ## \]\]", re.MULTILINE)
_NOT_SUPPLIED = "Not supplied for this particular example."


@dataclass(frozen=True)
class Message:
    """One message of a chat."""

    role: str
    content: str


@dataclass(frozen=True, eq=False, slots=True)
class Field:
    """An input or output field that a prompt declares; compared by identity, since signatures are cached."""

    name: str
    description: str
    schema: Schema


@dataclass(frozen=True, eq=False, slots=True)
class Signature:
    """What a prompt asks for: its fields in order, its instructions, and the form of the answer."""

    form: Form
    inputs: tuple[Field, ...]
    outputs: tuple[Field, ...]
    instructions: str = ""


PLAIN = Signature("plain", (Field("prompt", "", {}),), (Field("answer", "", {"type": "string"}),))


@dataclass(frozen=True, slots=True)
class Example:
    """Inputs with the outputs they have: a demonstration, or a row of a training file."""

    inputs: Mapping[str, str]
    outputs: Mapping[str, Value]


@dataclass(frozen=True, slots=True)
class Request:
    """A chat that waits for an answer: the demonstrations come before the last user message."""

    signature: Signature
    inputs: Mapping[str, str]
    demonstrations: tuple[Message, ...]


def read_request(messages: Sequence[Message]) -> Request:
    """Reads a chat that ends in a user message."""
    system = "\n\n".join(m.content for m in messages if m.role in ("system", "developer"))
    turns = [m for m in messages if m.role in ("user", "assistant")]
    last = max((i for i, m in enumerate(turns) if m.role == "user"), default=None)
    if last is None:
        return Request(PLAIN, {"prompt": system}, ())
    body, requirements = _split_requirements(turns[last].content)
    signature = read_signature(system, requirements)
    return Request(signature, _read_inputs(signature, body), tuple(turns[:last]))


def read_demonstrations(signature: Signature, turns: Sequence[Message]) -> list[Example]:
    """The user messages that are followed by an assistant's answer, as examples of the signature."""
    return [
        Example(
            _read_inputs(signature, _split_requirements(asked.content)[0]), read_outputs(signature, answered.content)
        )
        for asked, answered in pairwise(turns)
        if (asked.role, answered.role) == ("user", "assistant")
    ]


def read_row(messages: Sequence[Message]) -> tuple[Signature, Example]:
    """Reads a training row: a chat whose last message is the assistant's answer."""
    request = read_request(messages[:-1])
    return request.signature, Example(request.inputs, read_outputs(request.signature, messages[-1].content))


def read_outputs(signature: Signature, answer: str) -> dict[str, Value]:
    """The values of the output fields that an assistant's message holds, in whatever form it is written."""
    if signature.form == "plain":
        return {signature.outputs[0].name: answer.strip()}
    found: Mapping[str, Value] = _json_object(answer)
    if not found:
        found = _sections(signature.outputs, answer) or _tagged(signature.outputs, answer)
    return {
        field.name: schemas.read_value(field.schema, value)
        for field in signature.outputs
        if (value := found.get(field.name)) is not None
        and not (isinstance(value, str) and value.strip() == _NOT_SUPPLIED)
    }


@lru_cache(maxsize=512)
def read_signature(system: str, requirements: str) -> Signature:
    """What is asked for, from the system message and the reminder at the end of the user's message."""
    form = _form(system, requirements)
    if form == "plain":
        return PLAIN
    head, _, structure = system.partition("All interactions will be structured in the following way")
    inputs, _, outputs = head.partition("Your output fields are:")
    notes = _read_notes(structure)
    instructions = structure.partition("In adhering to this structure, your objective is:")[2]
    declared = _declared(outputs, notes) or _required(requirements)
    if not declared:
        return PLAIN
    return Signature(form, _declared(inputs, {}), declared, _dedent(instructions))


def _form(system: str, requirements: str) -> Form:
    if "Respond with a JSON object" in requirements or "Outputs will be a JSON object" in system:
        return "json"
    if "wrapped in XML tags" in requirements:
        return "xml"
    if requirements or "[[ ## completed ## ]]" in system:
        return "chat"
    return "plain"


def _split_requirements(content: str) -> tuple[str, str]:
    found = list(_REQUIREMENTS.finditer(content))
    if not found:
        return content, ""
    return content[: found[-1].start()], content[found[-1].start() :].strip()


def _declared(listing: str, notes: Mapping[str, str]) -> tuple[Field, ...]:
    """The fields of a numbered list such as ``1. `text` (str): what they wrote``."""
    fields: dict[str, Field] = {}
    starts = list(_DECLARED.finditer(listing))
    for start, following in zip_longest(starts, starts[1:]):
        name = start.group(1)
        rest = listing[start.end() : following.start() if following else len(listing)]
        annotation, description = schemas.split_annotation(rest)
        schema = schemas.from_prompt(annotation, notes.get(name, ""))
        fields.setdefault(name, Field(name, description.strip(), schema))
    return tuple(fields.values())


def _required(requirements: str) -> tuple[Field, ...]:
    """The output fields, where no system message declares them, from the reminder in the user's message."""
    found = (m.groups() for m in _REQUIRED_FIELD.finditer(requirements))
    return tuple(
        Field(name, "", schemas.from_prompt(annotation or "str", ""))
        for name, annotation in found
        if name != "completed"
    )


def _read_notes(structure: str) -> dict[str, str]:
    """What the prompt says of the values of each field ("must be one of: …")."""
    _, marker, listing = structure.partition("Outputs will be a JSON object with the following fields.")
    texts = _json_object(listing.lstrip()).values() if marker else [structure]
    return {m.group(1): m.group(2) for text in texts for m in _NOTE.finditer(str(text))}


def _read_inputs(signature: Signature, body: str) -> dict[str, str]:
    if signature.form == "plain":
        return {signature.inputs[0].name: body}
    fields = signature.inputs or tuple(Field(name, "", {}) for name in dict.fromkeys(_HEADER.findall(body)))
    found = _tagged(fields, body) if signature.form == "xml" else _sections(fields, body)
    return found or {fields[0].name if fields else "prompt": body.strip()}


def _sections(fields: Sequence[Field], text: str) -> dict[str, str]:
    """Values under ``[[ ## name ## ]]`` headers; a header counts only for the field that is due.

    A value may hold header-like text: it is cut only by the headers of later fields, in their order.
    """
    cuts: list[tuple[str, int, int]] = []
    position = 0
    for name in (*(field.name for field in fields), "completed"):
        header = re.compile(rf"^[ \t]*\[\[ ## {name} ## \]\]", re.MULTILINE).search(text, position)
        if header:
            position = header.end()
            cuts.append((name, header.start(), position))
    ends = [*(start for _, start, _ in cuts[1:]), len(text)]
    return {
        name: text[begin:end].strip()
        for (name, _, begin), end in zip(cuts, ends, strict=False)
        if name != "completed"
    }


def _tagged(fields: Sequence[Field], text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for field in fields:
        match = re.search(rf"<{field.name}>(.*?)</{field.name}>", text, re.DOTALL)
        if match:
            found[field.name] = _tag_value(match.group(1).strip())
    return found


def _tag_value(text: str) -> str:
    """A tag's text; a flat list of items becomes JSON."""
    items: list[str] = re.findall(r"<item>(.*?)</item>", text, re.DOTALL)
    if items and not re.search(r"<\w", "".join(items)):
        return json.dumps([unescape(item) for item in items])
    return unescape(text)


def _json_object(text: str) -> dict[str, Value]:
    text = text.strip().removeprefix("```json").removeprefix("```").lstrip()
    if not text.startswith("{"):
        return {}
    try:
        value, _ = json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _dedent(text: str) -> str:
    return "\n".join(line.strip() for line in text.strip().splitlines())
