"""The chance in an answer: none at temperature 0, else a draw that the request's seed and text decide."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from zlib import crc32

import numpy as np

from .features import FloatArray
from .linear import softmax

_COLDEST = 1e-3  # below it the softmax is all but certain, and its powers overflow


@dataclass(frozen=True)
class Sampler:
    """Picks among scored candidates.

    Args:
        temperature: 0 takes the best; above it, candidates are drawn from the softmax of ``scores / temperature``.
        seed: The request's seed.
        text: The request's text, so that one seed does not draw alike for all of them.
    """

    temperature: float = 0.0
    seed: int = 0
    text: str = ""
    _random: list[np.random.Generator] = field(default_factory=list, init=False, repr=False, compare=False)

    def pick(self, scores: FloatArray) -> int:
        """The place of the candidate that is chosen; the scores are of shape (n,)."""
        if self.temperature < _COLDEST:
            return int(scores.argmax())
        if not self._random:
            entropy = [self.seed & 0xFFFFFFFF, crc32(self.text.encode("utf-8", "replace"))]
            self._random.append(np.random.default_rng(entropy))
        shares = softmax((scores / self.temperature).astype(np.float64))
        return int(self._random[0].choice(len(shares), p=shares))


def request_text(contents: Iterable[str]) -> str:
    """The text of a request, for a sampler."""
    return "\x00".join(contents)


BEST = Sampler()
