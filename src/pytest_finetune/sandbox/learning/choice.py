"""A choice among values, by scores that are linear in the n-grams of the input.

All three ways to choose are the same scores. Zero-shot they are the likeness of the input to each value's name and
to what the prompt says of it; demonstrations and training files move them from there by gradient descent. What
depends on how words stand to each other (negation, comparison, arithmetic) is beyond such a model.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import log, sqrt

import numpy as np

from . import schemas
from .features import GRAMS, FloatArray, Query, Size, Vocabulary
from .linear import Cell, Softmax
from .prompts import Field
from .sampling import Sampler
from .schemas import Value

_NAME_SCORE = 10.0  # of an input that says the value's name and nothing else
_TRUE_THRESHOLD = 1.0  # of 10: how alike input and field must be before a zero-shot bool is true
_DESCRIBED = 0.5  # weight of an n-gram of a value's description, against one of its name


@dataclass(frozen=True, eq=False)
class Choice:
    """A field that takes one of several values.

    Args:
        vocabulary: The n-grams that count.
        keys: The values, each as its canonical JSON.
        softmax: The scores of the values.
    """

    vocabulary: Vocabulary
    keys: tuple[str, ...]
    softmax: Softmax

    def copy(self) -> Choice:
        """One whose scores change on their own."""
        return Choice(self.vocabulary, self.keys, self.softmax.copy())

    def cell(self, query: Query, value: Value) -> Cell | None:
        """What is to be learned from an input with this value; nothing where the value is not among ours."""
        key = schemas.key(value)
        if key not in self.keys:
            return None
        at, by = query.vector(self.vocabulary)
        return Cell(at[None], by[None], np.array([self.keys.index(key)], dtype=np.int32))

    def answer(self, query: Query, field: Field, sampler: Sampler) -> Value:
        """The value that is chosen among those which the field accepts."""
        scores = self.softmax.scores(*query.vector(self.vocabulary)) + _barred(self.keys, field)
        return json.loads(self.keys[sampler.pick(scores)])

    def suits(self, field: Field) -> bool:
        """Whether the field accepts any of the values."""
        return bool(np.isfinite(_barred(self.keys, field)).any())


@lru_cache(maxsize=1024)
def _barred(keys: tuple[str, ...], field: Field) -> FloatArray:
    """What to add to the scores: nothing, or minus infinity where the field does not accept the value."""
    accepted = [schemas.accepts(field.schema, json.loads(key)) for key in keys]
    return np.where(accepted, 0.0, -np.inf).astype(np.float32)


@lru_cache(maxsize=128)
def zero_shot(size: Size, field: Field, instructions: str) -> Choice:
    """The choice among the values that a field declares, made by reading what the prompt says of them."""
    keys = tuple(dict.fromkeys(schemas.key(value) for value in schemas.choices(field.schema)))
    rows, _ = read_labels(size, field, instructions, keys)
    return start(size, field, instructions, keys, Vocabulary.of(size, rows))


def start(size: Size, field: Field, instructions: str, keys: tuple[str, ...], vocabulary: Vocabulary) -> Choice:
    """The choice from which fitting starts: zero-shot scores over a vocabulary that may know more n-grams."""
    rows, bias = read_labels(size, field, instructions, keys)
    weights = np.zeros((len(vocabulary.index), len(keys)), dtype=np.float32)
    for column, row in enumerate(rows):
        for gram, weight in row.items():
            place = vocabulary.index.get(gram)
            if place is not None:
                weights[place, column] = weight
    return Choice(vocabulary, keys, Softmax(weights, np.array(bias, dtype=np.float32)))


def grow(choice: Choice, parent: Choice) -> Choice:
    """The choice with the scores that its parent learned, where the parent knows value and n-gram."""
    grown = choice.copy()
    columns = [choice.keys.index(key) for key in parent.keys if key in choice.keys]
    known = [column for column, key in enumerate(parent.keys) if key in choice.keys]
    grown.softmax.weights[: len(parent.vocabulary.index), columns] = parent.softmax.weights[:, known]
    grown.softmax.bias[columns] = parent.softmax.bias[known]
    return grown


@lru_cache(maxsize=128)
def read_labels(
    size: Size, field: Field, instructions: str, keys: tuple[str, ...]
) -> tuple[tuple[Mapping[str, float], ...], tuple[float, ...]]:
    """What each value is called and described as: the weights of its n-grams, and its bias.

    A bool is true where the input is like the field's own name and description.
    """
    values = [json.loads(key) for key in keys]
    if set(keys) == {"true", "false"}:
        about = f"{field.name} {field.description}"
        counts = [_count(size, about, "") if value else {} for value in values]
        bias = tuple(0.0 if value else _TRUE_THRESHOLD for value in values)
    else:
        names = [schemas.write_value(value) for value in values]
        said = _said_of(names, f"{field.description}\n{instructions}")
        counts = [_count(size, name, said.get(name, "")) for name in names]
        bias = (0.0,) * len(values)
    spread = Counter(gram for row in counts for gram in row)
    return tuple(_weigh(row, spread, len(values)) for row in counts), bias


def _count(size: Size, name: str, description: str) -> dict[str, float]:
    """How often an n-gram stands in a value's name; one of its description counts once, and less."""
    counts = dict.fromkeys(GRAMS[size](description), _DESCRIBED)
    for gram in GRAMS[size](name):
        counts[gram] = counts.get(gram, 0.0) + 1.0
    return counts


def _weigh(row: Mapping[str, float], spread: Mapping[str, int], values: int) -> dict[str, float]:
    """Weights of an n-gram: the rarer among the values, the more; a row has the length of ``_NAME_SCORE``."""
    weights = {gram: count * log((1 + values) / spread[gram]) for gram, count in row.items()}
    length = sqrt(sum(weight * weight for weight in weights.values())) or 1.0
    return {gram: _NAME_SCORE * weight / length for gram, weight in weights.items()}


def _said_of(names: Sequence[str], text: str) -> dict[str, str]:
    """What a text such as ``billing: invoices; technical: crashes`` says of each name."""
    known = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True) if name)
    mentions = list(re.finditer(rf"(?<!\w)[`'\"*]*({known})[`'\"*]*\s*(?:[:=(]|-+ |means )", text)) if known else []
    ends = [*(mention.start() for mention in mentions[1:]), len(text)]
    said: dict[str, str] = {}
    for mention, end in zip(mentions, ends, strict=False):
        clause = re.split(r"[;\n)]", text[mention.end() : end], maxsplit=1)[0]
        said[mention.group(1)] = f"{said.get(mention.group(1), '')} {clause}"
    return said
