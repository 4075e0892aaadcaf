"""Multinomial logistic regression, fitted by stochastic gradient descent over sparse rows.

Scikit-learn's ``SGDClassifier`` fits one value against the rest and hides its batches; here the loss of each batch is
the softmax's own cross-entropy (Bishop, Pattern Recognition and Machine Learning, 2006, section 4.3.4), which is what a
fine-tuning service reports. The starting weights are the base model's, so that a fit begins where the base model stands.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .features import FloatArray, IntArray

_BIAS_RATE = 0.1  # of the weights' rate: rows have length one, the bias sees every row


class Cell(NamedTuple):
    """Rows that are fitted together: places and weights of shape (m, n), and the m classes that are right."""

    at: IntArray
    by: FloatArray
    right: IntArray


class Progress(NamedTuple):
    """Sums over decisions: cross-entropy in nats, right decisions, and all of them."""

    loss: float
    right: int
    count: int


NOTHING = Progress(0.0, 0, 0)


@dataclass(frozen=True)
class Softmax:
    """Scores of K classes: weights of shape (D, K), bias of shape (K,). Only ``learn`` changes them, in place."""

    weights: FloatArray
    bias: FloatArray

    def copy(self) -> Softmax:
        """One that learns on its own."""
        return Softmax(self.weights.copy(), self.bias.copy())

    def scores(self, at: IntArray, by: FloatArray) -> FloatArray:
        """The scores of rows, shape (..., K), from places and weights of shape (..., n)."""
        scores: FloatArray = (by[..., None, :] @ self.weights[at])[..., 0, :] + self.bias
        return scores

    def measure(self, cells: Sequence[Cell]) -> Progress:
        """How well the rows are decided."""
        return sum_up(self._judge(cell)[1] for cell in cells)

    def learn(self, cells: Sequence[Cell], rate: float) -> Progress:
        """One step against the gradient of a batch; returns how well it was decided before."""
        judged = [self._judge(cell) for cell in cells]
        for cell, (errors, _) in zip(cells, judged, strict=True):
            for at, by, error in zip(cell.at, cell.by, errors, strict=True):
                self.weights[at] -= (rate * by)[:, None] * error
            self.bias[:] -= _BIAS_RATE * rate * errors.sum(axis=0)
        return sum_up(progress for _, progress in judged)

    def _judge(self, cell: Cell) -> tuple[FloatArray, Progress]:
        """The gradient of the scores, shape (m, K), and the progress."""
        probabilities = softmax(self.scores(cell.at, cell.by))
        rows = np.arange(len(cell.right))
        losses = -np.log(np.maximum(probabilities[rows, cell.right], 1e-7))
        right = int((probabilities.argmax(axis=1) == cell.right).sum())
        probabilities[rows, cell.right] -= 1
        return probabilities, Progress(float(losses.sum()), right, len(rows))


def sum_up(parts: Iterable[Progress]) -> Progress:
    """The sum of progress over rows or fields."""
    return Progress(*map(sum, zip(NOTHING, *parts, strict=True)))


def softmax(scores: FloatArray) -> FloatArray:
    """Probabilities along the last axis."""
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
    shares: FloatArray = powers / powers.sum(axis=-1, keepdims=True)
    return shares
