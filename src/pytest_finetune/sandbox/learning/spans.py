"""Values that are copied from the input: a tagger of tokens that sees each token, its shape and its neighbours.

Tags are those of Ramshaw and Marcus, Text Chunking using Transformation-Based Learning (1995): a token begins a span,
is inside one, or is outside. A tag does not see the tags before it. Spans that the input does not hold letter by
letter cannot be learned.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from . import schemas
from .features import FloatArray, IntArray, Query
from .linear import Cell, Softmax, softmax
from .prompts import Field
from .sampling import Sampler
from .schemas import Value

_TOKEN = re.compile(r"\w+|[^\w\s]")
_OUTSIDE, _BEGIN, _INSIDE = 0, 1, 2
_LONGEST = 40  # tokens in a span


@dataclass(frozen=True, eq=False)
class Spans:
    """A field whose value is a span of one input field, or the list of its spans.

    Args:
        source: The input field that is copied from.
        many: Whether the value is a list.
        absent: The value where the input holds no span, if any row was so; only for ``many=False``.
        optional: Whether rows without a span were seen.
        index: The place of each feature of a token; place 0 is that of unknown ones.
        softmax: The scores of the three tags.
    """

    source: str
    many: bool
    absent: Value
    optional: bool
    index: Mapping[str, int]
    softmax: Softmax

    @classmethod
    def of(cls, queries: Sequence[Query], values: Sequence[Value], parent: Spans | None = None) -> Spans:
        """A tagger for the field that the values are copied from, which knows what its parent does, if anything."""
        places = Counter(
            name
            for query, value in zip(queries, values, strict=True)
            for name, text in query.inputs.items()
            if copied(value) and all(find(text, part) is not None for part in copied(value))
        )
        source = places.most_common(1)[0][0]
        many = any(isinstance(value, list) for value in values)
        other = Counter(schemas.key(v) for q, v in zip(queries, values, strict=True) if not held(q, v))
        absent = next((v for v in values if other and schemas.key(v) == other.most_common(1)[0][0]), None)
        index = dict(parent.index) if parent else {"": 0}
        for query in queries:
            for row in token_features(query.inputs, source):
                for feature in row:
                    index.setdefault(feature, len(index))
        begun = Softmax(np.zeros((len(index), 3), dtype=np.float32), np.zeros(3, dtype=np.float32))
        if parent:
            begun.weights[: len(parent.index)] = parent.softmax.weights
            begun.bias[:] = parent.softmax.bias
        return cls(source, many, absent, bool(other), index, begun)

    def copy(self) -> Spans:
        """One whose scores change on their own."""
        return Spans(self.source, self.many, self.absent, self.optional, self.index, self.softmax.copy())

    def cell(self, query: Query, value: Value) -> Cell | None:
        """The tags of the tokens of an input; nothing where the value is not in it."""
        text = query.inputs.get(self.source, "")
        tokens = list(_TOKEN.finditer(text))
        tags = np.zeros(len(tokens), dtype=np.int32)
        for part in [] if self._is_absent(value) else copied(value):
            start = find(text, part)
            if start is None:
                return None
            inside = [i for i, t in enumerate(tokens) if start <= t.start() and t.end() <= start + len(part)]
            tags[inside] = _INSIDE
            tags[inside[:1]] = _BEGIN
        return Cell(*self._encode(query), tags) if tokens else None

    def answer(self, query: Query, field: Field, sampler: Sampler) -> Value:
        """The likeliest span or spans; the temperature plays no part."""
        del field, sampler
        text = query.inputs.get(self.source, "")
        tokens = list(_TOKEN.finditer(text))
        if not tokens:
            return [] if self.many else self.absent
        chances = np.log(softmax(self.softmax.scores(*self._encode(query))) + 1e-9)
        found = _all_spans(chances) if self.many else _best_span(chances, optional=self.optional)
        parts = [text[tokens[first].start() : tokens[last].end()] for first, last in found]
        if self.many:
            return list(dict.fromkeys(parts))
        return parts[0] if parts else self.absent

    def suits(self, field: Field) -> bool:
        """Whether the field accepts text, or lists of text."""
        return schemas.accepts(field.schema, [""] if self.many else "")

    def _is_absent(self, value: Value) -> bool:
        return self.optional and not self.many and schemas.key(value) == schemas.key(self.absent)

    def _encode(self, query: Query) -> tuple[IntArray, FloatArray]:
        """Places and weights of the features of each token, both of shape (tokens, features)."""
        get = self.index.get
        places = [[get(feature, 0) for feature in row] for row in token_features(query.inputs, self.source)]
        at = np.array(places, dtype=np.int32)
        by = (at > 0).astype(np.float32) / np.sqrt(at.shape[1], dtype=np.float32)
        return at, by


def copied(value: Value) -> list[str]:
    """The parts of a value that might be copied: itself, or its items; nothing where it is not text."""
    parts = value if isinstance(value, list) else [value]
    return [part for part in parts if part] if all(isinstance(part, str) for part in parts) else []


def held(query: Query, value: Value) -> bool:
    """Whether one input field holds all parts of a value; an empty list is held by every input."""
    parts = copied(value)
    return value == [] or (
        bool(parts) and any(all(find(text, part) is not None for part in parts) for text in query.inputs.values())
    )


def find(text: str, part: str) -> int | None:
    """Where a text holds a part that neither begins nor ends within a word."""
    match = re.search(rf"(?<!\w){re.escape(part)}(?!\w)", text) if part[:1].isalnum() else None
    if match:
        return match.start()
    start = text.find(part) if part.strip() == part and not part[:1].isalnum() else -1
    return start if start >= 0 else None


def token_features(inputs: Mapping[str, str], source: str) -> list[list[str]]:
    """The features of each token of the source: its letters and shape, its neighbours, and where else it stands."""
    tokens = _TOKEN.findall(inputs.get(source, ""))
    others = {t.lower() for name, text in inputs.items() if name != source for t in _TOKEN.findall(text)}
    low = ["<<", "<", *(token.lower() for token in tokens), ">", ">>"]
    shapes = ["<<", "<", *(_shape(token) for token in tokens), ">", ">>"]
    return [
        [
            f"w={low[i]}",
            f"s={shapes[i]}",
            f"p={low[i][:3]}",
            f"e={low[i][-3:]}",
            f"-1={low[i - 1]}",
            f"+1={low[i + 1]}",
            f"-2={low[i - 2]}",
            f"+2={low[i + 2]}",
            f"s-1={shapes[i - 1]}",
            f"s+1={shapes[i + 1]}",
            f"-2-1={low[i - 2]} {low[i - 1]}",
            f"+1+2={low[i + 1]} {low[i + 2]}",
            f"-1s={low[i - 1]} {shapes[i]}",
            f"s+1={shapes[i]} {low[i + 1]}",
            f"sss={shapes[i - 1]} {shapes[i]} {shapes[i + 1]}",
            f"s-2s-1s={shapes[i - 2]} {shapes[i - 1]} {shapes[i]}",
            f"-2s-1s={low[i - 2]} {shapes[i - 1]} {shapes[i]}",
            f"o={low[i] in others}",
        ]
        for i in range(2, len(low) - 2)
    ]


def _shape(token: str) -> str:
    """The kinds of letters in a token, each run once: ``Ada`` is ``Xx``, ``4711`` is ``d``."""
    kinds = ("d" if c.isdigit() else "X" if c.isupper() else "x" if c.isalpha() else c for c in token)
    runs: list[str] = []
    for kind in kinds:
        if not runs or runs[-1] != kind:
            runs.append(kind)
    return "".join(runs[:6])


def _all_spans(chances: FloatArray) -> list[tuple[int, int]]:
    """The first and last token of each span, by the likeliest tag of each token."""
    spans: list[tuple[int, int]] = []
    tags = chances.argmax(axis=1)
    for i, tag in enumerate(tags):
        if tag == _BEGIN or (tag == _INSIDE and (i == 0 or tags[i - 1] == _OUTSIDE)):
            spans.append((i, i))
        elif tag == _INSIDE:
            spans[-1] = (spans[-1][0], i)
    return spans


def _best_span(chances: FloatArray, *, optional: bool) -> list[tuple[int, int]]:
    """The one span that makes the tags likeliest, against none at all."""
    begins = chances[:, _BEGIN] - chances[:, _OUTSIDE]
    inside = chances[:, _INSIDE] - chances[:, _OUTSIDE]
    best, place = -np.inf, (0, 0)
    for first in range(len(begins)):
        gains = begins[first] + np.concatenate([[0.0], np.cumsum(inside[first + 1 : first + _LONGEST])])
        last = int(gains.argmax())
        if gains[last] > best:
            best, place = float(gains[last]), (first, first + last)
    return [] if optional and best < 0 else [place]
