"""Zero-shot answers: what a model makes of a prompt whose task it has never seen.

A choice goes to the value whose name and description are most like the input. A field of text gets, in this order:

1. a sentence that quotes the input, for a field that is called reasoning, rationale or the like;
2. the input field whose name resembles its own: asked for ``proposed_instruction`` and given ``basic_instruction``,
   as DSPy's MIPROv2 asks, the answer is that instruction, unchanged;
3. a name, number or code that stands right beside a word of the field's own name ("order 4711" for ``order_number``);
4. the sentence of the input that is most like the field's name and description.

Numbers are the first of the input, or the one beside the field's name; lists hold the names and codes of the input.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import sqrt

import numpy as np

from . import choice, schemas
from .features import GRAMS, Query, Size, word_grams, words
from .prompts import Field, Signature
from .sampling import Sampler
from .schemas import Schema, Value

_REASONING = {"reasoning", "rationale", "explanation", "thought", "thoughts", "justification"}
_NAME_ALIKE = 0.4  # cosine of the n-grams of two names from which they resemble each other
_BESIDE = 3  # words between a field's name and its value
_DEPTH = 2  # of nested objects, from which what may be absent or empty is so: a schema may refer to itself
_DEEPEST = 12  # from which even what must not be empty is: no value fits a schema that has no end
_CERTAINTY = 10.0  # turns likeness (0 to 1) into scores to sample from
_NUMBER = re.compile(r"-?\d+(?:,\d{3})*(?:\.\d+)?")
_SENTENCE = re.compile(r"(?<=[.!?])\s+|\n+")
_ENTITY = re.compile(r"[\w.+-]{1,64}@[\w-]+(?:\.[\w-]+)+|[\w-]*\d(?:[\w.-]*\w)?|[A-Z][\w'-]*(?: [A-Z][\w'-]*)*")
_FORMATS: Mapping[str, tuple[str, str]] = {
    "date": (r"\d{4}-\d\d-\d\d", "1970-01-01"),
    "date-time": (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:Z|[+-]\d\d:\d\d)?", "1970-01-01T00:00:00Z"),
    "time": (r"\d\d:\d\d:\d\d", "00:00:00"),
    "duration": (r"P\d+D", "P0D"),
    "email": (r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+", "nobody@example.com"),
    "uuid": (r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", "00000000-0000-0000-0000-000000000000"),
    "uri": (r"https?://\S+", "https://example.com/"),
}


@dataclass(frozen=True)
class Reader:
    """Answers the fields of one request.

    Args:
        size: How much the model sees in a text.
        signature: What the request asks for.
        query: Its inputs.
        sampler: Its chance.
    """

    size: Size
    signature: Signature
    query: Query
    sampler: Sampler

    def value(self, field: Field, depth: int = 0) -> Value:
        """A value that the field accepts."""
        if schemas.choices(field.schema):
            chosen = choice.zero_shot(self.size, field, self.signature.instructions)
            return chosen.answer(self.query, field, self.sampler)
        if depth >= _DEPTH and schemas.accepts(field.schema, None):
            return None
        branch = next((b for b in schemas.branches(field.schema) if b.get("type") != "null"), {})
        kind = branch.get("type", "object" if "properties" in branch else "string")
        if kind in ("integer", "number"):
            return self._number(field, branch)
        if kind == "array":
            return self._items(field, branch, depth)
        if kind == "object":
            return {part.name: self.value(part, depth + 1) for part in parts(field)} if depth < _DEEPEST else {}
        return None if kind == "null" else self._text(field, branch)

    def _number(self, field: Field, branch: Schema) -> Value:
        found = _NUMBER.findall(beside(field, self._all(), _NUMBER) or self._all())
        number = float(found[0].replace(",", "")) if found else 0.0
        lowest, highest = branch.get("minimum", branch.get("exclusiveMinimum")), branch.get("maximum")
        number = number if lowest is None or number >= lowest else float(lowest)
        number = number if highest is None or number <= highest else float(highest)
        return number if branch["type"] == "number" else round(min(max(number, -(2**53)), 2**53))

    def _items(self, field: Field, branch: Schema, depth: int) -> list[Value]:
        if depth >= (_DEEPEST if branch.get("minItems") else _DEPTH):
            return []
        item = items(field)
        if schemas.is_text(item.schema) and not branch.get("minItems"):
            return list(dict.fromkeys(entities(self._all())))
        return [self.value(item, depth + 1)] * max(1, branch.get("minItems", 1))

    def _text(self, field: Field, branch: Schema) -> str:
        if branch.get("format") in _FORMATS:
            pattern, default = _FORMATS[branch["format"]]
            match = re.search(pattern, self._all())
            return match.group() if match else default
        if field.name.lower() in _REASONING:
            return f"The part of the input that says most is: {self._sentence(field)}"
        alike = namesake(field.name, tuple(self.query.inputs))
        if alike is not None:
            return self.query.inputs[alike]
        return beside(field, self._all(), _ENTITY) or self._sentence(field)

    def _sentence(self, field: Field) -> str:
        found = [s for s in (part.strip() for part in _SENTENCE.split(self._all())) if s]
        if len(found) < 2:
            return self._all().strip()
        asked = " ".join([field.name, field.description, *(output.name for output in self.signature.outputs)])
        likeness = [alike(GRAMS[self.size](sentence), GRAMS[self.size](asked)) for sentence in found]
        return found[self.sampler.pick(_CERTAINTY * np.array(likeness, dtype=np.float32))]

    def _all(self) -> str:
        return "\n".join(self.query.inputs.values())


@lru_cache(maxsize=1024)
def parts(field: Field) -> tuple[Field, ...]:
    """The properties of a field that is an object."""
    branch = next((b for b in schemas.branches(field.schema) if isinstance(b.get("properties"), Mapping)), {})
    found = branch.get("properties", {})
    return tuple(Field(name, _described(part), schemas.within(part, branch)) for name, part in found.items())


@lru_cache(maxsize=1024)
def items(field: Field) -> Field:
    """The items of a field that is a list, as a field of the same name."""
    branch = next((b for b in schemas.branches(field.schema) if b.get("type") == "array"), {})
    return Field(field.name, field.description, schemas.within(branch.get("items", {}), branch))


def _described(schema: Value) -> str:
    return str(schema.get("description", "")) if isinstance(schema, Mapping) else ""


@lru_cache(maxsize=1024)
def namesake(name: str, inputs: tuple[str, ...]) -> str | None:
    """The input field whose name is most like a field's name, if any is."""
    likeness = {other: alike(_name_grams(name), _name_grams(other)) for other in inputs}
    best = max(likeness, key=lambda other: likeness[other], default=None)
    return best if best is not None and likeness[best] >= _NAME_ALIKE else None


