"""Percentiles, for latency: "the 95th percentile of a is at most that of b". No resampling, hence no seed."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist, fmean

from pytest_finetune.core.stats.clustered import MIN_UNITS, cluster_variance
from pytest_finetune.core.stats.decision import Decision, last_true
from pytest_finetune.core.stats.distributions import binomial_at_most, t_quantile


@dataclass(frozen=True, slots=True)
class Quantile:
    """An observed quantile between its bounds."""

    lower: float
    estimate: float
    upper: float


def quantile(values: Sequence[float], share: float, *, alpha: float = 0.05, units: int | None = None) -> Quantile:
    """A quantile with distribution-free bounds, each at one-sided level alpha: two order statistics.

    They invert the exact sign test (David, Nagaraja, Order Statistics, 2003, section 7.1).

    Args:
        values: One per row.
        share: Which quantile, in (0, 1): 0.95 for the 95th percentile.
        alpha: One-sided level.
        units: How many independent rows they are worth; None where they are independent.

    Returns:
        The quantile; a bound is infinite where there are too few rows for it (at 5 %, the 95th percentile has an
        upper bound from 59 rows on).
    """
    n, ordered = len(values), [-math.inf, *sorted(values), math.inf]
    at = max(math.ceil(n * share - 1e-9), 1)
    m = n if units is None else units
    low, high = (_rank(m, part, alpha) * n // max(m, 1) for part in (share, 1 - share))
    return Quantile(ordered[low], ordered[at], ordered[n + 1 - high])


@lru_cache(maxsize=1024)  # the search for a p-value asks for the same levels on both sides
def _rank(n: int, share: float, alpha: float) -> int:
    """The highest order statistic that lies above the quantile with a chance of at most alpha; 0 if none does."""
    return bisect_right(range(n + 1), alpha, key=lambda k: binomial_at_most(k, n, share))


def quantile_difference(
    left: Sequence[float],
    right: Sequence[float],
    share: float,
    groups: Sequence[str] | None = None,
    *,
    factor: float = 1.0,
    d0: float = 0.0,
    alpha: float = 0.05,
) -> Decision:
    """Judge Δ = quantile(left) - factor * quantile(right). Approximate.

    The distances from both quantiles to their bounds are combined as if they were standard errors, with the
    correlation of "at most its quantile" on the same row (the method of variance estimates recovery: Zou, Donner,
    Statistics in Medicine 27, 2008, 1693-1702). So skewed and lumpy latencies keep their lopsided bounds; against
    a right side that is constant, a number, the bounds are those of `quantile`.

    Clustered rows count as the independent ones that would know the share of values below the quantile as well
    (Korn, Graubard, Survey Methodology 24, 1998, 193-201); with fewer than `MIN_UNITS` effective clusters there are
    no bounds.

    Args:
        left: One value per row.
        right: The other side's value on the same rows.
        share: Which quantile, in (0, 1).
        groups: The cluster of each row; None where rows are independent.
        factor: What the right side is multiplied with; more than 0.
        d0: The boundary of both nulls.
        alpha: One-sided level.
    """
    scaled = [factor * value for value in right]
    correlation = _correlation(left, scaled, share)
    mine, theirs = sorted(left), sorted(scaled)
    ours, others = (_units(side, share, groups, alpha) for side in (left, scaled))

    def bound(side: int, level: float) -> float:
        a = quantile(mine, share, alpha=level, units=ours)
        b = quantile(theirs, share, alpha=level, units=others)
        near = a.estimate - a.lower if side > 0 else a.upper - a.estimate
        far = b.upper - b.estimate if side > 0 else b.estimate - b.lower
        if math.isinf(near) or math.isinf(far):
            return -side * math.inf
        square = near * near + far * far - 2 * correlation * near * far
        return a.estimate - b.estimate - side * math.sqrt(max(square, 0.0))

    def p_value(side: int) -> float:
        def rejects(level: float) -> bool:
            return side * (bound(side, level) - d0) > 0

        if rejects(alpha):
            return last_true(rejects, alpha, 0.0, 1e-6)
        return last_true(rejects, 0.5, alpha, 1e-6) if rejects(0.5) else 1.0

    p_above, p_below = p_value(1), p_value(-1)
    return Decision(p_above <= alpha, p_below <= alpha, bound(1, alpha), bound(-1, alpha), p_above, p_below)


def _units(values: Sequence[float], share: float, groups: Sequence[str] | None, alpha: float) -> int:
    """How many independent rows would know as well which share of them is at most the quantile."""
    n, at = len(values), quantile(values, share).estimate
    if groups is None or min(values) == max(values):
        return n
    below = [float(value <= at) for value in values]
    variance, clusters = cluster_variance(below, groups)
    if clusters < MIN_UNITS:
        return 0
    if variance == 0:  # all are: nothing is seen of how alike the rows of a cluster are
        return int(clusters)
    freedom = NormalDist().inv_cdf(1 - alpha) / t_quantile(1 - alpha, clusters - 1)
    return min(n, int(fmean(below) * (1 - fmean(below)) / variance * freedom**2))


def _correlation(left: Sequence[float], right: Sequence[float], share: float) -> float:
    """Correlation of "at most its quantile" over the rows; 0 where all or none are."""
    a, b = quantile(left, share).estimate, quantile(right, share).estimate
    low = [(x <= a, y <= b) for x, y in zip(left, right, strict=True)]
    p, q = (sum(side) / len(low) for side in zip(*low, strict=True))
    both = sum(x and y for x, y in low) / len(low)
    spread = math.sqrt(p * (1 - p) * q * (1 - q))
    return (both - p * q) / spread if spread else 0.0
