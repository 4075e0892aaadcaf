"""What a model sees of a text: weighted n-grams of characters within words, and more of them in the large model.

Term weights are ``(1 + log tf) * idf``, vectors have length one (Manning, Raghavan and Schütze, Introduction to
Information Retrieval, 2008, section 6.4): the vectors of scikit-learn's ``TfidfVectorizer``, whose import alone would
take several times as long as all else that a sandbox does to start.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from math import log, sqrt
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

Size = Literal["small", "large"]
FloatArray: TypeAlias = npt.NDArray[np.float32]
IntArray: TypeAlias = npt.NDArray[np.int32]

_WORD = re.compile(r"[^\W_]+")
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


class Vector(NamedTuple):
    """A sparse vector: the places of its n-grams in the vocabulary, and their weights, both of shape (n,)."""

    at: IntArray
    by: FloatArray


def words(text: str) -> list[str]:
    """The words of a text or of a name such as ``cardArrival`` or ``card_arrival``, in lower case."""
    return _WORD.findall(_CAMEL.sub(" ", text).lower())


@lru_cache(maxsize=100_000)
def word_grams(word: str) -> tuple[str, ...]:
    """The character n-grams, three to five long, of a word with a space on either side."""
    padded = f" {word} "
    return tuple(padded[i : i + n] for n in (3, 4, 5) for i in range(len(padded) - n + 1))


def small_grams(text: str) -> list[str]:
    """What the small model sees: character n-grams within words."""
    return [gram for word in words(text) for gram in word_grams(word)]


def large_grams(text: str) -> list[str]:
    """What the large model sees: also pairs of neighbouring words."""
    found = words(text)
    pairs = [f"{left}_{right}" for left, right in pairwise(found)]
    return [gram for word in found for gram in word_grams(word)] + pairs


GRAMS: Mapping[str, Callable[[str], list[str]]] = {"small": small_grams, "large": large_grams, "words": words}


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """The n-grams that a model knows, each with its place and its inverse document frequency.

    Args:
        kind: What is taken from a text, a key of ``GRAMS``.
        index: The place of each n-gram.
        idf: The weight of each place, shape (n,).
        unseen: The weight of an n-gram that is not known; it only adds to the length of a vector.
    """

    kind: str
    index: Mapping[str, int]
    idf: FloatArray
    unseen: float
    _idf: list[float] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_idf", self.idf.tolist())

    @classmethod
    def of(cls, kind: str, documents: Iterable[Iterable[str]], parent: Vocabulary | None = None) -> Vocabulary:
        """The vocabulary of documents, each given as its n-grams; the parent's n-grams keep place and weight.

        Args:
            kind: What the n-grams are, a key of ``GRAMS``.
            documents: The n-grams of each document.
            parent: The vocabulary of the model that is fitted further.
        """
        known = parent.index if parent else {}
        rows = [[gram for gram in document if gram not in known] for document in documents]
        weights = parent.idf if parent else np.zeros(0, dtype=np.float32)
        unseen = log(1 + len(rows)) + 1
        if not any(rows):
            return cls(kind, known, weights, unseen)
        rows_with = Counter(gram for row in rows for gram in set(row))
        grams = sorted(rows_with)
        index = {**known, **{gram: place for place, gram in enumerate(grams, start=len(known))}}
        idf = [log(len(rows) / rows_with[gram]) + 1 for gram in grams]
        return cls(kind, index, np.concatenate([weights, np.array(idf, dtype=np.float32)]), unseen)

    def vector(self, inputs: Mapping[str, str]) -> Vector:
        """The vector of the input fields of a request."""
        counts = Counter(input_grams(self.kind, inputs))
        squares, at, by = 0.0, [], []
        for gram, count in counts.items():
            place = self.index.get(gram)
            weight = 1.0 if count == 1 else 1.0 + log(count)
            weight *= self.unseen if place is None else self._idf[place]
            squares += weight * weight
            if place is not None:
                at.append(place)
                by.append(weight)
        scaled = np.array(by, dtype=np.float32)
        scaled /= sqrt(squares) or 1.0
        return Vector(np.array(at, dtype=np.int32), scaled)


class Query:
    """The input fields of a request or a row; vectors are made once for each vocabulary."""

    def __init__(self, inputs: Mapping[str, str]) -> None:
        self.inputs = inputs
        self._vectors: dict[int, Vector] = {}

    def vector(self, vocabulary: Vocabulary) -> Vector:
        """The vector in a vocabulary."""
        found = self._vectors.get(id(vocabulary))
        if found is None:
            found = self._vectors[id(vocabulary)] = vocabulary.vector(self.inputs)
        return found


def input_grams(kind: str, inputs: Mapping[str, str]) -> list[str]:
    """The n-grams of all input fields; where there are several, also their words with the field's name."""
    grams = [gram for text in inputs.values() for gram in GRAMS[kind](text)]
    if len(inputs) > 1 and kind != "words":
        grams += [f"{name}:{word}" for name, text in inputs.items() for word in words(text)]
    return grams
