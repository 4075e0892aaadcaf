"""A stage's score, for showing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist, fmean, stdev

from pytest_finetune.core.stats.distributions import t_quantile


def score_interval(scores: Sequence[float], *, confidence: float = 0.95) -> tuple[float, float]:
    """Two-sided interval of a mean score in [0, 1]: Wilson's (JASA 22, 1927) if binary, else Student's t."""
    n, mean, tail = len(scores), fmean(scores), (1 + confidence) / 2
    if all(score in {0, 1} for score in scores):
        z = NormalDist().inv_cdf(tail)
        shrink = 1 + z * z / n
        centre = (mean + z * z / (2 * n)) / shrink
        reach = z / shrink * math.sqrt(mean * (1 - mean) / n + (z / (2 * n)) ** 2)
    elif n < 2:
        return 0.0, 1.0
    else:
        centre, reach = mean, t_quantile(tail, n - 1) * stdev(scores) / math.sqrt(n)
    return max(centre - reach, 0.0), min(centre + reach, 1.0)
