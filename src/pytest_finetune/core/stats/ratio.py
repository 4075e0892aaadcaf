"""Ratios of means: ``a >= f * b``.

Such a claim is judged on the differences a - f b, which turns Fieller's theorem (JRSS B 16, 1954, 175-185) into a
test: Fieller's interval of mean(a) / mean(b) holds just those f at which a - f b is not judged to differ from 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean

from pytest_finetune.core.stats.betting import betting_p
from pytest_finetune.core.stats.clustered import clustered_t
from pytest_finetune.core.stats.decision import last_true

_DOUBLINGS = 60  # a ratio more than 2^60 times the observed one is as good as no bound


def ratio_interval(
    left: Sequence[float],
    right: Sequence[float],
    groups: Sequence[str] | None = None,
    *,
    bounded: bool = False,
    alpha: float = 0.05,
) -> tuple[float, float]:
    """Bounds of mean(left) / mean(right), each at one-sided level alpha, by the test that judges the ratio.

    Args:
        left: One value per row, at least 0.
        right: The other side's value on the same rows, at least 0.
        groups: The cluster of each row; None where rows are independent.
        bounded: The values are scores in [0, 1]; then the betting test is inverted where rows are independent.
        alpha: One-sided level.

    Returns:
        The bounds, to a millionth of the ratio; 0 and infinity where there is none.
    """
    if not any(right):
        return 0.0, math.inf
    ratio = fmean(left) / fmean(right)

    def rejects(side: int, factor: float) -> bool:
        differences = [a - factor * b for a, b in zip(left, right, strict=True)]
        low, high = (-factor, 1.0) if bounded else (None, None)
        if bounded and groups is None:
            return betting_p(differences, side=side, d0=0.0, low=-factor, high=1.0, alpha=alpha) <= alpha
        decision = clustered_t(differences, groups, low=low, high=high, alpha=alpha)
        return decision.above if side > 0 else decision.below

    tolerance = 1e-6 * ratio or 1e-9
    lower = last_true(lambda factor: rejects(1, factor), 0.0, ratio, tolerance)
    tops = ((ratio or 1.0) * 2.0**step for step in range(1, _DOUBLINGS))
    top = next((top for top in tops if rejects(-1, top)), math.inf)
    upper = last_true(lambda factor: rejects(-1, factor), top, ratio, tolerance) if math.isfinite(top) else top
    return lower, upper
