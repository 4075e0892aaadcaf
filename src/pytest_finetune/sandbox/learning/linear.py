"""Multinomial logistic regression, fitted by stochastic gradient descent over sparse rows.

Scikit-learn's ``SGDClassifier`` fits one value against the rest and knows no batches; here the loss of each batch is
the softmax's own cross-entropy (Bishop, Pattern Recognition and Machine Learning, 2006, section 4.3.4), which is what
a fine-tuning service reports. The starting weights are the base model's: a fit begins where the base model stands.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import NamedTuple

import numpy as np

from .features import FloatArray, IntArray

_BIAS_RATE = 0.1  # of the weights' rate: rows have length one, the bias sees every row
_MEMORY = 0.9  # of the mean square of the errors, from one row to the next
_SUREST = 0.01  # the least root mean square that divides the rate


class Cell(NamedTuple):
    """Rows that are fitted together: places and weights of shape (m, n), and the m classes that are right."""

    at: IntArray
    by: FloatArray
    right: IntArray


class Progress(NamedTuple):
    """Sums over decisions: cross-entropy in nats, right decisions, and all of them."""

    loss: float
    right: int
    decisions: int


@dataclass(frozen=True)
class Softmax:
    """Scores of K classes: weights of shape (D, K), bias of shape (K,). Only a ``Descent`` changes them, in place."""

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
        return sum_up(self.judge(cell)[1] for cell in cells)

    def judge(self, cell: Cell, offset: FloatArray | float = 0.0) -> tuple[FloatArray, Progress]:
        """The gradient of the loss by the scores, shape (m, K), and the progress, with an offset to the scores."""
        probabilities = softmax(self.scores(cell.at, cell.by) + offset)
        rows = np.arange(len(cell.right))
        losses = -np.log(np.maximum(probabilities[rows, cell.right], 1e-7))
        right = int((probabilities.argmax(axis=1) == cell.right).sum())
        probabilities[rows, cell.right] -= 1
        return probabilities, Progress(float(losses.sum()), right, len(rows))


class Descent:
    """Stochastic gradient descent on a softmax: the running root mean square of the errors divides the rate.

    That is RMSProp (Hinton, Neural Networks for Machine Learning, 2012, lecture 6e) with one number for all weights.
    The steps do not fade when the training rows are known by heart: as with a fine-tuned network, every further epoch
    makes the model surer of them, which raises the loss on other rows where some labels are wrong.

    Args:
        softmax: What learns, in place.
        rate: The size of the steps while most rows are decided wrong.
        shown: The classes that the rows hold. Others keep their scores: that few demonstrations do not show a class
            says nothing against it.
    """

    def __init__(self, softmax: Softmax, rate: float, shown: Iterable[int]) -> None:
        self._softmax = softmax
        self._rate = rate
        self._absent = np.full(softmax.bias.shape, -np.inf, dtype=np.float32)
        self._absent[list(shown)] = 0.0
        self._square = 1.0

    def learn(self, cells: Sequence[Cell]) -> Progress:
        """One step against the gradient of a batch; returns how well it was decided before."""
        judged = [self._softmax.judge(cell, self._absent) for cell in cells]
        for errors, _ in judged:
            kept = _MEMORY ** len(errors)
            self._square = kept * self._square + (1 - kept) * float(np.square(errors).sum(axis=1).mean())
        rate = self._rate / max(sqrt(self._square), _SUREST)
        for cell, (errors, _) in zip(cells, judged, strict=True):
            for at, by, error in zip(cell.at, cell.by, errors, strict=True):
                self._softmax.weights[at] -= (rate * by)[:, None] * error
            self._softmax.bias[:] -= _BIAS_RATE * rate * errors.sum(axis=0)
        return sum_up(progress for _, progress in judged)


def sum_up(parts: Iterable[Progress]) -> Progress:
    """The sum of progress over rows or fields."""
    losses, rights, decisions = zip(Progress(0.0, 0, 0), *parts, strict=True)
    return Progress(sum(losses), sum(rights), sum(decisions))


def softmax(scores: FloatArray) -> FloatArray:
    """Probabilities along the last axis."""
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
    shares: FloatArray = powers / powers.sum(axis=-1, keepdims=True)
    return shares
