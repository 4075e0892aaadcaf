"""Rows in clusters, and measures without bounds: Student's t on the mean difference."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from statistics import fmean

from pytest_finetune.core.stats.decision import Decision
from pytest_finetune.core.stats.distributions import t_above, t_quantile

MIN_UNITS = 20  # fewer independent units than this, and a t test's level is not to be trusted


def cluster_variance(differences: Sequence[float], groups: Sequence[str] | None = None) -> tuple[float, float]:
    """Variance of the mean under clustering, and the effective number of clusters.

    With residual sums r_c and shares of the rows h_c, that is Σ r_c² / (1 - h_c) / n² (CR2, the bias-reduced
    linearization of Bell, McCaffrey, Survey Methodology 28, 2002, 169-181, for a mean) and 1 / Σ h_c² (Kish, Survey
    Sampling, 1965). With C clusters of one size these are C/(C-1) Σ r_c² / n² (CR1: Miller, arXiv 2411.00640,
    app. A) and C. Without ``groups`` each difference is its own cluster: s²/n and n.
    """
    variance, units, _ = _moments(differences, groups)
    return variance, units


def _moments(differences: Sequence[float], groups: Sequence[str] | None) -> tuple[float, float, float]:
    """Variance of the mean, effective number of clusters, and skewness of the clusters' residual sums."""
    n, mean = len(differences), fmean(differences)
    members: defaultdict[object, list[float]] = defaultdict(list)
    for group, difference in zip(groups or range(n), differences, strict=True):
        members[group].append(difference)
    if len(members) < 2:
        return math.inf, 1.0, 0.0
    sums = [math.fsum(values) - len(values) * mean for values in members.values()]
    shares = [len(values) / n for values in members.values()]
    variance = math.fsum(s * s / (1 - share) for s, share in zip(sums, shares, strict=True)) / n**2
    units = n * n / sum(len(values) ** 2 for values in members.values())
    square = math.fsum(s * s for s in sums) / len(sums)
    cube = math.fsum(s**3 for s in sums) / len(sums)
    return variance, units, cube / square**1.5 if square > 1e-300 else 0.0


def clustered_t(
    differences: Sequence[float],
    groups: Sequence[str] | None = None,
    *,
    d0: float = 0.0,
    low: float | None = None,
    high: float | None = None,
    alpha: float = 0.05,
) -> Decision:
    """Judge by Student's t on `cluster_variance`, with one degree of freedom less than units. Approximate.

    Three guards keep it from certifying what it has not seen. Hall's transformation, which takes skewness out of t
    (JRSS B 54, 1992, 221-228), must agree. The variance of the mean is at least m(1-m)/units, that of a rare loss
    of everything just at the margin ``m = -d0``. And a bound always leaves room for the share 1 - alpha^(1/units)
    that may exist though none was seen, at the worst possible value.

    Args:
        differences: One per row.
        groups: The cluster of each; None where rows are independent.
        d0: The boundary of both nulls.
        low: The smallest value that a difference can take; None where it has no bound (the smallest seen
            stands in for it, and there is no floor to the variance).
        high: The largest value that a difference can take; None likewise.
        alpha: One-sided level.

    Returns:
        The decision; bounds are infinite, and p-values 1, with fewer than `MIN_UNITS` units.
    """
    mean = fmean(differences)
    variance, units, skewness = _moments(differences, groups)
    if units < MIN_UNITS:
        return Decision(above=False, below=False, lower=-math.inf, upper=math.inf)
    if low is not None:
        variance = max(variance, abs(d0) * (1 - abs(d0)) / units)
    error, skew = math.sqrt(variance), skewness / math.sqrt(units)
    quantile, unseen = t_quantile(1 - alpha, units - 1), 1 - alpha ** (1 / units)

    def judge(side: int, end: float) -> tuple[float, float]:
        """p-value and bound, ``end`` being the worst value on the null's side."""
        distance, room = side * (mean - d0), side * (mean - end)
        t = distance / error if error else math.copysign(math.inf, distance) if distance else 0.0
        p = max(t_above(min(t, _hall(t, side * skew)), units - 1), _unseen_p(distance, room, units))
        reach = error * max(quantile, _hall_inverse(quantile, side * skew))
        return p, mean - side * max(reach, unseen * room)

    p_above, lower = judge(1, min(differences) if low is None else low)
    p_below, upper = judge(-1, max(differences) if high is None else high)
    above, below = p_above <= alpha, p_below <= alpha
    # The bounds are solved in closed form: rounding must not let them contradict the p-values.
    lower = max(lower, d0) if above else min(lower, d0)
    upper = min(upper, d0) if below else max(upper, d0)
    return Decision(above, below, lower, upper, p_above, p_below)


def _hall(t: float, skew: float) -> float:
    """Hall's transformation of t; ``skew`` is the skewness over the root of the number of units."""
    return t + skew * t * t / 3 + skew * skew * t**3 / 27 + skew / 6 if skew else t


def _hall_inverse(x: float, skew: float) -> float:
    if abs(skew) < 1e-9:
        return x
    cube = 1 + skew * (x - skew / 6)
    return 3 / skew * (math.copysign(abs(cube) ** (1 / 3), cube) - 1)


def _unseen_p(distance: float, room: float, units: float) -> float:
    """Chance that no unit shows a loss of ``room``, though such losses alone explain the ``distance``."""
    if distance <= 0:
        return 1.0
    return (1 - distance / room) ** units if distance < room else 0.0
