"""Anything that is neither a choice nor copied from the input: the value of the nearest training example.

Free prose and arithmetic are not learned: a model answers them with what it has once seen.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from math import log

import numpy as np

from . import schemas
from .features import IntArray, Query, Vector, Vocabulary, words
from .linear import Progress
from .prompts import Field
from .sampling import BEST, Sampler
from .schemas import Value

_CERTAINTY = 10.0  # turns likeness (0 to 1) into scores to sample from


@dataclass(frozen=True, eq=False)
class Recall:
    """The values of the training rows, found by the likeness of the inputs' words.

    Args:
        vocabulary: The words that count.
        vectors: The vectors of all training inputs, one after the other, shape (n,).
        row_of: Whose input each weight is of, shape (n,).
        values: The value of each row.
    """

    vocabulary: Vocabulary
    vectors: Vector
    row_of: IntArray
    values: tuple[Value, ...]

    @classmethod
    def of(cls, queries: list[Query], values: list[Value]) -> Recall:
        """Remembers the rows."""
        vocabulary = Vocabulary.of("words", (words(" ".join(query.inputs.values())) for query in queries))
        vectors = [query.vector(vocabulary) for query in queries]
        at = np.concatenate([vector.at for vector in vectors])
        by = np.concatenate([vector.by for vector in vectors])
        row_of = np.repeat(np.arange(len(vectors), dtype=np.int32), [len(vector.at) for vector in vectors])
        return cls(vocabulary, Vector(at, by), row_of, tuple(values))

    def answer(self, query: Query, field: Field, sampler: Sampler) -> Value:
        """The nearest row's value; above temperature 0, that of a row nearby."""
        del field
        return self._nearest(query, sampler)

    def copy(self) -> Recall:
        """Itself: what is remembered does not change."""
        return self

    def _nearest(self, query: Query, sampler: Sampler) -> Value:
        at, by = query.vector(self.vocabulary)
        dense = np.zeros(len(self.vocabulary.index), dtype=np.float32)
        dense[at] = by
        shared = self.vectors.by * dense[self.vectors.at]
        likeness = np.bincount(self.row_of, weights=shared, minlength=len(self.values))
        return self.values[sampler.pick((_CERTAINTY * likeness).astype(np.float32))]

    def suits(self, field: Field) -> bool:
        """Whether the field accepts what is remembered."""
        return schemas.accepts(field.schema, self.values[0])

    def measure(self, query: Query, value: Value) -> Progress:
        """How much of a value is recalled: the F1 of its words, as a loss its negative logarithm."""
        share = overlap(_text(self._nearest(query, BEST)), _text(value))
        return Progress(-log(max(share, 1e-7)), int(share >= 1.0), 1)


def _text(value: Value) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def overlap(given: str, expected: str) -> float:
    """The F1 of the words that two texts share."""
    left, right = set(words(given)), set(words(expected))
    if not left or not right:
        return float(left == right)
    return 2 * len(left & right) / (len(left) + len(right))
