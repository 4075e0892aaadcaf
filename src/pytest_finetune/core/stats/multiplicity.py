"""Several claims, several slices, several candidates: error rates for the whole family.

A ladder whose rungs must all hold needs none of this: each rung is judged at full alpha (intersection-union test).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate


def holm_adjusted(p_values: Sequence[float]) -> tuple[float, ...]:
    """Adjusted p-values, in the order given (Holm, Scandinavian Journal of Statistics 6, 1979, 65-70).

    Raises:
        ValueError: A p-value is not in [0, 1].
    """
    _check(p_values)
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    scaled = (min((len(order) - rank) * p_values[at], 1.0) for rank, at in enumerate(order))
    adjusted = dict(zip(order, accumulate(scaled, max), strict=True))
    return tuple(adjusted[at] for at in range(len(p_values)))


def holm(p_values: Sequence[float], alpha: float = 0.05) -> tuple[bool, ...]:
    """Which nulls are rejected, so that the chance of any false rejection is at most alpha, however dependent."""
    return tuple(p <= alpha for p in holm_adjusted(p_values))


def spent_alpha(alpha: float, k: int) -> float:
    """Level for the k-th candidate that one test set judges: 6 alpha / (pi² k²).

    These levels add up to alpha, so that over any number of candidates, each chosen in the light of the verdicts
    before, the chance of ever passing a bad one is at most alpha (alpha spending: Foster, Stine, JRSS B 70, 2008,
    429-444).

    Raises:
        ValueError: ``k`` is less than 1.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, not {k!r}: the first candidate is number 1.")
    return 6 * alpha / (math.pi * k) ** 2


def _check(p_values: Sequence[float]) -> None:
    wrong = [p for p in p_values if not 0 <= p <= 1]
    if wrong:
        raise ValueError(f"a p-value lies in [0, 1], not {wrong[0]!r}.")