def _name_grams(name: str) -> list[str]:
    return [gram for word in words(name) for gram in word_grams(word)]


def alike(left: Sequence[str], right: Sequence[str]) -> float:
    """The cosine of two sets of n-grams."""
    a, b = set(left), set(right)
    return len(a & b) / sqrt(len(a) * len(b)) if a and b else 0.0


def entities(text: str) -> Iterator[str]:
    """Names and codes: words with digits, addresses, and capitals that do not merely begin a sentence."""
    for match in _ENTITY.finditer(text):
        begins = not re.search(r"[^\s.!?]\s*$", text[max(0, match.start() - 20) : match.start()])
        if not begins or " " in match.group() or not match.group().isalpha():
            yield match.group()


def beside(field: Field, text: str, pattern: re.Pattern[str]) -> str | None:
    """What of a pattern follows a word of the field's name most closely, if any does."""
    named = {word for word in words(field.name) if len(word) > 2}
    best: tuple[int, str] | None = None
    for match in pattern.finditer(text):
        before = words(text[max(0, match.start() - 60) : match.start()])[-_BESIDE - 1 :]
        for distance, word in enumerate(reversed(before)):
            if word in named and match.group().lower() not in named and (best is None or distance < best[0]):
                best = (distance, match.group())
    return best[1] if best else None
